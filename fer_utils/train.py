"""Fit a network and write it as a run: ``python -m fer_utils.train --run NAME``.

The loop is ``fit``, to be read from top to bottom. What makes it fast: the uint8 faces stay
on the device, augmentation works on whole batches, and memory is kept between steps. What
makes it exact: all chance of an epoch (order, augmentation) comes from (seed, epoch) alone, so
a run that was killed goes on from its last epoch as if nothing had happened.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fer_utils import data, metrics, runs, synthetic
from fer_utils.data import Faces
from fer_utils.model import NETWORKS


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted; every field is an option of the command line."""

    network: str = "FerCNN"
    epochs: int = 30
    batch: int = 128
    optimiser: str = "sgd"  # Nesterov momentum 0.9; or adam
    learning_rate: float = 0.05  # its peak: one epoch up, then linearly to 0 (sgd); fixed (adam)
    weight_decay: float = 5e-4
    smoothing: float = 0.1  # of the labels: Szegedy et al. 2016, arXiv:1512.00567
    rotate: float = 12.0  # degrees, uniform in ± this
    zoom: float = 0.12  # relative size, uniform in 1 ± this
    shift: float = 0.17  # of the image's half-width, uniform in ± this
    flip: bool = True  # left and right change places in every second epoch
    seed: int = 0


# The student report's own: Adam at 1e-4, batches of 128 and nothing else.
ORIGINAL = Recipe(
    optimiser="adam", learning_rate=1e-4, weight_decay=0.0, smoothing=0.0,
    rotate=0.0, zoom=0.0, shift=0.0, flip=False, epochs=16,
)  # fmt: skip
RECIPES = {"ours": Recipe(), "original": ORIGINAL}
EPOCHS_SYNTHETIC = 10  # enough for the embedded faces, which are easier than people's
SAMPLE = 3589  # Training faces on which an epoch's training loss is measured, as many as PublicTest


class TrainingError(RuntimeError):
    """Training can't start or go on: one line."""


def fit(
    model: nn.Module, faces: Faces, recipe: Recipe, scale: dict, device: str = "cpu",
    checkpoint: Path | None = None, precision: str = "float32", progress=None,
) -> list[dict]:  # fmt: skip
    """Fit ``model`` in place to the Training faces.

    Args:
        faces: labels −1 are left out.  scale: ``mean`` and ``sd`` of the grey levels 0–1.
        checkpoint: file that is written after each epoch and, where it exists, gone on from.
        precision: ``float32``, or ``bfloat16`` for autocast.
        progress: called with a dict after every step.

    Returns:
        a row an epoch: epoch, train_loss, train_accuracy, valid_loss, valid_accuracy (nats and
        0–1; the training figures on a fixed sample of Training, both without augmentation and in
        eval mode), learning_rate, seconds.

    Raises:
        TrainingError: the loss is no longer a number; the last epoch's checkpoint stays.
    """
    keep_memory()
    train = labelled(faces.of("Training"))
    images, labels = to_device(train, device)
    sample = torch.from_numpy(np.random.default_rng(0).permutation(len(train))[:SAMPLE]).to(device)
    valid = to_device(labelled(faces.of("PublicTest")), device)

    model = model.to(device, memory_format=torch.channels_last)
    optimiser = make_optimiser(model, recipe)
    batches = max(1, len(train) // recipe.batch)  # the odd faces of an epoch wait for the next
    history = restore(checkpoint, model, optimiser, recipe)
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        started = time.perf_counter()
        order, chance = draws(len(train), recipe, epoch)
        model.train()
        total = 0.0
        for step in range(batches):
            rate = learning_rate(recipe, (epoch - 1) + step / batches)
            for group in optimiser.param_groups:
                group["lr"] = rate
            pick = order[step * recipe.batch : (step + 1) * recipe.batch]
            x = runs.scale(images[pick.to(device)], **scale)
            x = augment(x, chance[pick].to(device), recipe).contiguous(
                memory_format=torch.channels_last
            )
            with torch.autocast(device.split(":")[0], torch.bfloat16, precision == "bfloat16"):
                logits = model(x)
            loss = F.cross_entropy(
                logits.float(), labels[pick.to(device)], label_smoothing=recipe.smoothing
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 16 == 15 or step + 1 == batches:  # reading the loss waits for the device
                total = loss.item()
                if not math.isfinite(total):
                    raise TrainingError(
                        f"the loss is {total} at epoch {epoch}, step {step + 1} (learning rate "
                        f"{rate:.3g}); try a smaller --learning-rate. Last good epoch: {epoch - 1}"
                    )
                if progress:
                    progress({"epoch": epoch, "step": step + 1, "steps": batches, "loss": total})
        train_loss, train_accuracy = evaluate(model, images[sample], labels[sample], scale)
        valid_loss, valid_accuracy = evaluate(model, *valid, scale)
        history.append({
            "epoch": epoch,
            "train_loss": round(train_loss, 5), "train_accuracy": round(train_accuracy, 5),
            "valid_loss": round(valid_loss, 5), "valid_accuracy": round(valid_accuracy, 5),
            "learning_rate": float(f"{rate:.6g}"),
            "seconds": round(time.perf_counter() - started, 2),
        })  # fmt: skip
        if progress:
            progress(history[-1])
        keep(checkpoint, model, optimiser, recipe, history)
    return history


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


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """At a fractional epoch: Adam's stays; SGD's climbs for one epoch and then falls to 0."""
    if recipe.optimiser == "adam":
        return recipe.learning_rate
    warm = min(1.0, recipe.epochs / 4)
    fall = (recipe.epochs - epoch) / (recipe.epochs - warm)
    return recipe.learning_rate * min((epoch + 0.02) / warm, fall)


def make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay acts on kernels and matrices, not on biases or batch norms."""
    flat = [p for p in model.parameters() if p.ndim < 2]
    rest = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": rest, "weight_decay": recipe.weight_decay}, {"params": flat}]
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, scale: dict) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy of uint8 images, in eval mode."""
    model.eval()
    loss = right = 0.0
    for x, y in zip(images.split(256), labels.split(256), strict=True):
        logits = model(runs.scale(x, **scale).contiguous(memory_format=torch.channels_last))
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(1) == y).sum().item()
    return loss / len(labels), right / len(labels)


def labelled(faces: Faces) -> Faces:
    return faces[faces.labels >= 0]


def to_device(faces: Faces, device: str) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.ascontiguousarray(faces.images))
    return images.to(device), torch.from_numpy(faces.labels).to(device)


def keep_memory() -> None:
    """Let glibc keep freed activations, else each step faults its pages in anew; not elsewhere."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**31 - 1)  # M_MMAP_THRESHOLD
    except (OSError, AttributeError):
        pass


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


# -- a checkpoint: model, optimiser and history after each epoch, nothing pickled ---------------


def keep(path: Path | None, model, optimiser, recipe: Recipe, history: list[dict]) -> None:
    if path is None:
        return
    tensors = {f"model.{k}": v.detach().contiguous() for k, v in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"optimiser.{index}.{key}"] = torch.as_tensor(value).contiguous()
    about = {"recipe": json.dumps(asdict(recipe)), "history": json.dumps(history)}
    with runs.atomic(path) as partial:
        save_file({k: v.cpu() for k, v in tensors.items()}, partial, metadata=about)


def restore(path: Path | None, model, optimiser, recipe: Recipe) -> list[dict]:
    if path is None or not path.exists():
        return []
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
        if json.loads(about["recipe"]) != asdict(recipe):
            raise TrainingError(
                f"{path}: begun with another recipe; finish it with that one or remove the folder"
            )
        stored = load_file(path)
        of_model = {k[6:]: v for k, v in stored.items() if k.startswith("model.")}
        model.load_state_dict(of_model)
        state: dict = {}
        for key, value in stored.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        return json.loads(about["history"])
    except TrainingError:
        raise
    except Exception as error:  # whatever a damaged file makes of itself
        raise TrainingError(f"{path}: not a usable checkpoint ({error}); remove it") from error


# -- a run: the fit, its scores and its files ---------------------------------------------------


def make_run(
    name: str, faces: Faces, recipe: Recipe, source: dict, fit_name: str | None = None,
    device: str = "cpu", classes: tuple[str, ...] = data.EMOTIONS, weights: bool = True,
    progress=None, precision: str | None = None,
) -> runs.Run:  # fmt: skip
    """Train, score once, and write ``runs/NAME`` (or one of its fits); goes on where it stopped.

    Args:
        faces: with labels in the order of ``classes``.
        source: what config.json says of the data: ``kind`` and how to get it again.
    """
    path = runs.run_path(name, fit_name)
    if (path / "metrics.json").exists():
        raise TrainingError(
            f"{name!r} is a whole run already; choose another name, or remove {path}"
        )
    train = labelled(faces.of("Training"))
    if len(train) < recipe.batch:
        raise TrainingError(
            f"{len(train)} labelled Training faces are fewer than one batch ({recipe.batch})"
        )
    grey = train.images.mean(dtype=np.float64) / 255, train.images.std(dtype=np.float64) / 255
    scale = {"mean": round(float(grey[0]), 5), "sd": round(float(grey[1]), 5)}
    precision = precision or fastest_precision(NETWORKS[recipe.network], device)
    torch.manual_seed(recipe.seed)
    model = NETWORKS[recipe.network](len(classes))
    checkpoint = path / "checkpoint.safetensors"
    history = fit(model, faces, recipe, scale, device, checkpoint, precision, progress)

    model = model.cpu().to(memory_format=torch.contiguous_format)
    about = {
        "network": recipe.network,
        "classes": json.dumps(classes),
        **{k: str(v) for k, v in scale.items()},
    }
    stored = path / ("model.safetensors" if weights else "unkept.safetensors")
    runs.save_weights(stored, model, about)  # rounded before it is scored
    model, _ = runs.load_weights(stored)
    rows, scores = score(model, faces, scale, classes)
    counts = {split: int((faces.split == split).sum()) for split in data.SPLITS}
    config = {
        "name": name, "fit": fit_name, "network": recipe.network, "classes": list(classes),
        "data": {**source, "checksum": faces.checksum(), "faces": counts},
        "scale": scale, "recipe": asdict(recipe), "device": device, "precision": precision,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
    }  # fmt: skip
    runs.write_json(path / "config.json", config)
    runs.write_rows(path / "history.csv", history)
    runs.write_rows(path / "predictions.csv", rows)
    runs.write_json(path / "metrics.json", scores)
    checkpoint.unlink(missing_ok=True)
    if not weights:
        stored.unlink()
    return runs.Run.load(name, fit_name)


def score(model: nn.Module, faces: Faces, scale: dict, classes) -> tuple[list[dict], dict]:
    """Probabilities of every labelled test face, and each split's figures, as stored in a run.

    The probabilities are rounded to six significant digits before they are scored, so that the figures
    follow from predictions.csv. ``accuracy_flip`` averages a face and its mirror image.
    """
    rows, scores = [], {}
    for split in data.SPLITS[1:]:
        index = np.flatnonzero((faces.split == split) & (faces.labels >= 0))
        if not len(index):
            continue
        x = runs.scale(torch.from_numpy(faces.images[index]), **scale)
        straight = six_digits(runs.probabilities(model, x).numpy())
        mirrored = runs.probabilities(model, x.flip(3)).numpy()
        labels = faces.labels[index]
        scores[split] = metrics.summary(labels, straight, classes)
        scores[split]["accuracy_flip"] = float(((straight + mirrored).argmax(1) == labels).mean())
        for i, label, p in zip(index, labels, straight, strict=True):
            rows.append({
                "row": int(i), "split": split, "label": int(label),
                **{c: f"{v:.6g}" for c, v in zip(classes, p, strict=True)},
            })  # fmt: skip
    if not rows:
        raise TrainingError("no labelled PublicTest or PrivateTest face: nothing to score")
    return rows, scores


def six_digits(p: np.ndarray) -> np.ndarray:
    """Float64, rounded to six significant digits: what predictions.csv holds."""
    return np.array([f"{v:.6g}" for v in p.ravel()], np.float64).reshape(p.shape)


# -- the command --------------------------------------------------------------------------------


def progress_line(recipe: Recipe, faces_per_epoch: int):
    """Prints loss, accuracy, faces a second and time left: one line that moves on a terminal,
    one line an epoch elsewhere."""
    began, live = time.perf_counter(), sys.stderr.isatty()
    first: list[float] = []

    def show(event: dict) -> None:
        now = time.perf_counter()
        if "step" in event:
            if not live:
                return
            done = event["epoch"] - 1 + event["step"] / event["steps"]
            first.append(done)
            passed = done - first[0]
            speed = passed * faces_per_epoch / (now - began) if passed else 0
            left = (recipe.epochs - done) * faces_per_epoch / speed if speed else 0
            text = f"epoch {event['epoch']}/{recipe.epochs}  loss {event['loss']:.3f}"
            text += f"  {speed:,.0f} faces/s  {left / 60:.1f} min left"
            print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
        else:
            text = (
                f"epoch {event['epoch']:>3}/{recipe.epochs}  training {event['train_loss']:.3f} nats "
                f"{event['train_accuracy']:.1%}  PublicTest {event['valid_loss']:.3f} nats "
                f"{event['valid_accuracy']:.1%}  {faces_per_epoch / event['seconds']:,.0f} faces/s"
            )
            print(("\r" if live else "") + text, file=sys.stderr, flush=True)

    return show


def positive(kind):
    def parse(text: str):
        value = kind(text)
        if not (0 < value < math.inf):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return parse


def not_negative(text: str) -> float:
    value = float(text)
    if not (0 <= value < math.inf):
        raise argparse.ArgumentTypeError(f"{text} is below 0 or not a number")
    return value


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fer_utils.train",
        description="Fit a network and write it as runs/NAME. Without --data it learns from the "
        "embedded synthetic faces. Killed and called again, it goes on from its last epoch.",
    )
    add = parser.add_argument
    add("--run", required=True, help="name of the run: runs/NAME")
    add("--fit", help="train a further fit of the run: runs/NAME/fits/FIT")
    add(
        "--data",
        default=os.environ.get("FER_DATA") or None,
        help="FER2013, in any layout that fer_utils.data reads (default: $FER_DATA)",
    )
    add(
        "--faces", type=positive(int), default=10_000, help="how many synthetic faces (%(default)s)"
    )
    add("--faces-seed", type=int, default=0, help="their seed (%(default)s)")
    add("--preset", default="default", help="their preset (%(default)s)")
    add("--recipe", choices=RECIPES, default="ours", help="what the options below start from")
    add("--network", choices=NETWORKS)
    add("--epochs", type=positive(int), help="default: the recipe's, 10 on synthetic faces")
    add("--batch", type=positive(int), help="faces a step")
    add("--optimiser", choices=("sgd", "adam"))
    add("--learning-rate", type=positive(float))
    add("--weight-decay", type=not_negative)
    add("--smoothing", type=not_negative, help="of the labels, 0 to below 1")
    add("--rotate", type=not_negative, help="degrees")
    add("--zoom", type=not_negative, help="0 to below 1")
    add("--shift", type=not_negative, help="of the half-width")
    add("--flip", action=argparse.BooleanOptionalAction, default=None)
    add("--seed", type=int)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add(
        "--precision", choices=("float32", "bfloat16"), help="default: the quicker in a short trial"
    )
    add("--no-weights", action="store_true", help="keep history, predictions and metrics only")
    return parser  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = options()
    args = parser.parse_args(arguments)
    chosen = {
        k: v for k, v in vars(args).items() if k in Recipe.__dataclass_fields__ and v is not None
    }
    recipe = replace(RECIPES[args.recipe], **chosen)
    try:
        if recipe.smoothing >= 1 or recipe.zoom >= 1:
            raise TrainingError("--smoothing and --zoom must be below 1")
        torch.empty(0, device=args.device)
        if (runs.run_path(args.run, args.fit) / "metrics.json").exists():
            raise TrainingError(
                f"run {args.run!r} is whole already; choose another name or remove its folder"
            )
        if args.data:
            faces, source = data.load(args.data), {"kind": "fer2013"}
        else:
            source = {
                "kind": "synthetic",
                "n": args.faces,
                "seed": args.faces_seed,
                "preset": args.preset,
            }
            faces = synthetic.faces(args.faces, args.faces_seed, args.preset)
            recipe = replace(recipe, epochs=args.epochs or EPOCHS_SYNTHETIC)
        show = progress_line(recipe, int((faces.split == "Training").sum()))
        run = make_run(args.run, faces, recipe, source, args.fit, args.device,
                       weights=not args.no_weights, progress=show, precision=args.precision)  # fmt: skip
    except (TrainingError, ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, AssertionError) as error:  # torch's own words for a device
        print(f"train: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntrain: stopped; the same command goes on from the last epoch", file=sys.stderr)
        return 130
    for split, scores in run.metrics.items():
        low, high = scores["accuracy_interval"]
        print(
            f"{split}: accuracy {scores['accuracy']:.4f} [{low:.4f}, {high:.4f}] of {scores['n']} faces"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
