"""Figures of chapter 3: which expressions are mistaken for which, and by whom."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fer_utils import metrics
from fer_utils.plotting import style
from fer_utils.plotting.confusion_words import pair_names, percent

PEOPLE = "#D55E00"  # whatever is of people; the network is style.ACCENT


def _cells(ax, classes, shade, text, small=None, size=7.0, limit=1.0):
    """A heat map with a text in each cell, and a smaller one below it."""
    ax.imshow(np.nan_to_num(shade), cmap=style.AMOUNT, vmin=0, vmax=limit, aspect="auto")
    light = np.nan_to_num(shade) > 0.75 * limit
    style.written(ax, text, light, 0 if small is None else -0.16, fontsize=size)
    if small is not None:
        style.written(ax, small, light, 0.24, fontsize=size - 1.2)
    ax.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(classes)), classes)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def plot_matrices(matrix: np.ndarray, classes) -> Figure:
    """By true class, by predicted class (percent with intervals), and in counts."""
    figure, axes = style.figure(2, 2, height=7.2, height_ratios=(1.1, 1))
    for ax in axes[0]:
        ax.remove()
    wide = figure.add_subplot(axes[0, 0].get_gridspec()[0, :])
    shares = np.vectorize(percent)
    for ax, total, title, size in (
        (wide, matrix.sum(axis=1, keepdims=True), "of the faces labelled so, %", 8),
        (axes[1, 0], matrix.sum(axis=0, keepdims=True), "of the faces predicted so, %", 7),
    ):
        share = np.where(total > 0, matrix / np.maximum(total, 1), np.nan)
        lo, hi = metrics.wilson(matrix, total)
        between = np.char.add(np.char.add(shares(lo), "–"), shares(hi))
        _cells(ax, classes, share, shares(share), np.where(total > 0, between, ""), size)
        ax.set_title(title)
    support = [f"{name} ({n})" for name, n in zip(classes, matrix.sum(axis=1), strict=True)]
    wide.set_yticks(range(len(classes)), support)
    _cells(axes[1, 1], classes, matrix, matrix.astype(str), size=7, limit=max(1, matrix.max()))
    axes[1, 1].set_title("faces")
    for ax in (wide, axes[1, 0]):
        ax.set_ylabel("label")
    for ax in (wide, *axes[1]):
        ax.set_xlabel("prediction")
    return figure


def plot_difference(difference: np.ndarray, p: np.ndarray, classes, level: float = 0.05) -> Figure:
    """Row-normalised matrix less another's, in percentage points; sure cells are framed."""
    figure, ax = style.figure(height=3.6, width=5.2)
    points = 100 * difference
    limit = max(1.0, abs(points).max())
    image = ax.imshow(points, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    told = np.vectorize(lambda v: f"{v:+.0f}".replace("-", "−") if round(v) else "0")
    style.written(ax, told(points), abs(points) > 0.6 * limit, fontsize=8)
    for row, column in np.argwhere(p < level):
        ax.texts[row * len(classes) + column].set_weight("bold")
        corner = column - 0.46, row - 0.46
        ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor="black", linewidth=1.4))
    ax.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(classes)), classes)
    ax.set(xlabel="prediction", ylabel="label")
    figure.colorbar(image, ax=ax, label="percentage points")
    return figure


def plot_pairs(
    table: pd.DataFrame, claimed, voters: np.ndarray | None = None, classes=()
) -> Figure:
    """Confusability and asymmetry of every pair with intervals, most confused on top.

    Args:
        table: of ``metrics.pairs``.  claimed: pairs of names to be marked.
        voters, classes: P(another voter says b | a voter says a), to be shown beside it.
    """
    figure, (left, right) = style.figure(
        1, 2, height=0.7 + 0.21 * len(table), sharey=True, width_ratios=(1.15, 1)
    )
    marked = [frozenset(pair) for pair in claimed]
    places = np.arange(len(table))
    for place, (_, row) in zip(places, table.iterrows(), strict=True):
        in_claim = frozenset((row["first"], row["second"])) in marked
        look = {
            "color": "black" if in_claim else style.ACCENT,
            "linewidth": 2.2 if in_claim else 1.4,
        }
        left.plot(100 * row[["lo", "hi"]].to_numpy(float), [place] * 2, **look)
        left.plot(100 * row["confusability"], place, "D" if in_claim else "o", ms=4.5, **look)
        right.plot(100 * row[["asymmetry_lo", "asymmetry_hi"]].to_numpy(float), [place] * 2, **look)
        sure = row["asymmetry_p"] < 0.05
        face = look["color"] if sure else "white"
        marker = "D" if in_claim else "o"
        right.plot(100 * row["asymmetry"], place, marker, ms=4.5, markerfacecolor=face, **look)
    if voters is not None:
        names = list(classes)
        i, j = ([names.index(n) for n in table[side]] for side in ("first", "second"))
        rate = 50 * (voters[i, j] + voters[j, i])
        left.plot(rate, places, "x", color=PEOPLE, ms=5, mew=1.6, label="two voters of one face")
        left.legend(loc="lower right")
    names = [f"{r.first}–{r.second}  ({r.best_rank}–{r.worst_rank})" for r in table.itertuples()]
    left.set_yticks(places, names)
    left.set_ylim(max(len(table), 1) - 0.5, -0.5)
    left.set_xlim(left=0)
    left.set_xlabel("confusability, %")
    right.set_xlabel("asymmetry, percentage points\n(first taken for second) − (second for first)")
    right.axvline(0, color=style.MUTED, linewidth=0.8)
    for ax in (left, right):
        ax.grid(axis="x")
        ax.set_axisbelow(True)
    return figure


def plot_calibration(
    before: pd.DataFrame, after: pd.DataFrame, coverage, risk, other=None
) -> Figure:
    """Reliability before and after temperature scaling; accuracy when it may decline.

    Args:
        before, after: of ``metrics.reliability``.  coverage: shares (c,).
        risk: (value, lo, hi) of ``metrics.bootstrap_probabilities``; other: a second fit's or None.
    """
    figure, (left, right) = style.figure(1, 2, height=3.1)
    left.plot([0, 1], [0, 1], color=style.MUTED, linewidth=0.9, label="perfect")
    for table, shift, name, colour, marker in (
        (before, -0.004, "as trained", PEOPLE, "s"),
        (after, 0.004, "after temperature", style.ACCENT, "o"),
    ):
        look = {"fmt": marker, "color": colour, "linewidth": 1.1, "label": name}
        _accuracy(left, table["confidence"] + shift, table, **look)
    left.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    left.legend(loc="upper left")
    coverage = 100 * np.asarray(coverage)
    curves = [("this run", risk, style.ACCENT, "-")]
    curves += [] if other is None else [("original recipe", other, PEOPLE, "--")]
    for name, (value, lo, hi), colour, line in curves:
        right.fill_between(coverage, 100 * (1 - hi), 100 * (1 - lo), color=colour, alpha=0.18, lw=0)
        right.plot(coverage, 100 * (1 - value), line, color=colour, label=name)
    right.set(xlabel="faces answered, %", ylabel="accuracy on those, %", xlim=(0, 100))
    right.legend(loc="lower left")
    for ax in (left, right):
        ax.grid()
        ax.set_axisbelow(True)
    return figure


def _accuracy(ax, x, table: pd.DataFrame, unit: int = 1, **look) -> None:
    """Accuracy over ``x`` with its interval."""
    error = table["accuracy"] - table["lo"], table["hi"] - table["accuracy"]
    ax.errorbar(x, unit * table["accuracy"], yerr=unit * np.maximum(error, 0), ms=4, **look)


def plot_people(network: np.ndarray, rows: np.ndarray, voters: np.ndarray, classes) -> Figure:
    """Rows of the network, of votes given the label, and of a second voter given the first."""
    figure, axes = style.figure(1, 3, height=2.75, sharey=True)
    for ax, matrix, title in (
        (axes[0], network, "network, given the label"),
        (axes[1], rows, "a voter, given the label"),
        (axes[2], voters, "a voter, given another"),
    ):
        text = np.vectorize(percent)(matrix)
        _cells(ax, classes, matrix, text, size=6.8)
        ax.set_title(title)
        ax.set_xlabel("answer, %")
    axes[0].set_ylabel("label")
    axes[2].set_ylabel("first voter")
    return figure


def plot_agreement(by_votes: pd.DataFrame, mistakes: pd.DataFrame, most: int = 8) -> Figure:
    """Accuracy by how many voters agree; whom the crowd sides with in each pair's mistakes."""
    figure, (left, right) = style.figure(1, 2, height=3.3, width_ratios=(1, 1.25))
    look = {"fmt": "o-", "color": style.ACCENT, "linewidth": 1.2}
    _accuracy(left, by_votes["votes"], by_votes, 100, **look)
    for _, row in by_votes.iterrows():
        left.annotate(
            f"{row['faces']:.0f}", (row["votes"], 2), ha="center", rotation=90, fontsize=6.5
        )
    left.set(xlabel="votes for the commonest class\n(faces along the foot)", ylabel="accuracy, %")
    left.set_ylim(0, 103)
    left.grid(axis="y")
    table = mistakes.sort_values("mistakes", ascending=False, kind="stable").head(most + 1)
    names = ["all mistakes" if pair == "all–all" else pair for pair in pair_names(table)]
    places, start = np.arange(len(table)), np.zeros(len(table))
    for column, name, colour, hatch in (
        ("with_network", "the network", style.ACCENT, ""),
        ("neither", "neither", "#D9D9D9", "..."),
        ("with_label", "the label", "#E69F00", "///"),
    ):
        share = 100 * (table[column] / table["mistakes"]).to_numpy()
        right.barh(
            places, share, left=start, color=colour, hatch=hatch, label=name, ec="white", lw=0
        )
        start = start + share
    right.plot(
        100 * table["expected"],
        places,
        "|",
        color="black",
        ms=11,
        mew=2,
        label="by the label alone",
    )
    right.set_yticks(places, [f"{n} ({m})" for n, m in zip(names, table["mistakes"], strict=True)])
    right.set_ylim(max(len(table), 1) - 0.5, -0.5)
    right.set_xlim(0, 100)
    right.set_xlabel("mistakes in which the crowd's plurality is …, %")
    right.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return figure
