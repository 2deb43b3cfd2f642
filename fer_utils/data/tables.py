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
from .faces import MOST_FACES, SIDE, SPLITS, DataError, RawFaces, joined, listed, reason, shown
from .images import converted_note, read_picture
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
LONGEST_LINE = 1 << 16
SPARE = 4  # empty fields that a spreadsheet may leave at the end of a row
TEST_SPLIT = 3589  # faces in PublicTest, and in PrivateTest; test.csv holds one after the other
BRACKETS = str.maketrans("[](),;\t\r\n", " " * 9)
LARGEST_PICTURE = 16 << 20
MOST_DECODED = 1 << 30


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
    with open(file.path, "rb") as stream:
        head = stream.read(LONGEST_LINE)
    header = find_header(head)
    if header is None:
        raise no_header(head, name)
    roles = by_role(header.columns, name)
    ends_whole = check_lines(file.path, name)
    parts, faces = [], 0
    try:
        chunks = pd.read_csv(
            file.path, compression=None, sep=header.delimiter, header=None, skiprows=header.lines, dtype=object,
            names=range(len(header.columns) + SPARE), index_col=False, na_filter=False,
            skip_blank_lines=False, chunksize=ROWS_AT_ONCE, encoding_errors="replace",
        )  # fmt: skip
        for chunk in chunks:
            parts += read_chunk(chunk, header, roles, name)
            faces += len(chunk)
            if faces > MOST_FACES:
                raise DataError(f"{name}: more than {MOST_FACES} rows; split the file")
    except pd.errors.EmptyDataError:
        parts = []
    except pd.errors.ParserError as error:
        told = reason(error).rpartition("C error: ")[2]
        raise DataError(
            f"{name}: {told}; expected {len(header.columns)} fields a row; correct it or download "
            "the file again"
        ) from None
    if not parts:
        raise DataError(f"{name}: no row; expected {HEADERS}, then a face a row; download it again")
    raw = joined(parts)
    if roles["pixels"] == len(header.columns) - 1 and not ends_whole:
        raise DataError(
            f"{raw.places[-1]}: the file ends without a line end, perhaps within the last number; "
            "expected one after it; correct it or download the file again"
        )
    return with_split(raw, file, given)


def no_header(head: bytes, name: str) -> DataError:
    if head[:1] == b"\0" or head[1:2] == b"\0":
        return DataError(
            f"{name}: UTF-16 or no text; expected a csv file in UTF-8; save it as UTF-8"
        )
    line = head.decode("utf-8-sig", "replace").partition("\n")[0]
    columns = [column.strip(' "\r').lower() for column in line.split(",")]
    hint = "is it the right file?"
    if columns == ["id", "label"]:
        hint = "it names labels without pixels: give the folder that holds it beside its images"
    if columns[:2] == ["usage", "image name"]:
        hint = "these are FER+ votes: give them as votes=, beside fer2013.csv"
    return DataError(f"{name}: line 1: header {shown(line)}; expected {HEADERS}; {hint}")


def check_lines(path: str, name: str) -> bool:
    """Refuse what pandas would read into one huge or cut field; whether the last line is whole."""
    block = b""
    with open(path, "rb") as stream:
        while new := stream.read(LONGEST_LINE):
            block = new
            endless = len(block) == LONGEST_LINE and b"\n" not in block and b"\r" not in block
            if endless or b"\0" in block:
                before = stream.tell() - len(block)
                stream.seek(0)
                line = 1 + stream.read(before).count(b"\n")
                told = f"longer than {LONGEST_LINE} bytes" if endless else "a NUL byte"
                raise DataError(
                    f"{name}: line {line}: {told}; expected {PIXELS} numbers from 0 to 255; "
                    "is it the right file?"
                )
    return block.endswith((b"\n", b"\r", b'"', b"]"))


def read_chunk(chunk: pd.DataFrame, header: Header, roles: dict, name: str) -> list[RawFaces]:
    """The faces in some rows of a csv: none where all are empty, as spreadsheets leave them."""
    chunk = chunk[(chunk != "").any(axis=1)]
    if chunk.empty:
        return []
    places = [f"{name}: row {i} (line {i + header.lines + 1})" for i in chunk.index]
    fields = len(header.columns)
    for column in range(fields, fields + SPARE):
        more = np.flatnonzero(chunk[column] != "")
        if len(more):
            raise DataError(
                f"{places[more[0]]}: more than {fields} fields; expected {', '.join(header.columns)}; "
                "correct it or download the file again"
            )
    frame = pd.DataFrame({role: chunk[column] for role, column in roles.items()})
    images = read_pixels(frame["pixels"].tolist(), places)
    return [read_rows(images, frame, places, other_columns(header.columns))]


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
        grey = grey_values(text.encode("utf-8", "replace"))
        if grey is None:  # lists in brackets or with commas, 70.0
            text = re.sub(r"(?<=\d)\.0*(?= |$)", "", text.translate(BRACKETS))
            grey = grey_values(text.encode("utf-8", "replace"))
        if grey is None:
            raise DataError(f"{place}: {complaint(text)}; correct it or download the file again")
        images[row] = grey
    return images.reshape(-1, SIDE, SIDE)


def grey_values(text: bytes) -> np.ndarray | None:
    """The 2,304 numbers of a text; None where there is anything else in it."""
    # fromstring reads signs and other blanks too, so the text is checked for them before;
    # int64 because a longer number saturates there, where smaller types wrap.
    if not text or text.translate(None, b"0123456789 "):
        return None
    grey = np.fromstring(text, dtype=np.int64, sep=" ")
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
    import pyarrow as pa

    try:
        table, roles = read_arrow(file.path, name)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name}: {reason(error)}; expected a whole parquet file; download it again"
        ) from None
    places = [f"{name}: row {i}" for i in range(table.num_rows)]
    if not places:
        raise DataError(f"{name}: no row; expected a face in each; download it again")
    names = names_of_classes(table.schema, roles)
    columns = {
        role: table.column(own).to_pylist() for role, own in roles.items() if role != "picture"
    }
    if "label" in columns:
        columns["label"] = [named(word, names) for word in columns["label"]]
    notes = []
    if "picture" in roles:
        images, notes = read_column_of_pictures(table.column(roles["picture"]), places)
    else:
        images = read_pixels([str(text) for text in columns["pixels"]], places)
    other = other_columns(list(table.schema.names))
    raw = read_rows(
        images, pd.DataFrame(columns, index=range(len(places)), dtype=object), places, other
    )
    raw.notes += notes
    return with_split(raw, file, given)


def read_arrow(path: str, name: str):
    """The table of a parquet file, as far as it is needed, and which of its columns is what."""
    from pyarrow.parquet import ParquetFile

    metadata = ParquetFile(path).metadata
    fields = [metadata.schema.column(i) for i in range(metadata.num_columns)]
    # dictionaries stay packed: one large picture in many rows is kept once
    packed = [field.path for field in fields if field.physical_type == "BYTE_ARRAY"]
    parquet = ParquetFile(path, read_dictionary=packed)
    columns = parquet.schema_arrow.names
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if metadata.num_rows > MOST_FACES or size > MOST_DECODED:
        raise DataError(
            f"{name}: {metadata.num_rows} rows, {size >> 20} MiB; expected FER2013; split the file"
        )
    roles = {role: columns[position] for role, position in by_role(columns, name).items()}
    if not {"picture", "pixels"} & roles.keys():
        raise DataError(
            f"{name}: columns {shown(', '.join(columns))}; expected image and label (or "
            "img_bytes and labels, or jpg and cls)"
        )
    return parquet.read(columns=list(roles.values()), use_threads=False), roles


def names_of_classes(schema, roles: dict[str, str]) -> list[str] | None:
    """The names that Hugging Face's metadata give to the numbers of the label's column."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][roles["label"]]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return list(names.values()) if isinstance(names, dict) else names


def read_column_of_pictures(column, places: list[str]) -> tuple[np.ndarray, list[str]]:
    """uint8 (n, 48, 48) from encoded pictures, and a note where some were converted."""
    images, converted, left = np.empty((len(places), SIDE, SIDE), np.uint8), 0, MOST_DECODED
    for row, (value, place) in enumerate(zip(column, places, strict=True)):
        value = value.as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes) or len(content) > LARGEST_PICTURE:
            raise DataError(
                f"{place}: no embedded picture of sensible size; expected a PNG or JPEG file"
            )
        left -= len(content)
        if left < 0:
            raise DataError(
                f"{place}: more than {MOST_DECODED >> 20} MiB of pictures; split the file"
            )
        images[row], changed = read_picture(content, place)
        converted += changed
    return images, [converted_note(converted, len(images))] if converted else []
