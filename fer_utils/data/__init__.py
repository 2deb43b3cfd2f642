"""Any copy of FER2013 that people have, read and checked: ``load(path) -> Faces``.

The layout is recognised by what is in the file or folder, not by its name:

- ``fer2013.csv``, ``icml_face_data.csv``, the challenge's ``train.csv`` and ``test.csv``, the
  NTU homework's csv; plain or in an archive; Hugging Face parquet    (``tables``, ``archives``)
- image folders ``train/angry/…`` in all spellings, one's own ``CLASS/*.png`` of any size and
  colour, WebDataset shards, numbered images beside ``id,label``      (``folders``)

Which class a number or folder means, and which split a name: ``names``. FER+ votes join by row
(``ferplus``). ``describe(faces)`` counts classes, copies, contradictions and blanks. What was read
once comes from a checked cache (``cache``). A file that is no set of faces, or a damaged one,
gives one line: ``DataError``. What was recognised, assumed, converted or left out stands in
``faces.notes``; ``summary_lines(faces)`` has it with the counts.

A picture of one's own becomes a face by ``read_face`` (``images``).

``python -m fer_utils.data PATH [VOTES]`` says what a path holds.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path

from .cache import cached
from .describe import Description, describe, published, remarks, summary_lines
from .faces import EMOTIONS, SPLITS, DataError, Faces, hold_out
from .ferplus import COLUMNS as VOTE_COLUMNS
from .ferplus import join_votes, plurality
from .images import read_face, read_faces
from .names import class_names
from .readers import read_path

log = logging.getLogger(__name__)


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
    place = Path(path).expanduser()
    classes = class_names(classes or os.environ.get("FER_CLASSES"))
    faces = cached(place, classes, read_and_recognise)
    if votes is not None:
        faces = join_votes(faces, votes, str(path))
    for note in faces.notes:
        log.info("%s: %s", path, note)
    return faces


def read_and_recognise(path: Path, classes: tuple[str, ...] | None) -> Faces:
    faces = read_path(path, classes)
    return replace(faces, notes=(*remarks(faces), *faces.notes))
