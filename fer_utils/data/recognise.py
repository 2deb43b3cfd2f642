"""Which layout a file or folder is, told by its first bytes and what lies in it, not by names."""

import gzip
import zlib
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tarfile import TarError
from zipfile import BadZipFile

from .faces import DataError, Faces, reason
from .folders import is_picture, read_folders, read_unlabelled
from .parquet import read_parquet
from .pictures import MAGICS
from .sources import Bounded, Budget, Entry, folder_entries, tar_entries, zip_entries
from .text import read_header, read_rows

HEAD = 512
DEEPEST = 3
MOST_SNIFFED = 100
LAYOUTS = "a csv of the fer2013.csv family, .gz, .zip, .tar.gz, parquet, or a folder of images"
# Of several tables in one place the most complete is read.
RANKS = ({"label", "pixels", "split"}, {"label", "pixels"}, {"pixels"})


def read_path(path: Path) -> Faces:
    """The faces at ``path``, whatever layout they have."""
    name = str(path)
    try:
        if path.is_dir():
            return read_tree(folder_entries(path), name, 0)
        if path.exists() and not path.is_file():
            raise DataError(f"{name}: neither a file nor a folder; expected {LAYOUTS}")
        with open(path, "rb") as stream:
            return read_stream(stream, name, 0)
    except FileNotFoundError:
        raise DataError(f"{name}: no such file or folder; expected {LAYOUTS}") from None
    # RuntimeError: zips that are encrypted or packed by an unusual method.
    except (OSError, EOFError, zlib.error, BadZipFile, TarError, RuntimeError) as error:
        where = getattr(error, "filename", None) or name
        raise DataError(
            f"{where}: {reason(error)}; expected {LAYOUTS}, readable and whole; download it again"
        ) from None


def read_stream(stream, name: str, depth: int) -> Faces:
    """The faces of an open file, packed or not."""
    head = stream.read(HEAD)
    stream.seek(0)
    if head.startswith((b"\x1f\x8b", b"PK")) and depth > DEEPEST:
        raise DataError(
            f"{name}: archives in archives, more than {DEEPEST} deep; expected one; unpack it"
        )
    if head.startswith(b"\x1f\x8b"):
        unpacked = Bounded(gzip.GzipFile(fileobj=stream), Budget(name))
        faces = read_stream(unpacked, name, depth + 1)
        while unpacked.read(1 << 20):  # gzip's own checksum comes last
            pass
        return faces
    if head.startswith(b"PK"):
        return read_tree(zip_entries(stream, name), name, depth + 1)
    if head[257:262] == b"ustar":
        return read_tree(tar_entries(stream, name), name, depth + 1)
    if head.startswith(b"PAR1"):
        return read_parquet([Entry("", 0, partial(nullcontext, stream))], name)
    if head.startswith(MAGICS):
        return read_unlabelled([Entry("", 0, partial(nullcontext, stream))], name)
    return read_rows(stream, name)


def read_tree(entries: list[Entry], name: str, depth: int) -> Faces:
    """The faces of a folder's or an archive's files."""
    if not entries:
        raise DataError(f"{name}: no file in it; expected {LAYOUTS}")
    faces = read_folders(entries, name)
    if faces is not None:
        return faces
    tables, parquets, packed = [], [], []
    for entry in entries[:MOST_SNIFFED]:
        head = head_of(entry)
        if head.startswith(b"PAR1"):
            parquets.append(entry)
        elif head.startswith((b"\x1f\x8b", b"PK")):
            packed.append(entry)
        elif (rank := rank_of(head)) is not None:
            tables.append((rank, entry.path, entry))
    if tables:
        chosen = min(tables, key=lambda table: table[:2])[2]
    elif parquets:
        return read_parquet(parquets, name)
    elif packed:
        chosen = packed[0]
    elif pictures := [entry for entry in entries if is_picture(entry)]:
        return read_unlabelled(pictures, name)
    else:
        found = ", ".join(entry.path for entry in entries[:3])
        raise DataError(f"{name}: no set of faces among its files ({found}); expected {LAYOUTS}")
    with chosen.open() as stream:
        faces = read_stream(stream, f"{name}/{chosen.path}", depth)
    others = sorted(table[1] for table in tables if table[2] is not chosen)
    if others:
        note = f"read {chosen.path}; left out {', '.join(others)}"
        faces = replace(faces, notes=(*faces.notes, note))
    return faces


def head_of(entry: Entry) -> bytes:
    try:
        with entry.open() as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def rank_of(head: bytes) -> int | None:
    """How complete a csv with this beginning is (0 best), or None where it is no table of faces."""
    line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[0]
    try:
        fields = set(read_header(line, "")[0]) - {"row number"}
    except DataError:
        return None
    return RANKS.index(fields) if fields in RANKS else None
