"""A whole run: the fit, its stored weights, their scores, and the ledger of PrivateTest."""

from __future__ import annotations

import json
import platform
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import nn

from fer_utils import data, metrics, revision, runs
from fer_utils.data import Faces
from fer_utils.networks import Network, build, find_network
from fer_utils.train import distributed
from fer_utils.train.loop import best_precision, fit, labelled
from fer_utils.train.recipe import Recipe, TrainingError, recorded

PUBLIC, PRIVATE = data.SPLITS[1:]


def make_run(
    name: str, faces: Faces, recipe: Recipe, source: dict, variant: str | None = None,
    device: str = "cpu", private: bool = True, progress=None, precision: str | None = None,
    score_epochs: bool = False, network: Network | None = None,
) -> runs.Run | None:  # fmt: skip
    """Train, score, and write ``runs/NAME`` (or a variant of it); goes on where it stopped.

    Args:
        source: what config.json says of the data: ``kind`` and how to get it again.
        private: False leaves PrivateTest unscored, so that recipes can be compared without it;
            called once more with True, the stored weights are scored on it.
        progress: called with a dict before the fit (``faces``) and as ``fit`` does.
        precision: ``float32`` or ``bfloat16``; None: what the processor has units for.
        score_epochs: score the epochs of lowest loss and of best accuracy on PublicTest too.
        network: the reader's own, if ``recipe.network`` names a class of theirs.

    Returns:
        the run; None from all processes of ``torchrun`` but the first.

    Raises:
        TrainingError: the run is whole already, faces are missing, the loss diverges.
    """
    path, network = runs.run_path(name, variant), network or find_network(recipe.network)
    trained = is_trained(path, recipe, network, private)
    held_out = not len(labelled(faces.of(PUBLIC)))
    if held_out:
        faces = data.hold_out(faces)
    if not trained:
        number = len(labelled(faces.of("Training")))
        if number < recipe.batch:
            raise TrainingError(
                f"{number} labelled Training faces are fewer than one batch ({recipe.batch}); "
                f"faces by split: {faces_by_split(faces)}"
            )
        if progress:
            progress({"faces": faces})
        precision = precision or best_precision(device)
        config = {
            "name": name, "variant": variant, "network": network.name,
            "network_checksum": network.checksum, "classes": list(faces.classes),
            "data": {
                **source, "checksum": faces.checksum(), "faces": faces_by_split(faces),
                "held_out": held_out, "notes": list(faces.notes),
            },
            "scale": grey_levels(faces), "recipe": asdict(recipe), "device": device,
            "precision": precision, "processes": distributed.count(),
            "versions": {
                "python": platform.python_version(), "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
        }  # fmt: skip
        train_network(path, faces, recipe, network, config, progress, score_epochs)
    if distributed.rank():
        return None
    score_run(path, name, variant, faces, private, network)
    (path / "checkpoint.pt").unlink(missing_ok=True)
    return runs.Run.load(name, variant)


def train_network(
    path: Path, faces: Faces, recipe: Recipe, network: Network, config: dict, progress,
    score_epochs: bool,
) -> None:  # fmt: skip
    """Fit a network and write its weights, config.json and history.csv."""
    torch.manual_seed(recipe.seed)
    model = build(network, len(faces.classes))
    scale, device = config["scale"], config["device"]
    about = {"network": network.name, "network_checksum": network.checksum}
    about["classes"] = json.dumps(faces.classes)
    about |= {key: str(value) for key, value in scale.items()}

    def keep_named_epochs(history: list[dict], scored: nn.Module) -> None:
        for epoch, number in named_epochs(history).items():
            if number == len(history):  # the best so far
                runs.save_weights(path / f"{epoch}.safetensors", scored, about)

    history = fit(
        model, faces, recipe, scale, device, path / "checkpoint.pt", config["precision"], progress,
        keep_named_epochs if score_epochs else None, network.checksum,
    )  # fmt: skip
    if distributed.rank():
        return
    model = model.cpu().to(memory_format=torch.contiguous_format)
    runs.save_weights(path / "model.safetensors", model, about)  # rounded before it is scored
    if score_epochs:
        config["epochs"] = named_epochs(history)
    runs.write_json(path / "config.json", config)
    with runs.atomic(path / "history.csv") as partial:
        pd.DataFrame(history).to_csv(partial, index=False)


def named_epochs(history: list[dict]) -> dict[str, int]:
    """The epochs that may be scored beside the last; of equals the first."""
    table = pd.DataFrame(history)
    return {
        "lowest_loss": 1 + int(table["valid_loss"].argmin()),
        "best_accuracy": 1 + int(table["valid_accuracy"].argmax()),
    }


def is_trained(path: Path, recipe: Recipe, network: Network, private: bool) -> bool:
    """Whether a run lies there with nothing left to do but to score its PrivateTest.

    Raises:
        TrainingError: with nothing left at all, or made with another recipe or network.
    """
    if not (path / "metrics.json").exists():
        return False
    done = json.loads((path / "metrics.json").read_text("utf-8"))
    config = json.loads((path / "config.json").read_text("utf-8"))
    same = asdict(recipe) == recorded(config["recipe"])
    same = same and network.checksum == config.get("network_checksum", "")
    if same and private and PRIVATE not in done and config["data"]["faces"][PRIVATE]:
        return True
    raise TrainingError(
        f"{path.name!r} is a whole run already, of {config['recipe']['epochs']} epochs; for more, "
        f"or for another recipe, train under another name, or remove {path}"
    )


def faces_by_split(faces: Faces) -> dict[str, int]:
    return {split: int((faces.split == split).sum()) for split in data.SPLITS}


def grey_levels(faces: Faces) -> dict[str, float]:
    """Mean and sd of the labelled Training faces, on a scale of 0 to 1."""
    images = labelled(faces.of("Training")).images
    mean, sd = images.mean(dtype=np.float64) / 255, images.std(dtype=np.float64) / 255
    return {"mean": round(float(mean), 5), "sd": round(float(sd), 5)}


@contextmanager
def exclusive_lock(path: Path):
    """Refuse to work on a run that another process works on: two recipes would mix in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise TrainingError(
            f"another process is at work on {path}; wait for it, or choose another name"
        ) from None


# -- scores -------------------------------------------------------------------------------------


def score_run(
    path: Path, name: str, variant: str | None, faces: Faces, private: bool, network: Network
) -> None:
    """Score the stored weights and write predictions, the ledger, and metrics.json last."""
    config = json.loads((path / "config.json").read_text("utf-8"))
    described = config["data"]["checksum"], config["data"]["faces"]
    if described != (faces.checksum(), faces_by_split(faces)):
        raise TrainingError(f"{name!r} was trained on other faces (their checksum differs)")
    splits, seen = (PUBLIC, PRIVATE) if private else (PUBLIC,), []

    def score_stored(weights: str, predictions: str, title: str) -> dict:
        model = runs.load_weights(path / weights, network)
        table, scores = score(model, faces, config["scale"], config["classes"], splits)
        runs.write_arrays(path / predictions, table)
        if PRIVATE in scores and config["data"]["kind"] != "synthetic":
            private = scores[PRIVATE]
            seen.append({
                "date": datetime.now(UTC).strftime("%Y-%m-%d"),
                "commit": revision.commit(runs.ROOT)[0], "variant": title, "faces": private["n"],
                "accuracy": f"{private['accuracy']:.4f}",
                "accuracy_flip": f"{private['accuracy_flip']:.4f}",
                "recipe": json.dumps(config["recipe"]),
            })  # fmt: skip
        return scores

    title = variant or "main"
    figures = score_stored("model.safetensors", "predictions.npz", title)
    for epoch, number in config.get("epochs", {}).items():
        about = f"{title}, epoch {number} ({epoch.replace('_', ' ')})"
        scores = score_stored(f"{epoch}.safetensors", f"predictions_{epoch}.npz", about)
        figures.setdefault("epochs", {})[epoch] = {"epoch": number, "metrics": scores}
    if seen:
        append_ledger(runs.run_path(name) / runs.LEDGER, seen)
    runs.write_json(path / "metrics.json", figures)


def score(
    model: nn.Module, faces: Faces, scale: dict, classes, splits=(PUBLIC, PRIVATE)
) -> tuple[dict[str, np.ndarray], dict]:
    """Probabilities of every labelled face of some splits, and each split's figures, as in a run.

    The probabilities are rounded before they are scored, so that all figures but one follow from
    predictions.npz: ``accuracy_flip`` averages a face and its mirror image.
    """
    parts, scores = [], {}
    for split in splits:
        index = np.flatnonzero((faces.split == split) & (faces.labels >= 0))
        if not len(index):
            continue
        x = runs.scale(torch.from_numpy(faces.images[index]), **scale)
        stored = round_probabilities(runs.probabilities(model, x).numpy())
        mirrored = runs.probabilities(model, x.flip(3)).numpy()
        labels, straight = faces.labels[index], stored.astype(np.float64)
        scores[split] = metrics.summary(labels, straight, classes)
        scores[split]["accuracy_flip"] = float(((straight + mirrored).argmax(1) == labels).mean())
        table = {"row": index.astype(np.int32), "split": np.full(len(index), split)}
        table |= {"label": labels.astype(np.int16), **dict(zip(classes, stored.T, strict=True))}
        parts.append(table)
    if not parts:
        raise TrainingError("no labelled PublicTest or PrivateTest face: nothing to score")
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}, scores


def round_probabilities(p: np.ndarray) -> np.ndarray:
    """Float16 (n, classes), none below its smallest (6e-8), with the same largest in each row."""
    rounded = np.maximum(p.astype(np.float16), np.finfo(np.float16).smallest_subnormal)
    best = np.arange(p.shape[1]) == p.argmax(axis=1)[:, None]
    tied = (rounded == rounded.max(axis=1, keepdims=True)) & ~best
    rounded[tied] = np.nextafter(rounded[tied], np.float16(0))
    return rounded


def append_ledger(ledger: Path, entries: list[dict]) -> None:
    """Add lines to the ledger: every scoring of PrivateTest ever made stays listed in it.

    To score the same stored weights again (``make verify``) tells nothing new and is not listed.
    """
    lock = ledger.parent.with_name(f".{ledger.parent.name}.ledger.lock")
    with FileLock(lock), open(ledger, "a", newline="", encoding="utf-8") as file:
        lines = pd.DataFrame(entries)
        lines.to_csv(file, index=False, header=not file.tell(), lineterminator="\n")
