"""``python -m fer_utils.train.epochs RUN [VARIANT]``: what choosing the epoch on PrivateTest gives.

An invalid figure: the set that should judge has chosen. Many published accuracies are of this
kind, so it is computed for comparison with them, from the weights that ``--keep-epochs`` kept,
and only once PrivateTest has been scored as it should: then there is nothing left to choose.
It is written to the fit's ``best_epoch.json`` and entered in the run's ledger.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from fer_utils import runs
from fer_utils.train.pipeline import EPOCHS, enter, score
from fer_utils.train.recipe import TrainingError


def best_epoch(run: runs.Run) -> dict:
    """The largest accuracy of any epoch on PrivateTest, and the epoch.

    Returns:
        n faces and epochs; accuracy (0–1) and epoch (1, 2, …) of one look at each face, and with
        ``_flip`` where a face and its mirror image are averaged.

    Raises:
        TrainingError: PrivateTest was not scored yet, no epoch was kept, or the faces are not
            at hand.
    """
    files = sorted((run.path / EPOCHS).glob("*.safetensors"))
    if "PrivateTest" not in run.metrics:
        raise TrainingError(f"{run.name}: PrivateTest is not scored yet; do that first")
    if len(files) != len(run.history):
        raise TrainingError(
            f"{run.name}: {len(files)} of {len(run.history)} epochs were kept; train with "
            "--keep-epochs"
        )
    faces = run.faces()
    if faces is None:
        raise TrainingError(f"{run.name}: its faces are not at hand; say where in FER_DATA")
    scored = []
    for path in files:
        model, _ = runs.load_weights(path)
        _, scores = score(model, faces, run.config["scale"], run.classes, ["PrivateTest"])
        scored.append(scores["PrivateTest"])
    found = {"n": scored[0]["n"], "epochs": len(files)}
    for name in ("accuracy", "accuracy_flip"):
        values = [scores[name] for scores in scored]
        found[name] = max(values)
        found[name.replace("accuracy", "epoch")] = int(np.argmax(values)) + 1
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fer_utils.train.epochs", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("run")
    parser.add_argument("fit", nargs="?")
    args = parser.parse_args(arguments)
    try:
        run = runs.Run.load(args.run, args.variant)
        found = best_epoch(run)
        ledger = runs.run_path(args.run) / "ledger.csv"
        path = run.path / "best_epoch.json"
        if not run.synthetic and not path.exists():  # scored again it tells nothing new
            name = f"{args.variant or 'main'}, best of {found['epochs']} epochs (invalid)"
            enter(ledger, run.config | {"variant": name}, found)
        runs.write_json(path, found)
    except (TrainingError, ValueError, OSError) as error:
        print(f"epochs: {error}", file=sys.stderr)
        return 1
    print(
        f"best epoch on PrivateTest (invalid): {found['accuracy']:.4f} in epoch {found['epoch']}, "
        f"with mirror image {found['accuracy_flip']:.4f} in epoch {found['epoch_flip']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
