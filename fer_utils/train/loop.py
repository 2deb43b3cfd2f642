"""The training loop. What makes it fast: the uint8 faces stay on the device, augmentation works
on whole batches, and memory is kept between steps. What makes it exact: all chance of an epoch
(order, augmentation) comes from (seed, epoch) alone, so a run that was killed goes on from its
last epoch as if nothing had happened.
"""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_utils import runs
from fer_utils.anatomy import chunk_size, keep_memory
from fer_utils.data import Faces
from fer_utils.train.augment import augment, draws, mix
from fer_utils.train.checkpoint import keep, restore
from fer_utils.train.distributed import Processes
from fer_utils.train.recipe import (
    TAUGHT,
    Recipe,
    TrainingError,
    follow,
    learning_rate,
    make_optimiser,
)

SAMPLE = 3589  # Training faces on which an epoch's training loss is measured, as many as PublicTest


def fit(
    model: nn.Module, faces: Faces, recipe: Recipe, scale: dict, device: str = "cpu",
    checkpoint: Path | None = None, precision: str = "float32", progress=None, each=None,
    group: Processes = Processes(), answers: Tensor | None = None,  # noqa: B008
) -> list[dict]:  # fmt: skip
    """Fit ``model`` in place to the Training faces.

    Args:
        faces: labels −1 are left out.  scale: ``mean`` and ``sd`` of the grey levels 0–1.
        checkpoint: file that is written after each epoch and, where it exists, gone on from.
        precision: ``float32``, or ``bfloat16`` for autocast.
        progress: called with a dict after every 16th step and every epoch.
        each: called after every epoch with its number and the network that was scored.
        group: this process among several; the first alone scores, writes and reports.
        answers: a teacher's probabilities of the labelled Training faces (n, classes): they are
            learned beside the labels (Hinton et al. 2015, arXiv:1503.02531).

    Returns:
        a row an epoch: epoch, train_loss, train_accuracy, valid_loss, valid_accuracy (nats and
        0–1; the training figures on a fixed sample of Training, both without augmentation and in
        eval mode, of the weights' running mean where there is one), learning_rate, seconds.

    Raises:
        TrainingError: the loss is no longer a number; the last epoch's checkpoint stays.
    """
    keep_memory(device)
    train = labelled(faces.of("Training"))
    images, labels = to_device(train, device)
    outputs = output_size(model.to(device))
    targets = F.one_hot(labels, outputs).float()
    if answers is not None:
        targets = targets.lerp(answers.to(device), TAUGHT)
    weights = None
    if recipe.balance:
        weights = len(labels) / (outputs * labels.bincount(minlength=outputs).clamp(min=1)).float()
    sample = torch.from_numpy(np.random.default_rng(0).permutation(len(train))[:SAMPLE]).to(device)
    valid = to_device(labelled(faces.of("PublicTest")), device)

    model = model.to(device, memory_format=torch.channels_last)
    mean = copy.deepcopy(model) if recipe.ema else model
    optimiser = make_optimiser(model, recipe)
    batches = max(1, len(train) // recipe.batch)  # the odd faces of an epoch wait for the next
    history = restore(checkpoint, model, mean, optimiser, recipe)
    group.check(recipe, len(history))
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        started = time.perf_counter()
        order, chance = draws(len(train), recipe, epoch)
        model.train()
        network = group.wrap(model)
        for step in range(batches):
            rate = learning_rate(recipe, epoch - 1 + step / batches)
            for part in optimiser.param_groups:
                part["lr"] = rate
            pick = group.share(order[step * recipe.batch : (step + 1) * recipe.batch])
            x = runs.scale(images[pick.to(device)], **scale)
            x, y = augment(x, chance[pick].to(device), recipe), targets[pick.to(device)]
            if recipe.mixup:
                x, y = mix(x, y, chance[pick, 10].to(device))
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.split(":")[0], torch.bfloat16, precision == "bfloat16"):
                logits = network(x)
            loss = F.cross_entropy(logits.float(), y, weights, label_smoothing=recipe.smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if recipe.ema:
                follow(mean, model, recipe.ema, (epoch - 1) * batches + step)
            if step % 16 == 15 or step + 1 == batches:  # reading the loss waits for the device
                last = loss.item()
                if not math.isfinite(last):
                    raise TrainingError(
                        f"the loss is {last} at epoch {epoch}, step {step + 1} (learning rate "
                        f"{rate:.3g}); try a smaller --learning-rate. Last good epoch: {epoch - 1}"
                    )
                if progress:
                    progress({"epoch": epoch, "step": step + 1, "steps": batches, "loss": last})
        if not group.first:
            history.append({"epoch": epoch})
            continue
        train_loss, train_accuracy = evaluate(mean, images[sample], labels[sample], scale)
        valid_loss, valid_accuracy = evaluate(mean, *valid, scale)
        history.append({
            "epoch": epoch,
            "train_loss": round(train_loss, 5), "train_accuracy": round(train_accuracy, 5),
            "valid_loss": round(valid_loss, 5), "valid_accuracy": round(valid_accuracy, 5),
            "learning_rate": float(f"{rate:.6g}"),
            "seconds": round(time.perf_counter() - started, 2),
        })  # fmt: skip
        if progress:
            progress(history[-1])
        if each:
            each(epoch, mean)
        keep(checkpoint, model, mean, optimiser, recipe, history)
    if recipe.ema:
        model.load_state_dict(mean.state_dict())
    return history


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, scale: dict) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy of uint8 images, in eval mode."""
    model.eval()
    loss = right = 0.0
    size = chunk_size(images)
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        logits = model(runs.scale(x, **scale).contiguous(memory_format=torch.channels_last))
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(1) == y).sum().item()
    return loss / len(labels), right / len(labels)


@torch.no_grad()
def output_size(model: nn.Module) -> int:
    """How many classes the network answers with."""
    blank = next(model.parameters()).new_zeros(1, 1, 48, 48)
    return model.eval()(blank).shape[1]


def labelled(faces: Faces) -> Faces:
    return faces[faces.labels >= 0]


def to_device(faces: Faces, device: str) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.ascontiguousarray(faces.images))
    return images.to(device), torch.from_numpy(faces.labels).to(device)


def fastest_precision(network: type[nn.Module], device: str) -> str:
    """``bfloat16`` where one small step is quicker in it than in float32 (processors differ)."""
    model = network().to(device, memory_format=torch.channels_last)
    x = torch.zeros(8, 1, 48, 48, device=device)

    def seconds(half: bool) -> float:
        best = math.inf
        for _ in range(2):
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            started = time.perf_counter()
            with torch.autocast(device.split(":")[0], torch.bfloat16, half):
                model(x).float().sum().backward()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
        return best

    return "bfloat16" if seconds(True) < seconds(False) else "float32"
