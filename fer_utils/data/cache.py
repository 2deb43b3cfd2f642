"""A set that was read and checked once loads at once the second time.

One file for each source lies in ``FER_CACHE``, or in ``fer-report/`` of the user's cache folder;
``FER_CACHE=`` (empty) turns it off. It is used only while the source has the size, the times and
the inode that it had when it was read, and only if its own checksums hold; else it is written
anew. The ``KEPT`` sets used last are kept (FER2013 takes 83 MB). Where nothing can be written,
everything works without.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from .archives import identity, list_files
from .faces import SPLITS, Faces

VERSION = 2  # of the readers: what older ones read is read anew
KEPT = 8
PATTERN = "faces-*.npz"
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


def source_state(path: Path, classes) -> dict | None:
    """What identifies the content of a file or folder now, without reading it."""
    if path.is_dir():
        seen = [(file.name, file.identity) for file in list_files(path)]
    else:
        seen = [("", identity(os.stat(path)))]
    if not seen:
        return None
    return {
        "version": VERSION,
        "path": os.path.realpath(path),
        "classes": list(classes or ()),
        "files": hashlib.sha256(json.dumps(seen).encode()).hexdigest(),
        "size": sum(known[0] for _, known in seen),
        "newest": max(max(known[1:3]) for _, known in seen),
    }


def cached(path: Path, classes, read) -> Faces:
    """``read(path, classes)``, or what it gave before where the source is unchanged."""
    folder = cache_folder()
    try:
        state = source_state(path, classes) if folder else None
    except OSError:
        state = None
    if state is None or state["size"] < WORTH_IT:
        return read(path, classes)
    name = hashlib.sha256(os.fsencode(f"{state['path']}\n{classes}")).hexdigest()[:32]
    file = folder / PATTERN.replace("*", name)
    faces = fetch(file, state)
    if faces is None:
        faces = read(path, classes)
        settled = time.time_ns() - state["newest"] > SETTLED_AFTER * 1e9
        with contextlib.suppress(OSError):
            if settled and source_state(path, classes) == state:
                store(file, state, faces)
    return faces


def fetch(file: Path, state: dict) -> Faces | None:
    """The stored faces, or None where there are none, or not of this state, or not whole."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            about = json.loads(stored["about"].item())
            if about["state"] != state:
                return None
            arrays = {name: stored[name] for name in ("images", "labels")}
            split = np.array(SPLITS)[stored["split"]]
        with contextlib.suppress(OSError):
            os.utime(file)  # the sets used last are kept
        notes, classes = tuple(about["notes"]), tuple(about["classes"])
        return Faces(split=split, notes=notes, classes=classes, **arrays)
    except Exception:  # a damaged file can fail in any way; all of them mean: read the source
        return None


def store(file: Path, state: dict, faces: Faces) -> None:
    """Written under another name and then renamed: a reader sees a whole file or none."""
    about = json.dumps({"state": state, "notes": faces.notes, "classes": faces.classes})
    split = np.array([SPLITS.index(name) for name in faces.split], np.int8)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, about=about, images=faces.images, labels=faces.labels, split=split)
        os.replace(partial, file)
    finally:
        Path(partial).unlink(missing_ok=True)
    newest_first = sorted(file.parent.glob(PATTERN), key=os.path.getmtime, reverse=True)
    for old in newest_first[KEPT:]:
        old.unlink(missing_ok=True)
