"""FER+: ten people's votes for each face of FER2013 (Barsoum et al. 2016, arXiv:1608.01041).

The file joins by row, never by image name: names are blank where the face was left out of
FER+, and four of them are used twice. Both sets must be as published, which checksums tell.
"""

import os
from dataclasses import replace

import numpy as np
import pandas as pd

from .faces import EMOTIONS, FER2013_PIXELS, UNLABELLED, DataError, Faces, digest, reason

COLUMNS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt",
    "unknown", "NF",
)  # fmt: skip
# The emotion that a column votes for; the last three are none of the seven.
EMOTION_OF_COLUMN = ("Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear", *[None] * 3)
LABEL_OF_COLUMN = np.array([EMOTIONS.index(e) if e else UNLABELLED for e in EMOTION_OF_COLUMN])
FERPLUS_VOTES = "5125a48c94200dd8c4cddd0f25347f70a1f8d4dd0b9d2126626fdb2124f0eddf"


def plurality(votes: np.ndarray) -> np.ndarray:
    """int64 (n,): the class with most votes; -1 for a tie, or where none of the seven wins."""
    votes = np.asarray(votes)
    ordered = np.sort(votes, axis=1)
    alone = ordered[:, -1] > ordered[:, -2]
    return np.where(alone, LABEL_OF_COLUMN[votes.argmax(axis=1)], UNLABELLED)


def read_votes(path) -> np.ndarray:
    """The votes of fer2013new.csv, int64 (n, 10), as published."""
    try:
        # From a path alone pandas would unpack archives and fetch addresses of the network.
        with open(os.path.expanduser(path), encoding="utf-8-sig") as file:
            table = pd.read_csv(file, usecols=list(COLUMNS), dtype=np.int64)
    except (OSError, ValueError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise DataError(
            f"{path}: {reason(error)}; expected FER+'s fer2013new.csv; download it again"
        ) from None
    votes = table[list(COLUMNS)].to_numpy()
    if digest(votes) != FERPLUS_VOTES:
        raise DataError(
            f"{path}: {len(votes)} rows, not the votes of FER+ as published; expected its "
            "fer2013new.csv, whole and in its order; download it again"
        )
    return votes


def join_votes(faces: Faces, path, source: str) -> Faces:
    """The same faces with their votes; refused unless they are FER2013 whole and in order."""
    votes = read_votes(path)
    if digest(faces.images) != FER2013_PIXELS:
        raise DataError(
            f"{path}: {source} ({len(faces)} faces) does not hold FER2013's images in their "
            "published order; expected just these, since votes join by row; load fer2013.csv or "
            "icml_face_data.csv"
        )
    return replace(faces, votes=votes, notes=(*faces.notes, "FER+ votes joined by row"))
