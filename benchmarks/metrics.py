"""How long the intervals of chapter 3 take, and how often they hold the truth.

    python benchmarks/metrics.py              time
    python benchmarks/metrics.py coverage     simulation of 95 % intervals: a minute or two

Time is CPU seconds of this process on PrivateTest of ``runs/fer2013`` (a made-up set of the same
size where that run is missing), the median of five.
"""

import argparse
import time

import numpy as np

from fer_utils import metrics
from fer_utils.runs import Run, RunError

CLASSES = "abcdefg"


def predictions():
    try:
        run = Run.load("fer2013")
    except RunError:
        rng = np.random.default_rng(0)
        labels = rng.choice(7, 3589, p=np.array([491, 55, 528, 879, 594, 416, 626]) / 3589)
        logits = rng.normal(size=(3589, 7))
        logits[np.arange(3589), labels] += 2
        return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = run.predictions.query("split == 'PrivateTest'")
    return table["label"].to_numpy(), table[list(run.classes)].to_numpy()


def seconds(work):
    taken = []
    for _ in range(5):
        metrics.crossed_draws.cache_clear()
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def race(labels, p):
    matrix, five = metrics.confusion_matrix(labels, p.argmax(axis=1), 7), np.stack([p] * 5)
    for name, limit, work in (
        ("all scores with intervals, one network", 1, lambda: metrics.crossed_scores(labels, [p])),
        (
            "all scores with intervals, five networks",
            3,
            lambda: metrics.crossed_scores(labels, five),
        ),
        (
            "pairs of five networks",
            3,
            lambda: metrics.crossed_pairs(labels, five.argmax(2), CLASSES),
        ),
        ("pairs of one, every one against every other", 1, lambda: metrics.pairs(matrix, CLASSES)),
        ("precision, recall, F1 of every class", 1, lambda: metrics.per_class(matrix, CLASSES)),
        ("ECE with its null band", 1, lambda: metrics.calibration_error(labels, p)),
    ):
        print(f"{name:45} {seconds(work):6.3f} s  (to reach: {limit} s)")


def coverage(labels, p, worlds=1000):
    """Worlds drawn from the run's own matrix or faces, as if these were the whole truth."""
    rng, n = np.random.default_rng(0), len(labels)
    matrix = metrics.confusion_matrix(labels, p.argmax(axis=1), 7)
    truth, inside = metrics.scores(matrix), {}
    cells, share = np.zeros((7, 7)), metrics.shares(matrix)
    pairs = metrics.pairs(matrix * 10**6, CLASSES).set_index(["first", "second"])
    together = 0
    for seed in range(worlds):
        drawn = rng.multinomial(n, matrix.ravel() / n).reshape(7, 7)
        again = metrics.scores(metrics.resampled(drawn, seed=seed))
        for name, value in truth.items():
            lo, hi = np.quantile(again[name], [0.025, 0.975])
            inside[name] = inside.get(name, 0) + (lo <= value <= hi)
        lo, hi = metrics.wilson(drawn, np.broadcast_to(drawn.sum(axis=1, keepdims=True), (7, 7)))
        cells += (lo <= share) & (share <= hi)
        table = metrics.pairs(drawn, CLASSES)
        order = list(zip(table["first"], table["second"], strict=True))
        true = pairs["confusability"].loc[order].to_numpy()
        together += not any(
            true[above - 1] < true[at] for at, row in enumerate(table["below"]) for above in row
        )
    for name, count in inside.items():
        print(f"{name:28} {count / worlds:.3f}")
    frequent, rare = matrix >= 10, (matrix > 0) & (matrix < 10)
    for name, part in (("cells with n·p ≥ 10", frequent), ("rarer cells", rare)):
        found = cells[part] / worlds
        if part.any():
            print(f"{name:28} {found.mean():.3f} ({found.min():.3f} … {found.max():.3f})")
    print(f"{'ranks of all pairs together':28} {together / worlds:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("time", "coverage"), default="time")
    (coverage if parser.parse_args().what == "coverage" else race)(*predictions())
