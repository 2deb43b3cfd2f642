"""Chapter 2: loss, accuracy and learning rate by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_utils.plotting.style import ACCENT, CLASS_COLOURS, MUTED, figure

TRAIN, VALID = MUTED, ACCENT
QUANTITIES = (("loss", "cross-entropy (nats)", 1), ("accuracy", "accuracy (%)", 100))


def histories(named: dict[str, pd.DataFrame], chance: float) -> Figure:
    """Loss, accuracy and learning rate; a column a model, on common scales and epochs.

    ``chance``: accuracy of always answering the most frequent class, 0–1, drawn as a line.
    """
    drawn, axes = figure(
        3, len(named), height=5.4, sharey="row", sharex="all", squeeze=False,
        height_ratios=(3, 3, 1),
    )  # fmt: skip
    for column, (title, history) in enumerate(named.items()):
        for row, (quantity, label, unit) in enumerate(QUANTITIES):
            ax = axes[row, column]
            train, valid = (unit * history[f"{of}_{quantity}"] for of in ("train", "valid"))
            epochs = history["epoch"]
            ax.plot(epochs, train, color=TRAIN, label="Training (sample)", ls=(0, (4, 1.5)))
            ax.plot(epochs, valid, color=VALID, label="PublicTest")
            pick, word = (np.argmax, "highest") if row else (np.argmin, "lowest")
            mark(ax, epochs, valid, train, pick, word)
            ax.grid(axis="y")
            axes[row, 0].set_ylabel(label)
        axes[0, column].set_title(title)
        axes[1, column].axhline(100 * chance, color=MUTED, lw=0.9, ls=":")
        axes[1, column].set_ylim(0, 103)
        axes[2, column].plot(epochs, history["learning_rate"], color="#444444", lw=1.2)
        axes[2, column].set(xlabel="epoch", yscale="log")
        axes[2, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[2, 0].set_ylabel("learning rate")
    axes[1, -1].annotate(
        "the most frequent class, always", (1, 100 * chance), (0, -10), fontsize=7.5, color=MUTED,
        xycoords=axes[1, -1].get_yaxis_transform(), textcoords="offset points", ha="right",
    )  # fmt: skip
    axes[0, 0].legend(loc="best")
    return drawn


def mark(ax, x: pd.Series, y: pd.Series, other: pd.Series, pick, word: str) -> None:
    """A dot on the curve's extreme, with its epoch and value, where the other curve is not."""
    at = int(pick(y.to_numpy()))
    ax.plot(x[at], y[at], "o", color=VALID, ms=4)
    room = 0.4 if word == "lowest" else 15  # nats, points: what the words need between curves
    below = (word == "lowest") != (abs(other[at] - y[at]) < room)
    ax.annotate(
        f"{word} {y[at]:.3g}, epoch {x[at]}", (x[at], y[at]),
        xytext=(0, -16 if below else 9), textcoords="offset points",
        ha="left" if at < len(x) / 2 else "right", fontsize=7.5, color=VALID,
    )  # fmt: skip


def gaps(named: dict[str, pd.DataFrame]) -> Figure:
    """PublicTest loss less training loss by epoch, a line a model; the first stands out."""
    drawn, ax = figure(height=2.9, width=5.2)
    colours = [ACCENT, *(c for c in CLASS_COLOURS.values() if c != ACCENT), MUTED]
    for k, (name, history) in enumerate(named.items()):
        gap = history["valid_loss"] - history["train_loss"]
        style = {"lw": 2.4, "zorder": 3} if k == 0 else {"lw": 1.2}
        ax.plot(history["epoch"], gap, color=colours[k % len(colours)], label=name, **style)
    ax.axhline(0, color="#888888", lw=0.7)
    ax.set(xlabel="epoch", ylabel="PublicTest − training loss (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return drawn


def seeds(own: pd.DataFrame, others: list[pd.DataFrame]) -> Figure:
    """PublicTest loss and accuracy by epoch: the run's own seed before the other ones."""
    drawn, axes = figure(1, 2, height=2.3)
    for ax, (quantity, label, unit) in zip(axes, QUANTITIES, strict=True):
        for k, history in enumerate(others):
            name = f"{len(others)} other seeds" if k == 0 else None
            ax.plot(history["epoch"], unit * history[f"valid_{quantity}"], color=MUTED, lw=0.8,
                    label=name)  # fmt: skip
        ax.plot(own["epoch"], unit * own[f"valid_{quantity}"], color=VALID, label="this run")
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
    axes[1].legend(loc="lower right")
    return drawn
