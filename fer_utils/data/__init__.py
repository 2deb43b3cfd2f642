"""Any copy of FER2013 that people have, read and checked: ``load(path) -> Faces``.

The layout is recognised by what is in the file or folder, not by its name:

- ``fer2013.csv`` and its relatives, plain or in an archive; parquet  (``tables``, ``files``)
- image folders ``train/angry/…`` in all spellings, one's own ``CLASS/*.png`` of any size and
  colour                                                              (``readers``, ``images``)

Which class a number or folder means, and which split a name: ``names``. FER+ votes join by row
(``ferplus``). A file that is no set of faces, or a damaged one, gives one line: ``DataError``.
What was recognised, assumed, converted or left out stands in ``faces.notes``.

The faces in a picture of one's own: ``read_faces`` (``images``).

A large set is read quickly the second time: its arrays lie in the folder ``FER_CACHE``, or in
``~/.cache/fer-report``; ``FER_CACHE=`` (empty) turns that off. A changed source, or one whose cache
is damaged, is read again. The ``KEPT`` sets read last are kept (FER2013 takes 83 MB).
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from .faces import EMOTIONS, SPLITS, DataError, Faces, describe, hold_out, summary_lines
from .ferplus import join_votes, plurality
from .files import list_files
from .images import read_faces
from .names import class_names
from .readers import read_path

VERSION = 4  # of the readers: what older ones read is read anew
KEPT = 8
WORTH_IT = 4 << 20  # bytes; smaller sources are read at once


def load(path, votes=None, classes=None) -> Faces:
    """The faces of a file or folder in any layout.

    Args:
        votes: FER+'s fer2013new.csv, for FER2013 whole and in its published order.
        classes: names, or one string with commas between; default: ``FER_CLASSES``. They say what
            the numbers of a table mean, from 0 or 1 on, or which class folders count. The seven of
            FER2013 in any order and spelling become ``EMOTIONS``, others ``faces.classes``.

    Raises:
        DataError: no set of faces, or a damaged one.
    """
    if not os.fspath(path):
        raise DataError("path '': empty; expected a file or folder")
    place = Path(os.path.expanduser(path))
    classes = class_names(classes or os.environ.get("FER_CLASSES"))
    cache = cache_file(place, classes)
    faces = fetch(cache) if cache else None
    if faces is None:
        faces = read_path(place, classes)
        with contextlib.suppress(OSError):  # where nothing can be written, all works without
            if cache:
                store(cache, faces)
    return faces if votes is None else join_votes(faces, votes, str(path))


def cache_file(path: Path, classes) -> Path | None:
    """Where the faces of a source as it is now belong; None where they are not cached."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.environ.get("FER_CACHE", os.path.join(base, "fer-report"))
    if not folder:
        return None
    try:
        found = [(file.place, file.path.stat()) for file in list_files(path, str(path))]
    except OSError:  # the reader says what is wrong
        return None
    if sum(status.st_size for _, status in found) < WORTH_IT:
        return None
    # Nobody can set the ctime back.
    seen = [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in found]
    state = repr([VERSION, path.resolve(), classes, seen])
    return Path(folder, f"faces-{hashlib.sha256(state.encode()).hexdigest()[:32]}.npz")


def fetch(file: Path) -> Faces | None:
    """The stored faces, or None where there are none or the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = [stored[name] for name in ("images", "labels", "split")]
            notes, classes = (tuple(stored[name].tolist()) for name in ("notes", "classes"))
        with contextlib.suppress(OSError):  # of the sets kept, it is now the last read
            os.utime(file)
        return Faces(*arrays, notes=notes, classes=classes)
    except Exception:  # a damaged file can fail in any way; all of them mean: read the source
        return None


def store(file: Path, faces: Faces) -> None:
    """Written elsewhere and then renamed: a reader sees a whole file or none."""
    arrays = {name: getattr(faces, name) for name in ("images", "labels", "split")}
    words = {name: np.array(getattr(faces, name), str) for name in ("notes", "classes")}
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".faces-", dir=file.parent) as scratch:
        np.savez(Path(scratch, file.name), **arrays, **words)
        os.replace(Path(scratch, file.name), file)
    stored = sorted(file.parent.glob("faces-*.npz"), key=os.path.getmtime)
    for old in stored[:-KEPT]:
        old.unlink(missing_ok=True)
