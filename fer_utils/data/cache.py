"""A set that was read and checked once loads at once the second time.

One file for each source lies in ``FER_CACHE``, or in ``~/.cache/fer-report``; ``FER_CACHE=``
(empty) turns it off. Its name is made from the source's path, sizes, times and inodes, so that a
changed source is read anew; so is one whose cache is damaged (the checksums of npz). The ``KEPT``
sets used last are kept (FER2013 takes 83 MB). Where nothing can be written, everything works
without.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from .archives import identity, list_files
from .faces import SPLITS, Faces

VERSION = 3  # of the readers: what older ones read is read anew
KEPT = 8
PATTERN = "faces-*.npz"
WORTH_IT = 4 << 20  # smaller sources are read in less than 0.1 s


def cache_folder() -> Path | None:
    own = os.environ.get("FER_CACHE")
    if own is not None:
        return Path(own) if own else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "fer-report"


def cache_file(path: Path, classes) -> Path | None:
    """Where the faces of a source as it is now belong; None where they are not cached."""
    folder = cache_folder()
    if folder is None or not path.exists():
        return None
    if path.is_dir():
        seen = [(file.name, file.identity) for file in list_files(path)]
    else:
        seen = [("", identity(path.stat()))]
    if sum(status[0] for _, status in seen) < WORTH_IT:
        return None
    state = json.dumps([VERSION, os.path.realpath(path), classes, seen])
    name = hashlib.sha256(state.encode()).hexdigest()[:32]
    return folder / PATTERN.replace("*", name)


def cached(path: Path, classes, read) -> Faces:
    """``read(path, classes)``, or what it gave before where the source is unchanged."""
    try:
        file = cache_file(path, classes)
    except OSError:  # the reader says what is wrong
        file = None
    if file is None:
        return read(path, classes)
    faces = fetch(file)
    if faces is None:
        faces = read(path, classes)
        with contextlib.suppress(OSError):
            if cache_file(path, classes) == file:  # not changed while it was read
                store(file, faces)
    return faces


def fetch(file: Path) -> Faces | None:
    """The stored faces, or None where there are none or the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            about = json.loads(stored["about"].item())
            faces = Faces(
                stored["images"],
                stored["labels"],
                np.array(SPLITS)[stored["split"]],
                notes=tuple(about["notes"]),
                classes=tuple(about["classes"]),
            )
        with contextlib.suppress(OSError):
            os.utime(file)  # the sets used last are kept
        return faces
    except Exception:  # a damaged file can fail in any way; all of them mean: read the source
        return None


def store(file: Path, faces: Faces) -> None:
    """Written under another name and then renamed: a reader sees a whole file or none."""
    about = json.dumps({"notes": faces.notes, "classes": faces.classes})
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
