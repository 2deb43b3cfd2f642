"""Chapter 1: the network as a drawing, and where its parameters and its work are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from fer_utils.plotting.style import ACCENT, MUTED, bare, figure

FILL = ("#DCE9F3", "#C3D8EA", "#EAF2F8")  # front, top, side


def network_drawing(rows: list[dict]) -> Figure:
    """The network drawn to scale from ``model.layers``: a box for what comes out of each block.

    A box's height is its map's height; its length grows with the logarithm of its channels.
    """
    shapes = [("input", rows[0]["input"], "")]
    shapes += [
        (r["name"].split(".")[0], r["output"], _kernel(rows, r))
        for r in rows
        if r["kind"] == "MaxPool2d"
    ]
    linear = [r for r in rows if r["kind"] == "Linear"]
    drawn, ax = figure(height=2.35)
    x, ceiling = 0.0, 48.0
    for name, (channels, height, width), below in shapes:
        x = _box(ax, x, channels, height, width, name, below) + 15
    flat = linear[0]["input"][0]
    for size, name in [(flat, "flatten"), *((r["output"][0], r["name"]) for r in linear)]:
        tall = 9 * np.log2(size) / 2.2
        ax.add_patch(Rectangle((x, 24 - tall / 2), 3, tall, fc=FILL[0], ec=ACCENT, lw=0.8))
        ax.text(x + 1.5, 24 + tall / 2 + 2, f"{size}", ha="center", va="bottom", fontsize=7.5)
        ax.text(x + 1.5, -9, name, ha="center", va="top", fontsize=7.5)
        x += 17
    ax.set_xlim(-4, x - 8)
    ax.set_ylim(-27, ceiling + 17)
    ax.set_aspect("equal")
    bare(ax)
    return drawn


def _kernel(rows: list[dict], pool: dict) -> str:
    block = pool["name"].split(".")[0]
    convolution = next(r for r in rows if r["name"].startswith(block) and r["kind"] == "Conv2d")
    weights = convolution["parameters"] // convolution["output"][0]
    side = int(np.sqrt((weights - 1) // convolution["input"][0]))
    return f"conv {side}×{side}\npool 2"


def _box(ax, x, channels, height, width, name, below) -> float:
    deep = 3.2 * np.log2(channels + 1)
    skew = width * 0.22
    bottom = 24 - height / 2
    front = [(x, bottom), (x + deep, bottom), (x + deep, bottom + height), (x, bottom + height)]
    top = [(x, bottom + height), (x + deep, bottom + height),
           (x + deep + skew, bottom + height + skew), (x + skew, bottom + height + skew)]  # fmt: skip
    side = [(x + deep, bottom), (x + deep + skew, bottom + skew),
            (x + deep + skew, bottom + height + skew), (x + deep, bottom + height)]  # fmt: skip
    for corners, colour in zip((front, top, side), FILL, strict=True):
        ax.add_patch(
            Polygon(corners, facecolor=colour, edgecolor=ACCENT, lw=0.8, joinstyle="round")
        )
    middle = x + (deep + skew) / 2
    ax.text(
        middle,
        bottom + height + skew + 2,
        f"{channels}×{height}×{width}",
        ha="center",
        fontsize=7.5,
    )
    ax.text(middle, -9, name, ha="center", va="top", fontsize=7.5)
    ax.text(middle, -15, below, ha="center", va="top", fontsize=6.5, color=MUTED, linespacing=1.3)
    return x + deep + skew


def cost_by_block(table: pd.DataFrame) -> Figure:
    """Share of parameters and of multiply-adds, a bar a block.

    Args:
        table: columns ``block``, ``parameters``, ``multiply-adds``, a row a layer.
    """
    shares = table.groupby("block", sort=False)[["parameters", "multiply-adds"]].sum()
    shares = 100 * shares / shares.sum()
    drawn, ax = figure(height=2.2, width=5.0)
    y = np.arange(len(shares))[::-1]
    for offset, column, colour in ((0.2, "parameters", ACCENT), (-0.2, "multiply-adds", "#E69F00")):
        bars = ax.barh(y + offset, shares[column], 0.38, color=colour, label=column)
        ax.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    ax.set_yticks(y, shares.index)
    ax.set_xlabel("share of the whole network (%)")
    ax.legend(loc="upper right")
    return drawn
