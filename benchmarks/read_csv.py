"""How fast the 301 MB of fer2013.csv become checked arrays, beside torchvision's way.

    python benchmarks/read_csv.py fer2013.csv

- ``torchvision``  the loop of ``torchvision.datasets.FER2013``: the csv module, a list of integers
  and a tensor for each row
- ``cold``         ``fer_utils.data.load`` without a cache: every check, recognition by checksum
- ``first``        the same, and the cache written
- ``warm``         the same from the checked cache

Each runs in a process of its own; the best of several runs, the peak memory of any. Medians would
say the same on a quiet machine. ``cpu`` is what the process used, and is the fairer figure where
others run beside it.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = ("torchvision", "cold", "first", "warm")


def torchvision_way(path):
    import torch

    with open(path, newline="") as file:
        samples = [
            (
                torch.tensor([int(i) for i in row["pixels"].split()], dtype=torch.uint8).reshape(
                    48, 48
                ),
                int(row["emotion"]),
            )
            for row in csv.DictReader(file)
        ]
    return len(samples)


def our_way(path):
    from fer_utils.data import load

    return len(load(path))


def measure(way: str, path: str) -> dict:
    """Seconds, CPU seconds and peak MB of one run in this process, imports left out."""
    import resource

    if way == "torchvision":
        import torch  # noqa: F401

        read = torchvision_way
    else:
        import fer_utils.data  # noqa: F401

        read = our_way
    wall, cpu = time.perf_counter(), time.process_time()
    faces = read(path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"faces": faces, "wall": wall, "cpu": cpu, "peak": peak}


def run(way: str, path: str, cache: str) -> dict:
    environment = os.environ | {"FER_CACHE": "" if way == "cold" else cache}
    if way == "first":
        for file in Path(cache).glob("*.npz"):
            file.unlink()
    command = [sys.executable, __file__, path, "--measure", way]
    return json.loads(
        subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="fer2013.csv")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.path)))
        return
    with tempfile.TemporaryDirectory() as cache:
        rows = {way: [run(way, options.path, cache) for _ in range(options.runs)] for way in WAYS}
    best = {w: {k: min(r[k] for r in rows[w]) for k in ("wall", "cpu")} for w in WAYS}
    print(f"{'way':12} {'wall s':>8} {'ratio':>7} {'cpu s':>8} {'ratio':>7} {'peak MB':>8}")
    for way in WAYS:
        cells = [best[way]["wall"], best["torchvision"]["wall"] / best[way]["wall"]]
        cells += [best[way]["cpu"], best["torchvision"]["cpu"] / best[way]["cpu"]]
        wall, wall_ratio, cpu, cpu_ratio = cells
        peak = max(row["peak"] for row in rows[way])
        print(f"{way:12} {wall:8.2f} {wall_ratio:6.1f}× {cpu:8.2f} {cpu_ratio:6.1f}× {peak:8.0f}")


if __name__ == "__main__":
    main()
