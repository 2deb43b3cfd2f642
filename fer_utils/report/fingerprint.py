"""Fingerprints by content: what chapters and pages were made from. Imports nothing large."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path

from fer_utils.report import ReportError

PACKAGES = (
    "torch", "numpy", "pandas", "scikit-learn", "matplotlib", "seaborn",
    "papermill", "ipykernel", "typst", "pypandoc_binary",
)  # fmt: skip


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def content(*files: Path) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def tree(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """Relative path -> hash of every file below a folder; caches and half-written files aside."""
    files = [
        p for p in sorted(folder.glob(pattern))
        if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")
    ]  # fmt: skip
    return dict(zip((str(p.relative_to(folder)) for p in files), content(*files), strict=True))


def versions() -> dict[str, str]:
    found = {package: metadata.version(package) for package in PACKAGES}
    return {"Python": platform.python_version(), **found}


def runs_folder(root: Path) -> Path:
    return Path(os.environ.get("FER_RUNS") or root / "runs")


def surroundings(root: Path, run: str, data: Path | None, votes: Path | None) -> str:
    """What every chapter depends on: module, runs, data, packages."""
    module = tree(root / "fer_utils", "**/*.py")
    module = {k: v for k, v in module.items() if not k.startswith("report" + os.sep)}
    runs = {name: tree(runs_folder(root) / name) for name in {run, "synthetic"}}
    sets = [p for given in filter(None, (data, votes)) for p in (given, *sorted(given.rglob("*")))]
    seen = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sets]
    return digest(module, runs, seen, versions())


def notebook(path: Path) -> str:
    """A notebook's cells without their outputs."""
    try:
        cells = read_json(path)["cells"]
        return digest([(c["cell_type"], c["source"], c["metadata"].get("tags")) for c in cells])
    except (KeyError, TypeError, AttributeError):
        raise ReportError(f"{path}: not a notebook (no cells with source and metadata)") from None


def read_json(path: Path):
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not readable as JSON ({error}); get it again") from None
