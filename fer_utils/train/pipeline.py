"""A whole run: the fit, its stored weights, their scores, and the ledger of PrivateTest."""

from __future__ import annotations

import csv
import json
import platform
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from fer_utils import data, metrics, revision, runs
from fer_utils.data import Faces
from fer_utils.model import NETWORKS
from fer_utils.train.distributed import Processes
from fer_utils.train.loop import fastest_precision, fit, labelled
from fer_utils.train.recipe import Recipe, TrainingError

EPOCHS = "epochs"  # the folder of a run or fit that keeps every epoch's weights


def make_run(
    name: str, faces: Faces, recipe: Recipe, source: dict, variant: str | None = None,
    device: str = "cpu", classes: tuple[str, ...] = data.EMOTIONS, private: bool = True,
    progress=None, precision: str | None = None, keep_epochs: bool = False,
    group: Processes = Processes(),  # noqa: B008
) -> runs.Run | None:  # fmt: skip
    """Train, score, and write ``runs/NAME`` (or one of its fits); goes on where it stopped.

    Args:
        faces: with labels in the order of ``classes``.
        source: what config.json says of the data: ``kind`` and how to get it again.
        private: False leaves PrivateTest unscored, so that recipes can be compared without it;
            called once more with True, the stored weights are scored on it.
        keep_epochs: leave every epoch's weights in the folder's ``epochs/``.
        group: this process among several; all but the first return None.

    Raises:
        TrainingError: the run is whole already, there are too few faces, the loss diverges.
    """
    path = runs.run_path(name, variant)
    if trained(path, private):
        return scored(path, name, variant, faces, private) if group.first else None
    train = labelled(faces.of("Training"))
    if len(train) < recipe.batch:
        raise TrainingError(
            f"{len(train)} labelled Training faces are fewer than one batch ({recipe.batch})"
        )
    grey = train.images.mean(dtype=np.float64) / 255, train.images.std(dtype=np.float64) / 255
    scale = {"mean": round(float(grey[0]), 5), "sd": round(float(grey[1]), 5)}
    answers = taught(name, recipe, faces.checksum(), train.images, classes, device, progress)
    precision = precision or fastest_precision(NETWORKS[recipe.network], device)
    torch.manual_seed(recipe.seed)
    model = NETWORKS[recipe.network](len(classes))
    checkpoint = path / "checkpoint.safetensors"
    about = {
        "network": recipe.network,
        "classes": json.dumps(classes),
        **{k: str(v) for k, v in scale.items()},
    }

    def each(epoch: int, network: nn.Module) -> None:
        if keep_epochs:
            runs.save_weights(path / EPOCHS / f"{epoch:03}.safetensors", network, about)

    history = fit(
        model, faces, recipe, scale, device, checkpoint, precision, progress, each, group, answers
    )
    if not group.first:
        return None

    model = model.cpu().to(memory_format=torch.contiguous_format)
    runs.save_weights(path / "model.safetensors", model, about)  # rounded before it is scored
    counts = {split: int((faces.split == split).sum()) for split in data.SPLITS}
    config = {
        "name": name, "variant": variant, "network": recipe.network, "classes": list(classes),
        "data": {**source, "checksum": faces.checksum(), "faces": counts},
        "scale": scale, "recipe": asdict(recipe), "device": device, "precision": precision,
        "processes": group.count,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
    }  # fmt: skip
    runs.write_json(path / "config.json", config)
    runs.write_rows(path / "history.csv", history)
    run = scored(path, name, variant, faces, private)
    checkpoint.unlink(missing_ok=True)
    return run


def taught(
    name: str, recipe: Recipe, checksum: str, images: np.ndarray, classes,
    device: str = "cpu", progress=None,
) -> torch.Tensor | None:  # fmt: skip
    """What a recipe's teachers answer, on average, of faces uint8 (n, 48, 48) and their mirror images.

    Args:
        name: the run whose fits ``recipe.teachers`` names.  checksum, classes: as they must have
            learned.
        device: where they answer, and where the answers then lie.
        progress: called with a dict before each teacher's turn.

    Returns:
        probabilities (n, classes), or None where the recipe has no teacher.

    Raises:
        TrainingError: a teacher learned from other faces, or in another order of the classes.
        RunError: the run has no such fit.
    """
    answers = []
    for variant in recipe.teachers.split(",") if recipe.teachers != Recipe.teachers else ():
        teacher = runs.Run.load(name, None if variant == "main" else variant)
        if teacher.config["data"]["checksum"] != checksum or teacher.classes != tuple(classes):
            raise TrainingError(f"{teacher.name}: no teacher here, it learned from other faces")
        if progress:
            progress({"teacher": variant})
        x = runs.scale(torch.from_numpy(images).to(device), **teacher.config["scale"])
        model = teacher.model().to(device)
        answers += [runs.probabilities(model, x), runs.probabilities(model, x.flip(3))]
    return torch.stack(answers).mean(0) if answers else None


@contextmanager
def alone(path: Path):
    """Refuse to work on a run that another process works on: two recipes would mix in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise TrainingError(
            f"another process is at work on {path}; wait for it, or choose another name"
        ) from None


def trained(path: Path, private: bool) -> bool:
    """Whether a run lies there with nothing left to do but to score its PrivateTest.

    Raises:
        TrainingError: with nothing left at all.
    """
    try:
        done = json.loads((path / "metrics.json").read_text("utf-8"))
    except FileNotFoundError:
        return False
    counts = json.loads((path / "config.json").read_text("utf-8"))["data"]["faces"]
    if not private or "PrivateTest" in done or not counts["PrivateTest"]:
        raise TrainingError(
            f"{path.name!r} is a whole run already; choose another name, or remove {path}"
        )
    return True


def scored(path: Path, name: str, variant: str | None, faces: Faces, private: bool) -> runs.Run:
    """Score the stored weights and write predictions.csv, the ledger, and metrics.json last."""
    config = json.loads((path / "config.json").read_text("utf-8"))
    if config["data"]["checksum"] != faces.checksum():
        raise TrainingError(f"{name!r} was trained on other faces (their checksum differs)")
    model, _ = runs.load_weights(path / "model.safetensors")
    splits = data.SPLITS[1:] if private else data.SPLITS[1:2]
    rows, scores = score(model, faces, config["scale"], config["classes"], splits)
    runs.write_rows(path / "predictions.csv", rows)
    if "PrivateTest" in scores and config["data"]["kind"] != "synthetic":
        enter(runs.run_path(name) / "ledger.csv", config, scores["PrivateTest"])
    runs.write_json(path / "metrics.json", scores)
    return runs.Run.load(name, variant)


def enter(ledger: Path, config: dict, scores: dict) -> None:
    """Add a line to the ledger: every scoring of PrivateTest ever made stays listed in it.

    To score the same stored weights again (``make verify``) tells nothing new and is not listed.
    """
    rows = []
    if ledger.exists():
        with open(ledger, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    rows.append({
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": revision.commit(runs.ROOT)[0],
        "variant": config["variant"] or "main", "faces": scores["n"],
        "accuracy": f"{scores['accuracy']:.4f}", "accuracy_flip": f"{scores['accuracy_flip']:.4f}",
        "recipe": json.dumps(config["recipe"]),
    })  # fmt: skip
    runs.write_rows(ledger, rows)


def score(
    model: nn.Module, faces: Faces, scale: dict, classes, splits=data.SPLITS[1:]
) -> tuple[list[dict], dict]:
    """Probabilities of every labelled face of some splits, and each split's figures, as in a run.

    The probabilities are rounded to six significant digits before they are scored, so that the figures
    follow from predictions.csv. ``accuracy_flip`` averages a face and its mirror image.
    """
    rows, scores = [], {}
    for split in splits:
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
