"""The command: ``python -m fer_utils.train --run NAME``, alone or under ``torchrun``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from contextlib import nullcontext
from dataclasses import replace

import torch

from fer_utils import data, runs, synthetic
from fer_utils.model import NETWORKS
from fer_utils.train import EPOCHS_SYNTHETIC, RECIPES, Recipe, TrainingError, distributed, make_run
from fer_utils.train.pipeline import alone, trained
from fer_utils.train.progress import progress_line


def positive(kind):
    def parse(text: str):
        value = kind(text)
        if not (0 < value < math.inf):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return parse


def not_negative(text: str) -> float:
    value = float(text)
    if not (0 <= value < math.inf):
        raise argparse.ArgumentTypeError(f"{text} is below 0 or not a number")
    return value


def share(text: str) -> float:
    value = not_negative(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text} is not below 1")
    return value


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fer_utils.train",
        description="Fit a network and write it as runs/NAME. Without --data it learns from the "
        "embedded synthetic faces. Killed and called again, it goes on from its last epoch.",
    )
    add = parser.add_argument
    add("--run", "--name", required=True, metavar="NAME",
        help="name of the run: runs/NAME (torchrun takes --run for its own; say --name there)")  # fmt: skip
    add("--variant", help="train a further fit of the run: runs/NAME/variants/VARIANT")
    add(
        "--data",
        default=os.environ.get("FER_DATA") or None,
        help="FER2013, in any layout that fer_utils.data reads (default: $FER_DATA)",
    )
    add(
        "--faces", type=positive(int), default=10_000, help="how many synthetic faces (%(default)s)"
    )
    add("--faces-seed", type=int, default=0, help="their seed (%(default)s)")
    add("--preset", default="default", help="their preset (%(default)s)")
    add("--recipe", choices=RECIPES, default="ours", help="what the options below start from")
    add("--network", choices=NETWORKS, help="another than FerCNN is a --variant of a run")
    add("--epochs", type=positive(int), help="default: the recipe's, 10 on synthetic faces")
    add("--batch", type=positive(int), help="faces a step")
    add("--optimiser", choices=("sgd", "adam"))
    add("--learning-rate", type=positive(float))
    add("--weight-decay", type=not_negative)
    add("--smoothing", type=share, help="of the labels, 0 to below 1")
    add("--rotate", type=not_negative, help="degrees")
    add("--zoom", type=share, help="0 to below 1")
    add("--shift", type=not_negative, help="of the half-width")
    add("--flip", action=argparse.BooleanOptionalAction, default=None)
    add("--schedule", choices=("linear", "constant"))
    add("--erase", type=not_negative, help="share of the faces that lose a rectangle")
    add("--mixup", type=not_negative, help="α of the Beta that mixes two faces; 0: none")
    add("--balance", action=argparse.BooleanOptionalAction, default=None)
    add("--ema", type=share, help="share that a running mean of the weights keeps a step")
    add("--seed", type=int)
    add(
        "--teachers",
        metavar="VARIANT,VARIANT",
        help="fits of the run (main: the run's own) whose answers are learned too",
    )
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add(
        "--precision", choices=("float32", "bfloat16"), help="default: the quicker in a short trial"
    )
    add(
        "--keep-epochs",
        action="store_true",
        help="keep every epoch's weights, for python -m fer_utils.train.epochs",
    )
    add(
        "--no-private",
        action="store_true",
        help="leave PrivateTest unscored; the same command without this scores it later",
    )
    return parser  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = options()
    args = parser.parse_args(arguments)
    chosen = {
        k: v for k, v in vars(args).items() if k in Recipe.__dataclass_fields__ and v is not None
    }
    recipe = replace(RECIPES[args.recipe], **chosen)
    try:
        with distributed.started(args.device) as (group, device):
            run = train(args, recipe, group, device)
    except (TrainingError, ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, AssertionError) as error:  # torch's own words for a device
        print(f"train: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except MemoryError:
        print("train: out of memory; try a smaller --batch", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntrain: stopped; the same command goes on from the last epoch", file=sys.stderr)
        return 130
    for split, scores in run.metrics.items() if run else ():
        low, high = scores["accuracy_interval"]
        print(
            f"{split}: accuracy {scores['accuracy']:.4f} [{low:.4f}, {high:.4f}] of {scores['n']} faces"
        )
    return 0


def train(args, recipe: Recipe, group: distributed.Processes, device: str) -> runs.Run | None:
    """What the options ask for; None from all distributed but the first."""
    torch.empty(0, device=device)
    path = runs.run_path(args.run, args.variant)
    if recipe.network != Recipe.network and not args.variant:
        raise TrainingError(
            f"the chapters look into a run's {Recipe.network}: train {recipe.network} beside it, "
            "with --variant deeper for instance"
        )
    trained(path, not args.no_private)  # refuses before any work
    if args.data:
        faces, source = data.load(args.data), {"kind": "fer2013"}
    else:
        source = {
            "kind": "synthetic", "n": args.faces, "seed": args.faces_seed, "preset": args.preset,
        }  # fmt: skip
        faces = synthetic.faces(args.faces, args.faces_seed, args.preset)
        recipe = replace(recipe, epochs=args.epochs or EPOCHS_SYNTHETIC)
    show = progress_line(recipe, int((faces.split == "Training").sum())) if group.first else None
    with alone(path) if group.first else nullcontext():
        return make_run(
            args.run, faces, recipe, source, args.variant, device, private=not args.no_private,
            progress=show, precision=args.precision, keep_epochs=args.keep_epochs, group=group,
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
