"""An epoch's chance, and what it does to a batch of faces."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fer_utils.train.recipe import Recipe


def draws(n: int, recipe: Recipe, epoch: int) -> tuple[Tensor, Tensor]:
    """An epoch's chance, from (seed, epoch) alone: the order (n,) and eleven numbers a face.

    Columns of the second, (n, 11): turn, zoom, shift x, shift y in [−1, 1]; flip as 0 or 1; for
    the erased rectangle whether, area, aspect, x, y in [0, 1]; the face's own share in a mixture.
    """
    fixed = torch.Generator().manual_seed(recipe.seed * 1_000_003)
    start = torch.rand(n, generator=fixed) < 0.5
    chance = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    order = torch.randperm(n, generator=chance)
    uniform = torch.rand(n, 4, generator=chance) * 2 - 1
    flip = (start ^ bool(epoch % 2)).float() if recipe.flip else torch.zeros(n)
    rectangle = torch.rand(n, 5, generator=chance)
    own = torch.ones(n)
    if recipe.mixup:
        rng = np.random.default_rng([recipe.seed, epoch])
        own = torch.from_numpy(rng.beta(recipe.mixup, recipe.mixup, n)).float()
    return order, torch.cat([uniform, flip[:, None], rectangle, own[:, None]], 1)


def augment(x: Tensor, chance: Tensor, recipe: Recipe) -> Tensor:
    """Turn, zoom, shift, mirror and erase a batch (b, 1, 48, 48), a face by its row of chance.

    What comes in at the edges or is erased is 0, the mean grey level after scaling.
    """
    if recipe.rotate or recipe.zoom or recipe.shift or recipe.flip:
        x = move(x, chance, recipe)
    return erase(x, chance[:, 5:10], recipe.erase) if recipe.erase else x


def move(x: Tensor, chance: Tensor, recipe: Recipe) -> Tensor:
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


def erase(x: Tensor, chance: Tensor, share: float) -> Tensor:
    """Grey a rectangle of 2 to 33 % of the area, 1:3 to 3:1, in a share of the faces."""
    whether, area, aspect, across, down = chance.unbind(1)
    area = (0.02 + 0.31 * area) * x.shape[2] * x.shape[3]
    aspect = torch.exp((2 * aspect - 1) * math.log(3))
    columns, rows = (
        torch.arange(x.shape[3], device=x.device),
        torch.arange(x.shape[2], device=x.device),
    )

    def inside(places: Tensor, size: Tensor, at: Tensor) -> Tensor:
        size = size.clamp(max=len(places))
        start = at * (len(places) - size)
        return (places >= start[:, None]) & (places < (start + size)[:, None])

    hit_x = inside(columns, (area * aspect).sqrt(), across)
    hit_y = inside(rows, (area / aspect).sqrt(), down) & (whether < share)[:, None]
    return x.masked_fill((hit_y[:, :, None] & hit_x[:, None, :])[:, None], 0.0)


def mix(x: Tensor, targets: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Each face and its target, mixed with the batch's in reverse: own·x + (1 − own)·other."""
    face = own[:, None, None, None]
    return face * x + (1 - face) * x.flip(0), torch.lerp(targets.flip(0), targets, own[:, None])
