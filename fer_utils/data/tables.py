"""Readers of tables, csv and parquet: a row a face.

In a csv the 2,304 grey values are one field. The header says which field is which; names matter,
not their order, case or spaces:

- ``emotion,pixels,Usage``            fer2013.csv, icml_face_data.csv
- ``emotion,pixels``                  the challenge's train.csv
- ``pixels``                          the challenge's test.csv: unlabelled
- ``label,feature``, ``id,feature``   a homework's training and test set

What spreadsheets add is understood: ``sep=;``, empty fields at the end, ``0.0`` for a label, lists
in brackets. Other columns are left out, and said. Parquet files have pictures instead of pixels:
``image`` (a struct with ``bytes``) and ``label``, ``img_bytes`` and ``labels``, ``jpg`` and ``cls``.
"""

import csv
import json
import re
from typing import NamedTuple

import numpy as np

from .faces import SIDE, SPLITS, DataError, Row, listed, reason, shown
from .files import File
from .images import read_pictures
from .names import split_named, split_of

HEADERS = "emotion,pixels,Usage or emotion,pixels or pixels or label,feature or id,feature"
# What a column may be called. Of several the first of this list counts: a class name is clearer
# than a number.
ROLES = {
    "pixels": ("pixels", "feature"),
    "picture": ("image", "img_bytes", "jpg", "png", "img"),
    "label": (
        "emotion_name", "emotion_label", "label_name", "class_name", "emotion", "label", "labels",
        "cls",
    ),
    "split": ("usage", "split"),
}  # fmt: skip
NO_ROLE = ("", "id", "index", "unnamed: 0")
PIXELS = SIDE * SIDE
TEST_SPLIT = 3589  # faces in PublicTest, and in PrivateTest; test.csv holds one after the other
BRACKETS = str.maketrans("[](),;\t", " " * 7)
AGAIN = "correct it or download the file again"


class Header(NamedTuple):
    """How a csv begins: its delimiter, its columns, where the roles stand, its line, from 1."""

    delimiter: str
    columns: list[str]
    roles: dict[str, int]
    line: int


def find_header(file: File) -> Header | None:
    """The header of a csv; None where it names no pixels."""
    lines = file.head().decode("utf-8-sig", "replace").splitlines()[:2]
    told = re.fullmatch(r'"?sep=(.)"?', lines[0].strip(" ")) if lines else None
    first = 1 if told else 0
    for delimiter in told[1] if told else ",;\t|":
        fields = lines[first].split(delimiter) if len(lines) > first else []
        columns = [field.strip(' "') for field in fields]
        roles = roles_of(columns)
        if "pixels" in roles:
            return Header(delimiter, columns, roles, first + 1)
    return None


def roles_of(columns: list[str]) -> dict[str, int]:
    """Where the column of each role stands."""
    lower = [column.lower() for column in columns]
    roles = {}
    for role, names in ROLES.items():
        found = [lower.index(name) for name in names if name in lower]
        if found:
            roles[role] = found[0]
    return roles


def note_others(columns: list[str], roles: dict[str, int]) -> list[str]:
    """A note of the columns that are left out."""
    read = {columns[position] for position in roles.values()}
    others = [name for name in columns if name not in read and name.lower() not in NO_ROLE]
    return [f"columns left out: {listed(others)}"] if others else []


def read_table(file: File) -> tuple[np.ndarray, list[Row], list[str]]:
    """Images, rows and notes of a csv file."""
    header = find_header(file)
    if header is None:
        line = file.head().decode("utf-8-sig", "replace").partition("\n")[0]
        raise DataError(
            f"{file.place}: line 1: header {shown(line)}; expected {HEADERS}; is it the right "
            "file, in UTF-8?"
        )
    roles = header.roles
    last = max(roles.values())
    notes = note_others(header.columns, roles)
    pixels, rows, line = bytearray(), [], ""
    with open(file.path, encoding="utf-8-sig", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            empty = not line.strip(f'{header.delimiter}" \n')  # as spreadsheets leave them
            if empty or number <= header.line:
                continue
            place = f"{file.place}: row {len(rows)} (line {number})"
            fields = fields_of(line, header.delimiter, place)
            if len(fields) <= last or any(fields[len(header.columns) :]):
                raise DataError(
                    f"{place}: {len(fields)} fields; expected {', '.join(header.columns)}; {AGAIN}"
                )
            pixels += grey_values(fields[roles["pixels"]], place)
            found = {role: fields[position] for role, position in roles.items()}
            rows.append(row_of(found, file, place))
    if not rows:
        raise DataError(f"{file.place}: no row; expected {HEADERS}, then a face a row; {AGAIN}")
    if roles["pixels"] == last and line[-1].isdigit():
        notes.append("the file ends without a line end: its last number may be cut")
    if not {"split", "label"} & roles.keys() and len(rows) == 2 * TEST_SPLIT:
        rows = [row._replace(split=SPLITS[1 + k // TEST_SPLIT]) for k, row in enumerate(rows)]
        notes.append(f"{len(rows)} unlabelled rows read as FER2013's test.csv, PublicTest first")
    return np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE), rows, notes


def fields_of(line: str, delimiter: str, place: str) -> list[str]:
    if '"' not in line:
        return line.rstrip("\n").split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DataError(f"{place}: {error}; expected a whole row; {AGAIN}") from None


def row_of(found: dict[str, str], file: File, place: str) -> Row:
    """A row with the label and the split that its fields, or else the file's name, tell."""
    split = split_named(found["split"]) if "split" in found else split_of(file)
    if "split" in found and split is None:
        raise DataError(
            f"{place}: split {shown(found['split'])}; expected one of {', '.join(SPLITS)}; {AGAIN}"
        )
    return Row(place, found.get("label"), split)


def grey_values(text: str, place: str) -> bytes:
    """The 2,304 grey values in one face's text, a byte each."""
    grey = numbers_in(text)
    if grey is None:  # lists in brackets or with commas, 70.0
        text = re.sub(r"(?<=\d)\.0*(?= |$)", "", text.translate(BRACKETS))
        grey = numbers_in(text)
    if grey is None:
        raise DataError(f"{place}: {complaint(text)}; {AGAIN}")
    return grey.astype(np.uint8).tobytes()


def numbers_in(text: str) -> np.ndarray | None:
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


def read_parquet(file: File) -> tuple[np.ndarray, list[Row], list[str]]:
    """Images, rows and notes of a parquet file; its own names of the classes count."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(file.path).read()
        columns = table.column_names
        roles = roles_of(columns)
        cells = table.select(list(roles.values())).rename_columns(list(roles)).to_pylist()
    except (ArrowException, OSError, UnicodeError) as error:
        raise DataError(
            f"{file.place}: {reason(error)}; expected a whole parquet file; download it again"
        ) from None
    if not cells or "picture" not in roles:
        raise DataError(
            f"{file.place}: {len(cells)} rows, columns {shown(', '.join(columns))}; expected "
            "image and label (or img_bytes and labels, or jpg and cls)"
        )
    names = names_of_classes(table.schema, columns[roles["label"]]) if "label" in roles else {}
    contents, rows = [], []
    for k, cell in enumerate(cells):
        picture = cell.pop("picture")
        content = picture.get("bytes") if isinstance(picture, dict) else picture
        contents.append(content if isinstance(content, bytes) else b"")
        found = {role: "" if value is None else str(value) for role, value in cell.items()}
        word = found.get("label")
        found["label"] = names.get(word, word)
        rows.append(row_of(found, file, f"{file.place}: row {k}"))
    images, converted = read_pictures(contents, [row.place for row in rows])
    return images, rows, note_others(columns, roles) + converted


def names_of_classes(schema, column: str) -> dict[str, str]:
    """The names that Hugging Face's metadata give to the numbers of the label's column."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return {}
    return {str(number): name for number, name in enumerate(names)}
