"""A set that was read and checked once loads at once the second time.

One file for each source lies in ``FER_CACHE``, or in ``fer-report/`` of the user's cache folder;
``FER_CACHE=`` (empty) turns it off. It is used only while the source has the size, the times and
the inode that it had when it was read, and only if its own checksums hold; else it is written
anew. It is written under another name and then renamed, so a reader sees a whole file or none.
Where nothing can be written, everything works without.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from .faces import SPLITS, Faces
from .sources import folder_entries, identity

VERSION = 1
WORTH_IT = 4 << 20  # smaller sources are read in less than 0.1 s
# A file that changed a moment ago could change again within the same tick of the clock that
# stamps it, unseen: it is not stored yet (git calls such files racy).
SETTLED_AFTER = 2.0


def cache_folder() -> Path | None:
    own = os.environ.get("FER_CACHE")
    if own is not None:
        return Path(own) if own else None
    default = os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    base = os.environ.get("XDG_CACHE_HOME") or default
    try:
        return (Path(base) if base else Path.home() / ".cache") / "fer-report"
    except RuntimeError:  # a user without a home
        return None


def source_state(path: Path) -> dict | None:
    """What identifies the content of a file or folder now, without reading it."""
    if path.is_dir():
        entries = [(entry.path, entry.identity) for entry in folder_entries(path)]
    else:
        entries = [("", identity(os.stat(path)))]
    if not entries:
        return None
    return {
        "path": os.path.realpath(path),
        "files": hashlib.sha256(json.dumps(entries).encode()).hexdigest(),
        "size": sum(seen[0] for _, seen in entries),
        "newest": max(max(seen[1:3]) for _, seen in entries),
    }


def cached(path: Path, read) -> Faces:
    """``read(path)``, or what it gave before where the source is unchanged."""
    folder = cache_folder()
    try:
        state = source_state(path) if folder else None
    except OSError:
        state = None
    if state is None or state["size"] < WORTH_IT:
        return read(path)
    file = folder / f"{hashlib.sha256(os.fsencode(state['path'])).hexdigest()[:32]}.npz"
    faces = fetch(file, state)
    if faces is None:
        faces = read(path)
        settled = time.time_ns() - state["newest"] > SETTLED_AFTER * 1e9
        with contextlib.suppress(OSError):
            if settled and source_state(path) == state:
                store(file, state, faces)
    return faces


def fetch(file: Path, state: dict) -> Faces | None:
    """The stored faces, or None where there are none, or not of this state, or not whole."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            about = json.loads(stored["about"].item())
            if about["version"] != VERSION or about["state"] != state or stored.zip.testzip():
                return None
            arrays = {name: stored[name] for name in about["arrays"]}
        split = np.array(SPLITS)[arrays.pop("split")]
        return Faces(split=split, notes=tuple(about["notes"]), **arrays)
    except Exception:  # a damaged file can fail in any way; all of them mean: read the source
        return None


def store(file: Path, state: dict, faces: Faces) -> None:
    arrays = {
        "images": faces.images,
        "labels": faces.labels,
        "split": np.array([SPLITS.index(s) for s in faces.split], np.int8),
        "votes": faces.votes,
    }
    arrays = {name: array for name, array in arrays.items() if array is not None}
    about = {"version": VERSION, "state": state, "notes": faces.notes, "arrays": list(arrays)}
    with atomic(file) as partial, open(partial, "wb") as stream:
        np.savez(stream, about=json.dumps(about), **arrays)


@contextlib.contextmanager
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
