"""How much slower is the hand-written backward pass than autograd?

    python benchmarks/backward.py [--batch 64] [--repeats 15] [--threads 1]

Both sides run the whole of ``FerCNN`` forward and backward in train mode, in float32 on the
CPU, on the same batch, in turn. The ratio is that of the fastest repeats, so that other work on
the machine weighs on neither. Exit status 1 where the ratio is above the limit.
"""

from __future__ import annotations

import argparse
import platform
import time

import torch
import torch.nn.functional as F

from fer_utils.derivations import network_backward
from fer_utils.model import FerCNN

LIMIT = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = FerCNN().train()

    print(f"torch {torch.__version__}, {options.threads} thread(s), {platform.machine()}")
    print(f"{'batch':>6} {'autograd, ms':>13} {'by hand, ms':>13} {'ratio':>7} {'limit':>6}")
    worst = 0.0
    for b in options.batch:
        images, targets = torch.rand(b, 1, 48, 48), torch.arange(b) % 7

        def autograd(images=images, targets=targets):
            model.zero_grad()
            F.cross_entropy(model(images), targets).backward()

        def by_hand(images=images, targets=targets):
            network_backward(model, images, targets)

        ours, theirs = race(by_hand, autograd, options.repeats)
        worst = max(worst, ours / theirs)
        print(f"{b:6} {theirs * 1e3:13.1f} {ours * 1e3:13.1f} {ours / theirs:7.2f} {LIMIT:6.1f}")
    return int(worst > LIMIT)


def race(one, other, repeats: int) -> tuple[float, float]:
    """The fastest time of each, in seconds, after one warm-up, taking turns."""
    times = {one: [], other: []}
    for _ in range(repeats + 1):
        for function, taken in times.items():
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return min(times[one][1:]), min(times[other][1:])


if __name__ == "__main__":
    raise SystemExit(main())
