"""A whole run: the fit, its stored weights, their scores, and the ledger of PrivateTest."""

from __future__ import annotations

import csv
import json
import platform
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import nn
from tqdm import tqdm

from fer_utils import data, metrics, runs
from fer_utils.data import Faces
from fer_utils.networks import Network, build, find_network
from fer_utils.train.distributed import ALONE, Processes
from fer_utils.train.loop import best_precision, fit, labelled
from fer_utils.train.recipe import Recipe, TrainingError


def make_run(
    name: str, faces: Faces, recipe: Recipe, source: dict, variant: str | None = None,
    device: str = "cpu", private: bool = True, progress=None, precision: str | None = None,
    score_epochs: bool = False, group: Processes = ALONE, network: Network | None = None,
) -> runs.Run | None:  # fmt: skip
    """Train, score, and write ``runs/NAME`` (or a variant of it); goes on where it stopped.

    Args:
        source: what config.json says of the data: ``kind`` and how to get it again.
        private: False leaves PrivateTest unscored, so that recipes can be compared without it;
            called once more with True, the stored weights are scored on it.
        progress: called with a dict before the fit (``faces``) and as ``fit`` does.
        precision: ``float32`` or ``bfloat16``; None: what the processor has units for.
        score_epochs: score the epochs of lowest loss and of best accuracy on PublicTest too.
        group: this process among several; all but the first return None.
        network: the reader's own, if ``recipe.network`` names a class of theirs.

    Raises:
        TrainingError: the run is whole already, faces are missing, the loss diverges.
    """
    path, network = runs.run_path(name, variant), network or find_network(recipe.network)
    unscored = is_trained(path, recipe, network, private)
    held_out = not len(labelled(faces.of("PublicTest")))
    if held_out:
        faces = data.hold_out(faces)
    if unscored:
        return score_run(path, name, variant, faces, private, network) if group.first else None
    faces = check_faces(faces, recipe)
    train = labelled(faces.of("Training"))
    if progress:
        progress({"faces": faces})
    grey = train.images.mean(dtype=np.float64) / 255, train.images.std(dtype=np.float64) / 255
    scale = {"mean": round(float(grey[0]), 5), "sd": round(float(grey[1]), 5)}
    precision = precision or best_precision(device)
    teachers = [teacher.to(device) for teacher in load_teachers(name, recipe, faces)]
    torch.manual_seed(recipe.seed)
    model = build(network, len(faces.classes))
    of_network = {"network": network.name}
    if network.checksum:
        of_network["network_checksum"] = network.checksum
    about = {**of_network, "classes": json.dumps(faces.classes)}
    about |= {key: str(value) for key, value in scale.items()}

    def keep_named_epochs(history: list[dict], network: nn.Module) -> None:
        for epoch, number in named_epochs(history).items():
            if number == len(history):  # the best so far
                runs.save_weights(path / f"{epoch}.safetensors", network, about)

    checkpoint = path / "checkpoint.pt"
    each = keep_named_epochs if score_epochs else None
    history = fit(
        model,
        faces,
        recipe,
        scale,
        device,
        checkpoint,
        precision,
        progress,
        each,
        group,
        teachers,
        network.checksum,
    )
    if not group.first:
        return None

    model = model.cpu().to(memory_format=torch.contiguous_format)
    runs.save_weights(path / "model.safetensors", model, about)  # rounded before it is scored
    described = {**source, "checksum": faces.checksum(), "faces": counts(faces)}
    described |= {"held_out": held_out, "notes": list(faces.notes)}
    config = {
        "name": name, "variant": variant, **of_network,
        "classes": list(faces.classes), "data": described, "scale": scale,
        "recipe": asdict(recipe), "device": device, "precision": precision,
        "processes": group.count,
        "versions": {
            "python": platform.python_version(), "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }  # fmt: skip
    if score_epochs:
        config["epochs"] = named_epochs(history)
    runs.write_json(path / "config.json", config)
    with runs.atomic(path / "history.csv") as partial:
        pd.DataFrame(history).to_csv(partial, index=False)
    run = score_run(path, name, variant, faces, private, network)
    checkpoint.unlink(missing_ok=True)
    return run


def named_epochs(history: list[dict]) -> dict[str, int]:
    """The epochs that may be scored beside the last; of equals the first."""
    losses = [row["valid_loss"] for row in history]
    accuracies = [row["valid_accuracy"] for row in history]
    return {
        "lowest_loss": 1 + losses.index(min(losses)),
        "best_accuracy": 1 + accuracies.index(max(accuracies)),
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
    same = asdict(recipe) == asdict(Recipe(**config["recipe"]))
    same = same and network.checksum == config.get("network_checksum", "")
    if same and private and "PrivateTest" not in done and config["data"]["faces"]["PrivateTest"]:
        return True
    raise TrainingError(
        f"{path.name!r} is a whole run already, of {config['recipe']['epochs']} epochs; for more, "
        f"or for another recipe, train under another name, or remove {path}"
    )


def check_faces(faces: Faces, recipe: Recipe) -> Faces:
    """The faces, with a note on classes that have none; TrainingError where nothing can be done."""
    train = labelled(faces.of("Training"))
    if len(train) < recipe.batch:
        raise TrainingError(
            f"{len(train)} labelled Training faces are fewer than one batch ({recipe.batch}); "
            f"faces by split: {counts(faces)}"
        )
    have = np.bincount(train.labels, minlength=len(faces.classes))
    missing = [name for name, n in zip(faces.classes, have, strict=True) if not n]
    if not missing:
        return faces
    note = f"no Training face of {', '.join(missing)}: what has no face cannot be learned"
    return replace(faces, notes=(*faces.notes, note))


def counts(faces: Faces) -> dict[str, int]:
    return {split: int((faces.split == split).sum()) for split in data.SPLITS}


def load_teachers(name: str, recipe: Recipe, faces: Faces) -> list[nn.Module]:
    """The networks that a recipe's ``teachers`` names; they must have learned from these faces."""
    networks = []
    for variant in recipe.teachers.split(",") if recipe.teachers != "none" else ():
        teacher = runs.Run.load(name, None if variant == "main" else variant)
        if teacher.config["data"]["checksum"] != faces.checksum():
            raise TrainingError(f"{teacher.name}: no teacher here, it learned from other faces")
        networks.append(teacher.model())
    return networks


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
) -> runs.Run:
    """Score the stored weights and write predictions, the ledger, and metrics.json last."""
    config = json.loads((path / "config.json").read_text("utf-8"))
    if config["data"]["checksum"] != faces.checksum() or config["data"]["faces"] != counts(faces):
        raise TrainingError(f"{name!r} was trained on other faces (their checksum differs)")
    splits = data.SPLITS[1:] if private else data.SPLITS[1:2]

    def score_stored(weights: str, predictions: str, title: str) -> dict:
        model = runs.load_weights(path / weights, network)
        table, scores = score(model, faces, config["scale"], config["classes"], splits)
        runs.write_arrays(path / predictions, table)
        if "PrivateTest" in scores and config["data"]["kind"] != "synthetic":
            ledger = runs.run_path(name) / "ledger.csv"
            append_ledger(ledger, ledger_entry(config, title, scores["PrivateTest"]))
        return scores

    title = variant or "main"
    figures = score_stored("model.safetensors", "predictions.npz", title)
    epochs = {}
    for epoch, number in config.get("epochs", {}).items():
        stored = f"{epoch}.safetensors", f"predictions_{epoch}.npz"
        scores = score_stored(*stored, f"{title}, epoch {number} ({epoch.replace('_', ' ')})")
        epochs[epoch] = {"epoch": number, "metrics": scores}
    runs.write_json(path / "metrics.json", {**figures, "epochs": epochs} if epochs else figures)
    return runs.Run.load(name, variant)


def score(
    model: nn.Module, faces: Faces, scale: dict, classes, splits=data.SPLITS[1:]
) -> tuple[dict[str, np.ndarray], dict]:
    """Probabilities of every labelled face of some splits, and each split's figures, as in a run.

    The probabilities are rounded before they are scored, so that the figures follow from
    predictions.npz. ``accuracy_flip`` averages a face and its mirror image.
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


def ledger_entry(config: dict, title: str, scores: dict) -> dict:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"), "commit": runs.commit(runs.ROOT)[0],
        "variant": title, "faces": scores["n"],
        "accuracy": f"{scores['accuracy']:.4f}", "accuracy_flip": f"{scores['accuracy_flip']:.4f}",
        "recipe": json.dumps(config["recipe"]),
    }  # fmt: skip


def append_ledger(ledger: Path, entry: dict) -> None:
    """Add a line to the ledger: every scoring of PrivateTest ever made stays listed in it.

    To score the same stored weights again (``make verify``) tells nothing new and is not listed.
    """
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(ledger.parent.with_name(f".{ledger.parent.name}.ledger.lock")),
        open(ledger, "a", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, entry, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(entry)


# -- progress -----------------------------------------------------------------------------------


def progress_line(recipe: Recipe, faces_per_epoch: int):
    """What a fit says on stderr: its faces, a moving line on a terminal, and a line an epoch.

    The moving line is tqdm's: where a console cannot write its blocks it is made of ASCII.
    """
    bar, seconds = None, []

    def show(event: dict) -> None:
        nonlocal bar
        if "faces" in event:
            print(*data.summary_lines(event["faces"]), sep="\n", file=sys.stderr, flush=True)
        elif "step" in event:
            done = event["epoch"] - 1 + event["step"] / event["steps"]
            done = round(done * faces_per_epoch)
            if bar is None:  # a fit that goes on begins here
                bar = tqdm(total=recipe.epochs * faces_per_epoch, initial=done, unit=" faces",
                           unit_scale=True, smoothing=0, disable=None, leave=False)  # fmt: skip
            bar.set_description(
                f"epoch {event['epoch']}/{recipe.epochs}, loss {event['loss']:.3f}", refresh=False
            )
            bar.update(done - bar.n)
        else:
            seconds.append(event["seconds"])
            minutes = sum(seconds) / len(seconds) / 60  # an epoch
            tqdm.write(
                f"epoch {event['epoch']:>3}/{recipe.epochs}  "
                f"training {event['train_loss']:.3f} nats {event['train_accuracy']:.1%}  "
                f"PublicTest {event['valid_loss']:.3f} nats {event['valid_accuracy']:.1%}  "
                f"{faces_per_epoch / event['seconds']:,.0f} faces/s  "
                f"{minutes * (recipe.epochs - event['epoch']):.1f} of "
                f"{minutes * recipe.epochs:.1f} min left",
                file=sys.stderr,
            )
            sys.stderr.flush()

    return show
