"""What is kept after each epoch, and what it was begun with: nothing goes on with other faces."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import torch

from fer_utils import runs
from fer_utils.data import Faces
from fer_utils.data.faces import reason
from fer_utils.train.recipe import TrainingError


def fingerprint(faces: Faces) -> str:
    """Hex digest of pixels, labels and splits."""
    splits = hashlib.sha256("\n".join(faces.split).encode())
    return faces.checksum() + splits.hexdigest()


def save_checkpoint(path: Path | None, begun: dict, model, mean, optimiser, history) -> None:
    """Write the state after an epoch, whole or not at all.

    Args:
        begun: what the fit must go on with: recipe, faces, classes, precision, processes.
        mean: the running mean of the weights; the model itself where none is kept.
    """
    if path is None:
        return
    state = {
        "begun": begun, "history": history,
        "model": model.state_dict(), "mean": mean.state_dict(), "optimiser": optimiser.state_dict(),
    }  # fmt: skip
    whole = io.BytesIO()  # torch would turn a full disk into an error of its own
    torch.save(state, whole)
    with runs.atomic(path) as partial:
        partial.write_bytes(whole.getbuffer())


def load_checkpoint(path: Path | None, begun: dict, model, mean, optimiser) -> list[dict]:
    """Put the state of a checkpoint back; returns its history, empty where there is none.

    Raises:
        TrainingError: it was begun with something else, or is damaged.
    """
    if path is None or not path.exists():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["begun"].setdefault("network file", "")  # older checkpoints know none
        other = [name for name, value in begun.items() if state["begun"].get(name) != value]
        if not other:
            model.load_state_dict(state["model"])
            mean.load_state_dict(state["mean"])
            optimiser.load_state_dict(state["optimiser"])
            return list(state["history"])
        said = [difference(name, state["begun"].get(name), begun[name]) for name in other]
    except Exception as error:  # whatever a damaged file makes of itself
        raise TrainingError(
            f"{path}: not a usable checkpoint ({reason(error)}); remove it"
        ) from error
    raise TrainingError(
        f"{path.parent}: begun with other {', '.join(said)}; go on with those, or remove the folder"
    )


def difference(name: str, old, new) -> str:
    """``epochs (30, now 40)``; of faces, classes and a file the name alone."""
    return name if name in ("faces", "classes", "network file") else f"{name} ({old}, now {new})"
