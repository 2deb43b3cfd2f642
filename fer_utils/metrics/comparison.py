"""Networks on the same faces: tests of two, intervals of several.

**Two-way bootstrap.** ``values`` are (networks, …, faces): every network scored on the same
faces. One value a face says nothing of another network, and one network nothing of another
face, so both are drawn anew, independently (the pigeonhole bootstrap: Owen 2007,
arXiv:0712.1111). Of k networks the draws spread by √((k−1)/k) too little; they are widened by
as much. With one network only faces are drawn, and the interval holds for that network alone.
"""

from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd

from .calibration import checked, face_scores, probability_scores
from .confusion import (
    LEVEL,
    class_indices,
    confusability,
    confusion_matrix,
    holm,
    percentiles,
    ratio,
    scores,
)

RANGES = {"mcc": (-1, 1), "kappa": (-1, 1), "brier": (0, 2), "nll": (0, np.inf)}  # else 0 to 1


def sign_test(b, c):
    """Exact two-sided p of b against c faces that are equally likely; 1 where there is none."""
    from scipy.stats import binomtest

    return float(binomtest(int(b), int(b + c)).pvalue) if b + c else 1.0


def favoured(b, c):
    """Which side has significantly more faces: 'first', 'second', or 'neither' (sign test)."""
    if sign_test(b, c) >= 1 - LEVEL:
        return "neither"
    return "first" if b > c else "second"


def mcnemar(labels, ours, theirs):
    """(only ours right, only theirs right, exact two-sided p) of two predictions (n,)."""
    labels, ours, theirs = map(np.asarray, (labels, ours, theirs))
    if not labels.shape == ours.shape == theirs.shape:
        raise ValueError(
            f"labels {labels.shape}, ours {ours.shape}, theirs {theirs.shape} differ in length"
        )
    b = int(((ours == labels) & (theirs != labels)).sum())
    c = int(((ours != labels) & (theirs == labels)).sum())
    return b, c, sign_test(b, c)


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
    p = [sign_test(b, c) for b, c in zip(gained.ravel(), lost.ravel(), strict=True)]
    difference = ratio(gained - lost, support, empty=0.0)
    return difference, holm(p).reshape(k, k)


def disagreement(predicted):
    """(lo, hi): the least and the largest share of faces on which two of the networks differ.

    ``predicted`` is (networks, n); with one network both are 0.
    """
    differ = [(one != other).mean() for one, other in combinations(np.asarray(predicted), 2)]
    return float(min(differ, default=0)), float(max(differ, default=0))


@lru_cache(4)  # some 60 MB each for a test split
def crossed_draws(networks: int, faces: int, resamples: int = 2000):
    """Weights of networks (resamples, networks) and of faces (resamples, faces), rows sum to 1.

    The weights of faces do not depend on the number of networks.
    """
    rng = np.random.default_rng(0)
    of_faces = rng.multinomial(faces, np.full(faces, 1 / faces), resamples) / faces
    even = np.full(networks, 1 / networks)
    of_networks = rng.multinomial(networks, even, resamples) / networks
    widened = (networks / max(networks - 1, 1)) ** 0.5
    return even + (of_networks - even) * widened, of_faces


def crossed_means(values: np.ndarray, resamples: int = 2000) -> np.ndarray:
    """Means of ``values`` in each bootstrap sample: (…, resamples).

    NaN is a face that was not scored: the mean is over the others, of which there must be one.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    if not known.any(-1).all():
        raise ValueError("values: a row has no face with a score")
    of_networks, of_faces = crossed_draws(values.shape[0], values.shape[-1], resamples)
    weight = known @ of_faces.T  # a sample without a scored face repeats the plain mean
    total = np.where(known, values, 0) @ of_faces.T
    plain = np.nanmean(values, axis=-1, keepdims=True)
    means = np.where(weight > 0, total / np.where(weight > 0, weight, 1), plain)
    return np.einsum("k...r,rk->...r", means, of_networks)


def crossed_interval(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean over networks and faces with its bounds: three arrays of the axes in between."""
    means = np.moveaxis(crossed_means(values), -1, 0)
    return np.nanmean(values, axis=-1, dtype=np.float64).mean(0), *percentiles(means)


def _drawn_matrices(labels, predicted, k):
    """Confusion matrices of each network in each sample of faces: (networks, resamples, k, k)."""
    _, of_faces = crossed_draws(len(predicted), len(labels))
    counts = np.rint(of_faces * len(labels))  # whole faces: sums of them are exact
    cells = np.eye(k * k)
    drawn = [counts @ cells[labels * k + answers] for answers in predicted]
    return np.reshape(drawn, (len(predicted), -1, k, k))


def _over_networks(drawn, faces):
    """(networks, resamples, …) averaged over the networks that each sample drew."""
    of_networks, _ = crossed_draws(len(drawn), faces)
    return np.einsum("kr...,rk->r...", drawn, of_networks)


def crossed_pairs(labels, predicted, classes):
    """Table: every pair of classes over ``predicted`` (networks, n), the most confused first.

    Columns first, second; confusability, the mean over networks, with lo, hi (two-way bootstrap)
    and each, a tuple with one value a network; ranks, a tuple with the pair's rank in each network.
    Pairs with a class without a face are left out; a resample without one counts with the value of
    all faces.
    """
    k = len(classes)
    labels = class_indices(labels, k)
    matrices = np.stack([confusion_matrix(labels, one, k) for one in predicted])
    drawn = _drawn_matrices(labels, predicted, k)
    i, j = np.triu_indices(k, 1)
    known = np.isfinite(confusability(matrices[0])[i, j])
    i, j, names = i[known], j[known], np.array(list(classes))
    each = confusability(matrices)[:, i, j]
    again = confusability(drawn)[..., i, j]  # undefined where a resample lacks a class
    again = _over_networks(np.where(np.isnan(again), each[:, None], again), len(labels))
    lo, hi = percentiles(again)
    ranks = 1 + np.argsort(np.argsort(-each, axis=1, kind="stable"), axis=1)
    table = pd.DataFrame(
        {
            "first": names[i],
            "second": names[j],
            "confusability": each.mean(axis=0),
            "lo": np.maximum(lo, 0),
            "hi": hi,
            "each": list(map(tuple, each.T.tolist())),
            "ranks": list(map(tuple, ranks.T.tolist())),
        }
    )
    return table.sort_values("confusability", ascending=False, kind="stable", ignore_index=True)


def crossed_scores(labels, probabilities) -> dict[str, tuple[float, float, float, float]]:
    """{score: (mean, sd, lo, hi)} of networks (networks, n, k) that answered the same n faces.

    sd is between networks, NaN of a single one; lo and hi hold for other networks and faces of
    the same kind. ECE has NaN for both: chance lifts it, in a resample more than in the faces
    themselves (``calibration_error`` has its null band instead).
    """
    _, of_faces = crossed_draws(len(probabilities), len(labels))
    values, draws = [], []
    for answered in probabilities:
        known, p = checked(labels, answered)
        predicted, k = p.argmax(axis=1), p.shape[1]
        values.append(scores(confusion_matrix(known, predicted, k)) | probability_scores(known, p))
        means = {name: of_faces @ each for name, each in face_scores(known, p).items()}
        draws.append(scores(_drawn_matrices(known, [predicted], k)[0]) | means)
    bounds = {"ece": (np.nan, np.nan)}
    for name in draws[0]:
        found = percentiles(_over_networks([drawn[name] for drawn in draws], len(labels)))
        bounds[name] = np.clip(found, *RANGES.get(name, (0, 1)))
    return {
        name: (each.mean(), each.std(ddof=1), *map(float, bounds[name]))
        for name, each in pd.DataFrame(values).astype(np.float64).items()
    }
