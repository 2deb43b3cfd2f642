"""FER+: ten people's votes for each face of FER2013 (Barsoum et al. 2016, arXiv:1608.01041).

The file joins by row, never by image name: names are blank where the face was left out of
FER+, and four of them are used twice.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

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
        table = pd.read_csv(path, dtype=object, na_filter=False, encoding_errors="replace")
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: {reason(error)}; expected FER+'s fer2013new.csv") from None
    header = [str(name).strip() for name in table.columns]
    if [name.lower() for name in header] != [name.lower() for name in HEADER]:
        raise DataError(
            f"{path}: line 1: header {shown(','.join(header))}; expected {','.join(HEADER)}; "
            "use FER+'s file"
        )
    if table.empty:
        raise DataError(f"{path}: no row; expected one for each face; download it again")
    table.columns = HEADER
    check(table, "Usage", table["Usage"].isin(SPLITS), f"one of {', '.join(SPLITS)}", path)
    for column in COLUMNS:
        good = table[column].str.fullmatch(r" *[0-9]{1,3} *")
        check(table, column, good, "a count of votes; download it again", path)
    return table[list(COLUMNS)].to_numpy().astype(np.int64), table["Usage"].to_numpy(dtype=str)


def check(table: pd.DataFrame, column: str, good: pd.Series, expected: str, path) -> None:
    """Refuse the first row whose field is no good. A field that is not there is empty."""
    bad = np.flatnonzero(~good.fillna(False).astype(bool))
    if len(bad):
        i = bad[0]
        value = shown(str(table[column].iloc[i]))
        raise DataError(f"{path}: row {i} (line {i + 2}): {column} {value}; expected {expected}")


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
    return replace(faces, votes=votes, notes=(*faces.notes, "FER+ votes joined by row"))
