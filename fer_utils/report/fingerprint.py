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
    return hashlib.sha256(file.read_bytes()).hexdigest()


def tree(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """Relative path -> hash of every file below a folder.

    What starts with a dot (half-written files, JupyterLab's checkpoints) and caches don't count.
    """
    found = {}
    for path in sorted(folder.glob(pattern)):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if path.is_file() and not hidden:
            found[inside.as_posix()] = content(path)
    return found


def versions() -> dict[str, str]:
    try:
        found = {package: metadata.version(package) for package in PACKAGES}
    except metadata.PackageNotFoundError as error:
        raise ReportError(f"package {error.name} is missing: pip install -e .") from None
    return {"Python": platform.python_version(), **found}


def run_folder(root: Path, name: str) -> Path:
    """Where a run lies, as ``runs.Run.load`` looks for it: in FER_RUNS, else among the shipped."""
    shipped = root / "runs" / name
    own = Path(os.environ.get("FER_RUNS") or root / "runs") / name
    return shipped if is_whole(shipped) and not own.is_dir() else own


def is_whole(run: Path) -> bool:
    return (run / "metrics.json").is_file()  # written last


def surroundings(root: Path, run: str, data: Path | None, votes: Path | None) -> str:
    """What every chapter depends on: module, runs, data, the reader's network, packages.

    Data are known by path, size and time: to read 300 MB takes longer than all the rest.
    """
    module = tree(root / "fer_utils", "**/*.py")
    module = {name: hash for name, hash in module.items() if not name.startswith("report/")}
    runs = {name: tree(run_folder(root, name)) for name in {run, "synthetic"}}
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


def read_json(path: Path):
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not readable as JSON ({error}); get it again") from None


class Stamp:
    """build/RUN/stamp.json: what the last call wrote there, and from what.

    Attributes:
        chapters: name -> what it was made from, and the hash of what was made.
        pages: what the pages were made from.
        files: everything that was written, relative to the folder. No other file is ever removed.
    """

    def __init__(self, path: Path):
        self.path = path
        self.chapters: dict[str, list[str]] = {}
        self.pages = ""
        self.files: list[str] = []
        with suppress(OSError, ValueError, KeyError, TypeError):  # unreadable: all is made anew
            stored = json.loads(path.read_text("utf-8"))
            names = ("chapters", "pages", "files")
            self.chapters, self.pages, self.files = (stored[name] for name in names)

    def holds(self, executed: Path, key: str) -> bool:
        """Whether an executed notebook lies there as it was made, from what it would be made of."""
        known = self.chapters.get(executed.stem)
        return executed.is_file() and known == [key, content(executed)]

    def add(self, executed: Path, key: str) -> None:
        self.chapters[executed.stem] = [key, content(executed)]
        self.write()

    def replace_files(self, written: list[Path]) -> None:
        """Remove what an earlier call wrote and this one did not; remember what this one wrote."""
        folder = self.path.parent
        now = [path.relative_to(folder).as_posix() for path in written]
        for name in set(self.files) - set(now):
            (folder / name).unlink(missing_ok=True)
        self.files = now
        self.write()

    def write(self) -> None:
        partial = self.path.with_suffix(".partial")
        stored = {"chapters": self.chapters, "pages": self.pages, "files": self.files}
        partial.write_text(json.dumps(stored, indent=1))
        os.replace(partial, self.path)
