"""Reader of the ``fer2013.csv`` family: a row a face, 2,304 grey values in one field.

The header says which layout it is; names matter, not their order, case or spaces:

- ``emotion,pixels,Usage``            fer2013.csv, icml_face_data.csv
- ``emotion,pixels``                  the challenge's train.csv
- ``pixels``                          the challenge's test.csv: unlabelled
- ``label,feature``, ``id,feature``   a homework's training and test set

The stream is read in blocks and never held whole: what a packed file unpacks to costs
no memory before it was checked. ``numpy.fromstring`` parses the digits: measured beside
pandas and pyarrow it is as fast on one core (benchmarks/read_csv.py), and needs neither.
"""

import numpy as np

from .faces import EMOTIONS, MOST_FACES, SIDE, SPLITS, UNLABELLED, DataError, Faces, shown

PIXELS = SIDE * SIDE
BLOCK = 1 << 19
LONGEST_LINE = 1 << 16
BLANK_LINES_AT_END = 1000
DIGITS = b"0123456789 "
HEADERS = "emotion,pixels,Usage or emotion,pixels or pixels or label,feature or id,feature"
ROLES = {
    "emotion": "label",
    "label": "label",
    "pixels": "pixels",
    "feature": "pixels",
    "usage": "split",
    "id": "row number",
    "": "row number",
    "unnamed: 0": "row number",
}
LABELS = {str(i).encode(): i for i in range(len(EMOTIONS))}
USAGES = {name.encode(): i for i, name in enumerate(SPLITS)}
TEST_SPLIT = 3589  # faces in PublicTest, and in PrivateTest; test.csv holds one after the other


def read_rows(stream, name: str) -> Faces:
    """All faces of an open binary ``stream``; ``name`` is what error messages call it."""
    images, labels, splits, fields, faces = [], [], [], None, 0
    for line, lines, ended in line_blocks(stream, name):
        if fields is None:
            fields, delimiter = read_header(lines[0], name)
            line, lines = line + 1, lines[1:]
        block = Block(name, line, [row.split(delimiter) for row in lines], fields)
        cut = lines and not ended and not lines[-1].rstrip().endswith(b'"')
        if cut and fields[-1] == "pixels":
            block.fail(0, "the file ends within the row, or without a line end", "one after it")
        images.append(block.images())
        labels += block.column("label", LABELS)
        splits += block.column("split", USAGES)
        faces += len(lines)
        if faces > MOST_FACES:
            raise DataError(
                f"{name}: more than {MOST_FACES} rows; FER2013 has 35887; split the file"
            )
    if not faces:
        raise DataError(f"{name}: no row; expected {HEADERS}, then a face a row; download it again")
    notes = ()
    if "label" not in fields:
        labels = [UNLABELLED] * faces
        notes = ("no labels: every label is -1",)
    if "split" not in fields:
        splits = [0] * faces if "label" in fields else [1] * faces
        if "label" not in fields and faces == 2 * TEST_SPLIT:
            splits[TEST_SPLIT:] = [2] * TEST_SPLIT
    images, labels = np.concatenate(images), np.array(labels, dtype=np.int64)
    return Faces(images, labels, np.array(SPLITS)[splits], notes=notes)


def line_blocks(stream, name: str):
    """Triples: number of the first line, lines without their ends, whether the last one had one.

    A block has about ``BLOCK`` bytes; a last line without an end is a block of its own.
    Blank lines at the end of the file are left out, anywhere else they are refused.
    """
    rest, line, blank = b"", 1, 0
    while True:
        block = stream.read(BLOCK)
        if line == 1 and not rest:
            block = without_mark(block, name)
        text = rest + block
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n")
        lines = text.split(b"\n")
        rest = lines.pop() if block else b""
        too_long = [i for i, row in enumerate([*lines, rest]) if len(row) > LONGEST_LINE]
        if too_long:
            raise DataError(
                f"{name}: line {line + too_long[0]}: longer than {LONGEST_LINE} bytes; "
                f"expected {PIXELS} numbers from 0 to 255; is it the right file?"
            )
        full = len(lines)
        while full and not lines[full - 1].strip():
            full -= 1
        if full and (blank or b"" in lines[:full]):
            at = line - blank if blank else line + lines.index(b"")
            raise DataError(f"{name}: line {at}: empty; expected a face a line; remove it")
        blank += len(lines) - full
        if blank > BLANK_LINES_AT_END:
            raise DataError(
                f"{name}: line {line + full}: {blank} empty lines; expected a face a line"
            )
        if full:
            yield line, lines[:full], bool(block)
        line += len(lines)
        if not block:
            return


def without_mark(block: bytes, name: str) -> bytes:
    """The first block without UTF-8's byte-order mark; what is no ASCII or UTF-8 is refused."""
    if block.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in block[:64]:
        raise DataError(
            f"{name}: begins with {block[:8]!r}, UTF-16 or no text; expected a csv file in "
            "UTF-8, an archive, a parquet file or a folder; save it as UTF-8"
        )
    return block.removeprefix(b"\xef\xbb\xbf")


def columns_of(line: bytes, delimiter: bytes) -> list[str]:
    """Column names of a header line, without case, quotes and spaces."""
    return [
        name.strip(b' "\r').lower().decode("utf-8", "replace") for name in line.split(delimiter)
    ]


def read_header(line: bytes, name: str) -> tuple[list[str], bytes]:
    """What each column holds (``label``, ``pixels``, ``split``, ``row number``); the delimiter."""
    for delimiter in (b",", b";", b"\t"):
        fields = [ROLES.get(column) for column in columns_of(line, delimiter)]
        if "pixels" in fields and None not in fields and len(set(fields)) == len(fields):
            return fields, delimiter
    hint = "is it the right file?"
    if columns_of(line, b",") == ["id", "label"]:
        hint = "it names labels without pixels: give the folder that holds it beside its images"
    if columns_of(line, b",")[:2] == ["usage", "image name"]:
        hint = "these are FER+ votes: give them as votes=, beside fer2013.csv"
    raise DataError(f"{name}: line 1: header {shown(line)}; expected {HEADERS}; {hint}")


class Block:
    """Some whole rows, split into fields, and where they stand in the file."""

    def __init__(self, name: str, line: int, rows: list[list[bytes]], fields: list[str]):
        self.name, self.line, self.rows, self.fields = name, line, rows, fields
        for i, row in enumerate(rows):
            if len(row) != len(fields):
                self.fail(i, f"{len(row)} fields", f"{len(fields)} ({', '.join(fields)})")

    def fail(self, i: int, found: str, expected: str):
        """Refuse row ``i`` of the block. Rows count from 0, as FER2013's do, lines from 1."""
        line = self.line + i
        at = f"{self.name}: row {line - 2} (line {line})"
        raise DataError(
            f"{at}: {found}; expected {expected}; correct it or download the file again"
        )

    def word(self, i: int, at: int) -> bytes:
        """The content of field ``at`` of row ``i``, without spaces and quotes around it."""
        word = self.rows[i][at].strip(b" \r")
        if word[:1] == b'"' or word[-1:] == b'"':
            if len(word) < 2 or word[:1] != word[-1:]:
                self.fail(i, f"{shown(word[:10])} … {shown(word[-10:])}", "a quote at both ends")
            word = word[1:-1].strip(b" ")
        return word

    def column(self, field: str, values: dict[bytes, int]) -> list[int]:
        """The numbers that a column's words stand for; empty where the file has no such column."""
        if field not in self.fields:
            return []
        at = self.fields.index(field)
        words = [self.word(i, at) for i in range(len(self.rows))]
        for i, word in enumerate(words):
            if word not in values:
                have = ", ".join(value.decode() for value in values)
                self.fail(i, f"{field} {shown(word)}", f"one of {have}")
        return [values[word] for word in words]

    def images(self) -> np.ndarray:
        """uint8 (rows, 48, 48)."""
        at = self.fields.index("pixels")
        pixels = [self.word(i, at) for i in range(len(self.rows))]
        text = b" ".join(pixels)
        # fromstring reads signs and other blanks too, so the text is checked for them before;
        # int64 because a longer number saturates there, where smaller types wrap.
        if not text.translate(None, DIGITS) and all(p.count(b" ") == PIXELS - 1 for p in pixels):
            grey = np.fromstring(text, dtype=np.int64, sep=" ")
            if len(grey) == PIXELS * len(pixels) and grey.max(initial=0) <= 255:
                return grey.astype(np.uint8).reshape(-1, SIDE, SIDE)
        return np.stack([self.one_image(i, p.split()) for i, p in enumerate(pixels)])

    def one_image(self, i: int, numbers: list[bytes]) -> np.ndarray:
        """The slow way, where the fast one saw something odd: an image, or what is wrong."""
        for k, number in enumerate(numbers):
            if not (number.isdigit() and len(number) < 20 and int(number) <= 255):
                self.fail(i, f"pixel {k} is {shown(number)}", "an integer from 0 to 255")
        if len(numbers) != PIXELS:
            self.fail(i, f"{len(numbers)} numbers", f"{PIXELS} (48×48)")
        return np.array(numbers, dtype=np.int64).astype(np.uint8).reshape(SIDE, SIDE)
