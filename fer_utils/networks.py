"""A network by its name: one of ``model``, or a class of a file of the reader's own.

Any ``nn.Module`` will do that takes the number of classes, has a Conv2d in it, and maps
(b, 1, 48, 48) to logits (b, classes). ``find_network("path/to/my_net.py:MyNet")`` executes that
file, as the caller asks; ``own_network`` has the file of a run only from ``FER_NETWORK``, so that
the run of a stranger executes nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
import textwrap
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from fer_utils.model import NETWORKS


class NetworkError(ValueError):
    """No such network, or none that the report can look into: one line."""


@dataclass(frozen=True)
class Network:
    """Where a network comes from.

    Attributes:
        name: ``FerCNN``, or ``my_net.py:MyNet`` for a class of the reader's own file.
        build: the class.
        checksum: SHA-256 of that file; empty for a network of ``model``.
    """

    name: str
    build: type[nn.Module]
    checksum: str = ""


def find_network(reference: str) -> Network:
    """The network of a name, or of ``FILE.py:Class``: that file is executed.

    Raises:
        NetworkError: no such name, file or class, or the file fails.
    """
    if reference in NETWORKS:
        return Network(reference, NETWORKS[reference])
    file, _, name = reference.rpartition(":")
    if not file.endswith(".py"):
        raise NetworkError(
            f"no network {reference!r}; expected {' or '.join(NETWORKS)}, or FILE.py:Class"
        )
    path = Path(os.path.expanduser(file))
    try:
        source = path.read_bytes()
    except OSError as error:
        raise NetworkError(f"{file}: {error.strerror}; expected FILE.py:Class") from None
    found = execute(path, source)
    classes = {
        key: value for key, value in found.items()
        if isinstance(value, type) and issubclass(value, nn.Module)
    }  # fmt: skip
    if name not in classes:
        own = [key for key, value in classes.items() if value.__module__ == found["__name__"]]
        told = ", ".join(own) or "none"
        raise NetworkError(f"{file}: no nn.Module {name!r} in it (have: {told})")
    return Network(f"{path.name}:{name}", classes[name], hashlib.sha256(source).hexdigest())


def execute(path: Path, source: bytes) -> dict:
    """The names that a file makes; its own error in one line, with the line it comes from."""
    module = ModuleType(f"network of {path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        place = f"{path.name}, line {lines[-1]}" if lines else path.name  # it never ran
        said = textwrap.shorten(str(error), 300)
        raise NetworkError(f"{place}: {type(error).__name__}: {said}") from error
    return vars(module)


def own_network(name: str, checksum: str) -> Network:
    """The reader's network of a run, from the file that ``FER_NETWORK`` names, and no other.

    Raises:
        NetworkError: the variable names no such file, or the file has changed.
    """
    reference = os.environ.get("FER_NETWORK", "")
    if Path(reference).name != name:
        raise NetworkError(
            f"the network {name} is the reader's own: say where its file lies, "
            f"NETWORK=path/to/{name} (or FER_NETWORK, without make)"
        )
    network = find_network(reference)
    if network.checksum != checksum:
        raise NetworkError(
            f"{reference}: not as it was when the run was trained (its checksum differs); put it "
            "back, or train it as another run"
        )
    return network


def build(network: Network, classes: int) -> nn.Module:
    """A network with its first weights, after a check that the report can look into it.

    Raises:
        NetworkError: its constructor fails, it has no Conv2d, it refuses faces, or what it
            returns is no table of logits.
    """
    try:
        model = network.build(classes)
    except Exception as error:
        raise NetworkError(
            f"{network.name}: {network.build.__name__}({classes}) fails: {type(error).__name__}: "
            f"{error}; expected a class whose one argument is the number of classes"
        ) from error
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        raise NetworkError(f"{network.name}: no Conv2d in it; chapters 4 and 5 look into the last")
    try:
        with torch.no_grad():
            logits = model.eval()(torch.linspace(-2, 2, 2 * 48 * 48).view(2, 1, 48, 48))
    except Exception as error:
        said = textwrap.shorten(str(error), 200, placeholder=" …")
        raise NetworkError(
            f"{network.name}: refuses faces of 1 × 48 × 48 ({said}); for a network of colour "
            "pictures, or of larger ones, begin its forward with `x = x.expand(-1, 3, -1, -1)` or "
            "`x = nn.functional.interpolate(x, size=(224, 224))`"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(f"{network.name}: returns {got} for two faces; expected (2, {classes})")
    if not logits.isfinite().all():
        raise NetworkError(f"{network.name}: returns NaN or infinity with its first weights")
    if logits.min() >= 0 and (logits.sum(1) - 1).abs().max() < 1e-4:
        raise NetworkError(
            f"{network.name}: returns probabilities, rows that sum to 1; expected logits: leave "
            "the softmax out, the loss has its own"
        )
    return model.train()
