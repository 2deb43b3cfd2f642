"""Any copy of FER2013 that people have, read and checked: ``load(path) -> Faces``.

The layout is recognised by what is in the file or folder, not by its name:

- ``fer2013.csv``, ``icml_face_data.csv``, the challenge's ``train.csv`` and ``test.csv``, the
  NTU homework's csv; plain, ``.gz``, ``.zip`` or ``.tar.gz``           (``text``)
- image folders ``train/angry/…`` in all spellings, one's own ``CLASS/*.png`` of any size and
  colour, FER+ generator folders, numbered images beside ``id,label``   (``folders``)
- Hugging Face parquet; needs pyarrow                                   (``parquet``)

FER+ votes join by row (``votes``). ``describe(faces)`` counts classes, copies, contradictions
and blanks (``checks``). What was read once comes from a checked cache (``cache``). A file that
is no set of faces, or a damaged one, gives one line: ``DataError``.

A picture of one's own becomes a face by ``read_face`` (``portrait``).

``python -m fer_utils.data PATH [VOTES]`` says what a path holds.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path

from .cache import cached
from .describe import Description, describe, published, remark
from .faces import EMOTIONS, SPLITS, DataError, Faces
from .ferplus import COLUMNS as VOTE_COLUMNS
from .ferplus import join_votes, plurality
from .portrait import read_face
from .recognise import read_path

log = logging.getLogger(__name__)


def load(path, votes=None) -> Faces:
    """The faces of a file or folder in any layout; with ``votes`` those of FER+'s fer2013new.csv.

    ``faces.notes`` tells what was recognised, assumed or converted. Raises ``DataError``.
    """
    try:
        place = Path(os.path.expanduser(os.fsdecode(path)))
        os.fsencode(place)
    except UnicodeError:
        raise DataError(f"path {path!a}: not a file name; expected a file or folder") from None
    if not os.fspath(path) or "\0" in str(place):
        raise DataError(f"path {path!a}: empty or with a NUL; expected a file or folder")
    faces = cached(place, read_and_recognise)
    if votes is not None:
        faces = join_votes(faces, votes, str(path))
    for note in faces.notes:
        log.info("%s: %s", path, note)
    return faces


def read_and_recognise(path: Path) -> Faces:
    faces = read_path(path)
    return replace(faces, notes=(*remark(faces), *faces.notes))
