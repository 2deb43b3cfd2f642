"""What lies at a path, as a list of files; archives are unpacked into a temporary folder first.

Nothing is written outside that folder, links are left out, and what is unpacked is limited in
size and number of files, before it is unpacked by what the archive says, and while it is.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .faces import DataError, reason, shown
from .formats import HEAD, PACKED, foreign_zip

MOST_FILES = 300_000
MOST_UNPACKED = 1 << 30  # the challenge's zip, with its own archive unpacked, takes 0.8 GB
LARGEST_READ = 32 << 20  # a zip's list of files is read in one piece, as are tar's long names
OPENERS = {"gzip": gzip.open, "bz2": bz2.open, "lzma": lzma.open}


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
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if not hidden(name)]
        below = "".join(f"{part}/" for part in Path(place).relative_to(folder).parts)
        for name in names:
            path = os.path.join(place, name)
            try:
                status = os.stat(path)
            except OSError as error:
                refuse(error)
            if stat.S_ISREG(status.st_mode) and not hidden(name):
                files.append(File(path, prefix + below + name, identity(status)))
        if len(files) + len(visited) > MOST_FILES:
            raise DataError(
                f"{folder}: more than {MOST_FILES} files; expected a set of faces; "
                "give the folder that holds it"
            )
    return sorted(files, key=lambda file: natural(file.name))


def refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: {reason(error)}; expected to be readable; remove it")


def natural(name: str) -> list:
    """Sort key by which ``im10`` follows ``im9``."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", name)]


def hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


class Unpacking:
    """One set's archives, also those in archives: they share a folder and the limits.

    Args:
        folder: where to unpack to.  name: of the whole set, for messages.
    """

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self.bytes_left, self.files_left, self.archives = MOST_UNPACKED, MOST_FILES, 0

    def check(self, size: int, files: int) -> None:
        """Refuse what is more than may still be unpacked."""
        if size > self.bytes_left:
            raise DataError(
                f"{self.name}: unpacks to more than {MOST_UNPACKED >> 20} MiB; expected FER2013; "
                "if it is a larger set, unpack it to a folder"
            )
        if files > self.files_left:
            raise DataError(f"{self.name}: more than {MOST_FILES} files; expected FER2013")

    def unpack(self, path: str, name: str, prefix: str = "") -> list[File]:
        """The files of an archive called ``name``, under names that begin with ``prefix``."""
        self.archives += 1
        target = self.folder / str(self.archives)
        target.mkdir()
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
            stream.seek(0)
            packer = next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None)
            if packer:
                return self.unpack_one(OPENERS[packer](stream), target, name, prefix)
            if head.startswith(b"PK"):
                self.unpack_zip(stream, target)
            else:
                self.unpack_tar(stream, target)
        return list_files(target, prefix)

    def unpack_one(self, stream, target: Path, name: str, prefix: str) -> list[File]:
        """A single packed file, which may be a tar: ``x.csv.gz``, ``x.tar.gz``."""
        self.write(stream, target / "content")
        (file,) = list_files(target)
        if file.head()[257:262] == b"ustar":
            files = self.unpack(file.path, name, prefix)
            os.unlink(file.path)
            return files
        return [replace(file, name=re.sub(r"\.(gz|bz2|xz)$", "", name))]

    def unpack_zip(self, stream, target: Path) -> None:
        with zipfile.ZipFile(SmallReads(stream, self.name)) as archive:
            names = [member.filename for member in archive.infolist()]
            if told := foreign_zip(names):
                raise DataError(f"{self.name}: {told}")
            members = [m for m in archive.infolist() if not m.is_dir() and not unseen(m.filename)]
            self.check(sum(member.file_size for member in members), len(members))
            for member in members:
                with archive.open(member) as content:
                    self.write(content, target / self.safe(member.filename))

    def unpack_tar(self, stream, target: Path) -> None:
        with tarfile.open(fileobj=SmallReads(stream, self.name), mode="r:") as archive:
            for member in archive:
                if member.isreg() and not unseen(member.name):
                    self.check(member.size, 1)
                    self.bytes_left -= member.size
                    self.files_left -= 1
                    self.safe(member.name)
                    archive.extract(member, target, filter="data")

    def safe(self, name: str) -> str:
        """The name of a member, refused where it leads out of the archive's own folder."""
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
            raise DataError(
                f"{self.name}: {shown(name)} leads out of the archive; expected names below it; "
                "do not trust this file"
            )
        return str(path)

    def write(self, stream, path: Path) -> None:
        self.check(0, 1)
        self.files_left -= 1
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            while block := stream.read(1 << 20):
                self.check(len(block), 0)
                self.bytes_left -= len(block)
                file.write(block)


def unseen(name: str) -> bool:
    return any(hidden(part) for part in name.split("/") if part not in ("", ".", ".."))


class SmallReads:
    """A stream that refuses to be read in one large piece: lists of files are kept whole."""

    def __init__(self, stream, name: str):
        self.stream, self.name = stream, name

    def read(self, size: int = -1) -> bytes:
        if size > LARGEST_READ:
            raise DataError(
                f"{self.name}: its list of files takes {size >> 20} MiB; expected a set of at most "
                f"{MOST_FILES} faces; unpack it"
            )
        return self.stream.read(size)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)
