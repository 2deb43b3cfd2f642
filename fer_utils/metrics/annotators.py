"""People beside the network: what the votes of a crowd say of labels and mistakes.

Common to every function::

    votes      (n, 10)  counts in FER+'s column order, ten voters a face
    labels     (n,)     int class index
    predicted  (n,)     int class index
    classes    (k,)     names that the indices stand for, each one of FER+'s seven emotions

**The crowd's answer** to a face is its *plurality*, the one of the ten columns with most votes
(``data.plurality``). Where two columns tie, or where contempt, 'unknown' or 'no face' wins,
the crowd is *undecided*: -1.
"""

import numpy as np
import pandas as pd

from ..data import EMOTIONS, plurality
from ..data.ferplus import COLUMNS, EMOTION_OF_COLUMN
from .comparison import favoured, mcnemar
from .confusion import (
    Z,
    class_indices,
    confusability,
    confusion_matrix,
    percentiles,
    ratio,
    shares,
    with_accuracy,
)

CLEAR = 6  # of ten votes for one class: a clear majority
UNDECIDED = -1
FERPLUS_NOTICE = """\
FER+ votes (github.com/microsoft/FERPlus), shipped under this notice:

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


def votes_of(stored, rows):
    """The votes (n, 10) of the faces ``rows`` from what a run ships: arrays row, votes, notice."""
    table = pd.DataFrame(stored["votes"], stored["row"]).astype(np.int64)
    if missing := set(rows) - set(table.index):
        raise ValueError(f"face {min(missing)} has no votes in the run; make its votes again")
    return table.loc[rows].to_numpy()


def votes_by_class(votes, classes=EMOTIONS):
    """Votes (n, k + 1): the classes in their order, then all other answers together."""
    votes = np.asarray(votes)
    counts = votes.dtype.kind in "iu" and not (votes < 0).any()
    if not counts or votes.shape != (len(votes), len(COLUMNS)):
        have = f"{votes.dtype} {votes.shape}"
        raise ValueError(f"votes {have}: expected counts, a column each of {', '.join(COLUMNS)}")
    votes = votes.astype(np.int64)
    total = votes.sum(axis=1)
    if (total < 2).any():
        row = int(np.argmax(total < 2))
        raise ValueError(f"votes[{row}] sum to {total[row]}: two voters are the least")
    if missing := [name for name in classes if name not in EMOTION_OF_COLUMN]:
        raise ValueError(f"no column of votes stands for {missing[0]!r}; known: {EMOTIONS}")
    own = votes[:, [EMOTION_OF_COLUMN.index(name) for name in classes]]
    return np.column_stack([own, total - own.sum(axis=1)])


def crowd_answer(votes, classes=EMOTIONS):
    """The crowd's answer (n,) as index into ``classes``; -1 where it is undecided."""
    place = {name: index for index, name in enumerate(classes)}
    places = [place.get(name, UNDECIDED) for name in EMOTIONS]
    return np.array([*places, UNDECIDED])[plurality(votes)]


def clear_majority(votes):
    """(n,) bool: one of the seven classes has at least six of the ten votes."""
    return votes_by_class(votes)[:, :-1].max(axis=1) >= CLEAR


def vote_rows(votes, labels, classes=EMOTIONS):
    """The mean share of the votes for each class on faces of one label, (k, k + 1).

    So a random voter answers on those faces; the last column is every other answer.
    """
    votes, k = votes_by_class(votes, classes), len(classes)
    labels = class_indices(labels, k)
    share = votes / votes.sum(axis=1, keepdims=True)
    return ratio(np.eye(k)[labels].T @ share, np.bincount(labels, minlength=k)[:, None])


def divergence(p, q):
    """Jensen-Shannon divergence in bits over the last axis: 0 the same, 1 nothing in common."""
    from scipy.special import rel_entr

    p, q = shares(p), shares(q)
    middle = (p + q) / 2
    nats = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / 2
    return np.maximum(0, nats / np.log(2))  # rounding can leave a little below 0


def people_and_network(votes, labels, predicted, classes=EMOTIONS, draws=2000):
    """Table: one row a class with faces: how far the network's row is from the voters', in bits.

    ``divergence`` between the predictions and the votes (among the classes) for faces of one
    label. Votes and predictions are of the same faces, so these are drawn again together. Few
    faces alone make two rows diverge, and resamples do so once more: their mean excess is taken
    off the value, and the interval is reflected (basic bootstrap); both are cut at 0.
    """
    k = len(classes)
    votes, labels = votes_by_class(votes, classes), class_indices(labels, k)
    share = votes[:, :-1] / votes.sum(axis=1, keepdims=True)
    answers = np.eye(k)[class_indices(predicted, k, "predicted")]
    table = {}
    for index in np.unique(labels):
        own = labels == index
        n = own.sum()
        value = divergence(answers[own].sum(axis=0), share[own].sum(axis=0))
        weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), draws)
        again = divergence(weights @ answers[own], weights @ share[own])
        low, high = percentiles(again)
        found = np.maximum(0, 2 * value - np.array([again.mean(), high, low]))
        table[classes[index]] = [n, *found]
    columns = ["faces", "divergence", "lo", "hi"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns)


def pair_gaps(votes, labels, predicted, classes=EMOTIONS):
    """Table: confusability of each pair by voters and by the network, the largest gap first.

    Columns first, second, voters, network, gap = voters - network; both are given the label.
    Pairs with a class that has no face are left out.
    """
    k, names = len(classes), np.array(list(classes))
    i, j = np.triu_indices(k, 1)
    rates = vote_rows(votes, labels, classes)[:, :-1]
    voters = ((rates + rates.T) / 2)[i, j]
    network = confusability(confusion_matrix(labels, predicted, k))[i, j]
    table = pd.DataFrame({"first": names[i], "second": names[j], "voters": voters})
    table = table.assign(network=network, gap=voters - network).dropna()
    return table.sort_values("gap", key=abs, ascending=False, kind="stable", ignore_index=True)


def agreement(votes, labels, predicted, classes=EMOTIONS):
    """Table: how often a random voter agrees with prediction, label or *another* voter.

    Two different voters of a face agree with chance Σ n(n - 1) / N(N - 1) over the classes.

    Columns value, lo, hi: normal intervals of means over faces. The last row,
    ``prediction_minus_voter``, is above 0 where the network agrees with a person more often
    than another person does.
    """
    counts, k = votes_by_class(votes, classes), len(classes)
    total, own = counts.sum(axis=1), counts[:, :-1]
    share, rows = counts / total[:, None], np.arange(len(counts))
    each = pd.DataFrame(
        {
            "prediction": share[rows, class_indices(predicted, k, "predicted")],
            "label": share[rows, class_indices(labels, k)],
            "voter": (own * (own - 1)).sum(axis=1) / (total * (total - 1)),
        }
    )
    each["prediction_minus_voter"] = each["prediction"] - each["voter"]
    half = Z * each.std(ddof=0) / np.sqrt(len(each))
    mean = each.mean()
    return pd.DataFrame({"value": mean, "lo": mean - half, "hi": mean + half})


def label_agreement(votes, labels, classes=EMOTIONS):
    """Table (faces, value): how often people give the set's own label, counted in four ways.

    A random voter, as a mean over classes or over faces; and the crowd, with undecided faces
    counted against it or left out.
    """
    counts, labels = votes_by_class(votes, classes), class_indices(labels, len(classes))
    share = counts[np.arange(len(labels)), labels] / counts.sum(axis=1)
    answer = crowd_answer(votes, classes)
    decided, right = answer != UNDECIDED, answer == labels
    rows = {
        "a random voter, mean over classes": (len(labels), pd.Series(share).groupby(labels).mean()),
        "a random voter, mean over faces": (len(labels), share),
        "the crowd, undecided counted against it": (len(labels), right),
        "the crowd, where it is decided": (decided.sum(), right[decided]),
    }
    found = {
        name: (int(faces), np.mean(each) if faces else np.nan)
        for name, (faces, each) in rows.items()
    }
    return pd.DataFrame.from_dict(found, orient="index", columns=["faces", "value"])


def mistakes(votes, labels, predicted, classes=EMOTIONS):
    """Whom does the crowd side with where prediction and label differ?

    Table: first all mistakes ('all', 'all'), then those of each pair of classes, the most
    frequent first: mistakes, of them with_network, with_label, with_nobody (another answer, or
    undecided). ``expected``: the share with_network if its wrong answers were shuffled among
    the mistakes of one label. Only what exceeds it says that the network saw something in
    *these* faces.
    """
    k, names = len(classes), np.array(list(classes))
    labels, predicted = class_indices(labels, k), class_indices(predicted, k, "predicted")
    answer = crowd_answer(votes, classes)
    decided = answer != UNDECIDED
    wrong = labels != predicted
    answers = confusion_matrix(labels[wrong & decided], answer[wrong & decided], k)
    rate = ratio(answers, np.bincount(labels[wrong], minlength=k)[:, None])
    faces = pd.DataFrame(
        {
            "first": names[np.minimum(labels, predicted)],
            "second": names[np.maximum(labels, predicted)],
            "with_network": answer == predicted,
            "with_label": answer == labels,
            "expected": rate[labels, predicted],
        }
    )[wrong]
    everything = faces.assign(first="all", second="all")
    grouped = pd.concat([everything, faces]).groupby(["first", "second"], sort=False)
    table = grouped[["with_network", "with_label"]].sum()
    table.insert(0, "mistakes", grouped.size())
    table["with_nobody"] = table["mistakes"] - table["with_network"] - table["with_label"]
    table["expected"] = grouped["expected"].mean()
    return table.sort_values("mistakes", ascending=False, kind="stable").reset_index()


def readings(votes, labels, predicted, classes=EMOTIONS):
    """Table: accuracy against the label, of the network and of the crowd, on four sets of faces.

    - ``every``: all of them; undecided faces count against the crowd.
    - ``decided``: where the crowd has an answer.
    - ``clear``: where the voters have a clear majority.
    - ``confirmed``: where the crowd's answer is the label: no noisy label that the crowd can
      see, but easier faces too, so 1 - accuracy is a lower bound of the network's own error.

    Columns faces, network, lo, hi (Wilson), crowd, p (McNemar's exact test of the two), favoured:
    'first' where the network is significantly better, 'second' where the crowd is, or 'neither'.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    answer = crowd_answer(votes, classes)
    parts = {
        "every": np.ones(len(labels), dtype=bool),
        "decided": answer != UNDECIDED,
        "clear": clear_majority(votes),
        "confirmed": answer == labels,
    }
    rows = {}
    for name, part in parts.items():
        truth, own, theirs = labels[part], predicted[part], answer[part]
        only_network, only_crowd, p = mcnemar(truth, own, theirs)
        rows[name] = {
            "faces": len(truth),
            "hits": (own == truth).sum(),
            "crowd": (theirs == truth).sum() / len(truth) if len(truth) else np.nan,
            "p": p,
            "favoured": favoured(only_network, only_crowd),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = with_accuracy(table, table["hits"]).rename(columns={"accuracy": "network"})
    return table[["faces", "network", "lo", "hi", "crowd", "p", "favoured"]]
