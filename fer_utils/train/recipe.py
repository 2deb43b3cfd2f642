"""How a network is fitted: what can be chosen, and the two recipes of the report."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


class TrainingError(RuntimeError):
    """Training can't start or go on: one line."""


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted; every field is an option of the command line."""

    network: str = "FerCNN"
    epochs: int = 30
    batch: int = 128  # faces a step, over all processes together
    optimiser: str = "sgd"  # Nesterov momentum 0.9; or adam
    learning_rate: float = 0.05  # its peak
    schedule: str = "linear"  # one epoch up, then linearly to 0; or constant
    weight_decay: float = 5e-4
    smoothing: float = 0.1  # of the labels: Szegedy et al. 2016, arXiv:1512.00567
    rotate: float = 12.0  # degrees, uniform in ± this
    zoom: float = 0.12  # relative size, uniform in 1 ± this
    shift: float = 0.17  # of the image's half-width, uniform in ± this
    flip: bool = True  # left and right change places in every second epoch
    erase: float = (
        0.0  # share of the faces that lose a rectangle: Zhong et al. 2020, arXiv:1708.04896
    )
    mixup: float = 0.0  # α of the Beta that mixes two faces: Zhang et al. 2018, arXiv:1710.09412
    balance: bool = False  # weigh the loss by the inverse of a class's frequency
    ema: float = 0.0  # share that the running mean of the weights keeps a step; 0: no mean
    seed: int = 0
    teachers: str = "none"  # or fits of the run whose answers are learned too: "main,seed-1"


# The student report's own: Adam at 1e-4, batches of 128 and nothing else.
ORIGINAL = Recipe(
    optimiser="adam", learning_rate=1e-4, schedule="constant", weight_decay=0.0, smoothing=0.0,
    rotate=0.0, zoom=0.0, shift=0.0, flip=False, epochs=16,
)  # fmt: skip
RECIPES = {"ours": Recipe(), "original": ORIGINAL}
TAUGHT = 0.7  # share of the teachers' answer in what is learned; the label has the rest
EPOCHS_SYNTHETIC = 10  # enough for the embedded faces, which are easier than people's


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
def follow(mean: nn.Module, model: nn.Module, keep: float, step: int) -> None:
    """Move a running mean of the weights towards them: mean ← k·mean + (1 − k)·weights.

    k starts low and rises to ``keep`` with the steps done, else a short fit's mean would lag
    behind it (Polyak & Juditsky 1992, doi:10.1137/0330046; the warm-up is TensorFlow's).
    """
    keep = min(keep, (1 + step) / (10 + step))
    for old, new in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)
