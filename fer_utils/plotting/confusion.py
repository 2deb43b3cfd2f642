"""Figures of chapter 3: which expressions are mistaken for which, and by whom."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fer_utils import metrics
from fer_utils.plotting import style
from fer_utils.plotting.text import pair_names, percent

# The run, and the two networks at most that it is compared with.
LOOKS = ((style.ACCENT, "-"), (style.MARKED, "--"), ("#009E73", "-."))
SIDES = (("network", style.ACCENT, ""), ("nobody", "#D9D9D9", "..."), ("label", "#E69F00", "///"))


def _cells(ax, classes, shade, text, size, small=None, limit=1.0):
    """A heat map with a text in each cell, and a smaller one below it."""
    shade = np.nan_to_num(shade)
    ax.imshow(shade, cmap=style.AMOUNT, vmin=0, vmax=limit, aspect="auto")
    light = shade > 0.75 * limit
    style.written(ax, text, light, 0 if small is None else -0.17, fontsize=size)
    if small is not None:
        style.written(ax, small, light, 0.22, fontsize=size - 1)
    _names(ax, classes)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _names(ax, classes):
    ax.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(classes)), classes)


def plot_matrices(matrix: np.ndarray, classes) -> Figure:
    """By label (percent with intervals), by prediction (percent), and in counts."""
    figure = Figure(figsize=(style.WIDTH, 7.4), dpi=style.DPI)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.35, 1))
    wide, left, right = (figure.add_subplot(grid[at]) for at in ((0, slice(None)), (1, 0), (1, 1)))
    text, support = np.vectorize(percent), matrix.sum(axis=1, keepdims=True)
    lo, hi = metrics.wilson(matrix, support)
    between = np.where(support > 0, np.char.add(np.char.add(text(lo), "–"), text(hi)), "")
    by_label, by_prediction = metrics.shares(matrix), metrics.shares(matrix.T).T
    _cells(wide, classes, by_label, text(by_label), 8.5, between)
    _cells(left, classes, by_prediction, text(by_prediction), 7.5)
    _cells(right, classes, matrix, matrix.astype(str), 7.5, limit=max(1, matrix.max()))
    faces = [f"{name} ({n})" for name, n in zip(classes, support[:, 0], strict=True)]
    wide.set_yticks(range(len(classes)), faces)
    wide.set(title="of the faces labelled so, %", xlabel="prediction", ylabel="label")
    left.set(title="of the faces predicted so, %", xlabel="prediction", ylabel="label")
    right.set(title="faces", xlabel="prediction")
    return figure


def plot_pairs(table: pd.DataFrame, claimed, voters: np.ndarray | None = None, classes=()):
    """Confusability of every pair: a dot a network, the mean with its interval.

    ``table`` of ``metrics.crossed_pairs``; pairs of names that are ``claimed`` stand in black.
    ``voters`` (k, k): confusability of two voters of one face, in the order of ``classes``.
    """
    figure, ax = style.figure(height=0.7 + 0.2 * len(table), width=5.2)
    marked = [set(pair) for pair in claimed]
    for place, row in table.iterrows():
        colour = "black" if {row["first"], row["second"]} in marked else style.ACCENT
        ends = 100 * row["lo"], 100 * row["hi"]
        ax.plot(ends, [place, place], color=colour, linewidth=2.4, alpha=0.35)
        each = 100 * np.array(row["each"])
        ax.plot(each, [place] * len(each), "o", color=colour, ms=3.2, alpha=0.7, mew=0)
        ax.plot(100 * row["confusability"], place, "|", color=colour, ms=9, mew=1.8)
    if voters is not None:
        i, j = ([list(classes).index(n) for n in table[side]] for side in ("first", "second"))
        ax.plot(100 * voters[i, j], table.index, "x", color=style.MARKED, ms=5, mew=1.6)
    style.rows_downwards(ax, pair_names(table))
    ax.set(xlim=(0, None), xlabel="confusability, %")
    ax.grid(axis="x")
    return figure


def plot_difference(difference: np.ndarray, p: np.ndarray, classes) -> Figure:
    """Row-normalised matrix less another's, in percentage points; significant cells framed.

    Violet is progress (more on the diagonal, less beside it), orange regress.
    """
    figure, ax = style.figure(height=3.6, width=5.2)
    points = 100 * difference
    progress = np.where(np.eye(len(classes), dtype=bool), points, -points)
    limit = max(1.0, abs(points).max())
    image = ax.imshow(progress, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    text = np.vectorize(lambda v: f"{v:+.0f}".replace("-", "−") if round(v) else "0")
    style.written(ax, text(points), abs(points) > 0.6 * limit, fontsize=8)
    for row, column in np.argwhere(p < 0.05):
        style.frame(ax, (column - 0.46, row - 0.46), 0.92, 0.92, "black", linewidth=1.4)
    _names(ax, classes)
    ax.set(xlabel="prediction", ylabel="label")
    bar = figure.colorbar(image, ax=ax, ticks=[-limit, 0, limit])
    bar.set_ticklabels(["regress", "same", "progress"])
    return figure


def plot_precision_recall(curves: dict, support) -> Figure:
    """A small panel a class: its precision over its recall, against all other classes.

    ``curves`` {network: {class: (precision, recall)}}, the run first; ``support`` {class: share
    of the faces}, the precision of guessing.
    """
    rows = -(-len(support) // 4)
    figure, axes = style.figure(rows, 4, height=0.5 + 1.6 * rows, sharex=True, sharey=True)
    axes = np.ravel(axes)
    for ax, (name, share) in zip(axes, support.items(), strict=False):
        for (network, found), (colour, line) in zip(curves.items(), LOOKS, strict=False):
            precision, recall = found[name]
            ax.plot(recall, precision, line, color=colour, linewidth=1.3, label=network)
        ax.axhline(share, color=style.MUTED, linewidth=0.9, ls=":", label="guessing")
        ax.set(title=name, xlim=(0, 1), ylim=(0, 1.02))
    for ax in axes[len(support) :]:
        ax.set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.supxlabel("recall", fontsize=8.5)
    figure.supylabel("precision", fontsize=8.5)
    return figure


def plot_calibration(tables: dict) -> Figure:
    """Accuracy by confidence: ``tables`` {network: of ``metrics.reliability``}, the run first."""
    figure, ax = style.figure(height=3.1, width=4.2)
    ax.plot([0, 1], [0, 1], color=style.MUTED, linewidth=0.9, label="perfectly calibrated")
    for (name, table), (colour, line) in zip(tables.items(), LOOKS, strict=False):
        error = table["accuracy"] - table["lo"], table["hi"] - table["accuracy"]
        look = {"fmt": f"o{line}", "color": colour, "linewidth": 1.1, "ms": 4, "label": name}
        ax.errorbar(table["confidence"], table["accuracy"], yerr=np.maximum(error, 0), **look)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    ax.legend(loc="upper left")
    ax.grid()
    return figure


def plot_people(network: np.ndarray, voters: np.ndarray, classes) -> Figure:
    """Answers of the network and of a random voter to the faces of one label, (k, k) each."""
    figure, axes = style.figure(1, 2, height=2.75, sharey=True)
    for ax, matrix, who in zip(axes, (network, voters), ("the network", "a voter"), strict=True):
        _cells(ax, classes, matrix, np.vectorize(percent)(matrix), 7.5)
        ax.set(title=who, xlabel="answer, %")
    axes[0].set_ylabel("label")
    return figure


def plot_mistakes(mistakes: pd.DataFrame) -> Figure:
    """Whom the crowd sides with: in all mistakes, and in those of the first eight pairs.

    ``mistakes`` of ``metrics.mistakes``.
    """
    figure, ax = style.figure(height=3.1, width=5.2)
    table = mistakes.head(1 + 8)
    start = np.zeros(len(table))
    for name, colour, hatch in SIDES:
        share = 100 * (table[f"with_{name}"] / table["mistakes"]).to_numpy()
        look = {"color": colour, "hatch": hatch, "label": name, "ec": "white", "lw": 0}
        ax.barh(table.index, share, left=start, **look)
        start += share
    expected = {"color": "black", "ms": 11, "mew": 2, "label": "network, by luck"}
    ax.plot(100 * table["expected"], table.index, "|", **expected)
    names = [f"{n} ({m})" for n, m in zip(pair_names(table), table["mistakes"], strict=True)]
    style.rows_downwards(ax, [name.replace("all–all", "all mistakes") for name in names])
    ax.set(xlim=(0, 100), xlabel="mistakes in which the crowd sides with …, %")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure
