"""How long the intervals of chapter 3 take, and how often they hold the truth.

    python benchmarks/metrics.py              time
    python benchmarks/metrics.py coverage     simulation of 95 % intervals: a minute or two

Time is CPU seconds of this process on PrivateTest of ``runs/fer2013`` (a made-up set of the same
size where that run is missing), the median of five.
"""

import sys
import time

import numpy as np

from fer_utils import metrics
from fer_utils.runs import Run, RunError

COVERAGE = np.arange(1, 21) / 20


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
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def race(labels, p):
    matrix = metrics.confusion_matrix(labels, p.argmax(axis=1), 7)
    classes = list("abcdefg")
    for name, limit, work in (
        ("10,000 draws of the matrix: all scores", 1, lambda: metrics.bootstrap_scores(matrix)),
        ("10,000 draws: F1 of every class", 1, lambda: metrics.per_class(matrix, classes)),
        (
            "2,000 draws of NLL, Brier, ECE, top-2, risk curve",
            3,
            lambda: metrics.bootstrap_probabilities(labels, p, coverage=COVERAGE),
        ),
    ):
        print(f"{name:52} {seconds(work):6.3f} s  (to reach: {limit} s)")


def coverage(labels, p, worlds=1000):
    """Worlds drawn from the run's own matrix or faces, as if these were the whole truth."""
    rng, n = np.random.default_rng(0), len(labels)
    matrix = metrics.confusion_matrix(labels, p.argmax(axis=1), 7)
    truth, inside = metrics.scores(matrix), {}
    cells = np.zeros((7, 7))
    classes = list(range(7))
    share, pairs = metrics.shares(matrix), metrics.pairs(matrix * 10**6, classes)
    value = pairs.set_index(["first", "second"])["confusability"]
    together = 0
    for seed in range(worlds):
        drawn = rng.multinomial(n, matrix.ravel() / n).reshape(7, 7)
        found = metrics.bootstrap_scores(drawn, draws=1000, seed=seed)
        for name in truth:
            inside[name] = inside.get(name, 0) + (found[name][1] <= truth[name] <= found[name][2])
        lo, hi = metrics.wilson(drawn, np.broadcast_to(drawn.sum(axis=1, keepdims=True), (7, 7)))
        cells += (lo <= share) & (share <= hi)
        if seed % 4 == 0:
            table = metrics.pairs(drawn, classes)
            order = list(zip(table["first"], table["second"], strict=True))
            true = value.loc[order].to_numpy()
            together += not any(
                true[above - 1] < true[at] for at, row in enumerate(table["below"]) for above in row
            )
    for name, count in inside.items():
        print(f"{name:24} {count / worlds:.3f}")
    frequent = matrix >= 10
    print(f"cells with n·p ≥ 10      {cells[frequent].mean() / worlds:.3f} in the mean,", end="")
    print(f" {cells[frequent].min() / worlds:.3f} … {cells[frequent].max() / worlds:.3f}")
    rare = (matrix > 0) & ~frequent
    if rare.any():
        print(f"rarer cells              {cells[rare].mean() / worlds:.3f} in the mean,", end="")
        print(f" {cells[rare].min() / worlds:.3f} … {cells[rare].max() / worlds:.3f}")
    print(f"ranks of all pairs together {together / (worlds / 4):.3f}")
    truth, inside = metrics.probability_scores(labels, p), {}
    risk = metrics.risk_coverage(labels, p, COVERAGE)
    for seed in range(worlds // 4):
        at = rng.integers(n, size=n)
        found = metrics.bootstrap_probabilities(
            labels[at], p[at], draws=300, seed=seed, coverage=COVERAGE
        )
        for name, expected in truth.items():
            inside[name] = inside.get(name, 0) + (found[name][1] <= expected <= found[name][2])
        _, lo, hi = found["risk"]
        inside["risk"] = inside.get("risk", 0) + ((lo <= risk) & (risk <= hi))
    for name, count in inside.items():
        count = np.atleast_1d(count) / (worlds // 4)
        print(
            f"{name:24} {count.mean():.3f}",
            "" if len(count) == 1 else f"({count.min():.3f} at least)",
        )


if __name__ == "__main__":
    (coverage if "coverage" in sys.argv[1:] else race)(*predictions())
