"""Activation maximisation raced: all filters in one batch against one after the other.

`python benchmarks/filters.py`: CPU seconds (user + system) on one thread for the filters of
``FerCNN``'s last convolution, under both priors. 'One by one' is what is usually done: a
whole face, a hook on the layer, ``loss.backward()``, Adam, a loop over the filters;
'frozen' spares it the weights' gradients and the layers behind. It runs ``--single`` of the
filters and is scaled to all. Weights are random: that changes no work. The last row is the
batch with just as many steps as it needs to reach the activations that Adam reached.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fer_utils import filters
from fer_utils.model import FerCNN


def one_by_one(model, number, steps, frozen, unit=(2, 2)):
    """Strongest activation of each of the first ``number`` filters at a middle unit."""
    model.requires_grad_(not frozen)
    seen = []
    handle = model.layer4[0].register_forward_hook(lambda layer, given, maps: seen.append(maps))
    best = []
    for k in range(number):
        face = torch.full((1, 1, 48, 48), 0.5) + 0.05 * torch.randn(1, 1, 48, 48)
        face.requires_grad_()
        adam = torch.optim.Adam([face], lr=0.04)
        most = -torch.inf
        for _ in range(steps):
            adam.zero_grad()
            model.zero_grad()
            seen.clear()
            if frozen:
                model.layer4[0](model.layer3(model.layer2(model.layer1(face))))
            else:
                model(face)
            value = seen[0][0, k, *unit]
            most = max(most, value.item())
            (-value).backward()
            adam.step()
            with torch.no_grad():
                face.clamp_(0, 1)
        best.append(most)
    handle.remove()
    return torch.tensor(best)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=128)
    parser.add_argument("--single", type=int, default=4, help="filters to run one by one")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = FerCNN().eval().requires_grad_(False)
    crops = torch.rand(256, 1, 40, 40)
    priors = {
        "plain pixels": filters.Prior((0.0, 1.0)),
        "natural": filters.Prior.natural(crops, (0.0, 1.0)),
    }

    print(f"{options.filters} filters × {options.steps} steps, {options.threads} thread(s)")
    slow = {}
    for name, frozen in (("one by one", False), ("one by one, frozen", True)):
        one_by_one(model, 1, 2, frozen)
        start = time.process_time()
        alone = one_by_one(model, options.single, options.steps, frozen)
        spent = time.process_time() - start
        slow[name] = spent * options.filters / options.single
    fast, budgets = {}, [(name, options.steps) for name in priors]
    budgets += [("plain pixels", s) for s in (32, 48, 64, 96, 128) if s < options.steps]
    for name, steps in budgets:
        start = time.process_time()
        optima = filters.maximise(
            model, None, range(options.filters), priors[name], steps=steps
        ).activation[:, 0]
        fast[f"one batch, {name}, {steps} steps"] = time.process_time() - start
        share = float((optima[: options.single] / alone).mean())
        print(f"({name}, {steps} steps: mean activation {share:.2f} of one by one's)")
        if steps < options.steps and share >= 1:
            break
    print("| way | CPU-s | faster than one by one |\n|---|---|---|")
    usual = slow["one by one"]
    for name, seconds in {**slow, **fast}.items():
        print(f"| {name} | {seconds:.0f} | {usual / seconds:.1f}× |")


if __name__ == "__main__":
    main()
