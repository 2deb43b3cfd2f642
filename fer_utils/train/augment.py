"""An epoch's chance, and what it does to a batch of faces."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fer_utils.train.recipe import Recipe


def draws(n: int, recipe: Recipe, epoch: int) -> tuple[Tensor, Tensor]:
    """An epoch's chance, from (seed, epoch) alone: the order (n,) and five numbers a face.

    Columns of the second, (n, 5): turn, zoom, shift x, shift y in [−1, 1], and flip as 0 or 1.
    """
    fixed = torch.Generator().manual_seed(recipe.seed * 1_000_003)
    start = torch.rand(n, generator=fixed) < 0.5
    chance = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    order = torch.randperm(n, generator=chance)
    uniform = torch.rand(n, 4, generator=chance) * 2 - 1
    flip = (start ^ bool(epoch % 2)).float() if recipe.flip else torch.zeros(n)
    return order, torch.cat([uniform, flip[:, None]], 1)


def augment(x: Tensor, chance: Tensor, recipe: Recipe) -> Tensor:
    """Turn, zoom, shift and mirror a batch (b, 1, 48, 48), each face by its own row of chance.

    What comes in at the edges is 0, the mean grey level after scaling.
    """
    if not (recipe.rotate or recipe.zoom or recipe.shift or recipe.flip):
        return x
    turn = chance[:, 0] * math.radians(recipe.rotate)
    zoom = 1 + chance[:, 1] * recipe.zoom
    shift = chance[:, 2:4] * recipe.shift
    mirror = 1 - 2 * chance[:, 4]
    cos, sin = torch.cos(turn) / zoom, torch.sin(turn) / zoom
    theta = torch.stack([cos * mirror, -sin * mirror, shift[:, 0], sin, cos, shift[:, 1]], 1).view(
        -1, 2, 3
    )
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
