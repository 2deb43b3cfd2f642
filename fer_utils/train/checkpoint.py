"""What is saved after each epoch; a fit goes on only with the faces and settings it began with.

``parts`` are the network, the running mean of its weights and the optimiser, by name.
"""

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


def save_checkpoint(path: Path, begun: dict, parts: dict, history: list[dict]) -> None:
    """Write the state after an epoch, whole or not at all.

    Args:
        begun: what the fit must go on with: recipe, faces, classes, precision, processes.
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
        other = differences(state["begun"], begun)
        if not other:
            for name, part in parts.items():
                part.load_state_dict(state[name])
            return list(state["history"])
    except Exception as error:  # whatever a damaged file makes of itself
        raise TrainingError(
            f"{path}: not a usable checkpoint ({reason(error)}); remove it"
        ) from error
    raise TrainingError(
        f"{path.parent}: begun with other {', '.join(other)}; go on with those, or remove the folder"
    )


def differences(old: dict, new: dict) -> list[str]:
    """What has changed: ``epochs (30, now 40)``; of faces, classes and a file the name."""
    changed = [name for name in new if old.get(name) != new[name]]
    return [
        name
        if name in ("faces", "classes", "network file")
        else f"{name} ({old.get(name)}, now {new[name]})"
        for name in changed
    ]
