"""``python -m fer_utils.precomputed RUN [NAME …]``: make what the chapters show, or ``--verify``.

Without a NAME: all but ``scores`` and ``shortcut``, which take long: they are made anew only where
RUN has them, and kept where networks that they compare are not here. ``scores`` compares the run
with networks of other seeds, as far as they are there; ``shortcut`` with one trained on marked
faces. ``--missing`` makes only what RUN lacks, these two included, and trains such networks first
where they are wanted for it and not there.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

from fer_utils import runs, train
from fer_utils.commandline import run_command
from fer_utils.data import Faces
from fer_utils.precomputed import RESULTS, applies, missing, truth

TOLERANCE = 1e-4  # of a figure, between processors
CLOSE = 1e-2  # of an array's largest value


def make(run: runs.Run, faces: Faces, names: list[str]) -> None:
    for name in names:
        if not applies(run, faces, name):
            wanted = "synthetic faces" if RESULTS[name].networks else "votes"
            print(f"{name:12} not for this run: it needs {wanted}")
            continue
        lacking = [of for of in RESULTS[name].networks if not truth.trained(run, of)]
        if lacking and run.has(name):  # made anew it would tell less
            print(f"{name:12} kept as it is: its networks are not here: {', '.join(lacking)}")
            continue
        if truth.SHORTCUT in lacking:
            print(f"{name:12} left out: its network is not here; --missing trains it")
            continue
        began = time.perf_counter()
        path = run.store(name, RESULTS[name].compute(run, faces))
        seconds = time.perf_counter() - began
        print(f"{name:12} {path.stat().st_size / 1e3:8.1f} kB  {seconds:6.1f} s", flush=True)


def train_networks(run: runs.Run, names: list[str]) -> None:
    """Train the further networks that these results compare and that are not here."""
    wanted = [network for name in names for network in RESULTS[name].networks]
    lacking = [network for network in wanted if truth.trained(run, network) is None]
    if lacking:
        minutes = run.history["seconds"].sum() / 60
        print(
            f"training {', '.join(lacking)}: about {minutes:.0f} minutes each, as {run.name!r} "
            "took; interrupted and called again, it goes on",
            flush=True,
        )
    for network in lacking:
        truth.make(run, network)


def verify(run: runs.Run, faces: Faces) -> int:
    """Compute from the last epoch's weights what is published; say what differs, 1 where anything.

    Of the results the aggregates are compared: the others take long or are optimised.
    """
    found = []
    table, scores = train.score(run.model(), faces, run.config["scale"], run.classes)
    published = {name: column.to_numpy() for name, column in run.predictions.items()}
    if other := differing(published, table):
        found.append(f"predictions.npz: not as published: {', '.join(other)}")
    for split, published in run.metrics.items():
        labels = table["label"][table["split"] == split]
        rarest = np.unique(labels, return_counts=True)[1].min()
        for key, value in published.items():
            new, allowed = scores[split][key], TOLERANCE
            if key not in ("nll", "brier"):  # one face may change its answer
                allowed += 2 / (len(run.classes) * rarest)
            close = np.allclose(new, value, atol=allowed)
            shown = f"{np.round(value, 4)!s:>20} {np.round(new, 4)!s:>20}"
            print(f"{split:12} {key:20} {shown}  {'ok' if close else 'DIFFERS'}")
            if not close:
                found.append(f"{split} {key}: published {value}, computed {new}")
    for name, how in RESULTS.items():
        if not run.has(name) or not applies(run, faces, name):
            continue
        if not how.function.startswith("aggregates"):
            print(f"{name:75}  not compared")
        else:
            other = differing(run.read(name), how.compute(run, faces))
            print(f"{name:75}  {'DIFFERS' if other else 'ok'}")
            if other:
                found.append(f"result {name}: not as published: {', '.join(other)}")
    for line in found:
        print(f"verify: {line}", file=sys.stderr)
    if not found:
        print(f"every figure of {run.name!r} that was compared comes out again")
    return 1 if found else 0


def differing(old: dict, new: dict) -> list[str]:
    """Names of the arrays that are another: counts, rows and names at all, others by ``CLOSE``."""
    found = []
    for name, before in old.items():
        after = new.get(name, np.empty(0))
        same = before.shape == after.shape
        if same and before.dtype.kind == "f":
            before, after = before.astype(float), after.astype(float)
            allowed = CLOSE * np.abs(before[np.isfinite(before)]).max(initial=0)
            same = np.allclose(before, after, rtol=0, atol=allowed, equal_nan=True)
        elif same:
            same = np.array_equal(before, after)
        if not same:
            found.append(name)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fer_utils.precomputed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", metavar="RUN")
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(RESULTS)}; default: see above")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--verify", action="store_true", help="compare, store nothing")
    how.add_argument("--missing", action="store_true", help="make only what RUN lacks")
    args = parser.parse_intermixed_args(arguments)
    if args.verify and args.names:
        parser.error("--verify compares every result: give no NAME")
    return run_command("precomputed", lambda: precompute(args))


def precompute(args: argparse.Namespace) -> int:
    if unknown := set(args.names) - set(RESULTS):
        raise ValueError(f"no result {min(unknown)!r} (have: {', '.join(RESULTS)})")
    run = runs.Run.load(args.run)
    quick = [name for name, how in RESULTS.items() if not how.networks or run.has(name)]
    names = args.names or quick
    if args.missing:
        lacking = missing(run.path, further=True)
        for name in sorted(set(args.names) - set(lacking)):
            print(f"{name:12} not missing: {'here' if run.has(name) else 'not for this run'}")
        names = [name for name in lacking if name in (args.names or lacking)]
    faces = run.faces() if names else None
    if names and faces is None:
        raise ValueError(
            f"run {args.run!r} was made from real faces, which are not at hand: "
            "say where they lie with DATA=… (or the variable FER_DATA)"
        )
    torch.manual_seed(0)
    if args.verify:
        return verify(run, faces)
    if args.missing:
        train_networks(run, names)
    make(run, faces, names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
