"""What chapters and pages are made from, as fingerprints of the content. Imports nothing large."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from fer_utils.report import ReportError

NAME = r"\d\d_\w+"  # of a chapter
PACKAGES = (
    "torch", "numpy", "pandas", "scikit-learn", "matplotlib", "seaborn",
    "papermill", "ipykernel", "nbconvert", "typst", "pypandoc_binary",
)  # fmt: skip


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:24]


def tree(folder: Path) -> dict[str, str]:
    """Relative path -> hash of every file below a folder.

    What starts with a dot (half-written files, JupyterLab's checkpoints) and caches don't count.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
        if path.is_file() and not hidden:
            found[inside.as_posix()] = content(path)
    return found


def versions() -> dict[str, str]:
    try:
        found = {package: metadata.version(package) for package in PACKAGES}
    except metadata.PackageNotFoundError as error:
        raise ReportError(f"package {error.name} is missing: pip install -e .") from None
    return {"Python": platform.python_version(), **found}


def run_places(root: Path, name: str) -> tuple[Path, Path]:
    """Where a run may lie: in FER_RUNS, and among the shipped."""
    shipped = root / "runs"
    return Path(os.environ.get("FER_RUNS") or shipped) / name, shipped / name


def run_folder(root: Path, name: str) -> Path:
    """Where a run lies, as ``runs.Run.load`` looks for it: in FER_RUNS, else among the shipped.

    A folder in FER_RUNS that holds variants and their ledger alone belongs to the shipped run.
    """
    own, shipped = run_places(root, name)
    begun = any(path.is_file() and path.name != "ledger.csv" for path in own.glob("*"))
    return shipped if is_whole(shipped) and not begun else own


def is_whole(run: Path) -> bool:
    return (run / "metrics.json").is_file()  # written last


def inputs(root: Path, run: str, data: Path | None, votes: Path | None) -> str:
    """What every chapter depends on: module, runs, data, the reader's network, packages.

    Data are known by path, size and time: to read 300 MB takes longer than all the rest.
    """
    module = tree(root / "fer_utils")
    module = {name: hash for name, hash in module.items() if not name.startswith("report/")}
    shipped = {path.parent.name for path in (root / "runs").glob("*/metrics.json")}
    runs = {  # chapters compare with the shipped ones, and variants may lie in either place
        name: [tree(place) for place in dict.fromkeys(run_places(root, name))]
        for name in {run, *shipped}
    }
    files = [p for given in filter(None, (data, votes)) for p in (given, *sorted(given.rglob("*")))]
    seen = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    network = Path(os.environ.get("FER_NETWORK", "").rpartition(":")[0])
    own = content(network) if network.is_file() else ""
    return digest(module, runs, seen, os.environ.get("FER_CLASSES"), own, versions())


def notebook(path: Path) -> str:
    """A notebook's cells without their outputs."""
    try:
        cells = read_json(path)["cells"]
        return digest([(c["cell_type"], c["source"], c["metadata"].get("tags")) for c in cells])
    except (KeyError, TypeError, AttributeError):
        raise ReportError(f"{path}: not a notebook (no cells with source and metadata)") from None


def chapters(folder: Path) -> list[Path]:
    """The chapters in a folder, NN_name.ipynb, in their order; copies and checkpoints aside."""
    return sorted(p for p in folder.glob("*.ipynb") if re.fullmatch(NAME, p.stem))


def run_config(run: Path) -> dict:
    """A run's config.json, with what pages need of it."""
    config = read_json(run / "config.json")
    try:
        config["data"]["kind"], config["data"]["faces"].items()
    except (KeyError, TypeError, AttributeError):
        message = "not the config of a run (no data with kind and faces); get it again"
        raise ReportError(f"{run / 'config.json'}: {message}") from None
    return config


def read_json(path: Path):
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not readable as JSON ({error}); get it again") from None


class Stamp:
    """build/RUN/stamp.json: every file written there -> what it was made from, its own hash."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files: dict[str, list[str]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):  # unreadable: all is made anew
            self.files = dict(json.loads((folder / "stamp.json").read_text("utf-8"))["files"])

    def holds(self, path: Path, key: str) -> bool:
        """Whether a file lies there as it was written, made from ``key``."""
        known = self.files.get(path.relative_to(self.folder).as_posix())
        return path.is_file() and known == [key, content(path)]

    def add(self, paths: list[Path], key: str) -> None:
        for path in paths:
            self.files[path.relative_to(self.folder).as_posix()] = [key, content(path)]
        self.write()

    def remove_all_but(self, paths: list[Path]) -> None:
        """Remove what an earlier call wrote and this one did not; no other file is touched."""
        kept = {path.relative_to(self.folder).as_posix() for path in paths}
        for name in self.files.keys() - kept:
            (self.folder / name).unlink(missing_ok=True)
            del self.files[name]
        self.write()

    def write(self) -> None:
        partial = self.folder / "stamp.partial"
        partial.write_text(json.dumps({"files": self.files}, indent=1))
        os.replace(partial, self.folder / "stamp.json")
