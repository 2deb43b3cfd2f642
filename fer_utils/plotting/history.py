"""Chapter 2: loss and accuracy by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_utils.plotting.style import ACCENT, MUTED, figure

TRAIN, VALID = MUTED, ACCENT
QUANTITIES = (("loss", "cross-entropy (nats)", 1), ("accuracy", "accuracy (%)", 100))


def histories(named: dict[str, pd.DataFrame], chance: float) -> Figure:
    """Loss above, accuracy below; a column a fit, on common scales.

    Args:
        named: title -> history (columns as in ``runs``); at most three.
        chance: accuracy of guessing, 0–1, drawn as a line.
    """
    drawn, axes = figure(2, len(named), height=4.3, sharey="row", sharex="col", squeeze=False)
    for column, (title, history) in enumerate(named.items()):
        for row, (quantity, label, unit) in enumerate(QUANTITIES):
            ax = axes[row, column]
            train = unit * history[f"train_{quantity}"]
            valid = unit * history[f"valid_{quantity}"]
            ax.plot(
                history["epoch"], train, color=TRAIN, label="Training (sample)", ls=(0, (4, 1.5))
            )
            ax.plot(history["epoch"], valid, color=VALID, label="PublicTest")
            ax.grid(axis="y")
            if column == 0:
                ax.set_ylabel(label)
            if quantity == "loss":
                ax.set_title(title)
                mark(ax, history["epoch"], valid, train, np.argmin, "lowest")
            else:
                ax.axhline(unit * chance, color="#BBBBBB", lw=0.8, ls=":")
                ax.set_ylim(0, 103)
                ax.set_xlabel("epoch")
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
                mark(ax, history["epoch"], valid, train, np.argmax, "highest")
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


def gaps(named: dict[str, pd.DataFrame], colours: dict[str, str]) -> Figure:
    """PublicTest loss less training loss by epoch, a line a fit: what was memorised."""
    drawn, ax = figure(height=2.3, width=5.2)
    for name, history in named.items():
        gap = history["valid_loss"] - history["train_loss"]
        ax.plot(history["epoch"], gap, color=colours[name], label=name)
    ax.axhline(0, color="#888888", lw=0.7)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("PublicTest − training loss (nats)")
    ax.grid(axis="y")
    ax.legend(loc="best")
    return drawn


def spread(histories: dict[int, pd.DataFrame]) -> Figure:
    """PublicTest loss and accuracy by epoch, a line a seed; the first seed is the run's own."""
    drawn, axes = figure(1, 2, height=2.3)
    for ax, (quantity, label, unit) in zip(axes, QUANTITIES, strict=True):
        for k, (seed, history) in enumerate(histories.items()):
            values = unit * history[f"valid_{quantity}"]
            style = {"color": MUTED, "lw": 0.8} if k else {"color": VALID, "zorder": 3}
            ax.plot(history["epoch"], values, label=f"seed {seed}", **style)
        ax.set_xlabel("epoch")
        ax.set_ylabel(label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
    axes[1].legend(loc="lower right")
    return drawn
