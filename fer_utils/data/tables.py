"""Readers of tables, csv and parquet: a row a face.

In a csv the 2,304 grey values are one field. The header says which field is which; names matter,
not their order, case or spaces:

- ``emotion,pixels,Usage``            fer2013.csv, icml_face_data.csv
- ``emotion,pixels``                  the challenge's train.csv
- ``pixels``                          the challenge's test.csv: unlabelled
- ``label,feature``, ``id,feature``   a homework's training and test set

What spreadsheets add is understood: ``sep=;``, empty fields at the end, ``0.0`` for a label, lists
in brackets. Other columns are left out, and said. Parquet files have the same columns or, in the
place of pixels, pictures: ``image`` (a struct with ``bytes``) and ``label``, ``img_bytes`` and
``labels``, ``jpg`` and ``cls``.
"""

import json
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .archives import File
from .faces import SIDE, SPLITS, DataError, RawFaces, joined, listed, reason, shown
from .images import read_pictures
from .names import Given, named, split_named

HEADERS = "emotion,pixels,Usage or emotion,pixels or pixels or label,feature or id,feature"
ROLES = {
    "pixels": ("pixels", "feature"),
    "picture": ("image", "img_bytes", "jpg", "png", "img"),
    "label": ("emotion", "label", "labels", "cls"),
    "name": ("emotion_name", "emotion_label", "label_name", "class_name"),
    "split": ("usage", "split"),
    "nothing": ("", "id", "index", "unnamed: 0"),
}
ROLE_OF_COLUMN = {name: role for role, names in ROLES.items() for name in names}
PIXELS = SIDE * SIDE
ROWS_AT_ONCE = 1000
SPARE = 4  # empty fields that a spreadsheet may leave at the end of a row
TEST_SPLIT = 3589  # faces in PublicTest, and in PrivateTest; test.csv holds one after the other
BRACKETS = str.maketrans("[](),;\t\r\n", " " * 9)


@dataclass(frozen=True)
class Header:
    """How a csv begins: its delimiter, the names of its columns, how many lines to skip."""

    delimiter: str
    columns: list[str]
    lines: int


def find_header(head: bytes) -> Header | None:
    """The header in the first bytes of a file; None where it names no pixels."""
    lines = head.decode("utf-8-sig", "replace").splitlines()[:2]
    told = re.fullmatch(r'"?sep=(.)"?', lines[0].strip(" ")) if lines else None
    skipped = 1 if told else 0
    for delimiter in told[1] if told else ",;\t|":
        fields = lines[skipped].split(delimiter) if len(lines) > skipped else []
        columns = [field.strip(' "').lower() for field in fields]
        if "pixels" in columns or "feature" in columns:
            return Header(delimiter, columns, skipped + 1)
    return None


def by_role(columns: list[str], name: str) -> dict[str, int]:
    """Where each role's column stands; refused where two columns have the same one."""
    found = {}
    for position, column in enumerate(columns):
        role = ROLE_OF_COLUMN.get(column.lower())
        if role in found:
            told = f"{columns[found[role]]} and {column}"
            raise DataError(f"{name}: columns {told} say the same; expected one; remove the other")
        if role and role != "nothing":
            found[role] = position
    others = other_columns(columns)
    if others and not {"label", "name"} & found.keys():
        raise DataError(
            f"{name}: no column of labels, but {listed(others)}; expected {HEADERS}; "
            "call the labels emotion, remove what else there is"
        )
    return found


def other_columns(columns: list[str]) -> list[str]:
    return [column for column in columns if column.lower() not in ROLE_OF_COLUMN]


def rank_of(head: bytes) -> int | None:
    """How complete a table with this beginning is, 0 best; None where it is no table of faces."""
    header = find_header(head)
    if header is None:
        return None
    roles = {ROLE_OF_COLUMN.get(column) for column in header.columns}
    labelled = bool(roles & {"label", "name"})
    return 2 - labelled - (labelled and "split" in roles)


def read_table(file: File, given: Given, name: str) -> RawFaces:
    """The faces of a csv file; ``name`` is what error messages call it."""
    header = find_header(file.head())
    if header is None:
        raise no_header(file.head(), name)
    roles = by_role(header.columns, name)
    width = len(header.columns)
    try:
        chunks = pd.read_csv(
            file.path, sep=header.delimiter, header=None, names=range(width + SPARE),
            skiprows=header.lines, dtype=object, index_col=False, na_filter=False,
            skip_blank_lines=False, chunksize=ROWS_AT_ONCE, compression=None,
            encoding_errors="replace",
        )  # fmt: skip
        chunks = [read_chunk(chunk, header, roles, name) for chunk in chunks]
        parts = [part for part in chunks if part]
    except pd.errors.EmptyDataError:
        parts = []
    except pd.errors.ParserError as error:
        raise DataError(
            f"{name}: {reason(error)}; expected {width} fields a row; correct it or download "
            "the file again"
        ) from None
    if not parts:
        raise DataError(f"{name}: no row; expected {HEADERS}, then a face a row; download it again")
    return with_split(joined(parts), file, given)


def no_header(head: bytes, name: str) -> DataError:
    line = head.decode("utf-8-sig", "replace").partition("\n")[0]
    columns = [column.strip(' "\r').lower() for column in line.split(",")]
    hint = "is it the right file, in UTF-8?"
    if columns == ["id", "label"]:
        hint = "it names labels without pixels: give the folder that holds it beside its images"
    if columns[:2] == ["usage", "image name"]:
        hint = "these are FER+ votes: give them as votes=, beside fer2013.csv"
    return DataError(f"{name}: line 1: header {shown(line)}; expected {HEADERS}; {hint}")


def read_chunk(chunk: pd.DataFrame, header: Header, roles: dict, name: str) -> RawFaces | None:
    """The faces in some rows of a csv: None where all are empty, as spreadsheets leave them."""
    chunk = chunk[(chunk != "").any(axis=1)]
    if chunk.empty:
        return None
    places = [f"{name}: row {i} (line {i + header.lines + 1})" for i in chunk.index]
    fields = len(header.columns)
    more = np.flatnonzero((chunk.loc[:, fields:] != "").any(axis=1))
    if len(more):
        raise DataError(
            f"{places[more[0]]}: more than {fields} fields; expected {', '.join(header.columns)}; "
            "correct it or download the file again"
        )
    frame = pd.DataFrame({role: chunk[column] for role, column in roles.items()})
    images = read_pixels(frame["pixels"].tolist(), places)
    return read_rows(images, frame, places, other_columns(header.columns))


def read_rows(
    images: np.ndarray, frame: pd.DataFrame, places: list[str], other: list[str]
) -> RawFaces:
    """Faces with what a table's columns ``label`` or ``name`` and ``split`` say of them."""
    notes = [f"columns left out: {listed(other)}"] if other else []
    words = [None] * len(frame)
    if "label" in frame:
        words = frame["label"].tolist()
    if "name" in frame and (frame["name"] != "").any():
        words = frame["name"].tolist()
        notes.append("labels are read from the column of names")
    splits = []
    if "split" in frame:
        split_of_word = {word: split_named(str(word)) for word in frame["split"].unique()}
        splits = [split_of_word[word] for word in frame["split"]]
        if None in splits:
            bad = splits.index(None)
            raise DataError(
                f"{places[bad]}: split {shown(str(frame['split'].iloc[bad]))}; expected one of "
                f"{', '.join(SPLITS)}; correct it or download the file again"
            )
    return RawFaces(images, words, splits, places, notes)


def with_split(raw: RawFaces, file: File, given: Given) -> RawFaces:
    """The same with the split that the file's or a folder's name tells, where no column does."""
    if raw.split:
        return raw
    count, labelled = len(raw.images), any(raw.words)
    names = [file.stem, *reversed(file.folders)]
    split = next(filter(None, map(split_named, names)), given.split)
    if not labelled and count == 2 * TEST_SPLIT:
        raw.split = [split for split in SPLITS[1:] for _ in range(TEST_SPLIT)]
        return raw
    if split is None:
        split = "Training" if labelled else "PublicTest"
        raw.notes.append(f"nothing names a split: {count} faces are read as {split}")
    raw.split = [split] * count
    return raw


def read_pixels(texts: list[str], places: list[str]) -> np.ndarray:
    """uint8 (n, 48, 48) from texts of grey values."""
    images = np.empty((len(texts), PIXELS), np.uint8)
    for row, (text, place) in enumerate(zip(texts, places, strict=True)):
        grey = grey_values(text)
        if grey is None:  # lists in brackets or with commas, 70.0
            text = re.sub(r"(?<=\d)\.0*(?= |$)", "", text.translate(BRACKETS))
            grey = grey_values(text)
        if grey is None:
            raise DataError(f"{place}: {complaint(text)}; correct it or download the file again")
        images[row] = grey
    return images.reshape(-1, SIDE, SIDE)


def grey_values(text: str) -> np.ndarray | None:
    """The 2,304 numbers of a text; None where there is anything else in it."""
    # fromstring reads signs and other blanks too, so the text is checked for them before;
    # int64 because a longer number saturates there, where smaller types wrap.
    content = text.encode("utf-8", "replace")
    if not content or content.translate(None, b"0123456789 "):
        return None
    grey = np.fromstring(content, dtype=np.int64, sep=" ")
    return grey if len(grey) == PIXELS and grey.max() <= 255 else None


def complaint(text: str) -> str:
    """What is wrong with one face's text of pixels."""
    numbers = text.split()
    for k, number in enumerate(numbers):
        if not re.fullmatch("[0-9]{1,19}", number) or int(number) > 255:
            return f"pixel {k} is {shown(number)}; expected an integer from 0 to 255"
    return f"{len(numbers)} numbers; expected {PIXELS} (48×48)"


def read_parquet(file: File, given: Given, name: str) -> RawFaces:
    """The faces of a parquet file; its own names of the classes count, where it has them."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(file.path).read()
        columns = table.schema.names
        roles = by_role(columns, name)
        values = {role: table.column(place).to_pylist() for role, place in roles.items()}
    except (ArrowException, OSError, UnicodeError) as error:
        raise DataError(
            f"{name}: {reason(error)}; expected a whole parquet file; download it again"
        ) from None
    places = [f"{name}: row {i}" for i in range(table.num_rows)]
    if not places or not {"picture", "pixels"} & roles.keys():
        raise DataError(
            f"{name}: {len(places)} rows, columns {shown(', '.join(columns))}; expected image and "
            "label (or img_bytes and labels, or jpg and cls)"
        )
    notes = []
    if "picture" in values:
        pictures = [embedded(value) for value in values.pop("picture")]
        images, notes = read_pictures(pictures, places)
    else:
        images = read_pixels([str(text) for text in values["pixels"]], places)
    if "label" in values:
        names = names_of_classes(table.schema, columns[roles["label"]])
        values["label"] = [named(word, names) for word in values["label"]]
    frame = pd.DataFrame(values, index=range(len(places)), dtype=object)
    raw = read_rows(images, frame, places, other_columns(columns))
    raw.notes += notes
    return with_split(raw, file, given)


def embedded(value) -> bytes:
    """The picture in a cell, of a struct or plain; empty where there is none."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else b""


def names_of_classes(schema, column: str) -> list[str] | None:
    """The names that Hugging Face's metadata give to the numbers of the label's column."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return list(names.values()) if isinstance(names, dict) else names
