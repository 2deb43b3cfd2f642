"""What the network reads in a picture: ``python -m fer_utils.predict face.jpg``.

Any picture that Pillow opens. Where the extra ``face`` is installed the face is found in it, else
its central square is taken; which of the two is said. ``--map`` draws beside the 48×48 face which
pixels speak for the expression that was read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from fer_utils import evaluation, runs
from fer_utils.data import read_face


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fer_utils.predict", description=__doc__)
    parser.add_argument("picture", type=Path, nargs="+", help="image file")
    parser.add_argument("--centre", action="store_true", help="take its centre, find no face")
    parser.add_argument("--run", default="fer2013", help="whose network (%(default)s)")
    parser.add_argument("--map", type=Path, help="write face and attribution map here, as PNG")
    args = parser.parse_args(arguments)
    try:
        run = runs.Run.load(args.run)
        read = [read_face(path, detect=not args.centre) for path in args.picture]
        faces = np.stack([face for face, _ in read])
        probabilities = run.predict(faces)
        for path, (_, how), row in zip(args.picture, read, probabilities, strict=True):
            print(f"{path}: {how}")
            for k in np.argsort(-row):
                print(f"  {run.classes[k]:9} {row[k]:6.1%}  {'█' * round(30 * row[k])}")
        if args.map:
            with runs.atomic(args.map) as partial:
                partial.write_bytes(drawing(run, faces, probabilities))
            print(f"map of the strongest expression: {args.map}")
    except (ValueError, OSError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 1
    return 0


def drawing(run: runs.Run, faces: np.ndarray, probabilities: np.ndarray) -> bytes:
    """PNG: a row a face, with its integrated gradients (blurred) for the class that was read."""
    from fer_utils.plotting.style import face_image, figure, png, signed_image

    target = torch.from_numpy(probabilities.argmax(1))
    method = evaluation.METHODS["integrated gradients (blurred)"]
    maps = method.maps(run.model(), run.scale(faces), target)
    drawn, axes = figure(len(faces), 2, height=2.4 * len(faces), width=5, squeeze=False)
    for (left, right), face, map_, k, row in zip(
        axes, faces, maps, target, probabilities, strict=True
    ):
        face_image(left, face)
        left.set_title(f"{run.classes[k]} {row[k]:.0%}")
        artist = signed_image(right, map_[0].numpy())
        drawn.colorbar(artist, ax=right, label=method.unit)
    return png(drawn)


if __name__ == "__main__":
    sys.exit(main())
