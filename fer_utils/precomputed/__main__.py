"""``python -m fer_utils.precomputed RUN [NAME …]``: compute and store, or ``--verify``.

``scores`` compares the run with fits of other seeds, ``shortcut`` with one on marked faces.
``--fits`` trains first what is missing of them; each takes as long as the run did. Without
it, what was computed from all of them is kept as it is.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

from fer_utils import runs, train
from fer_utils.data import Faces
from fer_utils.precomputed import AGGREGATES, Arrays, fits

TOLERANCE = 1e-4  # of a figure, between processors


def stored(run: runs.Run, faces: Faces, names: list[str]) -> None:
    for name in names:
        how = AGGREGATES[name]
        if not how.applies(run, faces):
            print(
                f"{name:12} not for this run: it needs {'synthetic faces' if how.synthetic else 'votes'}"
            )
            continue
        if missing := how.missing(run):
            has = run.has(name)
            done = "left as it is" if has else "left out" if how.needs_fits else "computed"
            print(f"{name:12} {done}, for want of the fits {', '.join(missing)}; --fits makes them")
            if done != "computed":
                continue
        began = time.perf_counter()
        path = run.store(name, how.compute(run, faces))
        print(
            f"{name:12} {path.stat().st_size / 1e3:8.1f} kB  {time.perf_counter() - began:6.1f} s",
            flush=True,
        )


def make_fits(run: runs.Run, names: list[str]) -> None:
    for fit in dict.fromkeys(fit for name in names for fit in AGGREGATES[name].fits):
        recipe, source = fits.described(run, fit)
        print(f"fit {fit}: seed {recipe.seed}, faces {source['preset']}", flush=True)
        fits.make(run, fit, train.progress_line(recipe, run.config["data"]["faces"]["Training"]))


def differences(run: runs.Run, faces: Faces) -> list[str]:
    """Everything published of a run that a new computation from its weights doesn't give."""
    found = []
    model = run.model()
    _, scores = train.score(model, faces, run.config["scale"], run.classes)
    for split, published in run.metrics.items():
        for key, value in published.items():
            new = scores[split][key]
            close = np.allclose(
                new, value, atol=TOLERANCE + 1 / published["n"] * ("accuracy" in key)
            )
            print(
                f"{split:12} {key:20} {np.round(value, 4)!s:>20} {np.round(new, 4)!s:>20}  {'ok' if close else 'DIFFERS'}"
            )
            if not close:
                found.append(f"{split} {key}: published {value}, computed {new}")
    for name, how in AGGREGATES.items():
        if how.iterative or not how.applies(run, faces) or not run.has(name):
            continue
        new, old = how.compute(run, faces), run.read(name)
        worst = furthest(old, new)
        print(
            f"{name:12} {'largest relative difference':41} {worst:.1e}  {'ok' if worst < 1e-2 else 'DIFFERS'}"
        )
        if worst >= 1e-2:
            found.append(f"aggregate {name}: differs by {worst:.2g} of its range")
    return found


def furthest(old: Arrays, new: Arrays) -> float:
    """The largest difference of two sets of arrays, each in units of its array's range."""
    worst = 0.0
    for key, value in old.items():
        if value.dtype.kind in "fiu":
            spread = float(np.ptp(np.nan_to_num(value.astype(float)))) or 1.0
            gap = np.abs(np.nan_to_num(value.astype(float)) - np.nan_to_num(new[key].astype(float)))
            worst = max(worst, float(gap.max(initial=0.0)) / spread)
    return worst


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fer_utils.precomputed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(AGGREGATES)}; default all"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--verify", action="store_true", help="compare, store nothing")
    how.add_argument(
        "--fits", action="store_true", help="first train the fits that NAMEs compare, if missing"
    )
    args = parser.parse_intermixed_args(arguments)
    try:
        if unknown := set(args.names) - set(AGGREGATES):
            raise ValueError(f"no aggregate {min(unknown)!r} (have: {', '.join(AGGREGATES)})")
        run = runs.Run.load(args.run)
        faces = run.faces()
        if faces is None:
            raise ValueError(
                f"run {args.run!r} was made from real faces, which are not at hand: "
                "say where they lie with DATA=… (or the variable FER_DATA)"
            )
        torch.manual_seed(0)
        names = args.names or list(AGGREGATES)
        if args.fits:
            make_fits(run, names)
        if not args.verify:
            stored(run, faces, names)
            return 0
        found = differences(run, faces)
    except (ValueError, OSError, train.TrainingError) as error:
        print(f"aggregates: {error}", file=sys.stderr)
        return 1
    for line in found:
        print(f"verify: {line}", file=sys.stderr)
    if not found:
        print(f"every published figure of {args.run!r} comes out again")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
