"""What lies at a path: files, known by their first bytes, and archives.

An archive is unpacked into a temporary folder. zipfile and tarfile's data filter write nothing
outside of it, links in a tar are left out, and the size is limited.
"""

import gzip
import os
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .faces import DataError

MOST_UNPACKED = 1 << 30  # bytes; the challenge's zip takes 0.8 GB
BLOCK = 4096  # bytes of disk that the smallest file takes
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"P5", b"P6")
PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff",
    ".pgm", ".ppm",
)  # fmt: skip
AS_PICTURES = "save each face as a picture in folders, such as train/happy/1.png"
AS_CSV = "save it as CSV (UTF-8)"
# Formats that are not read: their first bytes, and their name with the way out.
FOREIGN = {
    b"\x89HDF": f"HDF5; {AS_PICTURES}",
    b"\x93NUMPY": f"a numpy array; {AS_PICTURES}",
    b"\x80": f"a pickle, not opened since it could run code; {AS_PICTURES}",
    b"<?xml": f"XML, as an Office file (.xlsx) holds it; {AS_CSV}",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"BZh": "a bzip2 file; unpack it first",
    b"\xfd7zXZ": "an xz file; unpack it first",
    b"\xff\xfe": f"UTF-16; {AS_CSV}",
    b"\xfe\xff": f"UTF-16; {AS_CSV}",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with git lfs pull",
}


class File(NamedTuple):
    """A file of a set: where it lies, its name below the set's root, what messages call it."""

    path: Path
    name: PurePosixPath
    place: str

    def head(self) -> bytes:
        """The bytes that tell what it is."""
        with open(self.path, "rb") as stream:
            return stream.read(512)


def list_files(root: Path, place: str, prefix: str = "") -> list[File]:
    """All regular files below ``root``, or itself; links are followed, loops of them are not."""
    if root.is_file():
        return [File(root, PurePosixPath(root.name), place)]
    files, visited = [], set()
    for folder, below, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and stat.S_ISREG(path.stat().st_mode):
                inner = path.relative_to(root).as_posix()
                files.append(File(path, PurePosixPath(prefix, inner), f"{place}/{inner}"))
    return sorted(files, key=lambda file: file.place)


def refuse(error: OSError) -> None:
    raise error


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a picture that Pillow reads here."""
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return b"avif" in head[8:64]
    return head.startswith(PICTURES)


def is_archive(head: bytes) -> bool:
    return head.startswith((b"PK", b"\x1f\x8b")) or head[257:262] == b"ustar"


def foreign(head: bytes) -> str | None:
    """The name of a format that is not read, and what to do with it; None if it is none known."""
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1") and not is_picture(head):
        return "HEIC, as telephones store it; save it as JPEG"
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page; sign in there and download again"
    return next((told for magic, told in FOREIGN.items() if head.startswith(magic)), None)


def unpack(file: File, target: Path, size: int) -> int:
    """Write what an archive holds below ``target``; how many bytes were unpacked so far."""
    if file.head().startswith(b"PK"):
        with zipfile.ZipFile(file.path) as archive:
            size += sum(member.file_size + BLOCK for member in archive.infolist())
            check_size(size, file)
            archive.extractall(target)
    elif tarfile.is_tarfile(file.path):
        with tarfile.open(file.path) as archive:
            for member in archive:
                size += member.size + BLOCK
                check_size(size, file)
                if member.isreg():
                    archive.extract(member, target, filter="data")
    else:
        inner = target / file.name.stem  # x.csv of x.csv.gz
        with gzip.open(file.path) as stream, open(inner, "wb") as out:
            while block := stream.read(1 << 20):
                size += len(block)
                check_size(size, file)
                out.write(block)
    return size


def check_size(size: int, file: File) -> None:
    if size > MOST_UNPACKED:
        raise DataError(
            f"{file.place}: unpacks to more than {MOST_UNPACKED >> 20} MiB; expected FER2013; "
            "if it is a larger set, unpack it to a folder"
        )
