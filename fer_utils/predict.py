"""What the network reads in a picture: ``python -m fer_utils.predict face.jpg``.

Any picture that Pillow opens: its central square becomes a 48×48 grey face. ``--map`` draws
beside it which pixels speak for the expression that was read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from fer_utils import runs, saliency
from fer_utils.data import DataError
from fer_utils.data.pictures import read_picture
from fer_utils.plotting.style import face_image, figure, png, signed_image


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fer_utils.predict", description=__doc__)
    parser.add_argument("picture", type=Path, nargs="+", help="image file; its centre is taken")
    parser.add_argument("--run", default="fer2013", help="whose network (%(default)s)")
    parser.add_argument("--map", type=Path, help="write face and attribution map here, as PNG")
    args = parser.parse_args(arguments)
    try:
        run = runs.Run.load(args.run)
        faces = np.stack([read(path) for path in args.picture])
        probabilities = run.predict(faces)
        for path, row in zip(args.picture, probabilities, strict=True):
            print(path)
            for k in np.argsort(-row):
                print(f"  {run.classes[k]:9} {row[k]:6.1%}  {'█' * round(30 * row[k])}")
        if args.map:
            with runs.atomic(args.map) as partial:
                partial.write_bytes(drawing(run, faces, probabilities))
            print(f"map of the strongest expression: {args.map}")
    except (DataError, ValueError, OSError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 1
    return 0


def read(path: Path) -> np.ndarray:
    """uint8 (48, 48); says so where the picture had to be cropped or made grey."""
    if path.is_dir():
        raise DataError(f"{path}: a folder; give image files")
    with open(path, "rb") as stream:
        face, converted = read_picture(stream, str(path))
    if converted:
        print(
            f"{path}: its central square, grey, 48×48 (no face detector was used)", file=sys.stderr
        )
    return face


def drawing(run: runs.Run, faces: np.ndarray, probabilities: np.ndarray) -> bytes:
    """PNG: a row a face, with its integrated gradients for the class that was read."""
    target = torch.from_numpy(probabilities.argmax(1))
    maps = saliency.integrated_gradients(run.model(), run.scale(faces), target)
    drawn, axes = figure(len(faces), 2, height=2.4 * len(faces), width=5, squeeze=False)
    for (left, right), face, map_, k, row in zip(
        axes, faces, maps, target, probabilities, strict=True
    ):
        face_image(left, face)
        left.set_title(f"{run.classes[k]} {row[k]:.0%}")
        artist = signed_image(right, map_[0].numpy())
        drawn.colorbar(artist, ax=right, label="integrated gradients (logit)")
    return png(drawn)


if __name__ == "__main__":
    sys.exit(main())
