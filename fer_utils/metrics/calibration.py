"""Probabilities: proper scores, calibration, temperature, and declining to answer."""

from __future__ import annotations

import numpy as np

from fer_utils.metrics.confusion import (
    class_indices,
    confusion_matrix,
    percentiles,
    ratio,
    scores,
    wilson,
)

BINS = 15  # of confidence, equally wide
# Probabilities below count as this in logarithms, as in scikit-learn.
FLOOR = np.finfo(np.float64).eps


def checked(labels, probabilities, classes=None):
    """Labels int64 (n,) and probabilities float64 (n, k), or a ValueError that says why not."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or labels.ndim != 1 or len(labels) != len(probabilities):
        raise ValueError(
            f"labels {labels.shape}, probabilities {probabilities.shape}: expected (n,) and (n, k)"
        )
    n, k = probabilities.shape
    if n == 0:
        raise ValueError("no faces to score: labels and probabilities are empty")
    if classes is not None and len(classes) != k:
        raise ValueError(
            f"probabilities have {k} columns for {len(classes)} classes {tuple(classes)}"
        )
    labels = class_indices(labels, k)
    wrong = ~np.isfinite(probabilities) | (probabilities < 0)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"probabilities[{row}, {column}] is {probabilities[row, column]}: expected 0 to 1"
        )
    total = probabilities.sum(axis=1)
    if (abs(total - 1) > 1e-3).any():
        row = int(np.argmax(abs(total - 1) > 1e-3))
        raise ValueError(
            f"probabilities[{row}] sum to {total[row]:.6g}, not 1; apply softmax to logits first"
        )
    return labels, probabilities / total[:, None]


def face_columns(labels, probabilities, bins=BINS):
    """Columns whose mean over faces is NLL, Brier, top-2; then confidence, hit and bin per face."""
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    best = probabilities.argmax(axis=1)
    rest = probabilities.copy()
    rest[rows, best] = -1
    confidence = probabilities[rows, best]
    columns = {
        "nll": -np.log(np.clip(own, FLOOR, 1 - FLOOR)),
        "brier": (probabilities**2).sum(axis=1) - 2 * own + 1,
        "top2": ((best == labels) | (rest.argmax(axis=1) == labels)).astype(np.float64),
    }
    bin_ = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return columns, confidence, (best == labels).astype(np.float64), bin_


def probability_scores(labels, probabilities, bins=BINS):
    """NLL in nats, Brier (summed over classes, 0 … 2), top-2 accuracy and ECE, as floats.

    ECE: confidence of the top class in ``bins`` bins of equal width, mean |accuracy - confidence|
    weighted by faces (Guo et al. 2017, arXiv:1706.04599).
    """
    columns, confidence, hit, bin_ = face_columns(*checked(labels, probabilities), bins)
    gap = np.bincount(bin_, hit - confidence, minlength=bins)
    return {name: float(v.mean()) for name, v in columns.items()} | {
        "ece": float(abs(gap).sum() / len(hit))
    }


def summary(labels, probabilities, classes):
    """Everything that metrics.json holds about one split: floats, ``n`` and Wilson's interval."""
    labels, probabilities = checked(labels, probabilities, classes)
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
    found = {name: float(value) for name, value in scores(matrix).items()}
    lo, hi = wilson(np.trace(matrix), len(labels))
    found["accuracy_interval"] = [float(lo), float(hi)]
    return {"n": len(labels)} | found | probability_scores(labels, probabilities)


def bootstrap_probabilities(labels, probabilities, draws=2000, seed=0, coverage=(1.0,)):
    """{name: (value, lo, hi)} for nll, brier, top2, ece (floats) and risk (arrays over coverage).

    Faces are drawn with replacement. ``risk``: error among the share ``coverage`` of the faces
    that the network is surest of. ECE is biased upwards, and its resamples twice over (for a
    well calibrated network percentiles of them cover the truth one time in three), so its
    interval is reflected at the value (basic bootstrap) and cut at 0; the others are percentiles.
    """
    labels, probabilities = checked(labels, probabilities)
    columns, confidence, hit, bin_ = face_columns(labels, probabilities)
    n = len(labels)
    # ties are broken at random, not by the order in which the faces happen to lie
    order = np.random.default_rng(seed).permutation(n)
    order = order[np.argsort(-confidence[order], kind="stable")]
    gap = np.zeros((n, BINS))
    gap[np.arange(n), bin_] = hit - confidence
    per_face = np.column_stack([*columns.values(), gap])[order]
    miss, kept = 1 - hit[order], kept_faces(coverage, n)
    rng, sums, risk = np.random.default_rng(seed + 1), [], []
    for start in range(0, draws, 250):  # in blocks, for memory's sake
        size = min(250, draws - start)
        drawn = rng.integers(n, size=(size, n))
        weight = np.bincount((drawn + n * np.arange(size)[:, None]).ravel(), minlength=size * n)
        weight = weight.reshape(size, n).astype(np.float64)
        sums.append(weight @ per_face)
        ranks = np.repeat(np.tile(np.arange(n), size), weight.astype(np.int64).ravel())
        risk.append(np.cumsum(miss[ranks].reshape(size, n), axis=1)[:, kept - 1] / kept)
    sums, value = np.concatenate(sums) / n, probability_scores(labels, probabilities)
    result = {}
    for position, name in enumerate(columns):
        result[name] = (value[name], *map(float, percentiles(sums[:, position])))
    lo, hi = percentiles(abs(sums[:, len(columns) :]).sum(axis=1))
    result["ece"] = (value["ece"], *(float(max(0, 2 * value["ece"] - v)) for v in (hi, lo)))
    result["risk"] = (
        risk_coverage(labels, probabilities, coverage),
        *percentiles(np.concatenate(risk)),
    )
    return result


def kept_faces(coverage, n):
    """How many of n faces a coverage keeps, at least one."""
    coverage = np.atleast_1d(np.asarray(coverage, dtype=np.float64))
    if ((coverage <= 0) | (coverage > 1)).any():
        raise ValueError(f"coverage {coverage.tolist()}: expected shares in (0, 1]")
    return np.maximum(1, np.round(coverage * n).astype(np.int64))


def risk_coverage(labels, probabilities, coverage):
    """Error among the surest share ``coverage`` of the faces; equally sure faces count alike."""
    labels, probabilities = checked(labels, probabilities)
    _, confidence, hit, _ = face_columns(labels, probabilities)
    _, tied = np.unique(-confidence, return_inverse=True)
    miss = np.sort(tied)
    miss = (np.bincount(tied, 1 - hit) / np.bincount(tied))[miss]  # a tie shares its errors
    kept = kept_faces(coverage, len(labels))
    return np.cumsum(miss)[kept - 1] / kept


def reliability(labels, probabilities, bins=BINS):
    """Table, a row a non-empty bin of confidence: faces, confidence, accuracy, lo, hi (Wilson)."""
    import pandas as pd

    _, confidence, hit, bin_ = face_columns(*checked(labels, probabilities), bins)
    faces = np.bincount(bin_, minlength=bins)
    hits, sure = np.bincount(bin_, hit, bins), np.bincount(bin_, confidence, bins)
    lo, hi = wilson(hits, faces)
    table = {"faces": faces, "confidence": ratio(sure, faces), "accuracy": ratio(hits, faces)}
    table = pd.DataFrame(table | {"lo": lo, "hi": hi})
    return table[faces > 0].reset_index(drop=True)


TEMPERATURES = (0.05, 20.0)  # searched: a network that knows nothing wants an infinite one


def tempered(probabilities, temperature):
    """softmax(log p / temperature), which is softmax(logits / temperature)."""
    logits = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), FLOOR)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def temperature(labels, probabilities):
    """The temperature of least NLL within ``TEMPERATURES`` (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    labels, probabilities = checked(labels, probabilities)
    rows = np.arange(len(labels))

    def nll(log_temperature):
        own = tempered(probabilities, np.exp(log_temperature))[rows, labels]
        return -np.log(np.maximum(own, FLOOR)).mean()

    bounds = tuple(np.log(TEMPERATURES))
    return float(
        np.exp(minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x)
    )
