"""A checkpoint: model, running mean, optimiser and history after each epoch, nothing pickled."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fer_utils import runs
from fer_utils.data.faces import reason
from fer_utils.train.recipe import Recipe, TrainingError


def keep(path: Path | None, model, mean, optimiser, recipe: Recipe, history: list[dict]) -> None:
    """Write the state after an epoch; ``mean`` is the model itself where none is kept."""
    if path is None:
        return
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    if mean is not model:
        tensors |= {f"mean.{k}": v for k, v in mean.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"optimiser.{index}.{key}"] = torch.as_tensor(value)
    about = {"recipe": json.dumps(asdict(recipe)), "history": json.dumps(history)}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    runs.save_tensors(path, tensors, about)


def restore(path: Path | None, model, mean, optimiser, recipe: Recipe) -> list[dict]:
    """Put the state of a checkpoint back; returns its history, empty where there is none.

    Raises:
        TrainingError: it was begun with another recipe, or is damaged.
    """
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

        def part(name: str) -> dict:
            return {k[len(name) :]: v for k, v in stored.items() if k.startswith(name)}

        model.load_state_dict(part("model."))
        if mean is not model:
            mean.load_state_dict(part("mean."))
        state: dict = {}
        for key, value in part("optimiser.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        return json.loads(about["history"])
    except TrainingError:
        raise
    except Exception as error:  # whatever a damaged file makes of itself
        raise TrainingError(
            f"{path}: not a usable checkpoint ({reason(error)}); remove it"
        ) from error
