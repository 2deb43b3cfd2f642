"""The confusion matrix: its scores, their intervals, classes and pairs."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

LEVEL = 0.95  # of every interval


def class_indices(values, k, name="labels"):
    values = np.asarray(values)
    if values.dtype.kind not in "iu" and not np.array_equal(values, np.floor(values)):
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
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), empty)


def shares(matrix):
    """The matrix divided by its rows: NaN in the row of a class without a face."""
    matrix = np.asarray(matrix, dtype=np.float64)
    return ratio(matrix, matrix.sum(axis=-1, keepdims=True))


def scores(matrix):
    """Composite scores of one matrix (k, k) or of a stack (…, k, k), as a dict of arrays (…).

    Classes without a face do not enter balanced accuracy; classes neither labelled nor
    predicted do not enter macro-F1; MCC and kappa are 0 where only one class is left (all as
    scikit-learn, except kappa, NaN there).
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    n, hits = matrix.sum(axis=(-2, -1)), np.trace(matrix, axis1=-2, axis2=-1)
    true, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    if (n == 0).any():
        raise ValueError("no faces to score: the confusion matrix is empty")
    diagonal = np.diagonal(matrix, axis1=-2, axis2=-1)
    chance = (true * predicted).sum(axis=-1)
    spread = (n**2 - (true**2).sum(axis=-1)) * (n**2 - (predicted**2).sum(axis=-1))
    return {
        "accuracy": hits / n,
        "balanced_accuracy": np.nanmean(ratio(diagonal, true), axis=-1),
        "macro_f1": np.nanmean(ratio(2 * diagonal, true + predicted), axis=-1),
        "mcc": ratio(hits * n - chance, np.sqrt(spread), empty=0.0),
        "kappa": ratio(hits * n - chance, n**2 - chance, empty=0.0),
    }


def wilson(successes, trials, level=LEVEL):
    """Wilson's score interval (lo, hi) of a proportion; [0, 1] where there was no trial."""
    x, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if ((x < 0) | (x > n)).any():
        raise ValueError("wilson: successes must lie between 0 and trials")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    middle = ratio(x + z**2 / 2, n + z**2)
    half = z / (n + z**2) * np.sqrt(ratio(x * (n - x), n, empty=0.0) + z**2 / 4)
    return np.where(x == 0, 0.0, middle - half), np.where(x == n, 1.0, middle + half)


def resampled(counts, draws=10_000, seed=0):
    """As many faces drawn again from ``counts``, (draws, …): one multinomial draw each."""
    counts = np.asarray(counts)
    total = counts.sum()
    drawn = np.random.default_rng(seed).multinomial(total, counts.ravel() / total, size=draws)
    return drawn.reshape(draws, *counts.shape)


def percentiles(draws):
    """(lo, hi) of draws along the first axis, 95 % between them."""
    return np.quantile(draws, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)


def bootstrap_scores(matrix, draws=10_000, seed=0):
    """{score: (value, lo, hi)} for every one of ``scores``: percentiles of the resampled matrix."""
    value, drawn = scores(matrix), scores(resampled(matrix, draws, seed))
    return {name: (float(value[name]), *map(float, percentiles(drawn[name]))) for name in value}


def per_class(matrix, classes, draws=10_000):
    """Table: one row a class, support and predicted (counts), precision, recall, f1 with _lo, _hi.

    Precision and recall carry Wilson's interval, F1 a bootstrap percentile interval. A class
    without a face has recall NaN, [0, 1]; one never predicted has precision NaN, [0, 1]; F1 is
    0 for a class that is labelled but never rightly predicted, NaN for one that is neither.
    """
    import pandas as pd

    matrix = np.asarray(matrix)
    hits, support, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    drawn = resampled(matrix, draws)
    f1 = ratio(
        2 * np.diagonal(drawn, axis1=1, axis2=2), drawn.sum(axis=1) + drawn.sum(axis=2), empty=0.0
    )
    table = {"support": support, "predicted": predicted}
    for name, trials in (("precision", predicted), ("recall", support)):
        lo, hi = wilson(hits, trials)
        table |= {name: ratio(hits, trials), f"{name}_lo": lo, f"{name}_hi": hi}
    lo, hi = percentiles(f1)
    known = support + predicted > 0
    table["f1"] = ratio(2 * hits, support + predicted)
    table |= {"f1_lo": np.where(known, lo, 0.0), "f1_hi": np.where(known, hi, 1.0)}
    return pd.DataFrame(table, index=pd.Index(list(classes), name="class"))


def holm(p):
    """Holm's adjusted p-values (1979): the chance of any false finding stays below the level."""
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def pairs(matrix, classes):
    """Every pair of classes, the most confused first.

    With p the rate at which one class is taken for the other: **confusability** is the mean of
    the two rates, so a rare class counts as much as a frequent one; **asymmetry** is
    p(first as second) - p(second as first). Their intervals join the two Wilson intervals
    (Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I).

    - ``asymmetry_p``: Fisher's exact test of 'no asymmetry', Holm over the pairs.
    - ``below``: the ranks of the pairs that are surely confused more. Every pair is compared
      with every other, Holm's correction over all of them: the interval of the difference,
      joined from both with the correlation that shared rows give (Zou 2007,
      doi:10.1037/1082-989X.12.4.399), must leave out 0.
    - ``best_rank``, ``worst_rank``: the ranks that these tests leave open. They hold together,
      for all pairs, at 95 % (Mogstad et al. 2024, doi:10.1093/restud/rdad006).

    Pairs with a class that has no face are left out.
    """
    import pandas as pd
    from scipy.stats import fisher_exact

    matrix = np.asarray(matrix, dtype=np.float64)
    k, support = len(matrix), matrix.sum(axis=1)
    i, j = np.triu_indices(k, 1)
    known = (support[i] > 0) & (support[j] > 0)
    i, j = i[known], j[known]
    x, y, n, m = matrix[i, j], matrix[j, i], support[i], support[j]
    p, q = x / n, y / m
    (p_lo, p_hi), (q_lo, q_hi) = wilson(x, n), wilson(y, m)
    lo, hi = _limits(x, n, y, m, LEVEL)
    table = pd.DataFrame(
        {
            "first": np.take(list(classes), i),
            "second": np.take(list(classes), j),
            "faces": (x + y).astype(int),
            "first_as_second": p,
            "second_as_first": q,
            "confusability": (p + q) / 2,
            "lo": lo,
            "hi": hi,
            "asymmetry": p - q,
            "asymmetry_lo": p - q - np.hypot(p - p_lo, q_hi - q),
            "asymmetry_hi": p - q + np.hypot(p_hi - p, q - q_lo),
        }
    )
    tables = np.stack([x, n - x, y, m - y], axis=1).reshape(-1, 2, 2).astype(np.int64)
    table["asymmetry_p"] = holm(np.array([fisher_exact(each).pvalue for each in tables]))
    sure = _surely_above(matrix, i, j)
    table["best_rank"], table["worst_rank"] = 1 + sure.sum(axis=0), len(i) - sure.sum(axis=1)
    order = np.argsort(-table["confusability"].to_numpy(), kind="stable")
    rank = np.argsort(order) + 1
    table["below"] = [tuple(sorted(rank[above].tolist())) for above in sure.T]
    table.insert(0, "rank", rank)
    return table.iloc[order].reset_index(drop=True)


def _limits(x, n, y, m, level):
    """(lo, hi) of the mean of two rates x/n and y/m: their Wilson intervals joined."""
    p, q = x / n, y / m
    (p_lo, p_hi), (q_lo, q_hi) = wilson(x, n, level), wilson(y, m, level)
    middle = (p + q) / 2
    return middle - np.hypot(p - p_lo, q - q_lo) / 2, middle + np.hypot(p_hi - p, q_hi - q) / 2


def _surely_above(matrix, i, j):
    """(m, m) bool: the pair of the row is more confused than that of the column, beyond luck."""
    support, many = matrix.sum(axis=1), len(i)
    counts = matrix[i, j], support[i], matrix[j, i], support[j]
    value = (counts[0] / counts[1] + counts[2] / counts[3]) / 2
    covariance = np.zeros((many, many))
    for row, own in enumerate(matrix + 0.5):
        share = own / own.sum()
        weights = np.zeros((many, len(matrix)))  # confusability: sum of weights @ share
        weights[i == row, j[i == row]] = weights[j == row, i[j == row]] = 0.5
        spread = (np.diag(share) - np.outer(share, share)) / max(support[row], 1)
        covariance += weights @ spread @ weights.T
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sd, sd)
    sure, left = np.zeros((many, many), dtype=bool), many * (many - 1) // 2
    while left:  # Holm: what is found makes the rest easier
        lo, hi = _limits(*counts, 1 - (1 - LEVEL) / left)
        down, up = (value - lo)[:, None], (hi - value)[None, :]
        margin = np.sqrt(np.maximum(down**2 + up**2 - 2 * correlation * down * up, 0))
        sure = value[:, None] - value[None, :] > np.maximum(margin, 1e-12)
        if left == many * (many - 1) // 2 - sure.sum():
            break
        left = many * (many - 1) // 2 - int(sure.sum())
    return sure


def claim(table, claimed):
    """Do the ``claimed`` pairs lead ``pairs``' table? A dict that an answer can be written from.

    ``verdict``: 'holds' where every claimed pair is surely confused more than every other pair,
    'fails' where some other pair is surely confused more than one of them, 'open' where the data
    leave both possible, 'untestable' where a claimed pair is not in the table.
    ``rows``: the claimed pairs' rows; ``above``: the other pairs surely above one of them;
    ``leaders``: the rows that may rank first.
    """
    wanted = [frozenset(pair) for pair in claimed]
    mine = np.array(
        [frozenset(pair) in wanted for pair in zip(table["first"], table["second"], strict=True)],
        dtype=bool,
    )
    rows, others = table[mine], table[~mine]
    ranks, beating = set(rows["rank"]), set().union(*rows["below"])
    above = others[others["rank"].isin(beating)]
    if len(rows) < len(wanted):
        verdict = "untestable"
    elif len(above):
        verdict = "fails"
    else:
        verdict = "holds" if all(ranks <= set(below) for below in others["below"]) else "open"
    leaders = table[table["best_rank"] == 1]
    return {"verdict": verdict, "rows": rows, "above": above, "leaders": leaders}
