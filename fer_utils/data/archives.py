"""What lies at a path, as a list of files; an archive is unpacked into a temporary folder first.

zipfile and tarfile write nothing outside that folder; links are left out, and the size is limited.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .faces import DataError
from .formats import HEAD, foreign_zip

MOST_FILES = 300_000  # FER2013 as WebDataset has 72,000; a whole home folder is no set of faces
MOST_UNPACKED = 1 << 30  # the challenge's zip, with its own archive unpacked, takes 0.8 GB
OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


@dataclass(frozen=True)
class File:
    """A file of a set: ``path`` on the disk, ``name`` below the set's root, with slashes."""

    path: str
    name: str
    identity: tuple[int, ...]  # changes when the file does: size, times, inode

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(self.name.split("/")[:-1])

    @property
    def stem(self) -> str:
        return self.name.rpartition("/")[2].partition(".")[0]

    def head(self) -> bytes:
        with open(self.path, "rb") as stream:
            return stream.read(HEAD)


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What a change of a file changes: nobody can set the ctime back."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def list_files(folder: Path, prefix: str = "") -> list[File]:
    """All regular files below ``folder``; links are followed, each real folder is visited once."""
    files, visited = [], set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not hidden(name)]
        below = "".join(f"{part}/" for part in Path(place).relative_to(folder).parts)
        for name in names:
            path = os.path.join(place, name)
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode) and not hidden(name):
                files.append(File(path, prefix + below + name, identity(status)))
        if len(files) > MOST_FILES:
            raise DataError(
                f"{folder}: more than {MOST_FILES} files; expected a set of faces; "
                "give the folder that holds it"
            )
    return sorted(files, key=lambda file: natural(file.name))


def refuse(error: OSError) -> None:
    raise error


def natural(name: str) -> list:
    """Sort key by which ``im10`` follows ``im9``."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name)]


def hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def unpack(file: File, target: Path, name: str, limit: int) -> int:
    """Write what an archive holds below ``target``; how many bytes that are, at most ``limit``."""
    head = file.head()
    if head.startswith(b"PK"):
        return unpack_zip(file, target, name, limit)
    opener = next((opener for magic, opener in OPENERS.items() if head.startswith(magic)), None)
    if opener is None or tarfile.is_tarfile(file.path):
        return unpack_tar(file, target, name, limit)
    size = 0
    inner = Path(file.name).stem  # x.csv of x.csv.gz
    with opener(file.path) as stream, open(target / inner, "xb") as out:
        while block := stream.read(1 << 20):
            size += len(block)
            check_size(size, limit, name)
            out.write(block)
    return size


def unpack_zip(file: File, target: Path, name: str, limit: int) -> int:
    with zipfile.ZipFile(file.path) as archive:
        if told := foreign_zip(archive.namelist()):
            raise DataError(f"{name}: {told}")
        size = sum(member.file_size for member in archive.infolist())
        check_size(size, limit, name)
        archive.extractall(target)
    return size


def unpack_tar(file: File, target: Path, name: str, limit: int) -> int:
    size = 0
    with tarfile.open(file.path) as archive:
        for member in archive:
            size += member.size
            check_size(size, limit, name)
            if member.isreg():
                archive.extract(member, target, filter="data")
    return size


def check_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise DataError(
            f"{name}: unpacks to more than {MOST_UNPACKED >> 20} MiB; expected FER2013; "
            "if it is a larger set, unpack it to a folder"
        )
