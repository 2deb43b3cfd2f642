"""The training loop, and the checkpoint after each epoch.

What makes it fast: the uint8 faces stay on the device, augmentation works on whole batches, and
memory is kept between steps. What makes it exact: whatever is random in an epoch (order,
augmentation, dropout) is drawn from (seed, epoch) alone, so a run that was killed goes on from
its last epoch as if nothing had happened.
"""

from __future__ import annotations

import copy
import ctypes
import hashlib
import io
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_utils import runs
from fer_utils.data import Faces
from fer_utils.data.faces import reason
from fer_utils.inspection import chunk_size, explained
from fer_utils.train import distributed
from fer_utils.train.recipe import (
    Recipe,
    TrainingError,
    augment,
    epoch_rng,
    learning_rate,
    make_optimiser,
    update_ema,
)

SAMPLE = 3589  # Training faces on which an epoch's training loss is measured, as many as PublicTest


def fit(
    model: nn.Module, faces: Faces, recipe: Recipe, scale: dict, device: str = "cpu",
    checkpoint: Path | None = None, precision: str = "float32", progress=None, each=None,
    network_checksum: str = "",
) -> list[dict]:  # fmt: skip
    """Fit ``model`` in place to the Training faces; of several processes the first alone writes.

    Args:
        faces: labels −1 are left out.  scale: ``mean`` and ``sd`` of the grey levels 0–1.
        checkpoint: file that is written after each epoch and, where it exists, gone on from.
        precision: ``float32``, or ``bfloat16`` for autocast.
        progress: called with a dict after every 16th step and every epoch.
        each: called after every epoch with the history and the network that was scored.
        network_checksum: of the file of the reader's network.

    Returns:
        a row an epoch: epoch, train_loss, train_accuracy, valid_loss, valid_accuracy (nats and
        0–1; in eval mode, of the weights' running mean where there is one, the training figures
        on ``SAMPLE`` faces without augmentation), learning_rate, seconds.

    Raises:
        TrainingError: the loss is no number, or the checkpoint was begun with something else.
    """
    keep_memory(device)
    images, labels = to_device(labelled(faces.of("Training")), device)
    valid = to_device(labelled(faces.of("PublicTest")), device)
    sample = torch.from_numpy(np.random.default_rng(0).permutation(len(labels))[:SAMPLE]).to(device)
    weights = None
    if recipe.balance:
        number = labels.bincount(minlength=len(faces.classes))
        weights = len(labels) / (len(number) * number.clamp(min=1))

    layout = memory_layout(model.to(device))
    model = model.to(memory_format=layout)
    mean = copy.deepcopy(model) if recipe.ema else model
    optimiser = make_optimiser(model, recipe)
    parts = {"model": model, "mean": mean, "optimiser": optimiser}
    begun = {
        **asdict(recipe), "faces": fingerprint(faces), "classes": list(faces.classes),
        "precision": precision, "processes": distributed.count(), "network file": network_checksum,
        "epochs to score": each is not None,
    }  # fmt: skip
    history = load_checkpoint(checkpoint, begun, parts) if checkpoint else []
    distributed.check(recipe.batch, len(history))
    network = distributed.wrap(model)
    batches = max(1, len(labels) // recipe.batch)  # what fills no batch is left out of the epoch
    autocast = torch.autocast(device.split(":")[0], torch.bfloat16, precision == "bfloat16")

    for epoch in range(len(history) + 1, recipe.epochs + 1):
        started = time.perf_counter()
        order, random = epoch_rng(len(labels), recipe, epoch)
        torch.manual_seed(
            1_000_003 * recipe.seed + distributed.count() * epoch + distributed.rank()
        )
        network.train()
        for step in range(batches):
            rate = learning_rate(recipe, epoch - 1 + step / batches)
            for group in optimiser.param_groups:
                group["lr"] = rate
            pick = distributed.share(order[step * recipe.batch : (step + 1) * recipe.batch])
            chance, pick = random[pick].to(device), pick.to(device)
            x = augment(runs.scale(images[pick], **scale), chance, recipe)
            with autocast:
                logits = network(x.contiguous(memory_format=layout)).float()
            loss = F.cross_entropy(logits, labels[pick], weights, label_smoothing=recipe.smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if recipe.ema:
                update_ema(mean, model, recipe.ema, (epoch - 1) * batches + step)
            if step % 16 == 15 or step + 1 == batches:  # reading the loss waits for the device
                last = loss.item()
                if not math.isfinite(last):
                    raise TrainingError(
                        f"the loss is {last} at epoch {epoch}, step {step + 1} (learning rate "
                        f"{rate:.3g}); try a smaller --learning-rate. Last good epoch: {epoch - 1}"
                    )
                if progress:
                    progress({"epoch": epoch, "step": step + 1, "steps": batches, "loss": last})
        if distributed.rank():
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
            each(history, mean)
        if checkpoint:
            save_checkpoint(checkpoint, begun, parts, history)
    if recipe.ema:
        model.load_state_dict(mean.state_dict())
    return history


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, scale: dict) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy of uint8 images, in eval mode."""
    loss = right = 0.0
    size = chunk_size(images)
    with explained(model) as net:
        for x, y in zip(images.split(size), labels.split(size), strict=True):
            logits = net(runs.scale(x, **scale))
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
    return loss / len(labels), right / len(labels)


@torch.no_grad()
def memory_layout(model: nn.Module) -> torch.memory_format:
    """Channels-last, which is quicker, but for a network that flattens by ``view``."""
    blank = next(model.parameters()).new_zeros(2, 1, 48, 48)
    try:
        model.eval()(blank.to(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last


def labelled(faces: Faces) -> Faces:
    return faces[faces.labels >= 0]


def to_device(faces: Faces, device: str) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.ascontiguousarray(faces.images))
    return images.to(device), torch.from_numpy(faces.labels).to(device)


def best_precision(device: str) -> str:
    """``bfloat16`` where the processor has units for it, else ``float32``."""
    if device.startswith("cuda"):
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        x86 = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        has_units = device == "cpu" and any(getattr(torch.cpu, name, bool)() for name in x86)
    return "bfloat16" if has_units else "float32"


def keep_memory(device: str) -> None:
    """Let glibc keep the many megabytes that every step on the CPU frees: a quarter faster.

    It hands large blocks back to the system otherwise, and every step faults their pages in anew.
    """
    if device != "cpu":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**31 - 1)  # M_MMAP_THRESHOLD
    except (OSError, AttributeError):
        pass


# -- checkpoints --------------------------------------------------------------------------------


def fingerprint(faces: Faces) -> str:
    """Hex digest of pixels, labels and splits."""
    splits = hashlib.sha256("\n".join(faces.split).encode())
    return faces.checksum() + splits.hexdigest()


def save_checkpoint(path: Path, begun: dict, parts: dict, history: list[dict]) -> None:
    """Write the state after an epoch, whole or not at all.

    Args:
        begun: what the fit must go on with: recipe, faces, classes, precision, processes.
        parts: the network, the running mean of its weights and the optimiser, by name.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    whole = io.BytesIO()  # torch would turn a full disk into an error of its own
    torch.save({"begun": begun, "history": history, **states}, whole)
    with runs.atomic(path) as partial:
        partial.write_bytes(whole.getbuffer())


def load_checkpoint(path: Path, begun: dict, parts: dict) -> list[dict]:
    """Put the state of a checkpoint back; returns its history, empty where there is none.

    Raises:
        TrainingError: it was begun with something else, or is damaged.
    """
    if not path.exists():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        old = state["begun"]
        other = [
            name if name in ("faces", "classes", "network file")
            else f"{name} ({old.get(name)}, now {now})"
            for name, now in begun.items() if old.get(name) != now
        ]  # fmt: skip
        if not other:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            return list(state["history"])
    except Exception as error:  # whatever a damaged file makes of itself
        raise TrainingError(
            f"{path}: not a usable checkpoint ({reason(error)}); remove it"
        ) from error
    raise TrainingError(
        f"{path.parent}: begun with other {', '.join(other)}; go on with those, "
        "or remove the folder"
    )
