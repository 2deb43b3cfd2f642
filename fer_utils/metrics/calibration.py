"""Probabilities: proper scores and calibration."""

import numpy as np
import pandas as pd

from .confusion import class_indices, confusion_matrix, percentiles, scores, wilson, with_accuracy

BINS = 15  # of confidence
FLOOR = np.finfo(np.float64).eps  # below it, a probability counts as this in logarithms


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
        raise ValueError(f"probabilities have {k} columns for {len(classes)} classes")
    labels = class_indices(labels, k)
    total = probabilities.sum(axis=1)
    good = (probabilities >= 0).all(axis=1) & (abs(total - 1) < 1e-3)
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(
            f"probabilities[{row}] are {probabilities[row].round(4).tolist()}: expected 0 or more, "
            "summing to 1; apply softmax to logits first"
        )
    return labels, probabilities / total[:, None]


def face_scores(labels, probabilities):
    """Arrays (n,) whose mean over faces is NLL in nats, Brier (0 … 2) and top-2 accuracy."""
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    best = probabilities.argmax(axis=1)
    rest = probabilities.copy()
    rest[rows, best] = -1
    return {
        "nll": -np.log(np.clip(own, FLOOR, 1 - FLOOR)),
        "brier": (probabilities**2).sum(axis=1) - 2 * own + 1,
        "top2": ((best == labels) | (rest.argmax(axis=1) == labels)).astype(np.float64),
    }


def _answers(labels, probabilities):
    """Confidence (n,) of the likeliest class, and whether it is the label (n,), 0 or 1."""
    labels, probabilities = checked(labels, probabilities)
    hit = probabilities.argmax(axis=1) == labels
    return probabilities.max(axis=1), hit.astype(np.float64)


def _ece(confidence, hit):
    """ECE of answers ``hit`` (…, n) that were given with ``confidence`` (n,)."""
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = (hit - confidence) @ np.eye(BINS)[place]
    return abs(gap).sum(axis=-1) / len(confidence)


def probability_scores(labels, probabilities):
    """NLL in nats, Brier (summed over classes, 0 … 2), top-2 accuracy and ECE, as floats.

    ECE: confidence of the likeliest class in ``BINS`` bins of equal width, mean
    |accuracy - confidence| weighted by faces (Guo et al. 2017, arXiv:1706.04599).
    """
    means = face_scores(*checked(labels, probabilities))
    found = {name: float(values.mean()) for name, values in means.items()}
    return found | {"ece": float(_ece(*_answers(labels, probabilities)))}


def summary(labels, probabilities, classes):
    """Everything that metrics.json holds about one split: floats, ``n`` and Wilson's interval."""
    labels, probabilities = checked(labels, probabilities, classes)
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
    found = {name: float(value) for name, value in scores(matrix).items()}
    lo, hi = wilson(np.trace(matrix), len(labels))
    found["accuracy_interval"] = [float(lo), float(hi)]
    return {"n": len(labels)} | found | probability_scores(labels, probabilities)


def calibration_error(labels, probabilities, draws=2000):
    """{ece, null_lo, null_hi, verdict}: is the network right as often as it is confident?

    Chance alone lifts ECE above 0. The null band holds 95 % of the ECEs that a perfectly
    calibrated network with these confidences shows: its labels are drawn from its own
    probabilities. ``verdict``: 'calibrated' where ECE is not above the band, else
    'overconfident' or 'underconfident' where the accuracy is outside the band that it would
    have then, else 'miscalibrated': too sure of some faces, too unsure of others.
    """
    confidence, hit = _answers(labels, probabilities)
    drawn = np.random.default_rng(0).random((draws, len(hit))) < confidence
    lo, hi = percentiles(_ece(confidence, drawn))
    ece = _ece(confidence, hit)
    fewest, most = percentiles(drawn.mean(axis=1))
    verdict = "miscalibrated"
    if ece <= hi:
        verdict = "calibrated"
    elif not fewest <= hit.mean() <= most:
        verdict = "overconfident" if hit.mean() < fewest else "underconfident"
    return {"ece": float(ece), "null_lo": float(lo), "null_hi": float(hi), "verdict": verdict}


def reliability(labels, probabilities):
    """Table, a row a bin of confidence: faces, confidence, accuracy, lo, hi (Wilson).

    The ``BINS`` bins hold equally many faces (to one), so that none is thin.
    """
    confidence, hit = _answers(labels, probabilities)
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(BINS, len(hit)))
    faces = np.array([len(part) for part in parts])
    hits = np.array([hit[part].sum() for part in parts])
    mean = np.array([confidence[part].mean() for part in parts])
    return with_accuracy(pd.DataFrame({"faces": faces, "confidence": mean}), hits)
