"""Where artefacts lie: the only module that knows the layout of ``runs/``.

A run is a folder::

    runs/NAME/config.json        network, data with checksum and notes, scale, recipe, versions
              history.csv        one row an epoch
              predictions.npz    a row a face of PublicTest and PrivateTest: row, split, label, and
                                 a float16 probability for each class
              model.safetensors  weights in float16; scored as stored
              metrics.json       written last: its presence means that the run is whole
              ledger.csv         every scoring of a real PrivateTest: date, commit, variant, result
              precomputed/*.npz  what the chapters show from many faces
              variants/VARIANT/  further trained models: the same files, weights optional
              EPOCH.safetensors, predictions_EPOCH.npz: of other epochs that were scored too

A run is written to ``FER_RUNS`` (default: the checkout's ``runs/``) and looked for there first,
then among the runs that the checkout ships. Where a variant of a shipped run is trained in another
``FER_RUNS``, its scorings are listed in a ``ledger.csv`` there.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fer_utils import data, synthetic
from fer_utils.data import Faces
from fer_utils.data.faces import reason
from fer_utils.inspection import chunk_size, explained
from fer_utils.networks import Network, NetworkError, find_network, own_network

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("config.json", "history.csv", "predictions.npz", "metrics.json")
LEDGER = "ledger.csv"


class RunError(ValueError):
    """A run that is missing, half-written or does not belong to the data: one line."""


def runs_folder() -> Path:
    """Where runs are written."""
    return Path(os.environ.get("FER_RUNS") or ROOT / "runs")


def run_path(name: str, variant: str | None = None, folder: Path | None = None) -> Path:
    """The folder of a run, or of one of its variants; refuses a name that is a path."""
    for part in (name, variant or "variant"):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", part):
            raise RunError(f"run name {part!r}: expected letters, digits, '-', '_' and '.' only")
    path = (folder or runs_folder()) / name
    return path / "variants" / variant if variant else path


def whole_runs(folder: Path) -> set[str]:
    """Names of the runs or variants in a folder."""
    return {path.parent.name for path in folder.glob("*/metrics.json")}


def short_path(path: Path) -> str:
    """A path for a message, short where it lies in the checkout."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


@contextmanager
def atomic(path: Path):
    """A temporary path beside ``path`` that replaces it when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    with atomic(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def save_weights(path: Path, model: nn.Module, metadata: dict[str, str]) -> None:
    """Store a network's weights in float16 (integers as they are), whole or not at all."""
    tensors = {}
    for key, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        # Copies: a layer with two names holds one tensor, which safetensors stores but once.
        stored = value.half() if value.is_floating_point() else value.clone()
        if not torch.isfinite(stored.float()).all():
            raise RunError(
                f"weights {key}: a value does not fit float16 (largest {value.abs().max():g})"
            )
        tensors[key] = stored
    with atomic(path) as partial:
        try:
            save_file(tensors, partial, metadata=metadata)
        except SafetensorError as error:  # no room on the disk, in that library's own type
            raise OSError(f"{short_path(path)}: {error}") from None


def load_weights(path: Path, network: Network | None = None) -> nn.Module:
    """The network that a weights file holds, in eval mode and float32.

    Args:
        network: the reader's own, where the caller has it; else ``FER_NETWORK`` names its file.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        network = network or named_network(metadata)
        model = network.build(len(json.loads(metadata["classes"])))
        model.load_state_dict(state)  # into float32
    except NetworkError as error:
        said = str(error)
    except FileNotFoundError:
        said = "no weights there; train it again to have them"
    except (SafetensorError, KeyError, TypeError, RuntimeError, OSError, ValueError) as error:
        said = f"not the weights of a known network ({reason(error)})"
    else:
        return model.eval()
    raise RunError(f"{short_path(path)}: {said}")


def named_network(about: dict) -> Network:
    """The network that a run's config, or its weights, name."""
    if about.get("network_checksum"):
        return own_network(about["network"], about["network_checksum"])
    return find_network(about["network"])


@torch.no_grad()
def probabilities(model: nn.Module, inputs: Tensor) -> Tensor:
    """Softmax of the logits in eval mode, (n, 1, 48, 48) -> (n, classes)."""
    with explained(model) as net:
        parts = inputs.split(chunk_size(inputs))
        return torch.cat([net(part).float().softmax(1) for part in parts])


def scale(images: Tensor, mean: float, sd: float) -> Tensor:
    """uint8 (n, 48, 48) -> float32 (n, 1, 48, 48): grey levels 0–1, less ``mean``, over ``sd``."""
    return images.unsqueeze(1).float().div_(255).sub_(mean).div_(sd)


def relabel(faces: Faces, classes: tuple[str, ...]) -> Faces:
    """The same faces with labels that count in the order of ``classes``."""
    order = np.array([classes.index(name) for name in faces.classes] + [-1])
    return replace(faces, labels=order[faces.labels], classes=classes)


def load_faces(path: str, classes: tuple[str, ...] | None = None) -> Faces:
    """The real set with the votes, and else the classes, that the environment names."""
    return data.load(path, os.environ.get("FER_VOTES") or None, classes)


@dataclass(frozen=True)
class Run:
    """One trained network with everything that the chapters read from it.

    Attributes:
        path: its folder.  name: the run's name, ``fer2013/original`` for a variant.
    """

    path: Path
    name: str

    @classmethod
    def load(cls, name: str, variant: str | None = None) -> Run:
        """Find a whole run by name, in ``FER_RUNS`` or among the shipped ones.

        Raises:
            RunError: there is no such run or variant, or it is half-written.
        """
        make = f"make train RUN={name}" + (f" VARIANT={variant}" if variant else "")
        places = [run_path(name, variant, folder) for folder in (runs_folder(), ROOT / "runs")]
        begun = [
            path for path in places
            if any(file.is_file() and file.name != LEDGER for file in path.glob("*"))
        ]  # fmt: skip
        if not begun:
            beside = set().union(*(whole_runs(path.parent) for path in places))
            raise RunError(
                f"no run named {variant or name!r} in {short_path(places[0].parent)}/ "
                f"(have: {', '.join(sorted(beside)) or 'none'}); make one with `{make}`"
            )
        missing = [part for part in PARTS if not (begun[0] / part).is_file()]
        if missing:
            raise RunError(
                f"run {name!r} is half-written: {short_path(begun[0])}/{missing[0]} is missing; "
                f"finish it with `{make}` or remove the folder"
            )
        return cls(begun[0], f"{name}/{variant}" if variant else name)

    def _read(self, name: str, reader):
        """A file of the run; RunError in one line where it is damaged."""
        try:
            return reader(self.path / name)
        except Exception as error:  # a damaged file can fail in any way
            raise RunError(
                f"{short_path(self.path / name)}: damaged ({type(error).__name__}: {reason(error)}); "
                "get it or make it again"
            ) from None

    @cached_property
    def config(self) -> dict:
        def read(path: Path) -> dict:
            config = json.loads(path.read_text("utf-8"))
            config["data"]["kind"], config["scale"]["mean"], config["recipe"]["seed"]
            if not config["classes"] or {type(name) for name in config["classes"]} != {str}:
                raise TypeError("classes are not names")
            return config

        return self._read("config.json", read)

    @cached_property
    def _scores(self) -> tuple[dict, dict]:
        """What metrics.json holds: ``metrics`` and ``epochs``."""

        def read(path: Path) -> tuple[dict, dict]:
            metrics = json.loads(path.read_text("utf-8"))
            epochs = metrics.pop("epochs", {})
            {scores["n"] + scores["accuracy"] for scores in metrics.values()}
            return metrics, epochs

        return self._read("metrics.json", read)

    @property
    def metrics(self) -> dict:
        """Split -> its figures after the last epoch."""
        return self._scores[0]

    @property
    def epochs(self) -> dict:
        """Epochs scored beside the last: name -> ``epoch``, its number, and ``metrics``."""
        return self._scores[1]

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row an epoch: losses in nats, accuracies in 0–1, seconds."""
        table = self._read("history.csv", lambda path: pd.read_csv(path).astype({"epoch": int}))
        if table.empty:
            raise RunError(f"{short_path(self.path / 'history.csv')}: no row; train the run again")
        return table

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """A row a test face: row, split, label, then a probability for each class."""
        return self.predictions_at(None)

    def predictions_at(self, epoch: str | None) -> pd.DataFrame:
        """``predictions`` of one of ``epochs``; None: after the last."""
        name = f"predictions_{epoch}.npz" if epoch else "predictions.npz"
        metrics = self.epochs[epoch]["metrics"] if epoch else self.metrics
        scored = {split: scores["n"] for split, scores in metrics.items()}

        def read(path: Path) -> pd.DataFrame:
            table = pd.DataFrame(read_arrays(path)).astype(dict.fromkeys(self.classes, float))
            found = table[["row", "split", "label"]].value_counts("split").to_dict()
            if found != scored or table.isna().any(axis=None):
                raise ValueError(f"{found} whole rows, but metrics.json scored {scored}")
            return table

        return self._read(name, read)

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
        """Names of the whole variants, beside the run or, of a shipped run, in ``FER_RUNS``."""
        places = self.path, runs_folder() / self.path.name
        return tuple(sorted(set().union(*(whole_runs(path / "variants") for path in places))))

    @property
    def ledger(self) -> pd.DataFrame:
        """Every scoring of a real PrivateTest by a model of this run, a row each."""
        folders = dict.fromkeys([self.path, runs_folder() / self.path.name])
        ledgers = [
            Run(folder, self.name)._read(LEDGER, pd.read_csv)
            for folder in folders if (folder / LEDGER).is_file()
        ]  # fmt: skip
        return pd.concat(ledgers) if ledgers else pd.DataFrame(columns=["variant"])

    def variant(self, name: str) -> Run:
        """A further trained model of this run, such as ``original``: the same kind of object."""
        return Run.load(self.path.name, name)

    @property
    def network_name(self) -> str:
        """``FerCNN``, or ``my_net.py:MyNet`` for the reader's own."""
        return self.config["network"]

    def network(self) -> Network:
        """What builds the run's network; a reader's own is the file that ``FER_NETWORK`` names."""
        return named_network(self.config)

    def reference(self) -> Run | None:
        """The shipped run on the very same faces, if it is another, to be compared with."""
        for path in sorted((ROOT / "runs").glob("*/metrics.json")):
            shipped = Run(path.parent, path.parent.name)
            same = shipped.config["data"]["checksum"] == self.config["data"]["checksum"]
            if same and shipped.classes == self.classes and shipped.path.name != self.path.name:
                return shipped
        return None

    @cached_property
    def _network(self) -> nn.Module:
        return load_weights(self.path / "model.safetensors")

    def model(self) -> nn.Module:
        """The network in eval mode, float32; the same object at each call."""
        return self._network

    def scale(self, images: np.ndarray) -> Tensor:
        """Grey levels, uint8 (n, 48, 48), to the network's input, float32 (n, 1, 48, 48)."""
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"images: expected uint8 (n, 48, 48), got {images.dtype} {images.shape}"
            )
        return scale(torch.tensor(images), **self.config["scale"])

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
            if rows is None:
                rows = np.arange(described["n"])[:most]
            faces = synthetic.at(rows, described["seed"], described["preset"])
            return relabel(faces, self.classes)
        if self._real is None or (most is None and rows is None):
            return self._real
        return self._real[:most] if rows is None else self._real[np.asarray(rows)]

    @cached_property
    def _real(self) -> Faces | None:
        if not (path := os.environ.get("FER_DATA")):
            return None
        described = self.config["data"]
        faces = load_faces(path, described.get("read_as"))
        if described.get("held_out"):
            faces = data.hold_out(faces)
        if faces.checksum() != described["checksum"]:
            raise RunError(
                f"{path}: not the set that run {self.name!r} was made with (checksum differs); "
                "its figures don't describe this data: train on it with `make report RUN=mine`"
            )
        return faces

    def has(self, name: str) -> bool:
        """Whether the run ships the precomputed result ``name``."""
        return (self.path / "precomputed" / f"{name}.npz").is_file()

    def read(self, name: str) -> dict[str, np.ndarray]:
        """A precomputed result that the run ships, by name."""
        if not self.has(name):
            raise RunError(
                f"run {self.name!r} has no result {name!r}; "
                f"make it with `python -m fer_utils.precomputed {self.name} {name}`"
            )
        return self._read(f"precomputed/{name}.npz", read_arrays)

    def store(self, name: str, arrays: dict[str, np.ndarray]) -> Path:
        return write_arrays(self.path / "precomputed" / f"{name}.npz", arrays)
