"""People beside the network: what votes of the crowd say of labels and mistakes."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from fer_utils.data.ferplus import COLUMNS, EMOTION_OF_COLUMN
from fer_utils.metrics.confusion import LEVEL, class_indices, percentiles, ratio, wilson

SURE = 6  # of ten votes: people agree
FERPLUS_NOTICE = """\
Computed from the FER+ votes (github.com/microsoft/FERPlus), of which this notice tells:

Copyright (c) Microsoft Corporation. All rights reserved. MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and \
associated documentation files (the "Software"), to deal in the Software without restriction, \
including without limitation the rights to use, copy, modify, merge, publish, distribute, \
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is \
furnished to do so, subject to the following conditions: The above copyright notice and this \
permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED *AS IS*, WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT \
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND \
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, \
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT \
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def votes_by_class(votes, classes):
    """Votes (n, k + 1): the classes by name, then all other answers (contempt, …) together."""
    votes = np.asarray(votes)
    if votes.ndim != 2 or votes.shape[1] != len(COLUMNS):
        raise ValueError(
            f"votes {votes.shape}: expected (n, {len(COLUMNS)}), columns {list(COLUMNS)}"
        )
    if votes.dtype.kind not in "iu" or (votes < 0).any():
        raise ValueError(f"votes of type {votes.dtype}: expected counts, none below 0")
    if (votes.sum(axis=1) < 2).any():
        row = int(np.argmax(votes.sum(axis=1) < 2))
        raise ValueError(f"votes[{row}] sum to {votes[row].sum()}: two voters are the least")
    named = [emotion and emotion.lower() for emotion in EMOTION_OF_COLUMN]
    if missing := [name for name in classes if name.lower() not in named]:
        raise ValueError(f"no column of votes stands for {missing[0]!r}; known: {named[:7]}")
    columns = [named.index(name.lower()) for name in classes]
    other = votes.sum(axis=1) - votes[:, columns].sum(axis=1)
    return np.column_stack([votes[:, columns], other]).astype(np.int64)


def vote_aggregates(votes, labels, predicted, split, classes, notice=""):
    """All that the chapters show of votes, summed over faces; arrays with one entry a split first.

    Args:
        votes: (n, 10) counts in FER+'s column order, of the faces that were predicted.
        labels, predicted: (n,) class indices of the same faces, in the same order.
        split: (n,) their splits' names.
        classes: the k names; votes are matched to them by name.
        notice: kept with the result, for instance ``FERPLUS_NOTICE``.

    Returns a dict, with k + 1 answers (the classes, then 'other'):
        splits (s,), classes (k,), notice ().
        faces (s, k, k, k + 2, m + 1): counts by label, prediction, the crowd's plurality
            (class, other, tie) and the votes for the class with most votes (0 … m).
        shares (s, k, k, k + 1): by label and prediction, the sum of the faces' vote shares.
        products (s, k, k + 1, k + 1): by label, the sum of share ⊗ share: spread of the shares.
        voters (s, k, k + 1, k + 1): by label, the chance that two *different* voters of a face
            answer (a, b), summed: n_a n_b / N(N-1), and n_a (n_a - 1) / N(N-1) on the diagonal.
        agreement (s, 3), agreement_products (s, 3, 3): per face the chance that a voter agrees
            with the prediction, with the label, with another voter; sums and sums of products.
    """
    votes, k = votes_by_class(votes, classes), len(classes)
    labels, predicted = class_indices(labels, k), class_indices(predicted, k, "predicted")
    split = np.asarray(split)
    if not len(votes) == len(labels) == len(predicted) == len(split):
        raise ValueError(
            f"{len(votes)} votes, {len(labels)} labels, {len(predicted)} predictions and "
            f"{len(split)} splits: they must be of the same faces"
        )
    total = votes.sum(axis=1)
    most, top = int(total.max(initial=0)), votes[:, :k].max(axis=1, initial=0)
    tie = (votes == votes.max(axis=1, initial=0)[:, None]).sum(axis=1) > 1
    crowd = np.where(tie, k + 1, votes.argmax(axis=1))
    share = votes / total[:, None]
    ordered = votes[:, :, None] * (votes[:, None, :] - np.eye(k + 1, dtype=np.int64))
    ordered = ordered / (total * (total - 1))[:, None, None]
    rows = np.arange(len(votes))
    agree = np.column_stack(
        [
            share[rows, predicted],
            share[rows, labels],
            np.trace(ordered[:, :k, :k], axis1=1, axis2=2),
        ]
    )
    names = list(dict.fromkeys(split.tolist()))
    shape = {
        "faces": (k, k, k + 2, most + 1),
        "shares": (k, k, k + 1),
        "products": (k, k + 1, k + 1),
    }
    shape |= {"voters": shape["products"], "agreement": (3,), "agreement_products": (3, 3)}
    found = {name: np.zeros((len(names), *size)) for name, size in shape.items()}
    found["faces"] = found["faces"].astype(np.int64)
    at = np.array([names.index(name) for name in split.tolist()], dtype=np.int64)
    np.add.at(found["faces"], (at, labels, predicted, crowd, top), 1)
    np.add.at(found["shares"], (at, labels, predicted), share)
    np.add.at(found["products"], (at, labels), share[:, :, None] * share[:, None, :])
    np.add.at(found["voters"], (at, labels), ordered)
    np.add.at(found["agreement"], at, agree)
    np.add.at(found["agreement_products"], at, agree[:, :, None] * agree[:, None, :])
    text = {"splits": np.array(names), "classes": np.array(classes), "notice": np.array(notice)}
    return found | text


def votes_of(aggregates, split, matrix=None):
    """The arrays of one split, the leading axis gone.

    Raises:
        ValueError: the split has no votes, or they were summed over other predictions than those
            that ``matrix``, the split's confusion matrix, counts.
    """
    names = aggregates["splits"].tolist()
    if split not in names:
        raise ValueError(f"no votes for split {split!r}; have: {names}")
    plain, at = ("splits", "classes", "notice"), names.index(split)
    found = {name: array if name in plain else array[at] for name, array in aggregates.items()}
    if matrix is not None and not np.array_equal(found["faces"].sum(axis=(2, 3)), matrix):
        raise ValueError(
            f"the votes' sums for {split} belong to other predictions "
            f"({found['faces'].sum()} faces there, {np.sum(matrix)} here); make the aggregate anew"
        )
    return found


def voter_confusion(votes):
    """P(another voter says b | a voter says a), (k, k), among the classes; NaN: a never said."""
    joint = votes["voters"].sum(axis=0)[:-1, :-1]
    return ratio(joint, joint.sum(axis=1, keepdims=True))


def vote_rows(votes):
    """E[share of the vote | label], (k, k + 1): a random voter on faces with that label."""
    shares = votes["shares"].sum(axis=1)
    return ratio(shares, votes["faces"].sum(axis=(1, 2, 3))[:, None])


def divergence(p, q):
    """Jensen-Shannon divergence in bits over the last axis: 0 the same, 1 nothing in common."""
    p, q = (np.asarray(x, dtype=np.float64) for x in (p, q))
    p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)

    def entropy(x):
        return -(x * np.log2(np.where(x > 0, x, 1))).sum(axis=-1)

    return np.maximum(0, entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)


def people_and_network(votes, draws=2000):
    """Table: one row a class with faces: how far the network's row is from the voters', in bits.

    ``divergence`` between the predictions and the votes (among the classes) for faces of one
    label. Few faces alone make two rows diverge, and so do resamples once more: the mean excess
    of the resamples is taken off the value, and the interval is reflected (basic bootstrap);
    both are cut at 0. Predictions are resampled, mean votes drawn from their normal law.
    """
    import pandas as pd

    classes, rng = votes["classes"], np.random.default_rng(0)
    matrix, rows, k = votes["faces"].sum(axis=(2, 3)), vote_rows(votes), len(votes["classes"])
    table = {}
    for index in np.flatnonzero(matrix.sum(axis=1)):
        counts, mean, n = matrix[index], rows[index], matrix[index].sum()
        spread = votes["products"][index] / n - np.outer(mean, mean)
        drawn = rng.multivariate_normal(mean, spread / n, size=draws, method="eigh")
        drawn = np.maximum(drawn, 1e-12)[:, :k]
        value = divergence(counts, mean[:k])
        again = divergence(rng.multinomial(n, counts / n, size=draws), drawn)
        low, high = percentiles(again)
        found = 2 * value - np.array([again.mean(), high, low])
        table[str(classes[index])] = [int(n), *map(float, np.maximum(found, 0))]
    return pd.DataFrame.from_dict(
        table, orient="index", columns=["faces", "divergence", "lo", "hi"]
    )


def agreement(votes):
    """{whom: (value, lo, hi)}: how often a random voter agrees with prediction, label or voter.

    Also ``prediction_minus_voter``: above 0, the network agrees with a person more often than
    another person does. Normal intervals of means over faces.
    """
    n, z = votes["faces"].sum(), NormalDist().inv_cdf(0.5 + LEVEL / 2)
    mean = votes["agreement"] / n
    covariance = (votes["agreement_products"] / n - np.outer(mean, mean)) / n
    weights = np.vstack([np.eye(3), [1, 0, -1]])
    value = weights @ mean
    half = z * np.sqrt(np.maximum(0, np.diag(weights @ covariance @ weights.T)))
    names = ("prediction", "label", "voter", "prediction_minus_voter")
    bounds = np.transpose([value, value - half, value + half]).tolist()
    return {name: tuple(row) for name, row in zip(names, bounds, strict=True)}


def crowd_agreement(votes):
    """The share of faces whose label is the crowd's plurality (ties and others count against)."""
    faces = votes["faces"]  # label, prediction, plurality, agreement
    return float(np.einsum("kpka->", faces[:, :, : len(votes["classes"])]) / faces.sum())


def accuracy_by_agreement(votes):
    """Table: votes for the class with most votes, faces, accuracy against the label, lo, hi."""
    import pandas as pd

    faces = votes["faces"].sum(axis=2)  # label, prediction, agreement
    hits, faces = np.einsum("iia->a", faces), faces.sum(axis=(0, 1))
    lo, hi = wilson(hits, faces)
    table = {"votes": np.arange(len(faces)), "faces": faces, "accuracy": ratio(hits, faces)}
    return pd.DataFrame(table | {"lo": lo, "hi": hi})[faces > 0].reset_index(drop=True)


def mistakes(votes):
    """Whom does the crowd's plurality side with where prediction and label differ?

    Table: one row a pair of classes with mistakes, and 'all': mistakes, of them with_network,
    with_label, neither (a third answer or a tie), share = with_network / mistakes, lo, hi
    (Wilson); ``expected``: the share that faces of the same label would give whatever the
    network answered. Only what exceeds ``expected`` says that the network saw something in
    *these* faces.
    """
    import pandas as pd

    classes, k = votes["classes"], len(votes["classes"])
    faces = votes["faces"].sum(axis=3)  # label, prediction, plurality
    i, j = np.nonzero(~np.eye(k, dtype=bool))
    count = faces.sum(axis=2)
    base = ratio(faces.sum(axis=1)[:, :k], count.sum(axis=1)[:, None], empty=0.0)
    cells = pd.DataFrame(
        {
            "first": classes[np.minimum(i, j)],
            "second": classes[np.maximum(i, j)],
            "mistakes": count[i, j],
            "with_network": faces[i, j, j],
            "with_label": faces[i, j, i],
            "expected": base[i, j] * count[i, j],
        }
    )
    everything = cells.drop(columns=["first", "second"]).sum().to_frame().T
    table = cells.groupby(["first", "second"], sort=False).sum().reset_index()
    table = pd.concat([table, everything.assign(first="all", second="all")], ignore_index=True)
    table = table[table["mistakes"] > 0].reset_index(drop=True)
    table = table.astype(dict.fromkeys(("mistakes", "with_network", "with_label"), int))
    table["neither"] = table["mistakes"] - table["with_network"] - table["with_label"]
    table["share"] = table["with_network"] / table["mistakes"]
    table["lo"], table["hi"] = wilson(table["with_network"], table["mistakes"])
    table["expected"] /= table["mistakes"]
    return table


def error_readings(votes):
    """The error rate read in four ways: {reading: (value, lo, hi, faces)}, Wilson's intervals.

    - ``label``: against the set's labels, every face.
    - ``label_sure``: the same, where one class has at least six votes.
    - ``label_confirmed``: the same, where the crowd's plurality is the label: no noisy label
      that the crowd can see, but easier faces too, so a lower bound rather than the truth.
    - ``crowd``: against the crowd's plurality, where that is one of the classes.
    Readings without a face are left out.
    """
    faces, k = votes["faces"], len(votes["classes"])
    flat, index = faces.sum(axis=3), np.arange(k)
    cases = {
        "label": faces.sum(axis=(2, 3)),
        "label_sure": faces[..., SURE:].sum(axis=(2, 3)),
        "label_confirmed": flat[index, :, index],
        "crowd": flat[:, :, :k].sum(axis=0).T,
    }
    found = {}
    for name, matrix in cases.items():
        if n := int(matrix.sum()):
            wrong = n - int(np.trace(matrix))
            found[name] = (wrong / n, *(float(v) for v in wilson(wrong, n)), n)
    return found
