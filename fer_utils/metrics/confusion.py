"""The confusion matrix: its scores, the classes, the pairs of classes, a claim about pairs."""

from statistics import NormalDist

import numpy as np
import pandas as pd

LEVEL = 0.95  # of every interval; what is called significant has p < 1 - LEVEL
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


def class_indices(values, k, name="labels"):
    """The values as int64, or a ValueError that names the first that is no class index."""
    values = np.asarray(values)
    if values.dtype.kind not in "biu":
        raise ValueError(f"{name} of type {values.dtype} are not class indices")
    outside = (values < 0) | (values >= k)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(
            f"{name}[{row}] is {values[row]}, outside 0 … {k - 1}; leave unlabelled faces out"
        )
    return values.astype(np.int64)


def confusion_matrix(labels, predicted, k):
    """Counts (k, k): row = label, column = prediction."""
    labels, predicted = class_indices(labels, k), class_indices(predicted, k, "predicted")
    if labels.shape != predicted.shape:
        raise ValueError(f"labels {labels.shape} and predicted {predicted.shape} differ in length")
    return np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)


def ratio(numerator, denominator, empty=np.nan):
    """numerator / denominator, and ``empty`` where the denominator is 0."""
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), empty)


def shares(matrix):
    """Each row of the matrix divided by its sum: NaN in the row of a class without a face."""
    matrix = np.asarray(matrix, dtype=np.float64)
    return ratio(matrix, matrix.sum(axis=-1, keepdims=True))


def f1_by_class(matrix):
    """F1 (…, k) of matrices (…, k, k): NaN for a class neither labelled nor predicted."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return ratio(2 * hits, matrix.sum(axis=-1) + matrix.sum(axis=-2))


def confusability(matrix):
    """(…, k, k): how often one class is taken for the other, the mean of both directions."""
    share = shares(matrix)
    return (share + share.swapaxes(-1, -2)) / 2


def scores(matrix):
    """Composite scores of one matrix (k, k) or of a stack (…, k, k), as a dict of arrays (…).

    Classes without a face do not enter balanced accuracy; classes neither labelled nor
    predicted do not enter macro-F1; MCC and kappa are 0 where only one class is left (all as
    scikit-learn, except kappa, NaN there).
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    n, hits = matrix.sum(axis=(-2, -1)), np.trace(matrix, axis1=-2, axis2=-1)
    if (n == 0).any():
        raise ValueError("no faces to score: the confusion matrix is empty")
    true, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    recall = np.diagonal(shares(matrix), axis1=-2, axis2=-1)
    chance = (true * predicted).sum(axis=-1)
    spread = (n**2 - (true**2).sum(axis=-1)) * (n**2 - (predicted**2).sum(axis=-1))
    return {
        "accuracy": hits / n,
        "balanced_accuracy": np.nanmean(recall, axis=-1),
        "macro_f1": np.nanmean(f1_by_class(matrix), axis=-1),
        "mcc": ratio(hits * n - chance, np.sqrt(spread), empty=0.0),
        "kappa": ratio(hits * n - chance, n**2 - chance, empty=0.0),
    }


def wilson(successes, trials):
    """Wilson's score interval (lo, hi) of proportions; [0, 1] where there was no trial."""
    x, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    middle = ratio(x + Z**2 / 2, n + Z**2)
    half = Z / (n + Z**2) * np.sqrt(ratio(x * (n - x), n, empty=0.0) + Z**2 / 4)
    return np.where(x == 0, 0.0, middle - half), np.where(x == n, 1.0, middle + half)


def with_accuracy(table, hits):
    """The table with the accuracy of its ``faces`` and its interval (Wilson): accuracy, lo, hi."""
    lo, hi = wilson(hits, table["faces"])
    return table.assign(accuracy=hits / table["faces"], lo=lo, hi=hi)


def holm(p):
    """Holm's adjusted p-values (1979): the chance of any false finding stays below the level."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def resampled(matrix, seed=0):
    """Bootstrap samples of the matrix, (2000, k, k): as many faces, drawn again from its cells."""
    matrix = np.asarray(matrix)
    total = matrix.sum()
    if total == 0:
        raise ValueError("no faces to draw again: the confusion matrix is empty")
    drawn = np.random.default_rng(seed).multinomial(total, matrix.ravel() / total, size=2000)
    return drawn.reshape(-1, *matrix.shape)


def percentiles(draws):
    """(lo, hi) of draws along the first axis, ``LEVEL`` of them in between."""
    return np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)


def beats_guessing(matrix):
    """Whether MCC's 95 % bootstrap interval lies above 0, which is what guessing reaches."""
    return bool(percentiles(scores(resampled(matrix))["mcc"])[0] > 0)


def per_class(matrix, classes):
    """Table: one row a class, support and predicted (counts), precision, recall, f1 with _lo, _hi.

    Precision and recall carry Wilson's interval, F1 a bootstrap percentile interval. F1 is 0 for
    a class that is labelled but never rightly predicted, NaN for one that is neither.
    """
    matrix = np.asarray(matrix)
    hits, support, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    table = pd.DataFrame({"support": support, "predicted": predicted}, index=list(classes))
    for name, trials in (("precision", predicted), ("recall", support)):
        table[name] = ratio(hits, trials)
        table[f"{name}_lo"], table[f"{name}_hi"] = wilson(hits, trials)
    lo, hi = percentiles(np.nan_to_num(f1_by_class(resampled(matrix))))
    known = support + predicted > 0
    table["f1"] = f1_by_class(matrix)
    table["f1_lo"], table["f1_hi"] = np.where(known, lo, 0.0), np.where(known, hi, 1.0)
    return table.rename_axis("class")


def pairs(matrix, classes):
    """Table: every pair of classes that both have faces, the most confused first.

    **Confusability** is the mean of the two rates at which one class is taken for the other, so a
    rare class counts as much as a frequent one. ``below`` holds the ranks of the pairs that are
    significantly more confused: every pair is compared with every other, with Holm's correction
    over all comparisons.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    support = matrix.sum(axis=1)
    i, j = np.triu_indices(len(matrix), 1)
    known = (support[i] > 0) & (support[j] > 0)
    i, j = i[known], j[known]
    value = confusability(matrix)[i, j]
    order = np.argsort(-value, kind="stable")
    i, j, value = i[order], j[order], value[order]
    above = _significantly_above(matrix, i, j)
    rank = np.arange(1, len(i) + 1)
    return pd.DataFrame(
        {
            "rank": rank,
            "first": np.take(list(classes), i),
            "second": np.take(list(classes), j),
            "first_as_second": matrix[i, j] / support[i],
            "second_as_first": matrix[j, i] / support[j],
            "confusability": value,
            "below": [tuple(rank[higher].tolist()) for higher in above.T],
        }
    )


def _significantly_above(matrix, i, j):
    """(m, m) bool: the pair of the row is significantly more confused than that of the column.

    ``i`` and ``j`` (m,) are the pairs' classes, the most confused pair first.

    A z-test of each difference, Holm's correction over all of them. Two pairs can share a row
    of the matrix, whose shares covary as those of a multinomial. Half a face is added to every
    cell for the variance alone: an empty cell is not certain to stay empty.
    """
    from scipy.stats import norm

    many, k = len(i), len(matrix)
    covariance = np.zeros((many, many))
    for row, share in enumerate(shares(matrix + 0.5)):
        weights = np.zeros((many, k))  # of the row's shares in each pair's confusability
        weights[i == row, j[i == row]] = 0.5
        weights[j == row, i[j == row]] = 0.5
        spread = np.diag(share) - np.outer(share, share)
        covariance += weights @ spread @ weights.T / max(matrix[row].sum(), 1)
    value, variance = confusability(matrix)[i, j], np.diag(covariance)
    one, other = np.triu_indices(many, 1)
    sd = np.sqrt(variance[one] + variance[other] - 2 * covariance[one, other])
    difference = value[one] - value[other]
    found = holm(2 * norm.sf(difference / sd)) < 1 - LEVEL
    above = np.zeros((many, many), dtype=bool)
    above[one, other] = found
    return above


def claim(table, claimed):
    """Do the ``claimed`` pairs lead in ``pairs``' table? A verdict and the rows behind it.

    ``verdict``: 'holds' where every claimed pair is significantly more confused than every
    other pair, 'fails' where some other pair is significantly more confused than one of them,
    'open' where the data leave both possible, 'untestable' where a claimed pair has no row.
    ``rows``: those of the claimed pairs; ``above``: those of the other pairs that are
    significantly above one of them.
    """
    wanted = {frozenset(pair) for pair in claimed}
    named = [frozenset(pair) for pair in zip(table["first"], table["second"], strict=True)]
    mine = np.array([pair in wanted for pair in named], dtype=bool)
    rows, others = table[mine], table[~mine]
    above = others[others["rank"].isin(rows["below"].explode())]
    if len(rows) < len(wanted):
        verdict = "untestable"
    elif len(above):
        verdict = "fails"
    elif all(set(rows["rank"]) <= set(below) for below in others["below"]):
        verdict = "holds"
    else:
        verdict = "open"
    return {"verdict": verdict, "rows": rows, "above": above}


def unanimous(verdicts):
    """The verdict on which all networks agree, else 'open'."""
    found = set(verdicts)
    return found.pop() if len(found) == 1 else "open"
