"""One picture file as a 48×48 grey face."""

import warnings

import numpy as np

from .faces import SIDE, DataError, reason

MOST_BYTES = 64 << 20
MOST_PIXELS = 40_000_000
LEAST_SIDE = 16
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
MAGICS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"P5", b"P6")


def read_picture(stream, name: str) -> tuple[np.ndarray, bool]:
    """uint8 (48, 48), and whether the picture had to be converted.

    What is not grey is made so (``grey_picture``); a picture of another size is cropped to its
    central square and resampled.
    """
    return _opened(stream, name, to_face)


def grey_picture(stream, name: str):
    """A picture of any size as Pillow's ``L``: upright, colours by ITU-R 601, clear as white."""
    return _opened(stream, name, to_grey)


def _opened(stream, name: str, convert):
    from PIL import Image

    # Each of Pillow's decoders has its own exceptions for a damaged file, from SyntaxError to
    # struct.error: all of them mean that the picture cannot be read.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow only warns of is decided here
            picture = Image.open(stream, formats=FORMATS)
            check_size(picture, name)
            picture.load()
        return convert(picture, name)
    except DataError:
        raise
    except Exception as error:
        why = "no picture" if isinstance(error, Image.UnidentifiedImageError) else reason(error)
        raise DataError(
            f"{name}: {why}; expected a whole {', '.join(FORMATS[:2])} file; replace or remove it"
        ) from None


def check_size(picture, name: str) -> None:
    """Refuse, before a pixel is decoded, what is no single face of a sensible size."""
    width, height = picture.size
    if min(width, height) < LEAST_SIDE:
        raise DataError(
            f"{name}: {width}×{height} pixels; expected ≥ {LEAST_SIDE} a side; remove it"
        )
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{name}: {width}×{height} pixels; expected at most {MOST_PIXELS // 10**6} million; "
            "crop it to the face"
        )
    # Telephones store a JPEG with a second, auxiliary picture (MPO): the first one counts.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise DataError(f"{name}: several frames; expected one picture; save one of them as PNG")


def to_face(picture, name: str) -> tuple[np.ndarray, bool]:
    from PIL import Image, ImageOps

    if picture.mode == "L" and picture.size == (SIDE, SIDE):
        return np.asarray(picture), False
    grey = ImageOps.fit(to_grey(picture, name), (SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(grey), True


def to_grey(picture, name: str):
    from PIL import Image, ImageOps

    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(f"{name}: {picture.mode!r} pixels; expected 8 bits a channel; save it so")
    picture = ImageOps.exif_transpose(picture)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L")
