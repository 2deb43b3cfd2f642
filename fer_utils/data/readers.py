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
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

from .archives import File, Unpacking, identity, list_files
from .faces import SPLITS, DataError, Faces, RawFaces, joined, reason
from .folders import read_labelled, read_unlabelled
from .formats import PICTURE_SUFFIXES, foreign, is_archive, is_picture
from .names import Given, class_names, label, split_named
from .tables import rank_of, read_parquet, read_table

LAYOUTS = "a csv of the fer2013.csv family, .gz, .zip, .tar.gz, parquet, or a folder of images"
DEEPEST = 3  # archives in archives


def read_path(path: Path, classes=None) -> Faces:
    """The faces at ``path``, whatever layout they have; ``classes`` as ``data.load`` takes them."""
    name = str(path)
    given = Given(name, class_names(classes), split_of_place(path))
    try:
        with TemporaryDirectory(prefix="fer-") as folder:
            unpacking = Unpacking(Path(folder), name)
            if os.path.isdir(path):
                raw = read_tree(list_files(path), given, unpacking)
            elif path.exists() and not path.is_file():
                raise DataError(f"{name}: neither a file nor a folder; expected {LAYOUTS}")
            else:
                raw = read_file(File(name, path.name, identity(path.stat())), given, unpacking)
    except FileNotFoundError:
        raise DataError(f"{name}: no such file or folder; expected {LAYOUTS}") from None
    # RuntimeError: zips that are encrypted or packed by an unusual method.
    except (OSError, EOFError, zlib.error, lzma.LZMAError, BadZipFile, TarError, RuntimeError) as e:
        where = getattr(e, "filename", None) or name
        raise DataError(
            f"{where}: {reason(e)}; expected {LAYOUTS}, readable and whole; download it again"
        ) from None
    return label(raw, given)


def split_of_place(path: Path) -> str | None:
    """The split that the path itself names, where it has no other word: ``fer/test/0000.parquet``."""
    names = [path.name.partition(".")[0]]
    if not os.path.isdir(path):
        names.append(path.absolute().parent.name)
    return next(filter(None, (split_named(name, alone=True) for name in names)), None)


def read_file(file: File, given: Given, unpacking: Unpacking) -> RawFaces:
    """A single file, named by the path that was given."""
    head = file.head()
    if is_archive(head):
        return read_tree(unpacking.unpack(file.path, file.name), given, unpacking)
    if is_picture(head):
        return read_unlabelled([file], given)
    if head.startswith(b"PAR1"):
        return read_parquet(file, given, given.name)
    if told := foreign(head):
        raise DataError(f"{given.name}: {told}; expected {LAYOUTS}")
    return read_table(file, given, given.name)


def read_tree(files: list[File], given: Given, unpacking: Unpacking, depth: int = 1) -> RawFaces:
    """The faces of a folder's or an archive's files; what is left out is noted."""
    if not files:
        raise DataError(f"{given.name}: no file in it; expected {LAYOUTS}")
    kinds = defaultdict(list)
    for file in files:
        kinds[kind_of(file)].append(file)
    pictures, tables, parquets = kinds["picture"], kinds["table"], kinds["parquet"]
    raw = read_labelled(files, pictures, given) if pictures else None
    if raw:
        used = [*pictures, *kinds["label"]]
    elif tables:
        used = chosen_tables(tables)
        raw = in_order([read_table(file, given, f"{given.name}/{file.name}") for file in used])
    elif parquets:
        used = parquets
        raw = in_order([read_parquet(file, given, f"{given.name}/{file.name}") for file in used])
    elif kinds["archive"]:
        return read_tree(unpacked(kinds, given, unpacking, depth), given, unpacking, depth + 1)
    elif pictures:
        used, raw = pictures, read_unlabelled(pictures, given)
    else:
        told = left_out(files).removeprefix("left out: ")
        raise DataError(
            f"{given.name}: no set of faces among its files: {told}; expected {LAYOUTS}"
        )
    others = [file for file in files if file not in set(used)]
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


def unpacked(kinds: dict, given: Given, unpacking: Unpacking, depth: int) -> list[File]:
    """All files of a tree, with those of its archives in their place."""
    if depth > DEEPEST:
        raise DataError(
            f"{given.name}: archives in archives, more than {DEEPEST} deep; expected one; unpack it"
        )
    files = [*kinds["picture"], *kinds["label"], *kinds["rest"]]
    for file in kinds["archive"]:
        files += unpacking.unpack(file.path, file.name, f"{file.name}/")
    return files


def in_order(parts: list[RawFaces]) -> RawFaces:
    """The files of one set, Training first."""
    return joined(sorted(parts, key=lambda part: SPLITS.index(part.split[0])))


def left_out(files: list[File]) -> str:
    """A note of the files that were not read: how many of each ending, and what they are."""
    groups = defaultdict(list)
    for file in files:
        base = file.name.rpartition("/")[2]
        groups[base[base.rfind(".") :].lower() if "." in base else "no ending"].append(file)
    told = [
        f"{len(group)} {ending} ({foreign(group[0].head()) or group[0].name})"
        for ending, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    return f"left out: {', '.join(told[:8])}"
