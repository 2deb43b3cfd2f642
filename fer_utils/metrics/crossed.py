"""Faces crossed with networks: how sure is a mean over both?

``values`` are (networks, …, faces): every network scored on the same faces. One value a face
says nothing of another network, and one network nothing of another face, so both are drawn
anew, independently (the pigeonhole bootstrap: Owen 2007, arXiv:0712.1111). Of k networks the
draws spread by √((k−1)/k) too little; they are widened by as much. With one network only
faces are drawn, and the interval holds for that network alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fer_utils.metrics.calibration import checked, face_columns, probability_scores
from fer_utils.metrics.confusion import LEVEL, scores


@lru_cache(4)  # some 60 MB for a test split
def crossed_draws(networks: int, faces: int, resamples: int = 2000):
    """Weights of networks (resamples, networks) and of faces (resamples, faces), rows sum to 1."""
    rng = np.random.default_rng(0)
    of_faces = rng.multinomial(faces, np.full(faces, 1 / faces), resamples) / faces
    even = np.full(networks, 1 / networks)
    of_networks = rng.multinomial(networks, even, resamples) / networks
    widened = (networks / max(networks - 1, 1)) ** 0.5
    return even + (of_networks - even) * widened, of_faces


def crossed_means(values: np.ndarray, resamples: int = 2000) -> np.ndarray:
    """Means of ``values`` in each bootstrap sample: (…, resamples).

    NaN is a face that was not scored: the mean is over the others.

    Raises:
        ValueError: fewer than two axes, an empty axis, or a mean over no face.
    """
    values = np.asarray(values, np.float64)
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(f"values {values.shape}: expected (networks, …, faces), none of them 0")
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
    means, outside = crossed_means(values), (1 - LEVEL) / 2
    lo, hi = np.quantile(means, (outside, 1 - outside), axis=-1)
    return np.nanmean(values, axis=-1, dtype=np.float64).mean(0), lo, hi


def crossed_scores(labels, probabilities) -> dict[str, tuple[float, float, float, float]]:
    """{figure: (mean, sd, lo, hi)} of networks (k, n, classes) that answered the same n faces.

    sd is between networks, NaN of a single one; lo and hi hold for other networks and faces of
    the same kind. ECE has NaN for both: what its draws say is biased (``bootstrap_probabilities``).
    """
    values, draws = [], []
    of_networks, of_faces = crossed_draws(len(probabilities), len(labels))
    for answered in probabilities:
        known, p = checked(labels, answered)
        k = p.shape[1]
        cells = np.eye(k * k)[known * k + p.argmax(1)]
        columns, *_ = face_columns(known, p)
        values.append(scores(cells.sum(0).reshape(k, k)) | probability_scores(known, p))
        drawn = scores((of_faces @ cells).reshape(-1, k, k))
        draws.append(drawn | {name: of_faces @ column for name, column in columns.items()})
    found, outside = {}, (1 - LEVEL) / 2
    for name in values[0]:
        each, bounds = np.array([value[name] for value in values], np.float64), [np.nan, np.nan]
        if name in draws[0]:
            means = np.einsum("kr,rk->r", np.array([drawn[name] for drawn in draws]), of_networks)
            bounds = np.quantile(means, (outside, 1 - outside))
        sd = each.std(ddof=1) if len(each) > 1 else np.nan
        found[name] = (float(each.mean()), float(sd), *map(float, bounds))
    return found


def concordance(table: np.ndarray) -> float:
    """Kendall's W of the orders in which k judges, a row each, put m things: 0 none, 1 the same.

    Ties share their mean rank and are corrected for; NaN where each judge ties everything.
    """
    from scipy.stats import rankdata

    table = np.asarray(table, np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"table {table.shape}: expected at least 2 judges of 2 things")
    k, m = table.shape
    ranks = rankdata(table, axis=1)
    sums = ranks.sum(0)
    tied = sum((c**3 - c).sum() for c in (np.unique(r, return_counts=True)[1] for r in ranks))
    most = k * k * (m**3 - m) - k * tied
    return float(12 * ((sums - sums.mean()) ** 2).sum() / most) if most else float("nan")
