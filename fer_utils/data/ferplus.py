"""FER+: ten people's votes for each face of FER2013 (Barsoum et al. 2016, arXiv:1608.01041).

The file joins by row, never by image name: names are blank where the face was left out of
FER+, and four of them are used twice.
"""

import os

import numpy as np

from .faces import (
    EMOTIONS,
    FER2013_PIXELS,
    SPLITS,
    UNLABELLED,
    DataError,
    Faces,
    pixel_checksum,
    reason,
    shown,
)

COLUMNS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
    "unknown", "NF",
)  # fmt: skip
# The emotion that a column votes for; the last three are none of the seven.
EMOTION_OF_COLUMN = ("Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear", *[None] * 3)
LABEL_OF_COLUMN = np.array([EMOTIONS.index(e) if e else UNLABELLED for e in EMOTION_OF_COLUMN])
HEADER = ("Usage", "Image name", *COLUMNS)
LARGEST = 16 << 20
# Votes and labels of the published files agree in 62 % of the rows; in another order, in 17 %.
LEAST_AGREEMENT = 0.4


def plurality(votes: np.ndarray) -> np.ndarray:
    """int64 (n,): the class with most votes; -1 for a tie, or where none of the seven wins."""
    votes = np.asarray(votes)
    ordered = np.sort(votes, axis=1)
    alone = ordered[:, -1] > ordered[:, -2]
    return np.where(alone, LABEL_OF_COLUMN[votes.argmax(axis=1)], UNLABELLED)


def read_votes(path) -> tuple[np.ndarray, np.ndarray]:
    """Votes int64 (n, 10) and split str (n,) of fer2013new.csv."""
    try:
        if os.path.getsize(path) > LARGEST:
            raise DataError(
                f"{path}: more than {LARGEST >> 20} MiB; expected FER+'s fer2013new.csv"
            )
        with open(path, "rb") as file:
            lines = file.read().removeprefix(b"\xef\xbb\xbf").rstrip().splitlines()
    except OSError as error:
        raise DataError(f"{path}: {reason(error)}; expected FER+'s fer2013new.csv") from None
    header = lines[0] if lines else b""
    if [name.strip().lower() for name in header.split(b",")] != [
        n.lower().encode() for n in HEADER
    ]:
        raise DataError(
            f"{path}: line 1: header {shown(header)}; expected {','.join(HEADER)}; use FER+'s file"
        )
    rows = [line.split(b",") for line in lines[1:]]
    for i, row in enumerate(rows):
        at = f"{path}: row {i} (line {i + 2})"
        if len(row) != len(HEADER):
            raise DataError(f"{at}: {len(row)} fields; expected {len(HEADER)}; download it again")
        if row[0].decode("ascii", "replace") not in SPLITS:
            raise DataError(f"{at}: Usage {shown(row[0])}; expected one of {', '.join(SPLITS)}")
        bad = [vote for vote in row[2:] if not (vote.strip().isdigit() and len(vote) < 4)]
        if bad:
            raise DataError(f"{at}: vote {shown(bad[0])}; expected a count; download it again")
    if not rows:
        raise DataError(f"{path}: no row; expected one for each face; download it again")
    votes = np.array([row[2:] for row in rows]).astype(np.int64)
    return votes, np.array([row[0].decode() for row in rows])


def join_votes(faces: Faces, path, source="the faces") -> Faces:
    """The same faces with their votes; refused unless they are FER2013 whole and in order."""
    votes, split = read_votes(path)
    if len(votes) != len(faces):
        raise DataError(
            f"{path}: votes for {len(votes)} faces, {source} has {len(faces)}; expected the same "
            "set in the same order; give the votes beside fer2013.csv"
        )
    odd = np.flatnonzero(split != faces.split)
    if len(odd):
        i = odd[0]
        raise DataError(
            f"{path}: row {i} (line {i + 2}): {split[i]}, but {faces.split[i]} in {source}; "
            "expected the same set in the same order"
        )
    if pixel_checksum(faces.images) != FER2013_PIXELS:
        raise DataError(
            f"{path}: {source} does not hold FER2013's images in their published order; expected "
            "just these, since votes join by row; load fer2013.csv or icml_face_data.csv"
        )
    agree = (plurality(votes) == faces.labels).mean()
    if agree < LEAST_AGREEMENT and (faces.labels >= 0).any():
        raise DataError(
            f"{path}: its votes agree with {agree:.0%} of the labels of {source}; expected about "
            "60%: its rows are in another order; download fer2013new.csv again"
        )
    notes = (*faces.notes, "FER+ votes joined by row")
    return Faces(faces.images, faces.labels, faces.split, votes, notes=notes)
