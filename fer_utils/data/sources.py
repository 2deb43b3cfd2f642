"""What a path leads to, as a list of files: a folder, a zip or a tar archive alike.

Nothing is ever unpacked to disk, and every stream has an end (``Bounded``).
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .faces import DataError, reason

MOST_FILES = 300_000
MOST_UNPACKED = 2 << 30
MOST_DIRECTORY = 32 << 20  # bytes: a zip's list of files, which zipfile reads and keeps as a whole


@dataclass(frozen=True)
class Entry:
    """A file of a folder or archive: its path in there, its size, and how to open it."""

    path: str
    size: int
    open: Callable
    position: int = 0  # where it lies in a tar archive: those are quick to read in that order alone
    identity: tuple[int, ...] = ()  # changes when the file does (folders alone)

    @property
    def parent(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Budget:
    """How many bytes an archive may still give, over all its members and however often read."""

    def __init__(self, name: str, most: int = MOST_UNPACKED):
        self.name, self.most, self.left = name, most, most

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise DataError(
                f"{self.name}: unpacks to more than {self.most >> 20} MiB; expected FER2013; if it "
                "is a larger set, unpack it to a folder"
            )


class Bounded:
    """A stream that gives no more bytes than its budget allows."""

    def __init__(self, stream, budget: Budget):
        self.stream, self.budget = stream, budget

    def read(self, size: int = -1) -> bytes:
        most = self.budget.left + 1
        block = self.stream.read(most if size is None or size < 0 else min(size, most))
        self.budget.spend(len(block))
        return block

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2:  # a packed stream knows its end only when it gets there
            while self.read(1 << 20):
                pass
            return self.tell()
        if whence == 1:
            offset += self.tell()
        self.budget.spend(max(0, offset - self.tell()))  # unpacks all that lies on the way
        return self.stream.seek(offset)

    def tell(self) -> int:
        return self.stream.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self.stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What a change of a file changes: nobody can set the ctime back."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def folder_entries(folder: Path) -> list[Entry]:
    """All regular files below ``folder``; links are followed, each real folder is visited once."""
    entries, visited, waiting = [], set(), [(str(folder), "")]
    while waiting:
        place, prefix = waiting.pop()
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(place) as items:
            for item in items:
                add_item(item, prefix, entries, waiting)
                if len(entries) + len(waiting) > MOST_FILES:
                    raise DataError(
                        f"{folder}: more than {MOST_FILES} files; expected a set of faces; "
                        "give the folder that holds it"
                    )
    return sorted(entries, key=lambda entry: entry.path)


def add_item(item: os.DirEntry, prefix: str, entries: list[Entry], waiting: list) -> None:
    if hidden(item.name):
        return
    try:
        status = item.stat()
    except OSError as error:
        raise DataError(
            f"{item.path}: {reason(error)}; expected a readable file; remove it"
        ) from None
    if stat.S_ISDIR(status.st_mode):
        waiting.append((item.path, prefix + item.name + "/"))
    elif stat.S_ISREG(status.st_mode):
        entry = Entry(
            prefix + item.name, status.st_size, partial(open, item.path, "rb"), 0, identity(status)
        )
        entries.append(entry)


class Directory:
    """A zip's stream that refuses a list of files too long to keep, until it was read."""

    def __init__(self, stream, name: str):
        self.stream, self.name, self.most = stream, name, MOST_DIRECTORY

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise DataError(
                f"{self.name}: its list of files takes {size >> 20} MiB; expected a set of at most "
                f"{MOST_FILES} faces; unpack it"
            )
        return self.stream.read(size)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def zip_entries(stream, name: str) -> list[Entry]:
    listed = Directory(stream, name)
    archive = zipfile.ZipFile(listed)
    listed.most = None
    members = [m for m in archive.infolist() if not m.is_dir()]
    check_count(members, name)
    budget = Budget(name)

    def opener(member):
        return lambda: Bounded(archive.open(member), budget)

    entries = [Entry(m.filename, m.file_size, opener(m)) for m in members if seen(m.filename)]
    return sorted(entries, key=lambda entry: entry.path)


def tar_entries(stream, name: str) -> list[Entry]:
    archive = tarfile.TarFile(fileobj=stream)
    members = []
    for member in archive:
        if member.isreg() and seen(member.name):
            members.append(member)
            check_count(members, name)

    budget = Budget(name)

    def opener(member):
        return lambda: Bounded(archive.extractfile(member), budget)

    entries = [Entry(m.name.removeprefix("./"), m.size, opener(m), m.offset) for m in members]
    return sorted(entries, key=lambda entry: entry.path)


def check_count(members: list, name: str) -> None:
    if len(members) > MOST_FILES:
        raise DataError(f"{name}: more than {MOST_FILES} files; expected FER2013; wrong archive")


def hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def seen(path: str) -> bool:
    return not any(hidden(part) for part in path.split("/") if part not in ("", "."))
