"""Sentences of chapter 3, every number and verdict in them computed from the tables given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fer_utils import metrics

# What the report said, and its own matrix: a student report, NTU Machine Learning 2019.
CLAIM = (("Fear", "Sad"), ("Fear", "Neutral"))
REPORT_CELLS = {
    "Fear→Sad": 0.21,
    "Sad→Neutral": 0.21,
    "Neutral→Sad": 0.18,
    "Angry→Sad": 0.17,
    "Fear→Angry": 0.14,
    "Fear→Neutral": 0.13,
}
REPORT_RECALL = {
    "Angry": 0.40,
    "Disgust": 0.36,
    "Fear": 0.34,
    "Happy": 0.72,
    "Sad": 0.41,
    "Surprise": 0.65,
    "Neutral": 0.46,
}

SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "mcc": "MCC",
    "kappa": "Cohen's κ",
    "top2": "top-2 accuracy",
}
READINGS = {
    "label": "against the label, every face",
    "label_sure": "against the label, where at least 6 voters agree",
    "label_confirmed": "against the label, where the crowd confirms it",
    "crowd": "against the crowd's plurality",
}


def percent(value: float, digits: int = 0) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.{digits}f}"


def said(value: float, lo: float, hi: float, digits: int = 3) -> str:
    """``0.412 [0.391, 0.433]``; a dash where there is nothing to tell."""
    if np.isnan(value):
        return "–"
    return f"{value:.{digits}f} [{lo:.{digits}f}, {hi:.{digits}f}]"


def said_percent(value: float, lo: float, hi: float) -> str:
    """``41 % [39, 43]``."""
    return f"{percent(value)} % [{percent(lo)}, {percent(hi)}]"


def said_rank(row) -> str:
    """``rank 4 (2–11)``: where a pair ranks, and where the data allow it to."""
    return f"rank {row['rank']} ({row['best_rank']}–{row['worst_rank']})"


def listed(names, none: str = "none") -> str:
    """``a, b and c``."""
    names = list(names)
    return none if not names else " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def pair_names(table: pd.DataFrame) -> list[str]:
    return [f"{a}–{b}" for a, b in zip(table["first"], table["second"], strict=True)]


def pair_table(table: pd.DataFrame, most: int = 6) -> pd.DataFrame:
    """The leading rows of ``metrics.pairs``, as a reader wants them."""
    shown = table.head(most)
    rows = {
        "pair": pair_names(shown),
        "ranks left open": [f"{r.best_rank}–{r.worst_rank}" for r in shown.itertuples()],
        "mistakes": shown["faces"].to_numpy(),
        "confusability, %": [said_percent(r.confusability, r.lo, r.hi) for r in shown.itertuples()],
        "first taken for second, %": [percent(v, 1) for v in shown["first_as_second"]],
        "second taken for first, %": [percent(v, 1) for v in shown["second_as_first"]],
        "p of no asymmetry (Holm)": [
            "< 0.001" if v < 0.001 else f"{v:.2g}" for v in shown["asymmetry_p"]
        ],
    }
    return pd.DataFrame(rows, index=shown["rank"])


def largest_cells(matrix: np.ndarray, classes, most: int = 6) -> str:
    """``Sad→Neutral 28 % [24, 32], …``: the largest shares of a label that another class takes."""
    share = np.nan_to_num(metrics.shares(matrix)) * ~np.eye(len(matrix), dtype=bool)
    lo, hi = metrics.wilson(matrix, matrix.sum(axis=1, keepdims=True))
    order = np.argsort(-share, axis=None, kind="stable")[:most]
    cells = [np.unravel_index(place, matrix.shape) for place in order]
    return ", ".join(
        f"{classes[i]}→{classes[j]} {said_percent(share[i, j], lo[i, j], hi[i, j])}"
        for i, j in cells
    )


def guessing(matrix: np.ndarray) -> str:
    """Why the matrix can't speak of expressions, or an empty text where it can."""
    value, lo, hi = metrics.bootstrap_scores(matrix, draws=2000)["mcc"]
    if np.trace(matrix) == matrix.sum():
        return f"It makes no mistake on these {matrix.sum()} faces, so no pair is confused."
    if lo <= 0:
        return (
            f"It does no better than guessing (MCC {said(value, lo, hi, 2)} on {matrix.sum()} "
            "faces), so its mistakes say nothing about expressions."
        )
    return ""


def leaders(table: pd.DataFrame) -> str:
    """Which pair is confused most, and which others may be."""
    if table.empty:
        return "Fewer than two classes have faces, so there is no pair."
    if not table["faces"].any():
        return "No pair of classes is ever confused on these faces."
    first, also = table.iloc[0], metrics.claim(table, [])["leaders"].iloc[1:]
    also = also[also["rank"] > 1]
    rate = said_percent(first["confusability"], first["lo"], first["hi"])
    measured = (
        f"**{pair_names(table)[0]}** (one is taken for the other in {rate} of their faces, mean "
        "of both directions"
    )
    if first["best_rank"] == first["worst_rank"]:
        return f"Most confused is {measured}), clear of every other pair."
    text = f"Highest stands {measured}; {said_rank(first)}, {first['faces']} mistakes)"
    if len(also) > 4:
        return text + f", but {len(also) + 1} of {len(table)} pairs may be first."
    ranked = [f"{row['first']}–{row['second']} ({said_rank(row)})" for _, row in also.iterrows()]
    return text + (f"; {listed(ranked)} may lead as well." if ranked else ".")


def verdict(table: pd.DataFrame, claimed) -> str:
    """Whether the claimed pairs lead: one sentence with their ranks."""
    found = metrics.claim(table, claimed)
    said_pairs = listed(f"{a}–{b}" for a, b in claimed)
    rows = found["rows"].iterrows()
    ranks = listed(f"{row['first']}–{row['second']} {said_rank(row)}" for _, row in rows)
    above = listed(pair_names(found["above"].head(3)))
    return {
        "holds": f"That {said_pairs} lead **holds**: {ranks}.",
        "fails": f"That {said_pairs} lead **does not hold**: {ranks}; surely confused more than "
        f"one of them: {above}.",
        "open": f"Whether {said_pairs} lead **stays open** on so many faces: {ranks}.",
        "untestable": f"Whether {said_pairs} lead **cannot be tested**: a class has no face.",
    }[found["verdict"]]


def labels_or_network(votes: dict) -> str:
    """Whose the mistakes are, by the crowd's plurality: one or two sentences."""
    crowd = votes["faces"].sum(axis=(1, 3))[:, : len(votes["classes"])]
    if not crowd.sum() or metrics.bootstrap_scores(crowd, draws=2000)["mcc"][1] <= 0:
        return (
            "The votes agree with the labels no better than chance, so they can't judge mistakes."
        )
    table = metrics.mistakes(votes)
    if table.empty:
        return "There is no mistake for the crowd to judge."
    row = table[table["first"] == "all"].iloc[0]
    p = metrics.sign_test(row["with_network"], row["with_label"])
    if p >= 0.05:
        judged = "the data do not say whether labels or network are to blame more often"
    elif row["with_network"] > row["with_label"]:
        judged = "**by the crowd's reckoning the label is in doubt more often than the network**"
    else:
        judged = "**by the crowd's reckoning the network is wrong more often than the label**"
    surplus = "more than" if row["lo"] > row["expected"] else "not surely more than"
    return (
        f"Of its {row['mistakes']} mistakes the crowd's plurality sides with the network in "
        f"{said_percent(row['share'], row['lo'], row['hi'])} ({surplus} the "
        f"{percent(row['expected'])} % that the labels alone would give), with the label in "
        f"{percent(row['with_label'] / row['mistakes'])} %: {judged}."
    )


def report_cells() -> str:
    """The report's own matrix beside its claim."""
    told = ", ".join(f"{cell} {100 * share:.0f} %" for cell, share in REPORT_CELLS.items())
    place = 1 + sum(share > REPORT_CELLS["Fear→Neutral"] for share in REPORT_CELLS.values())
    return (
        f"In the report's own matrix: {told}. So even there Fear→Neutral was only number {place}."
    )


def directions(table: pd.DataFrame, most: int = 3) -> str:
    """Of ``metrics.pairs``: how many pairs surely go one way, and the strongest of them."""
    sure = table[table["asymmetry_p"] < 0.05]
    if sure.empty:
        return f"None of the {len(table)} pairs surely goes one way more than the other."
    sure = sure.iloc[np.argsort(-abs(sure["asymmetry"].to_numpy()), kind="stable")][:most]
    told = []
    for row in sure.itertuples():
        ways = (row.first, row.second, row.first_as_second, row.second_as_first)
        source, target, there, back = ways if row.asymmetry > 0 else (*ways[1::-1], *ways[:1:-1])
        told.append(f"{source} for {target} ({percent(there)} %, back {percent(back)} %)")
    count = (table["asymmetry_p"] < 0.05).sum()
    return (
        f"{count} of {len(table)} pairs surely go one way more than the other; most of all it "
        f"takes {listed(told)}."
    )


def better(ours: int, theirs: int, p: float) -> str:
    """Verdict on two fits from the faces that only one of them gets right."""
    told = (
        f"Only this run is right on {ours} faces, only the original recipe on {theirs} "
        f"(McNemar's p {'< 0.001' if p < 0.001 else f'= {p:.2g}'}): "
    )
    if p >= 0.05:
        return told + "neither is surely better."
    return told + ("this run" if ours > theirs else "the original recipe") + " is **better**."


def original_verdict(matrix: np.ndarray, classes) -> str:
    """Whether the claim holds for the original's own recipe."""
    if reason := guessing(matrix):
        return f"Of the original recipe, trained on the same faces: {reason}"
    table = metrics.pairs(matrix, classes)
    ruling, first = verdict(table, CLAIM).split("**")[1], table.iloc[0]
    return (
        f"For the original recipe, trained on the same faces, the claim {ruling}; there "
        f"{pair_names(table)[0]} leads with "
        f"{said_percent(first['confusability'], first['lo'], first['hi'])}."
    )


def agreements(votes: dict, table: pd.DataFrame, voters: np.ndarray, classes) -> str:
    """How well network, label and voters agree, and whether they confuse the same pairs."""
    agree, names = metrics.agreement(votes), list(classes)
    i, j = ([names.index(name) for name in table[side]] for side in ("first", "second"))
    rate = pd.Series(voters[i, j] + voters[j, i])
    alike = rate.rank().corr(table["confusability"].rank())
    lead = pair_names(table)[int(rate.fillna(0).argmax())]
    _, lo, hi = agree["prediction_minus_voter"]
    verdict = "more often than" if lo > 0 else "less often than" if hi < 0 else "about as often as"
    ours = pair_names(table)[0]
    network_too = "and so does the network" if lead == ours else f"the network over {ours}"
    alike = "" if np.isnan(alike) else f" (rank correlation over the pairs {alike:.2f})"
    counts = votes["faces"]  # label, prediction, plurality, votes for it
    total, most = counts.sum(), counts.shape[-1] - 1
    best = counts.sum((0, 1, 2)) @ np.arange(most + 1) / (total * most)
    crowd, network = metrics.crowd_agreement(votes), np.einsum("kkcv->", counts) / total
    both = np.einsum("kkkv->", counts[:, :, : len(names)])
    p = metrics.sign_test(round(network * total) - both, round(crowd * total) - both)
    learned = ": it has learned habits of the labellers that the crowd does not share"
    habits = learned if network > crowd and p < 0.05 else ""
    return (
        f"A random voter agrees with the network on {said_percent(*agree['prediction'])} of the "
        f"faces, with the label on {said_percent(*agree['label'])}, with another voter on "
        f"{said_percent(*agree['voter'])}: the network agrees with a person **{verdict}** "
        f"another person does. No answer could do better than {percent(best)} %, which always "
        f"giving a face's most frequent one would reach. That one is the label on {percent(crowd)} "
        f"% of the faces, the network's answer on {percent(network)} %{habits}. Two voters differ "
        f"most over {lead}, {network_too}{alike}."
    )


def calibration(temperature: float, before: dict, after: dict) -> str:
    """What ECE and temperature say; ``before``, ``after``: of ``bootstrap_probabilities``."""
    kind = "too sure of itself" if temperature > 1 else "not sure enough of itself"
    if 0.95 < temperature < 1.05:
        kind = "about as sure of itself as it should be"
    low, high = metrics.TEMPERATURES
    edge = temperature < 1.01 * low or temperature > 0.99 * high
    edge = " (the edge of what was searched)" if edge else ""
    change = after["nll"][0] - before["nll"][0]
    return (
        f"The network is {kind}: the best temperature is {temperature:.2f}{edge}. It "
        f"{'lowers' if change < 0 else 'raises'} NLL by {abs(change):.3f} nats and takes ECE from "
        f"{before['ece'][0]:.3f} to {after['ece'][0]:.3f}."
    )


def declining(coverage, risk, shares=(1.0, 0.9, 0.7)) -> str:
    """Accuracy if it may decline faces; ``risk``: (value, lo, hi) over ``coverage``."""
    value, lo, hi = (1 - np.asarray(part) for part in risk)
    told = []
    for share in shares:
        at = int(np.argmin(abs(np.asarray(coverage) - share)))
        way = f"declining {100 * (1 - share):.0f} %" if share < 1 else "answering every face"
        told.append(f"{way} {said_percent(value[at], hi[at], lo[at])}")
    return f"Right answers among those given: {listed(told)}."


def without_copies(hits: np.ndarray, seen: np.ndarray) -> str:
    """Accuracy with and without the faces that training has seen, (n,) bool each."""
    if not seen.any():
        return f"None of the {len(seen)} faces has a pixel-identical copy in Training."
    parts = [
        said_percent(part.mean(), *map(float, metrics.wilson(part.sum(), len(part))))
        for part in (hits, hits[~seen], hits[seen])
        if len(part)
    ]
    return (
        f"{seen.sum()} of {len(seen)} faces have a pixel-identical copy in Training. Accuracy is "
        f"{parts[0]} with them, {parts[1]} without, {parts[-1]} on the copies alone."
    )


def mistaken(classes, answers, confidence, labels) -> list[str]:
    """A caption for each mistake: answer and confidence, and the label below it."""
    return [
        f"{classes[answer]} {sure:.2f}\nlabel {classes[label]}"
        for answer, sure, label in zip(answers, confidence, labels, strict=True)
    ]
