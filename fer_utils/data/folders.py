"""Reader of image folders, in a folder or an archive alike. The layout is told by what is there:

- ``train|test/CLASS/*.jpg``, ``images/{train,validation}/CLASS/…``, or plain ``CLASS/*.png``
- ``FER2013{Train,Valid,Test}/*.png`` beside ``label.csv``: FER+'s generator (name, box, 10 votes)
- a csv with ``id,label`` beside a folder of numbered images: a homework's training set
- images alone: unlabelled

Class names are read in any case and in all the spellings found (``CLASSES``); Kaggle's file
names (``PublicTest_N.jpg``) and the folders' names tell the split, otherwise it is Training.
"""

import csv
import io
import re
from collections import defaultdict

import numpy as np

from .faces import (
    EMOTIONS,
    MOST_FACES,
    SIDE,
    SPLITS,
    UNLABELLED,
    DataError,
    Faces,
    reason,
    shown,
)
from .ferplus import COLUMNS, plurality
from .pictures import MAGICS, MOST_BYTES, SUFFIXES, read_picture
from .sources import Entry

SPELLINGS = {
    "Angry": "angry anger",
    "Disgust": "disgust disgusted disgusting",
    "Fear": "fear fearful afraid scared",
    "Happy": "happy happiness joy joyful",
    "Sad": "sad sadness",
    "Surprise": "surprise surprised",
    "Neutral": "neutral neutrality",
}
CLASSES = {
    word: EMOTIONS.index(name) for name, words in SPELLINGS.items() for word in words.split()
}
FOLDER_SPLITS = {
    "Training": "train training fer2013train",
    "PublicTest": "valid validation val dev publictest fer2013valid",
    "PrivateTest": "test testing privatetest fer2013test",
}
SPLIT_OF = {word: split for split, words in FOLDER_SPLITS.items() for word in words.split()}
SMALL_FILE = 4 << 20


def class_of(name: str) -> int | None:
    """Index into ``EMOTIONS`` of a class name in any spelling (``Fearful``, ``3``, ``3_happy``)."""
    name = name.strip().lower()
    if name.isdigit():
        return int(name) if name in "0123456" and len(name) == 1 else None
    return CLASSES.get(re.sub(r"^[\d\W_]+|[\d\W_]+$", "", name))


def split_of(path: str) -> str:
    """The split that a file's name or else its nearest folder of such a name says."""
    *folders, name = path.split("/")
    for split in SPLITS:
        if name.lower().startswith(split.lower() + "_"):
            return split
    words = [word for folder in reversed(folders) for word in [folder.lower()] if word in SPLIT_OF]
    return SPLIT_OF[words[0]] if words else "Training"


def natural(path: str) -> list:
    """Sort key by which ``im10`` follows ``im9``."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", path)]


def is_picture(entry: Entry) -> bool:
    if entry.name.lower().endswith(SUFFIXES):
        return True
    if "." in entry.name or not entry.size:
        return False
    with entry.open() as stream:
        return stream.read(8).startswith(MAGICS)


def read_pictures_of(entries: list[Entry], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """uint8 (n, 48, 48) in the order of ``entries``, and a note where some were converted."""
    if len(entries) > MOST_FACES:
        raise DataError(
            f"{name}: {len(entries)} images; expected at most {MOST_FACES}; split the set"
        )
    images, converted = np.empty((len(entries), SIDE, SIDE), np.uint8), 0
    for i in sorted(range(len(entries)), key=lambda i: entries[i].position):
        content = read_bytes(entries[i], name, MOST_BYTES)
        images[i], changed = read_picture(io.BytesIO(content), f"{name}/{entries[i].path}")
        converted += changed
    note = f"{converted} of {len(entries)} images converted to {SIDE}×{SIDE} grey"
    return images, (note,) if converted else ()


def read_bytes(entry: Entry, name: str, most: int) -> bytes:
    try:
        with entry.open() as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise DataError(f"{name}/{entry.path}: {reason(error)}; expected a readable file") from None
    if len(content) > most:
        raise DataError(f"{name}/{entry.path}: more than {most >> 20} MiB; expected one small file")
    return content


def read_folders(entries: list[Entry], name: str) -> Faces | None:
    """The faces of a tree of files, or None where it holds no labelled images."""
    pictures = defaultdict(list)
    for entry in entries:
        if is_picture(entry):
            pictures[entry.parent].append(entry)
    if not pictures:
        return None
    tables = {e.path: rows for e in entries if (rows := small_table(e, name))}
    voted = [path for path, rows in tables.items() if is_vote_table(rows)]
    if voted:
        return read_voted(pictures, {path: tables[path] for path in voted}, name)
    labels = {parent: class_of(parent.rpartition("/")[2]) for parent in pictures}
    if any(label is not None for label in labels.values()):
        return read_classes(pictures, labels, name)
    numbered = [path for path, rows in tables.items() if rows[0] == ["id", "label"]]
    if numbered:
        return read_numbered(pictures, numbered[0], tables[numbered[0]], name)
    return None


def read_classes(pictures: dict, labels: dict, name: str) -> Faces:
    unknown = sorted(parent for parent, label in labels.items() if label is None)
    if unknown:
        have = ", ".join(EMOTIONS)
        raise DataError(
            f"{name}: images in folder {shown(unknown[0] or '.')}; expected one of {have} "
            "(or another spelling); rename or remove it"
        )
    notes = drop_second_copy(pictures, name)
    found = [
        (SPLITS.index(split_of(entry.path)), labels[parent], natural(entry.path), entry)
        for parent, inside in pictures.items()
        for entry in inside
    ]
    found.sort(key=lambda item: item[:3])
    images, converted = read_pictures_of([item[3] for item in found], name)
    split = np.array(SPLITS)[[item[0] for item in found]]
    return Faces(images, np.array([item[1] for item in found]), split, notes=notes + converted)


def drop_second_copy(pictures: dict, name: str) -> tuple[str, ...]:
    """Some archives hold their tree twice, ``images/…`` and ``images/images/…``: keep one."""
    roots = defaultdict(dict)
    for parent, inside in pictures.items():
        parts = parent.split("/")
        depth = 2 if len(parts) > 1 and parts[-2].lower() in SPLIT_OF else 1
        tail = "/".join(parts[-depth:])
        root = "/".join(parts[:-depth])
        roots[root].update({f"{tail}/{entry.name}": (entry.size, parent) for entry in inside})
    for root in sorted(roots, key=len):
        for inner in [r for r in roots if r != root and f"{r}/".startswith(f"{root}/".lstrip("/"))]:
            sizes = [{k: v[0] for k, v in roots[r].items()} for r in (root, inner)]
            if sizes[0] == sizes[1]:
                for _, parent in roots[inner].values():
                    pictures.pop(parent, None)
                return (f"{inner} holds the same files as {root or name}: read once",)
    return ()


def small_table(entry: Entry, name: str) -> list[list[str]] | None:
    """The rows of a small csv file that could tell labels or votes."""
    if not entry.name.lower().endswith((".csv", ".txt")) or entry.size > SMALL_FILE:
        return None
    content = read_bytes(entry, name, SMALL_FILE).removeprefix(b"\xef\xbb\xbf")
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8"))))
    except (UnicodeDecodeError, csv.Error):
        return None
    rows = [[field.strip() for field in row] for row in rows if row]
    return rows or None


def is_vote_table(rows: list[list[str]]) -> bool:
    return len(rows[0]) == 2 + len(COLUMNS) and rows[0][0].lower().endswith(SUFFIXES)


def read_voted(pictures: dict, tables: dict, name: str) -> Faces:
    found, votes, splits = [], [], []
    for path in sorted(tables, key=lambda path: SPLITS.index(split_of(path))):
        folder = path.rpartition("/")[0]
        inside = {entry.name: entry for entry in pictures.get(folder, ())}
        for i, row in enumerate(tables[path]):
            at = f"{name}/{path}: row {i}"
            if len(row) != 2 + len(COLUMNS):
                raise DataError(
                    f"{at}: {len(row)} fields; expected name, box, {len(COLUMNS)} votes"
                )
            if row[0] not in inside:
                raise DataError(
                    f"{at}: image {shown(row[0])} is not beside it; expected every image; "
                    "run FER+'s generate_training_data.py"
                )
            if not all(re.fullmatch(r"\d{1,3}", vote) for vote in row[2:]):
                raise DataError(f"{at}: votes {shown(','.join(row[2:]))}; expected ten counts")
            found.append(inside[row[0]])
            votes.append([int(vote) for vote in row[2:]])
            splits.append(split_of(path))
    votes = np.array(votes, dtype=np.int64)
    images, converted = read_pictures_of(found, name)
    notes = ("labels are the plurality of the FER+ votes, -1 where none of the seven classes wins",)
    return Faces(images, plurality(votes), np.array(splits, str), votes, notes=notes + converted)


def read_numbered(pictures: dict, path: str, rows: list[list[str]], name: str) -> Faces:
    labels = {}
    for i, row in enumerate(rows[1:]):
        at = f"{name}/{path}: row {i} (line {i + 2})"
        if len(row) != 2 or not re.fullmatch(r"\d{1,9}", row[0]) or int(row[0]) in labels:
            raise DataError(f"{at}: {shown(','.join(row))}; expected id,label, each id once")
        if row[1] not in list("0123456"):
            raise DataError(f"{at}: label {shown(row[1])}; expected one of 0 to 6; correct it")
        labels[int(row[0])] = int(row[1])
    numbers = {parent: numbered(inside) for parent, inside in pictures.items()}
    whole = [parent for parent in numbers if labels and labels.keys() <= numbers[parent].keys()]
    whole = [p for p in whole if "train" in p.lower()] if len(whole) > 1 else whole
    if len(whole) != 1:
        best = max(numbers, key=lambda p: len(labels.keys() & numbers[p].keys()))
        missing = sorted(labels.keys() - numbers[best].keys())
        lack = f"no image for id {missing[0]} in {best or '.'}/" if missing else "two folders fit"
        raise DataError(
            f"{name}/{path}: {lack}; expected one folder with an image for each of its ids"
        )
    order = sorted(labels)
    images, converted = read_pictures_of([numbers[whole[0]][i] for i in order], name)
    left = sorted(set(pictures) - set(whole))
    notes = tuple(f"images in {folder or '.'}/ have no label and were left out" for folder in left)
    split = np.full(len(order), "Training")
    return Faces(images, np.array([labels[i] for i in order]), split, notes=notes + converted)


def numbered(entries: list[Entry]) -> dict[int, Entry]:
    """The images whose name ends in a number, by that number."""
    numbers = ((re.search(r"(\d{1,9})\.\w+$", entry.name), entry) for entry in entries)
    return {int(match[1]): entry for match, entry in numbers if match}


def read_unlabelled(entries: list[Entry], name: str) -> Faces:
    entries = sorted(entries, key=lambda entry: natural(entry.path))
    images, converted = read_pictures_of(entries, name)
    split = np.full(len(entries), "PublicTest")
    notes = ("no labels: every label is -1; no folder is named after a class",)
    return Faces(images, np.full(len(entries), UNLABELLED), split, notes=notes + converted)
