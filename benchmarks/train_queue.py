"""Many fits one after the other, for as long as it takes: a queue that survives.

    nice -n 19 python benchmarks/train_queue.py build/queue/fits.txt [--workers 2] [--status]

A line of the file is what ``python -m fer_utils.train`` takes, `#` begins a comment::

    --run fer2013 --variant seed-1 --seed 1 --no-private

All lines are read before anything trains; an unknown option or value is refused. A fit that is
whole is skipped, one that was interrupted goes on from its last epoch, and one that fails does not
keep the next from beginning. What a fit prints lies in FILE.d/. Runs and faces are found as always
(FER_RUNS, FER_DATA). The workers share the machine's threads evenly.
"""

import argparse
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fer_utils import runs
from fer_utils.train import __main__ as train


def read_queue(path: Path) -> list[tuple[list[str], argparse.Namespace]]:
    """The lines that hold a fit: their words, and what train's own command line makes of them."""
    lines = [shlex.split(line, comments=True) for line in path.read_text("utf-8").splitlines()]
    parser, fits = train.options(), []
    for number, words in enumerate(lines, 1):
        parser.prog = f"{path}:{number}"
        if words:
            args = parser.parse_args(words)
            try:
                train.chosen_recipe(args, train.chosen_network(args))
            except ValueError as error:
                parser.error(str(error))
            fits.append((words, args))
    return fits


def status(args: argparse.Namespace) -> str:
    """whole, begun or waiting."""
    folder = runs.run_path(args.run, args.variant)
    if (folder / "metrics.json").exists():
        return "whole"
    return "begun" if folder.is_dir() else "waiting"


def train_one(words: list[str], args: argparse.Namespace, logs: Path, threads: int) -> str:
    """Train one fit in a process of its own; returns its status line."""
    name = f"{args.run}/{args.variant}" if args.variant else args.run
    if status(args) == "whole":
        return f"whole    {name}"
    log = logs / f"{name.replace('/', '.')}.log"
    with open(log, "a", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-m", "fer_utils.train", *words],
            stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
    last = log.read_text("utf-8").splitlines()[-1:] or ["no word"]
    return f"{'trained ' if done.returncode == 0 else 'FAILED  '} {name}: {last[0]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--status", action="store_true", help="say how far it is, train nothing")
    args = parser.parse_args()
    fits = read_queue(args.file)
    if args.status:
        for words, fit in fits:
            print(f"{status(fit):8} {shlex.join(words)}")
        return 0
    logs = args.file.with_name(args.file.name + ".d")
    logs.mkdir(exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // args.workers)
    with ThreadPoolExecutor(args.workers) as pool:
        lines = pool.map(lambda fit: train_one(*fit, logs, threads), fits)
        failed = 0
        for line in lines:
            print(line, flush=True)
            failed += line.startswith("FAILED")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
