"""Activation maximisation raced: this module against what lucent does, given a whole batch.

`python benchmarks/filters.py`: CPU seconds (user + system) on one thread for filters of the last
convolution of the run fer2013, pixels free. The usual way optimises whole faces, reads the
layer by a hook while the whole network runs, calls ``loss.backward()`` and steps with Adam
(the best of three learning rates); 'frozen' spares it the gradients of the weights. Both ways
take the same batches. The last row is this module with just as many steps as it needs to reach
the best mean activation that Adam reached in all of its own.
"""

import argparse
import copy
import time

import torch

from fer_utils import filters
from fer_utils.precomputed.cards import bounds
from fer_utils.runs import Run

RATES = (0.01, 0.02, 0.04)  # of the range from black to white
UNIT = (2, 2)


def adam(model, which, steps, rate, limits, frozen):
    """Strongest activation that Adam finds for each filter at a middle unit: (filters,)."""
    model = copy.deepcopy(model).requires_grad_(not frozen)
    seen, tops = [], []
    model.layer4[0].register_forward_hook(lambda module, inputs, maps: seen.append(maps))
    for columns in torch.tensor(which).split(32):
        grey = torch.full((len(columns), 1, 48, 48), sum(limits) / 2)
        faces = (grey + 0.05 * torch.randn_like(grey)).requires_grad_()
        optimiser = torch.optim.Adam([faces], lr=rate * (limits[1] - limits[0]))
        best = torch.full((len(columns),), -torch.inf)
        for _ in range(steps):
            optimiser.zero_grad()
            model.zero_grad()
            seen.clear()
            model(faces)
            value = seen[0][range(len(columns)), columns, UNIT[0], UNIT[1]]
            best = best.maximum(value.detach())
            (-value.sum()).backward()
            optimiser.step()
            with torch.no_grad():
                faces.clamp_(*limits)
        tops.append(best)
    return torch.cat(tops)


def timed(function, *arguments, **options):
    start = time.process_time()
    result = function(*arguments, **options)
    return time.process_time() - start, result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    run = Run.load("fer2013")
    model, limits, which = run.model(), bounds(run), list(range(options.filters))
    prior = filters.FreePixels(limits)
    filters.maximise(model, None, which, prior, steps=2)  # warm

    rows = []
    for name, frozen, rates in (("frozen ", True, RATES), ("", False, RATES[1:2])):
        races = [timed(adam, model, which, options.steps, rate, limits, frozen) for rate in rates]
        seconds, top = max(races, key=lambda race: race[1].mean())
        rows.append((f"Adam, {name}batch", options.steps, seconds, float(top.mean())))
    usual, goal = rows[0][2], max(row[3] for row in rows)
    for steps in (options.steps, 32, 48, 64, 96, 128):
        seconds, optima = timed(filters.maximise, model, None, which, prior, steps=steps)
        rows.append(("fer_utils.filters", steps, seconds, float(optima.activation.mean())))
        if steps < options.steps and rows[-1][3] >= goal:
            break

    print(f"{options.filters} filters, {options.threads} thread(s)")
    print("| way | steps | CPU-s | against frozen Adam | mean activation |\n|---|---|---|---|---|")
    for way, steps, seconds, activation in rows:
        print(f"| {way} | {steps} | {seconds:.1f} | {usual / seconds:.1f}× | {activation:.1f} |")


if __name__ == "__main__":
    main()
