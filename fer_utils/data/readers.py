"""Which layout a file or folder has, told by what is in it, and the reader of image folders.

- pictures in folders named after classes: ``train|test/CLASS/*.jpg``, ``CLASS/*.png``
- tables: csv or parquet (``tables``)
- archives: unpacked, then read as folders
- pictures alone: unlabelled
"""

import filecmp
import lzma
import re
import zlib
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from tarfile import TarError
from tempfile import TemporaryDirectory, mkdtemp
from zipfile import BadZipFile

import numpy as np

from .faces import SPLITS, DataError, Faces, Row, reason, remarks
from .files import PICTURE_SUFFIXES, File, foreign, is_archive, is_picture, list_files, unpack
from .images import read_pictures
from .names import Given, class_named, label, split_named, split_of
from .tables import find_header, read_parquet, read_table

LAYOUTS = "a csv of the fer2013.csv family, .gz, .zip, .tar.gz, parquet, or a folder of images"
DEEPEST = 3  # archives in archives
# RuntimeError: zips that are encrypted or packed by an unusual method.
UNREADABLE = (
    OSError, EOFError, zlib.error, lzma.LZMAError, BadZipFile, TarError, RuntimeError, UnicodeError,
)  # fmt: skip
WEBDATASET = (
    "WebDataset shards (a .cls file beside each picture); expected parquet or folders named after "
    "classes; download the set's parquet files: hf download … --revision refs/convert/parquet"
)


def read_path(path: Path, classes: tuple[str, ...] | None = None) -> Faces:
    """The faces at ``path``, whatever layout they have; ``classes`` as ``class_names`` gives them."""
    try:
        folder = path.absolute() if path.is_dir() else path.absolute().parent
        given = Given(str(path), classes, split_named(folder.name, alone=True))
        if not path.is_file() and not path.is_dir():
            raise DataError(f"{path}: no such file or folder; expected {LAYOUTS}")
        with TemporaryDirectory(prefix="fer-") as scratch:
            images, rows, notes = read_files(list_files(path, str(path)), given, scratch)
    except UNREADABLE as error:
        where = getattr(error, "filename", None) or path
        raise DataError(
            f"{where}: {reason(error)}; expected {LAYOUTS}, readable and whole; download it again"
        ) from None
    faces = label(images, rows, notes, given)
    return replace(faces, notes=(*remarks(faces), *faces.notes))


def read_files(
    files: list[File], given: Given, scratch: str, depth: int = 1
) -> tuple[np.ndarray, list[Row], list[str]]:
    """Images, rows and notes of a set's files, Training first; what is left out is noted."""
    kinds = defaultdict(list)
    for file in sorted(files, key=lambda file: SPLITS.index(split_of(file) or SPLITS[0])):
        kinds[kind_of(file)].append(file)
    if kinds["cls"] and kinds["picture"]:
        raise DataError(f"{given.name}: {WEBDATASET}")
    pictures = kinds["picture"]
    if any(class_folder(picture, given) for picture in pictures):
        used, parts = pictures, [read_folders(pictures, given)]
    elif kinds["table"]:
        used = chosen_tables(kinds["table"])
        parts = [read_table(file) for file in used]
    elif kinds["parquet"]:
        used = kinds["parquet"]
        parts = [read_parquet(file) for file in used]
    elif kinds["archive"] and depth < DEEPEST:
        used = kinds["archive"]
        parts = [read_files(unpacked(used, files, scratch), given, scratch, depth + 1)]
    elif pictures:
        used, parts = pictures, [read_folders(pictures, given)]
    elif len(files) == 1 and kinds["text"] and not foreign(files[0].head()):
        used, parts = files, [read_table(files[0])]  # says what is wrong with its header
    else:
        told = left_out(files) if files else "it is empty"
        raise DataError(f"{given.name}: no set of faces in it: {told}; expected {LAYOUTS}")
    images = parts[0][0] if len(parts) == 1 else np.concatenate([part[0] for part in parts])
    rows = [row for part in parts for row in part[1]]
    notes = [note for part in parts for note in part[2]]
    if others := sorted(set(files) - set(used)):
        notes.append(f"left out: {left_out(others)}")
    return images, rows, list(dict.fromkeys(notes))


def kind_of(file: File) -> str:
    suffix = file.name.suffix.lower()
    if suffix in PICTURE_SUFFIXES:  # not opened: there may be thousands
        return "picture"
    if suffix == ".cls":
        return "cls"
    head = file.head()
    if is_picture(head):
        return "picture"
    if head.startswith(b"PAR1"):
        return "parquet"
    if is_archive(head):
        return "archive"
    return "table" if find_header(file) else "text"


def chosen_tables(tables: list[File]) -> list[File]:
    """The table with labels and splits; else one with labels for each split that is named."""
    roles = {file: find_header(file).roles for file in tables}
    labelled = [file for file in tables if "label" in roles[file]] or tables
    whole = [file for file in labelled if "split" in roles[file]] or labelled
    if "split" in roles[whole[0]] or not all(map(split_of, whole)):
        return whole[:1]
    by_split = {}
    for file in whole:
        by_split.setdefault(split_of(file), file)
    return list(by_split.values())


def unpacked(archives: list[File], files: list[File], scratch: str) -> list[File]:
    """The files of some archives; of several, below the archive's name, which may tell a split."""
    inner, size = [], 0
    for archive in archives:
        target = Path(mkdtemp(dir=scratch))
        size = unpack(archive, target, size)
        inner += list_files(target, archive.place, archive.name if len(files) > 1 else "")
    return inner


def read_folders(pictures: list[File], given: Given) -> tuple[np.ndarray, list[Row], list[str]]:
    """The faces of picture files; the folder tells the class, where any is named after one."""
    pictures, notes = without_second_copy(pictures)
    labelled = any(class_folder(picture, given) for picture in pictures)
    if not labelled:
        notes.append("no folder is named after a class")
    rows = []
    for picture in pictures:
        folders = picture.name.parts[:-1]
        word = class_folder(picture, given) or (folders or [""])[-1] if labelled else None
        levels = "/".join(level for level in folders if level != word)
        rows.append(Row(picture.place, word, split_of(picture), levels))
    contents = (picture.path.read_bytes() for picture in pictures)
    images, converted = read_pictures(contents, [row.place for row in rows])
    return images, rows, notes + converted


def class_folder(picture: File, given: Given) -> str | None:
    """The folder that names a picture's class: the innermost name, else its own number."""
    own = {name.lower() for name in given.classes or ()}
    folders = picture.name.parts[:-1]
    named = [name for name in folders if name.lower() in own or class_named(name)]
    named += [name for name in folders[-1:] if re.fullmatch("[0-9]", name) and not named]
    return named[-1] if named else None


def without_second_copy(pictures: list[File]) -> tuple[list[File], list[str]]:
    """Some archives hold their tree twice, ``images/…`` and ``images/images/…``: keep one."""
    paths = {str(picture.name): picture.path for picture in pictures}
    kept = []
    for picture in pictures:
        outer, doubled = re.subn(r"(^|/)([^/]+/)\2", r"\1\2", str(picture.name), count=1)
        same = doubled and outer in paths
        if not same or not filecmp.cmp(picture.path, paths[outer], shallow=False):
            kept.append(picture)
    copies = len(pictures) - len(kept)
    return kept, [f"a folder holds {copies} files again: read once"] if copies else []


def left_out(files: list[File]) -> str:
    """Of files that were not read: how many of each ending, and what they are."""
    groups = defaultdict(list)
    for file in files:
        groups[file.name.suffix.lower() or "no ending"].append(file)
    told = []
    for ending, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        what = foreign(group[0].head()) or group[0].name
        told.append(f"{len(group)} {ending} ({what})")
    return ", ".join(told[:8])
