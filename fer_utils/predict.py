"""What the network reads in pictures: ``python -m fer_utils.predict face.jpg``.

Any picture that Pillow opens. Where the extra ``face`` is installed the largest face is found in
it, or with ``--all`` every face, else its central square is taken; which of these is said. For a
picture that cannot be read one line is printed, the others are answered, and the exit status is 1.
``--map`` draws beside each 48×48 face which pixels speak for the expression that was read.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from fer_utils import data, evaluation, runs
from fer_utils.commandline import run_command


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fer_utils.predict", description=__doc__)
    parser.add_argument("picture", type=Path, nargs="+", help="image file")
    parser.add_argument("--all", action="store_true", help="every face of a picture")
    parser.add_argument("--centre", action="store_true", help="take its centre, find no face")
    parser.add_argument("--run", default="fer2013", help="whose network (%(default)s)")
    parser.add_argument("--map", type=Path, help="write faces and attribution maps here, as PNG")
    args = parser.parse_args(arguments)
    return run_command("predict", lambda: predict(args))


def predict(args: argparse.Namespace) -> int:
    run = runs.Run.load(args.run)
    faces, answers, status = [], [], 0
    for path in args.picture:
        try:
            found = data.read_faces(path, detect=not args.centre)
        except data.DataError as error:
            print(f"predict: {error}", file=sys.stderr)
            status = 1
            continue
        for face, how in found if args.all else found[:1]:
            faces.append(face)
            answers.append(run.predict(face[None])[0])
            print(f"{path}: {how}")
            print_answer(run.classes, answers[-1])
    if args.map and faces:
        with runs.atomic(args.map) as partial:
            partial.write_bytes(draw_maps(run, np.stack(faces), np.stack(answers)))
        print(f"map of the strongest expression: {args.map}")
    return status


def print_answer(classes: tuple[str, ...], probabilities: np.ndarray) -> None:
    """A line an expression, the likeliest first, with a bar."""
    width = max(map(len, classes))
    for k in np.argsort(-probabilities):
        bar = "█" * round(30 * probabilities[k])
        print(f"  {classes[k]:{width}} {probabilities[k]:6.1%}  {bar}".rstrip())


def draw_maps(run: runs.Run, faces: np.ndarray, answers: np.ndarray) -> bytes:
    """PNG: a row a face, with its integrated gradients (blurred) for the likeliest class."""
    from fer_utils.plotting.style import face_image, figure, png, signed_image

    target = torch.from_numpy(answers.argmax(1))
    method = evaluation.METHODS["integrated gradients (blurred)"]
    maps = method.maps(run.model(), run.scale(faces), target)
    drawn, axes = figure(len(faces), 2, height=2.4 * len(faces), width=5, squeeze=False)
    for (left, right), face, map_, k, row in zip(axes, faces, maps, target, answers, strict=True):
        face_image(left, face)
        left.set_title(f"{run.classes[k]} {row[k]:.0%}")
        artist = signed_image(right, map_[0].numpy())
        drawn.colorbar(artist, ax=right, label=method.unit)
    return png(drawn)


if __name__ == "__main__":
    sys.exit(main())
