"""What a file is, told by its first bytes, never by its name."""

HEAD = 512  # bytes that tell it
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"P5", b"P6")
PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff",
    ".pgm", ".ppm",
)  # fmt: skip
ARCHIVES = (b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")

AS_PICTURES = "save each face as a picture in folders, such as train/happy/1.png"
AS_CSV = "save it as CSV (UTF-8)"
JPEG = "save it as JPEG"
UNPACK = "unpack it first"
PICKLE = f"a pickle, not opened since it could run code; {AS_PICTURES}"
# Formats that are not read: their first bytes, and their name with the way out.
FOREIGN = {
    b"\x89HDF": f"HDF5; {AS_PICTURES}",
    b"\x93NUMPY": f"a numpy array; {AS_PICTURES}",
    **{bytes([0x80, protocol]): PICKLE for protocol in (2, 3, 4, 5)},
    b"\xd0\xcf\x11\xe0": f"an old Office file; {AS_CSV}",
    b"7z\xbc\xaf": f"a 7-Zip archive; {UNPACK}",
    b"Rar!": f"a RAR archive; {UNPACK}",
    b"\xff\xfe": f"UTF-16; {AS_CSV}",
    b"\xfe\xff": f"UTF-16; {AS_CSV}",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file itself with git lfs pull",
}
BRANDS_OF_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a picture that Pillow reads here."""
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return b"avif" in head[8:64] or b"avis" in head[8:64]
    return head.startswith(PICTURES)


def is_archive(head: bytes) -> bool:
    return head.startswith(ARCHIVES) or head[257:262] == b"ustar"


def foreign(head: bytes) -> str | None:
    """The name of a format that is not read, and what to do with it; None if it is none known."""
    if head[4:8] == b"ftyp" and head[8:12] in BRANDS_OF_HEIC and not is_picture(head):
        return f"HEIC, as telephones store it; {JPEG}"
    start = head.lstrip()[:20].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page; sign in there and download again"
    if start.startswith((b"<svg", b"<?xml")):
        return f"SVG or XML; {JPEG}"
    return next((told for magic, told in FOREIGN.items() if head.startswith(magic)), None)


def foreign_zip(names: list[str]) -> str | None:
    """The same of a zip archive that is another format's wrapping."""
    if names and all(name.endswith(".npy") for name in names):
        return f"numpy arrays (.npz); {AS_PICTURES}"
    if any(name.endswith("/data.pkl") for name in names):
        return PICKLE
    if "[Content_Types].xml" in names:
        return f"an Office file (.xlsx); {AS_CSV}"
    return None
