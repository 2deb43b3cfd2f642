"""Two fits on the same faces: which is better, and where; and faces that training has seen."""

from __future__ import annotations

import numpy as np

from fer_utils.metrics.confusion import (
    class_indices,
    confusion_matrix,
    holm,
    percentiles,
    ratio,
    resampled,
    scores,
)


def mcnemar(labels, ours, theirs):
    """(only ours right, only theirs right, exact two-sided p) of two predictions (n,)."""
    labels, ours, theirs = map(np.asarray, (labels, ours, theirs))
    if not labels.shape == ours.shape == theirs.shape:
        raise ValueError(
            f"labels {labels.shape}, ours {ours.shape}, theirs {theirs.shape} differ in length"
        )
    b = int(((ours == labels) & (theirs != labels)).sum())
    c = int(((ours != labels) & (theirs == labels)).sum())
    return b, c, float(sign_test(b, c))


def sign_test(b, c):
    """Exact two-sided p of b against c changes that are equally likely; 1 where there is none."""
    from scipy.special import bdtr

    b, c = np.asarray(b, dtype=np.float64), np.asarray(c, dtype=np.float64)
    return np.minimum(1, 2 * bdtr(np.minimum(b, c), (b + c).astype(int), 0.5))


def paired_scores(labels, ours, theirs, k, draws=10_000):
    """Table: one row a score: ours, theirs, difference with lo, hi, drawn on the same faces."""
    import pandas as pd

    labels, ours = class_indices(labels, k), class_indices(ours, k, "ours")
    theirs = class_indices(theirs, k, "theirs")
    if not labels.shape == ours.shape == theirs.shape:
        raise ValueError(f"labels {labels.shape}, ours {ours.shape}, theirs {theirs.shape} differ")
    joint = np.bincount((labels * k + ours) * k + theirs, minlength=k**3).reshape(k, k, k)
    drawn = resampled(joint, draws)
    value = scores(joint.sum(axis=2)), scores(joint.sum(axis=1))
    spread = scores(drawn.sum(axis=3)), scores(drawn.sum(axis=2))
    table = {}
    for name in value[0]:
        a, b = float(value[0][name]), float(value[1][name])
        table[name] = [a, b, a - b, *percentiles(spread[0][name] - spread[1][name])]
    return pd.DataFrame.from_dict(
        table, orient="index", columns=["ours", "theirs", "difference", "lo", "hi"]
    )


def paired_cells(labels, ours, theirs, k):
    """(difference of the two row-normalised matrices, Holm's p of each cell by McNemar's test).

    Rows without a face are 0 with p = 1.
    """
    labels, ours = class_indices(labels, k), class_indices(ours, k, "ours")
    theirs = class_indices(theirs, k, "theirs")
    moved = ours != theirs
    gained = confusion_matrix(labels[moved], ours[moved], k)
    lost = confusion_matrix(labels[moved], theirs[moved], k)
    support = np.bincount(labels, minlength=k)[:, None]
    p = holm(sign_test(gained, lost).ravel()).reshape(k, k)
    return ratio(gained - lost, np.broadcast_to(support, (k, k)), empty=0.0), p


def copies(images, split):
    """{'row': int (m,)}: faces outside Training whose very image lies in it too."""
    images, split = np.asarray(images), np.asarray(split)
    if len(images) != len(split):
        raise ValueError(f"{len(images)} images and {len(split)} splits differ in length")
    seen = {images[row].tobytes() for row in np.flatnonzero(split == "Training")}
    later = np.flatnonzero(split != "Training")
    return {"row": np.array([r for r in later if images[r].tobytes() in seen], dtype=np.int64)}
