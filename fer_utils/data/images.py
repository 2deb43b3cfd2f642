"""One picture file as a 48×48 grey face; in a picture of one's own the face is found first.

FER2013's boxes came from OpenCV's face detector (Goodfellow et al. 2013, arXiv:1307.0414); on
FER2013 faces with room around them, the cascade used here gives the very crop back. It comes with
the optional extra ``face`` (OpenCV 4, which brings its cascades along: nothing is downloaded).
"""

import io
import os
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .faces import SIDE, DataError, reason
from .files import foreign

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM")
CASCADE = "haarcascade_frontalface_default.xml"
NEIGHBOURS = 5  # overlapping finds that make a face: fewer see faces in wallpaper
LOOKED_AT = 800  # pixels of the longer side at most, for the detector: above, only slower
LEAST_FACE = 1 / 12  # of the shorter side


def grey_picture(content: bytes, place: str) -> tuple[Image.Image, bool]:
    """A picture as Pillow's ``L``: upright, colours by ITU-R 601, clear as white.

    Also whether it had to be made so. Raises ``DataError``: damaged, a film, a decompression bomb
    (Pillow's own limit, some 90 million pixels).
    """
    # Each of Pillow's decoders has its own exceptions for a damaged file, from SyntaxError to
    # struct.error: all of them mean that the picture cannot be read.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
            # Telephones store a JPEG with a second, auxiliary picture (MPO): the first one counts.
            if getattr(picture, "is_animated", False) and picture.format != "MPO":
                raise ValueError("several frames, save one of them as PNG")
            grey = to_grey(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError:
        told = foreign(content) or "no picture; replace or remove it"
        raise DataError(f"{place}: {told}; expected a PNG or JPEG file") from None
    except Exception as error:
        raise DataError(
            f"{place}: {reason(error)}; expected a whole PNG or JPEG file of sensible size; "
            "replace or remove it"
        ) from None
    return grey, (grey.mode, grey.size) != (picture.mode, picture.size)


def to_grey(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("pixels of 32-bit floats, save it with 8 bits a channel")
    if picture.mode.startswith("I"):
        return Image.fromarray(eight_bits(np.asarray(picture)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L")


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Grey levels 0–255 of a picture with 16 bits a pixel, of which cameras may use 12 or 8."""
    highest = int(pixels.max(initial=0))
    used = next((bits for bits in (8, 12, 16) if highest < 1 << bits), 32)
    return (pixels.clip(0) >> (used - 8)).astype(np.uint8)


def central_square(picture: Image.Image) -> np.ndarray:
    """A picture's central square, uint8 (48, 48)."""
    return np.asarray(ImageOps.fit(picture, (SIDE, SIDE), Image.Resampling.LANCZOS))


def read_pictures(contents: Iterable[bytes], places: list[str]) -> tuple[np.ndarray, list[str]]:
    """uint8 (n, 48, 48) from the contents of picture files, and a note of how many were converted."""
    images, converted = np.empty((len(places), SIDE, SIDE), np.uint8), 0
    for row, (content, place) in enumerate(zip(contents, places, strict=True)):
        grey, changed = grey_picture(content, place)
        images[row] = central_square(grey)
        converted += changed or grey.size != (SIDE, SIDE)
    note = f"{converted} of {len(images)} images converted to {SIDE}×{SIDE} grey"
    return images, [note] if converted else []


def read_faces(source, name: str = "picture", detect: bool = True) -> list[tuple[np.ndarray, str]]:
    """Every face of a picture, the largest first: uint8 (48, 48), and in words how it was made.

    Without a face, without a detector, or where ``detect`` is False, it is the central square alone.

    Args:
        source: a path, or the bytes of a file, which messages then call ``name``.

    Raises:
        DataError: it is no picture, or a damaged one.
    """
    if isinstance(source, (str, os.PathLike)):
        name = str(source)
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise DataError(f"{name}: {reason(error)}; expected a picture file") from None
    picture, _ = grey_picture(bytes(source), name)
    if picture.size == (SIDE, SIDE):
        return [(np.asarray(picture), f"taken as it is, {SIDE}×{SIDE}")]
    boxes = faces_in(np.asarray(picture)) if detect else []
    if not boxes:
        why = "no face was found" if detect else "no face was looked for"
        if boxes is None:
            why = "no face detector is installed (pip install 'opencv-python-headless<5')"
        return [(central_square(picture), f"{why}: its central square is taken")]
    found = []
    for x, y, side in sorted(boxes, key=lambda box: -box[2]):
        box = (x, y, x + side, y + side)
        face = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box)
        which = "" if found or len(boxes) == 1 else f", the largest of {len(boxes)}"
        where = f"{side} pixels a side, {x} from the left, {y} from the top"
        found.append((np.asarray(face), f"a face was found{which}: {where}"))
    return found


def faces_in(grey: np.ndarray) -> list[tuple[int, int, int]] | None:
    """Squares (x, y, side) around the faces of a grey picture (h, w); None without a detector."""
    found = detector()
    if found is None:
        return None
    import cv2

    shrunk = min(1.0, LOOKED_AT / max(grey.shape))
    height, width = (max(1, round(shrunk * side)) for side in grey.shape)
    seen = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    least = max(24, round(min(seen.shape) * LEAST_FACE))
    boxes = []
    for x, y, side, _ in found.detectMultiScale(seen, 1.1, NEIGHBOURS, minSize=(least, least)):
        side = min(round(side / shrunk), *grey.shape)
        left = min(round(x / shrunk), grey.shape[1] - side)
        top = min(round(y / shrunk), grey.shape[0] - side)
        boxes.append((left, top, side))
    return boxes


@cache
def detector():
    """OpenCV's cascade for frontal faces; None where OpenCV 4 is not installed."""
    try:
        import cv2

        found = cv2.CascadeClassifier(os.path.join(cv2.data.haarcascades, CASCADE))
    except (ImportError, AttributeError):  # OpenCV 5 has no cascades
        return None
    return None if found.empty() else found
