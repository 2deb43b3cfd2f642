"""Where artefacts lie: the only module that knows the layout of ``runs/``.

A run is a folder::

    runs/NAME/config.json        network, data with checksum, scale, recipe, versions
              history.csv        one row an epoch
              predictions.csv    one row a face of PublicTest and PrivateTest, a column a class
              model.safetensors  weights in float16; scored as stored
              best_epoch.json    of PrivateTest, invalid: written by train.epochs alone
              metrics.json       written last: its presence means that the run is whole
              ledger.csv         every scoring of a real PrivateTest: date, commit, variant, result
              precomputed/*.npz   what the chapters show from many faces
              variants/VARIANT/          further fits on the same data: the same files, weights optional
"""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fer_utils import data, synthetic
from fer_utils.anatomy import chunk_size, private_copy
from fer_utils.data import Faces
from fer_utils.data.cache import atomic
from fer_utils.data.faces import reason
from fer_utils.model import NETWORKS

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("config.json", "history.csv", "predictions.csv")


class RunError(ValueError):
    """A run that is missing, half-written or does not belong to the data: one line."""


def runs_folder() -> Path:
    return Path(os.environ.get("FER_RUNS") or ROOT / "runs")


def run_path(name: str, variant: str | None = None) -> Path:
    """The folder of a run, or of one of its fits; refuses a name that is a path."""
    for part in (name, variant or "variant"):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", part):
            raise RunError(f"run name {part!r}: expected letters, digits, '-', '_' and '.' only")
    path = runs_folder() / name
    return path / "variants" / variant if variant else path


def write_json(path: Path, content: dict) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_rows(path: Path, rows: list[dict]) -> None:
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def save_weights(path: Path, model: nn.Module, metadata: dict[str, str]) -> None:
    """Store a network's weights in float16 (integers as they are)."""
    tensors = {}
    for key, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        half = value.half() if value.is_floating_point() else value
        if not torch.isfinite(half.float()).all():
            raise RunError(f"weights {key}: a value does not fit float16 (largest {value.max():g})")
        tensors[key] = half
    save_tensors(path, tensors, metadata)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file whole or not at all; raises OSError where there is no room."""
    with atomic(path) as partial:
        try:
            save_file(tensors, partial, metadata=metadata)
        except SafetensorError as error:  # what the system says, in that library's own type
            raise OSError(f"{_short(path)}: {error}") from None


def load_weights(path: Path) -> tuple[nn.Module, dict]:
    """The network that a weights file holds, in eval mode and float32, with its metadata."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        network = NETWORKS[metadata["network"]]
        model = network(len(json.loads(metadata["classes"])))
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        )
    except FileNotFoundError:
        raise RunError(
            f"{path}: no weights there; this fit ships history and predictions"
        ) from None
    except (SafetensorError, KeyError, RuntimeError, OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: not the weights of a known network ({reason(error)})") from error
    return model.eval(), metadata


@torch.no_grad()
def probabilities(model: nn.Module, inputs: Tensor) -> Tensor:
    """Softmax of the logits in eval mode, (n, 1, 48, 48) -> (n, classes)."""
    quick = private_copy(model)
    parts = inputs.split(chunk_size(inputs))
    return torch.cat([quick(part).float().softmax(1) for part in parts])


@dataclass(frozen=True)
class Run:
    """One trained network with everything that the chapters read from it.

    Attributes:
        path: its folder.  name: the run's name, ``fer2013/original`` for a fit.
    """

    path: Path
    name: str

    @classmethod
    def load(cls, name: str, variant: str | None = None) -> Run:
        """Find a whole run by name, from any working folder.

        Raises:
            RunError: there is no such run or fit, or it is half-written.
        """
        path = run_path(name, variant)
        if not path.is_dir():
            have = ", ".join(sorted(p.parent.name for p in path.parent.glob("*/config.json")))
            make = f"make train RUN={name}" + (f" VARIANT={variant}" if variant else "")
            raise RunError(
                f"no run named {path.name!r} in {_short(path.parent)}/ (have: {have or 'none'}); "
                f"make one with `{make}`"
            )
        missing = [part for part in (*PARTS, "metrics.json") if not (path / part).is_file()]
        if missing:
            raise RunError(
                f"run {name!r} is half-written: {_short(path)}/{missing[0]} is missing; "
                f"finish it with `make train RUN={name}` or remove the folder"
            )
        return cls(path, f"{name}/{variant}" if variant else name)

    def _json(self, name: str) -> dict:
        try:
            return json.loads((self.path / name).read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{_short(self.path / name)}: not valid JSON ({error})") from None

    @cached_property
    def config(self) -> dict:
        config = self._json("config.json")
        try:
            config["data"]["kind"], config["scale"]["mean"], config["recipe"]["seed"]
            if not config["classes"] or {type(name) for name in config["classes"]} != {str}:
                raise TypeError("classes are not names")
        except (TypeError, KeyError) as error:
            raise RunError(
                f"{_short(self.path / 'config.json')}: not a run's configuration ({error})"
            ) from None
        return config

    @cached_property
    def metrics(self) -> dict:
        metrics = self._json("metrics.json")
        try:
            {split: scores["n"] + scores["accuracy"] for split, scores in metrics.items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise RunError(
                f"{_short(self.path / 'metrics.json')}: not a run's figures ({error})"
            ) from None
        return metrics

    @property
    def best_epoch(self) -> dict | None:
        """What ``train.epochs`` found: n, epochs, accuracy, epoch, both with the mirror image."""
        return self._json("best_epoch.json") if (self.path / "best_epoch.json").exists() else None

    @cached_property
    def history(self):
        """DataFrame, a row an epoch: losses in nats, accuracies in 0–1, seconds."""
        return self._table("history.csv", ["epoch"])

    @cached_property
    def predictions(self):
        """DataFrame, a row a test face: row, split, label, then a probability for each class."""
        table = self._table("predictions.csv", ["row", "split", "label", *self.classes])
        found = table["split"].value_counts().to_dict()
        scored = {split: scores["n"] for split, scores in self.metrics.items()}
        if found != scored or table.isna().any(axis=None):
            raise RunError(
                f"{_short(self.path / 'predictions.csv')}: {found} whole rows, but metrics.json "
                f"scored {scored}; damaged: get or train the run again"
            )
        return table

    def _table(self, name: str, columns: list[str]):
        import pandas as pd

        try:
            table = pd.read_csv(self.path / name)
            if table[columns].empty:
                raise ValueError("no row")
        except (ValueError, KeyError, OSError) as error:  # pandas' own errors are ValueErrors
            raise RunError(
                f"{_short(self.path / name)}: not a table with {', '.join(columns)} "
                f"({reason(error)}); damaged: get or train the run again"
            ) from None
        return table

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.config["classes"])

    @property
    def synthetic(self) -> bool:
        return self.config["data"]["kind"] == "synthetic"

    @property
    def test_split(self) -> str:
        """PrivateTest, or PublicTest where that one was not scored."""
        return "PrivateTest" if "PrivateTest" in self.metrics else "PublicTest"

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(sorted(p.parent.name for p in self.path.glob("variants/*/metrics.json")))

    def variant(self, name: str) -> Run:
        """A further fit of this run, such as ``original``: the same kind of object."""
        return Run.load(self.path.name, name)

    @cached_property
    def _weights(self) -> tuple[nn.Module, dict]:
        return load_weights(self.path / "model.safetensors")

    def model(self) -> nn.Module:
        """The network in eval mode, float32; the same object at each call."""
        return self._weights[0]

    def scale(self, images: np.ndarray) -> Tensor:
        """Grey levels, uint8 (n, 48, 48), to the network's input, float32 (n, 1, 48, 48)."""
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"images: expected uint8 (n, 48, 48), got {images.dtype} {images.shape}"
            )
        return scale(torch.from_numpy(images), **self.config["scale"])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities float32 (n, classes) of uint8 images (n, 48, 48); no flip averaging."""
        return probabilities(self.model(), self.scale(images)).numpy()

    def faces(self, most: int | None = None, rows=None) -> Faces | None:
        """The run's images, or None where a real set is not at hand (``FER_DATA`` unset).

        Args:
            most: the first so many are enough (drawing synthetic faces takes its time).
            rows: these alone, as ``predictions`` numbers them.
        """
        if self.synthetic:
            described = self.config["data"]
            index = np.arange(min(described["n"], most or described["n"])) if rows is None else rows
            faces = synthetic.at(index, described["seed"], described["preset"])
            return relabel(faces, self.classes)
        if self._real is None or (most is None and rows is None):
            return self._real
        return self._real[:most] if rows is None else self._real[np.asarray(rows)]

    @cached_property
    def _real(self) -> Faces | None:
        if not (path := os.environ.get("FER_DATA")):
            return None
        faces = data.load(path, os.environ.get("FER_VOTES") or None)
        if faces.checksum() != self.config["data"]["checksum"]:
            raise RunError(
                f"{path}: not the set that run {self.name!r} was made with (checksum differs); "
                "its figures don't describe this data: train on it with `make report RUN=mine`"
            )
        return relabel(faces, self.classes)

    def has(self, name: str) -> bool:
        """Whether the run ships the aggregate ``name``."""
        return (self.path / "precomputed" / f"{name}.npz").is_file()

    def read(self, name: str) -> dict[str, np.ndarray]:
        """An aggregate that the run ships, by name."""
        path = self.path / "precomputed" / f"{name}.npz"
        if not path.is_file():
            raise RunError(
                f"run {self.name!r} has no aggregate {name!r}; "
                f"make it with `python -m fer_utils.precomputed {self.name} {name}`"
            )
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except Exception as error:  # a damaged file can fail in any way
            raise RunError(
                f"{_short(path)}: damaged ({reason(error)}); remove it and make it anew"
            ) from None

    def store(self, name: str, arrays: dict[str, np.ndarray]) -> Path:
        path = self.path / "precomputed" / f"{name}.npz"
        with atomic(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)
        return path


def scale(images: Tensor, mean: float, sd: float) -> Tensor:
    """uint8 (n, 48, 48) -> float32 (n, 1, 48, 48): grey levels 0–1, less ``mean``, over ``sd``."""
    return images.unsqueeze(1).float().div_(255).sub_(mean).div_(sd)


def relabel(faces: Faces, classes: tuple[str, ...]) -> Faces:
    """The same faces with labels that count in the order of ``classes``."""
    order = np.array([classes.index(name) for name in data.EMOTIONS] + [-1])
    return replace(faces, labels=order[faces.labels])


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
