"""A picture of one's own: its face found and cropped as FER2013's faces were.

FER2013's boxes came from OpenCV's face detector (Goodfellow et al. 2013, arXiv:1307.0414); on
FER2013 faces with room around them, the cascade used here gives the very crop back. It comes with
the optional extra ``face`` (OpenCV 4, which brings its cascades along: nothing is downloaded).
"""

from __future__ import annotations

import io
import os
from functools import cache
from pathlib import Path

import numpy as np

from .faces import SIDE, DataError
from .pictures import MOST_BYTES, grey_picture

CASCADE = "haarcascade_frontalface_default.xml"
NEIGHBOURS = 5  # overlapping finds that make a face: fewer see faces in wallpaper
LOOKED_AT = 800  # pixels of the longer side at most, for the detector: above, only slower
LEAST_FACE = 1 / 12  # of the shorter side


def read_face(source: bytes | str | os.PathLike, name: str = "picture", detect: bool = True):
    """A picture as the network takes it, and in words how it came to be.

    Args:
        source: a path, or the bytes of a file such as an upload gives.  name: for the words,
            where ``source`` is bytes.  detect: look for a face; else the central square.

    Returns:
        (uint8 (48, 48), str). Of several faces the largest is taken. Where none is found, or no
        detector is installed, it is the picture's central square, and the words say so.

    Raises:
        DataError: it is no picture, damaged, or of no sensible size.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    if not isinstance(source, (bytes, bytearray, memoryview)):
        source, name = read_bytes(Path(source)), str(source)
    if not len(source):
        raise DataError(f"{name}: an empty file; expected a picture")
    picture = grey_picture(io.BytesIO(source), name)
    if picture.size == (SIDE, SIDE):
        return np.asarray(picture), f"taken as it is, {SIDE}×{SIDE}"
    boxes = faces_in(np.asarray(picture)) if detect else []
    if boxes:
        x, y, side = max(boxes, key=lambda box: box[2])
        many = "" if len(boxes) == 1 else f", the largest of {len(boxes)}"
        told = f"a face was found{many}: {side} pixels a side, {x} from the left, {y} from the top"
        face = picture.resize((SIDE, SIDE), Resampling.LANCZOS, box=(x, y, x + side, y + side))
    else:
        why = "no face was found" if detect else "no face was looked for"
        if boxes is None:
            why = "no face detector is installed (pip install 'opencv-python-headless<5')"
        told = f"{why}: its central square is taken"
        face = ImageOps.fit(picture, (SIDE, SIDE), Resampling.LANCZOS)
    return np.asarray(face), told


def read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise DataError(f"{path}: a folder; give image files")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise DataError(
            f"{path}: {size >> 20} MB; expected at most {MOST_BYTES >> 20}; save it smaller"
        )
    return path.read_bytes()


def faces_in(grey: np.ndarray) -> list[tuple[int, int, int]] | None:
    """Squares (x, y, side) around the faces of a grey picture (h, w); None without a detector."""
    found = detector()
    if found is None:
        return None
    import cv2

    shrunk = min(1.0, LOOKED_AT / max(grey.shape))
    seen = cv2.resize(grey, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    least = max(24, round(min(seen.shape) * LEAST_FACE))
    boxes = found.detectMultiScale(seen, 1.1, NEIGHBOURS, minSize=(least, least))
    sides = [min(round(w / shrunk), *grey.shape) for _, _, w, _ in boxes]
    return [
        (
            min(round(x / shrunk), grey.shape[1] - side),
            min(round(y / shrunk), grey.shape[0] - side),
            side,
        )
        for (x, y, _, _), side in zip(boxes, sides, strict=True)
    ]


@cache
def detector():
    """OpenCV's cascade for frontal faces; None where OpenCV 4 is not installed."""
    try:
        import cv2

        found = cv2.CascadeClassifier(os.path.join(cv2.data.haarcascades, CASCADE))
    except (ImportError, AttributeError):  # OpenCV 5 has no cascades
        return None
    return None if found.empty() else found
