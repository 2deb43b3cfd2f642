"""The command: ``python -m fer_utils.train --run NAME``, alone or under ``torchrun``."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from dataclasses import fields, replace

import torch

from fer_utils import runs, synthetic
from fer_utils.commandline import run_command
from fer_utils.data import EMOTIONS, Faces, class_names
from fer_utils.networks import Network, build, find_network
from fer_utils.train import EPOCHS_SYNTHETIC, RECIPES, Recipe, TrainingError, distributed, make_run
from fer_utils.train.pipeline import exclusive_lock, is_trained
from fer_utils.train.progress import progress_line


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fer_utils.train",
        description="Fit a network and write it as runs/NAME. Without --data it learns from the "
        "embedded synthetic faces. Killed and called again, it goes on from its last epoch.",
    )
    add = parser.add_argument
    add("--run", "--name", required=True, metavar="NAME",
        help="the run is runs/NAME (torchrun takes --run for its own: say --name there)")  # fmt: skip
    add("--variant", help="train a further model of the run: runs/NAME/variants/VARIANT")
    add("--data", default=os.environ.get("FER_DATA") or None,
        help="FER2013, in any layout that fer_utils.data reads (default: $FER_DATA)")  # fmt: skip
    add("--classes", metavar="NAME,NAME", default=os.environ.get("FER_CLASSES") or None,
        help="what the numbers 0, 1, ... of a table mean, or which folders count "
        "(default: $FER_CLASSES)")  # fmt: skip
    add("--faces", type=int, default=10_000, help="how many synthetic faces (%(default)s)")
    add("--faces-seed", type=int, default=0, help="their seed (%(default)s)")
    add("--preset", default="default", help="their preset (%(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("float32", "bfloat16"),
        help="default: bfloat16 where the processor has units for it")  # fmt: skip
    add("--no-private", action="store_true",
        help="leave PrivateTest unscored; the same command without this scores it later")  # fmt: skip
    add("--score-epochs", action="store_true",
        help="score the epochs of lowest loss and of best accuracy on PublicTest too")  # fmt: skip
    add("--recipe", choices=RECIPES, default="ours", help="what the options below start from")
    for item in fields(Recipe):
        expected, _ = item.metadata["check"]
        words = item.metadata["help"] + (f"; {expected}" if expected else "")
        kind = {"action": argparse.BooleanOptionalAction}
        if item.type != "bool":
            kind = {"type": type(item.default), "metavar": item.type.upper()}
        add(f"--{item.name.replace('_', '-')}", default=None, help=words, **kind)
    return parser


def chosen_network(args: argparse.Namespace) -> Network:
    """The network that the options or ``FER_NETWORK`` name; NetworkError where there is none."""
    return find_network(args.network or os.environ.get("FER_NETWORK") or Recipe.network)


def chosen_recipe(args: argparse.Namespace, network: Network) -> Recipe:
    """The recipe that the options name; ValueError for a value out of its bounds."""
    given = {item.name: getattr(args, item.name) for item in fields(Recipe)}
    given["network"] = network.name
    given = {name: value for name, value in given.items() if value is not None}
    if not args.data:
        given.setdefault("epochs", EPOCHS_SYNTHETIC)
    return replace(RECIPES[args.recipe], **given)


def check_device(device: str) -> None:
    """TrainingError where torch has no such device here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # torch says it in many ways, and at length
        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        have = ", ".join(["cpu", *(name for name, there in here.items() if there)])
        raise TrainingError(f"--device {device}: no such device here, have: {have}") from None


def chosen_faces(args: argparse.Namespace) -> tuple[Faces, dict]:
    """The faces that the options name, and what config.json says of where they are from."""
    if not args.data:
        source = {"n": args.faces, "seed": args.faces_seed, "preset": args.preset}
        return synthetic.faces(**source), {"kind": "synthetic", **source}
    classes = class_names(args.classes)
    source = {"kind": "fer2013"}
    if classes:
        source["read_as"] = classes
    return runs.load_faces(args.data, classes), source


def train(args: argparse.Namespace) -> None:
    check_device(args.device)
    network = chosen_network(args)
    recipe = chosen_recipe(args, network)
    path = runs.run_path(args.run, args.variant)
    private = not args.no_private
    classes = class_names(args.classes) or EMOTIONS
    build(network, len(classes))  # what can't be trained is refused before any work
    is_trained(path, recipe, network, private)
    try:
        with distributed.joined(args.device) as device:
            faces, source = chosen_faces(args)
            first = distributed.rank() == 0
            with exclusive_lock(path) if first else nullcontext():
                run = make_run(
                    args.run, faces, recipe, source, args.variant, device, private,
                    progress_line(recipe) if first else None,
                    args.precision, args.score_epochs, network,
                )  # fmt: skip
    except (MemoryError, torch.OutOfMemoryError):
        raise TrainingError("out of memory; try a smaller --batch") from None
    for split, scores in run.metrics.items() if run else ():
        low, high = scores["accuracy_interval"]
        interval = f"[{low:.4f}, {high:.4f}] of {scores['n']} faces"
        print(f"{split}: accuracy {scores['accuracy']:.4f} {interval}")


def main(arguments: list[str] | None = None) -> int:
    args = options().parse_args(arguments)
    stopped = "stopped; the same command goes on from the last epoch"
    return run_command("train", lambda: train(args), stopped)


if __name__ == "__main__":
    sys.exit(main())
