"""Which layout a file or folder has, told by what is in it, and a reader for each.

An archive is unpacked into a temporary folder, and the folder is read. Folders of pictures are
``folders``' part, the rest is ``tables``'.
"""

import lzma
import os
import zlib
from collections import defaultdict
from pathlib import Path
from tarfile import TarError
from tempfile import TemporaryDirectory, mkdtemp
from zipfile import BadZipFile

from pandas.errors import ParserError

from .archives import MOST_UNPACKED, File, identity, list_files, unpack
from .faces import SPLITS, DataError, Faces, RawFaces, joined, reason
from .folders import read_labelled, read_unlabelled
from .formats import PICTURE_SUFFIXES, foreign, is_archive, is_picture
from .names import Given, class_names, label, split_named
from .tables import rank_of, read_parquet, read_table

LAYOUTS = "a csv of the fer2013.csv family, .gz, .zip, .tar.gz, parquet, or a folder of images"
DEEPEST = 3  # archives in archives
# RuntimeError: zips that are encrypted or packed by an unusual method.
UNREADABLE = (
    OSError, EOFError, zlib.error, lzma.LZMAError, BadZipFile, TarError, RuntimeError,
    ParserError, UnicodeError,
)  # fmt: skip


def read_path(path: Path, classes=None) -> Faces:
    """The faces at ``path``, whatever layout they have; ``classes`` as ``data.load`` takes them."""
    given = Given(str(path), class_names(classes), split_of_place(path))
    try:
        with TemporaryDirectory(prefix="fer-") as scratch:
            if path.is_dir():
                raw = read_tree(list_files(path), given, scratch)
            elif path.is_file():
                raw = read_file(File(str(path), path.name, identity(path.stat())), given, scratch)
            else:
                raise DataError(f"{path}: no such file or folder; expected {LAYOUTS}")
    except UNREADABLE as error:
        where = getattr(error, "filename", None) or path
        raise DataError(
            f"{where}: {reason(error)}; expected {LAYOUTS}, readable and whole; download it again"
        ) from None
    return label(raw, given)


def split_of_place(path: Path) -> str | None:
    """The split that the path itself names, where it has no other word: ``fer/test/0.parquet``."""
    path = Path(os.path.abspath(path))
    names = [path.name.partition(".")[0]]
    if not os.path.isdir(path):
        names.append(path.parent.name)
    return next(filter(None, (split_named(name, alone=True) for name in names)), None)


def read_file(file: File, given: Given, scratch: str) -> RawFaces:
    """A single file, named by the path that was given."""
    head = file.head()
    if is_archive(head):
        return read_tree(unpacked([file], given, scratch), given, scratch)
    if is_picture(head):
        return read_unlabelled([file], given)
    if head.startswith(b"PAR1"):
        return read_parquet(file, given, given.name)
    if told := foreign(head):
        raise DataError(f"{given.name}: {told}; expected {LAYOUTS}")
    return read_table(file, given, given.name)


def read_tree(files: list[File], given: Given, scratch: str, depth: int = 1) -> RawFaces:
    """The faces of a folder's or an archive's files; what is left out is noted."""
    kinds = defaultdict(list)
    for file in files:
        kinds[kind_of(file)].append(file)
    pictures = kinds["picture"]
    raw = read_labelled(files, pictures, given) if pictures else None
    if raw:
        used = [*pictures, *kinds["label"]]
    elif kinds["table"]:
        used = chosen_tables(kinds["table"])
        raw = in_order([read_table(file, given, f"{given.name}/{file.name}") for file in used])
    elif kinds["parquet"]:
        used = kinds["parquet"]
        raw = in_order([read_parquet(file, given, f"{given.name}/{file.name}") for file in used])
    elif kinds["archive"] and depth < DEEPEST:
        inner = unpacked(kinds["archive"], given, scratch, keep_names=True)
        others = [*pictures, *kinds["label"], *kinds["rest"]]
        return read_tree([*others, *inner], given, scratch, depth + 1)
    elif pictures:
        used, raw = pictures, read_unlabelled(pictures, given)
    else:
        told = left_out(files).removeprefix("left out: ") if files else "it is empty"
        raise DataError(f"{given.name}: no set of faces in it: {told}; expected {LAYOUTS}")
    read = {file.name for file in used}
    others = [file for file in files if file.name not in read]
    raw.notes += [left_out(others)] if others else []
    return raw


def kind_of(file: File) -> str:
    if file.name.lower().endswith(PICTURE_SUFFIXES):
        return "picture"
    if file.name.endswith((".cls", "classnames.txt")):
        return "label"
    head = file.head()
    if is_picture(head):
        return "picture"
    if head.startswith(b"PAR1"):
        return "parquet"
    if is_archive(head):
        return "archive"
    return "rest" if rank_of(head) is None else "table"


def chosen_tables(tables: list[File]) -> list[File]:
    """The most complete table; without a column for the split, one for each split that is named."""
    ranks = {file: rank_of(file.head()) for file in tables}
    best = [file for file in tables if ranks[file] == min(ranks.values())]
    named = {}
    for file in best:
        named.setdefault(split_named(file.stem), file)
    if ranks[best[0]] == 1 and None not in named:
        return list(named.values())
    return best[:1]


def unpacked(
    archives: list[File], given: Given, scratch: str, keep_names: bool = False
) -> list[File]:
    """The files of some archives; ``keep_names``: below the archive's name, as in a folder."""
    files, left = [], MOST_UNPACKED
    for archive in archives:
        target = Path(mkdtemp(dir=scratch))
        left -= unpack(archive, target, given.name, left)
        files += list_files(target, f"{archive.name}/" if keep_names else "")
    return files


def in_order(parts: list[RawFaces]) -> RawFaces:
    """The files of one set, Training first."""
    return joined(sorted(parts, key=lambda part: SPLITS.index(part.split[0])))


def left_out(files: list[File]) -> str:
    """A note of the files that were not read: how many of each ending, and what they are."""
    groups = defaultdict(list)
    for file in files:
        groups[os.path.splitext(file.name)[1].lower() or "no ending"].append(file)
    told = [
        f"{len(group)} {ending} ({foreign(group[0].head()) or group[0].name})"
        for ending, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    return f"left out: {', '.join(told[:8])}"
