"""Chapter 2: loss, accuracy and learning rate by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_utils.plotting import style

TRAIN, VALID = style.MUTED, style.ACCENT
QUANTITIES = (("loss", "cross-entropy (nats)", 1), ("accuracy", "accuracy (%)", 100))


def histories(named: dict[str, pd.DataFrame], chance: float) -> Figure:
    """Loss, accuracy and learning rate; a column a model over its own epochs, on common scales.

    ``chance``: accuracy of always answering the most frequent class, 0–1, drawn as a line.
    """
    drawn, axes = style.figure(
        3, len(named), height=5.4, sharey="row", sharex="col", squeeze=False,
        height_ratios=(3, 3, 1),
    )  # fmt: skip
    for column, history in enumerate(named.values()):
        epochs = history["epoch"]
        for ax, (quantity, _, unit) in zip(axes[:2, column], QUANTITIES, strict=True):
            train, valid = (unit * history[f"{of}_{quantity}"] for of in ("train", "valid"))
            ax.plot(epochs, train, color=TRAIN, label="Training (sample)", ls=(0, (4, 1.5)))
            ax.plot(epochs, valid, color=VALID, label="PublicTest")
            mark(ax, epochs, valid, train, lowest=quantity == "loss")
            ax.grid(axis="y")
        axes[1, column].axhline(100 * chance, color=style.MUTED, lw=0.9, ls=":")
        axes[1, column].set_ylim(0, 103)
        axes[2, column].plot(epochs, history["learning_rate"], color="#444444", lw=1.2)
        axes[2, column].set(xlabel="epoch", yscale="log")
        axes[2, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    style.heads(axes, above=named, size=9)
    style.heads(axes, beside=[*(label for _, label, _ in QUANTITIES), "learning rate"], size=8.5)
    axes[1, -1].annotate(
        "the most frequent class, always", (1, 100 * chance), (0, -10), fontsize=7.5,
        xycoords=axes[1, -1].get_yaxis_transform(), textcoords="offset points", ha="right",
        color=style.MUTED,
    )  # fmt: skip
    axes[0, 0].legend(loc="best")
    return drawn


def mark(ax, x: pd.Series, y: pd.Series, other: pd.Series, lowest: bool) -> None:
    """A dot on the curve's extreme, with its epoch and value, where the other curve is not."""
    at = int(np.argmin(y) if lowest else np.argmax(y))
    ax.plot(x[at], y[at], "o", color=VALID, ms=4)
    room = 0.4 if lowest else 15  # nats, points: what the words need between curves
    below = lowest != (abs(other[at] - y[at]) < room)
    ax.annotate(
        f"{'lowest' if lowest else 'highest'} {y[at]:.3g}, epoch {x[at]}", (x[at], y[at]),
        xytext=(0, -16 if below else 9), textcoords="offset points",
        ha="left" if at < len(x) / 2 else "right", fontsize=7.5, color=VALID,
    )  # fmt: skip


def gaps(named: dict[str, pd.DataFrame]) -> Figure:
    """PublicTest loss less training loss by epoch, a line a model; the first stands out.

    Those that end within 0.02 nats of the first are grey, and named together.
    """
    drawn, ax = style.figure(height=2.9, width=5.2)
    lines = {name: of["valid_loss"] - of["train_loss"] for name, of in named.items()}
    first, *others = lines
    ends = {name: gap.iloc[-1] - lines[first].iloc[-1] for name, gap in lines.items()}
    apart = sorted((n for n in others if abs(ends[n]) > 0.02), key=lambda n: -ends[n])
    alike = [name for name in others if name not in apart]
    rest = iter(c for c in style.PALETTE if c != style.ACCENT)
    looks = {first: {"color": style.ACCENT, "lw": 2.4, "zorder": 3, "label": first}}
    looks |= {name: {"color": next(rest), "lw": 1.4, "label": name} for name in apart}
    looks |= {name: {"color": style.MUTED, "lw": 0.8} for name in alike}
    if alike:
        looks[alike[0]]["label"] = "\n".join(alike)
    for name, look in looks.items():
        ax.plot(named[name]["epoch"], lines[name], **look)
    ax.axhline(0, color="#888888", lw=0.7)
    ax.set(xlabel="epoch", ylabel="PublicTest − training loss (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return drawn


def seeds(own: pd.DataFrame, others: list[pd.DataFrame]) -> Figure:
    """PublicTest loss and accuracy by epoch: the run's own seed before the other ones."""
    drawn, axes = style.figure(1, 2, height=2.3)
    for ax, (quantity, label, unit) in zip(axes, QUANTITIES, strict=True):
        for k, history in enumerate(others):
            name = f"{len(others)} other seeds" if k == 0 else None
            values = unit * history[f"valid_{quantity}"]
            ax.plot(history["epoch"], values, color=style.MUTED, lw=0.8, label=name)
        ax.plot(own["epoch"], unit * own[f"valid_{quantity}"], color=VALID, label="this run")
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
    axes[1].legend(loc="lower right")
    return drawn
