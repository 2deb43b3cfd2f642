"""How a network is fitted: what can be chosen, the two recipes of the report, augmentation.

Every field of ``Recipe`` is an option of ``python -m fer_utils.train``, with its help and its
bounds. All that is random in an epoch is drawn by ``epoch_rng`` from (seed, epoch) alone.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TrainingError(ValueError):
    """Training cannot start or go on: one line."""


ABOVE_0 = ("above 0", lambda value: 0 < value < math.inf)
FROM_0 = ("0 or more", lambda value: 0 <= value < math.inf)
BELOW_1 = ("0 or more and below 1", lambda value: 0 <= value < 1)
SHARE = ("0 to 1", lambda value: 0 <= value <= 1)
SEED = ("0 to 2**32", lambda value: 0 <= value <= 2**32)
ANY = ("", lambda value: True)


def one_of(*names: str):
    return " or ".join(names), lambda value: value in names


def setting(default, check, help: str):
    """A field of ``Recipe``: default, (bounds in words, test of a value), what it is."""
    return field(default=default, metadata={"check": check, "help": help})


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted. Raises ValueError for a value out of its bounds."""

    network: str = setting(
        "FerCNN", ANY, "a name, or FILE.py:Class of your own (default: $FER_NETWORK)"
    )
    epochs: int = setting(140, ABOVE_0, "passes over the Training faces (10 on synthetic faces)")
    batch: int = setting(128, ABOVE_0, "faces a step, over all processes together")
    optimiser: str = setting("sgd", one_of("sgd", "adam"), "sgd has Nesterov momentum 0.9")
    learning_rate: float = setting(0.1, ABOVE_0, "its peak")
    schedule: str = setting("linear", one_of("linear", "constant"), "one epoch up, then to 0")
    weight_decay: float = setting(1e-3, FROM_0, "of kernels and matrices")
    smoothing: float = setting(0.1, BELOW_1, "of the labels (Szegedy 2016, arXiv:1512.00567)")
    rotate: float = setting(15.0, FROM_0, "degrees, at most, to either side")
    zoom: float = setting(0.18, BELOW_1, "relative size, at most, up or down")
    shift: float = setting(0.2, FROM_0, "of the half-width, at most, each way")
    flip: bool = setting(True, ANY, "mirror every face in every second epoch")
    erase: float = setting(
        0.25, SHARE, "share of faces that lose a rectangle (Zhong 2020, arXiv:1708.04896)"
    )
    balance: bool = setting(False, ANY, "weigh the loss by the inverse frequency of a class")
    ema: float = setting(0.999, BELOW_1, "share that the weights' running mean keeps a step")
    seed: int = setting(0, SEED, "of first weights, order and augmentation")

    def __post_init__(self):
        for item in fields(self):
            expected, within = item.metadata["check"]
            value = getattr(self, item.name)
            if not within(value):
                raise ValueError(f"{item.name.replace('_', '-')} {value}: expected {expected}")


# The recipe of the 2019 report: Adam at 1e-4, batches of 128 and nothing else.
ORIGINAL = Recipe(
    optimiser="adam", learning_rate=1e-4, schedule="constant", weight_decay=0.0, smoothing=0.0,
    rotate=0.0, zoom=0.0, shift=0.0, flip=False, erase=0.0, ema=0.0, epochs=16,
)  # fmt: skip
RECIPES = {"ours": Recipe(), "original": ORIGINAL}
# Options that older runs do not name, as they were then.
YOUNGER = {"schedule": "linear", "erase": 0.0, "balance": False, "ema": 0.0}
EPOCHS_SYNTHETIC = 10  # enough for the embedded faces, which are easier than people's


def recorded(recipe: dict) -> dict:
    """The whole recipe of a run, from the part that its config.json names."""
    return asdict(Recipe()) | YOUNGER | recipe


# -- optimiser ----------------------------------------------------------------------------------


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """At a fractional epoch: constant, or up for one epoch and then down to 0."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    warm = min(1.0, recipe.epochs / 4)
    rise, fall = (epoch + 0.02) / warm, (recipe.epochs - epoch) / (recipe.epochs - warm)
    return recipe.learning_rate * max(0.0, min(rise, fall))


def make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay acts on kernels and matrices, not on biases or batch norms."""
    kernels = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others}]
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)


@torch.no_grad()
def update_ema(mean: nn.Module, model: nn.Module, keep: float, step: int) -> None:
    """Move a running mean of the weights towards them: mean ← k·mean + (1 − k)·weights.

    k starts low and rises to ``keep`` with the steps done, else a short fit's mean would lag
    behind it (Polyak & Juditsky 1992, doi:10.1137/0330046; the warm-up is TensorFlow's).
    """
    keep = min(keep, (1 + step) / (10 + step))
    # Not state_dict: it holds the tensors of a layer with two names twice.
    means, weights = ([*net.parameters(), *net.buffers()] for net in (mean, model))
    for old, new in zip(means, weights, strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


# -- augmentation -------------------------------------------------------------------------------


def epoch_rng(n: int, recipe: Recipe, epoch: int) -> tuple[Tensor, Tensor]:
    """All random numbers of an epoch: the order (n,) and ten a face.

    Columns of the second, (n, 10): rotation, zoom, shift x, shift y in [−1, 1]; flip as 0 or 1;
    for the erased rectangle whether, area, aspect, x, y in [0, 1].
    """
    fixed = torch.Generator().manual_seed(recipe.seed * 1_000_003)
    start = torch.rand(n, generator=fixed) < 0.5
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    order = torch.randperm(n, generator=generator)
    uniform = torch.rand(n, 4, generator=generator) * 2 - 1
    flip = (start ^ bool(epoch % 2)).float() if recipe.flip else torch.zeros(n)
    rectangle = torch.rand(n, 5, generator=generator)
    return order, torch.cat([uniform, flip[:, None], rectangle], 1)


def augment(x: Tensor, random: Tensor, recipe: Recipe) -> Tensor:
    """Rotate, zoom, shift, mirror and erase a batch (b, 1, 48, 48), a face by its row of random.

    What comes in at the edges or is erased is 0, the mean grey level after scaling.
    """
    if recipe.rotate or recipe.zoom or recipe.shift or recipe.flip:
        x = move(x, random, recipe)
    if recipe.erase:
        x = erase(x, random[:, 5:], recipe.erase)
    return x


def move(x: Tensor, random: Tensor, recipe: Recipe) -> Tensor:
    """The affine part of ``augment``."""
    angle = random[:, 0] * math.radians(recipe.rotate)
    zoom = 1 + random[:, 1] * recipe.zoom
    shift_x, shift_y = (random[:, 2:4] * recipe.shift).unbind(1)
    mirror = 1 - 2 * random[:, 4]
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    theta = torch.stack([cos * mirror, -sin * mirror, shift_x, sin, cos, shift_y], 1)
    grid = F.affine_grid(theta.view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def erase(x: Tensor, random: Tensor, share: float) -> Tensor:
    """Grey a rectangle of 2 to 33 % of the area, 1:3 to 3:1, in a share of the faces."""
    whether, area, aspect, at_x, at_y = random.unbind(1)
    side = x.shape[-1]
    area = (0.02 + 0.31 * area) * side**2
    aspect = torch.exp((2 * aspect - 1) * math.log(3))
    columns = interval(side, (area * aspect).sqrt(), at_x)
    rows = interval(side, (area / aspect).sqrt(), at_y) & (whether < share)[:, None]
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def interval(length: int, size: Tensor, at: Tensor) -> Tensor:
    """Which of ``length`` pixels lie in an interval of ``size``: bool (b, length)."""
    pixels = torch.arange(length, device=size.device)
    size = size.clamp(max=length)
    start = at * (length - size)
    return (pixels >= start[:, None]) & (pixels < (start + size)[:, None])
