"""Chapter 1: the network as a drawing, and where its parameters and its work are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from fer_utils.plotting import style

FILL = ("#DCE9F3", "#C3D8EA", "#EAF2F8")  # front, top, side


def network_drawing(rows: list[dict]) -> Figure:
    """Any network, drawn from its ``model.layers``: a box for the maps of each size, then vectors.

    A box's height is its maps' height; lengths grow with the logarithm of the channels. Under a
    box stand the convolutions and pools since the last one, and the layer that made it.
    """
    boxes = map_boxes(rows)
    vectors = [row for row in rows if row["kind"] == "Linear" and len(row["output"]) == 1]
    height, bars = boxes[0]["shape"][1], []
    if vectors:
        flat = vectors[0]["input"][0]
        last_map = int(np.prod(boxes[-1]["shape"]))
        bars.append((flat, "flatten" if flat == last_map else "pooled"))
        bars += [(row["output"][0], row["name"]) for row in vectors]
    drawn, ax = style.figure(height=2.35)
    x = 0.0
    for box in boxes:
        x = _box(ax, x, height / 2, **box) + 15
    for size, name in bars:
        tall = 9 * np.log2(size + 1) / 2.2
        bottom = (height - tall) / 2
        ax.add_patch(Rectangle((x, bottom), 3, tall, fc=FILL[0], ec=style.ACCENT, lw=0.8))
        ax.text(x + 1.5, bottom + tall + 2, f"{size}", ha="center", va="bottom", fontsize=7.5)
        ax.text(x + 1.5, -9, name, ha="center", va="top", fontsize=7.5)
        x += 17
    ax.set_xlim(-4, x - 8)
    ax.set_ylim(-30, height + 17)
    ax.set_aspect("equal")
    style.bare(ax)
    return drawn


def map_boxes(rows: list[dict]) -> list[dict]:
    """The maps to draw: the input, the first of every smaller size, and the last of all.

    Each as ``shape`` (channels, height, width), the ``name`` of the block it came out of, and
    ``below``: the convolutions and pools on the way there.
    """
    boxes = [{"shape": rows[0]["input"], "name": "input", "below": ""}]
    maps = [row for row in rows if len(row["output"]) == 3]
    passed = []
    for row in maps:
        passed.append(row)
        smaller = np.prod(row["output"][1:]) < np.prod(boxes[-1]["shape"][1:])
        if smaller or (row is maps[-1] and row["output"] != boxes[-1]["shape"]):
            name = row["name"].split(".")[0]
            boxes.append({"shape": row["output"], "name": name, "below": _counted(passed)})
            passed = []
    if rest := _counted(passed):
        boxes[-1]["below"] += f"\nthen {rest}"
    return boxes


def _counted(rows) -> str:
    """Convolutions and pools with their kernels and numbers, one kind a line."""
    numbers = Counter()
    for row in rows:
        kind = "conv" if row["kind"] == "Conv2d" else "pool" if "Pool" in row["kind"] else None
        if kind and row["kernel"]:
            numbers["{} {}×{}".format(kind, *row["kernel"])] += 1
        elif kind:  # adaptive
            numbers[kind] += 1
    return "\n".join(f"{n} {text}" if n > 1 else text for text, n in numbers.items())


def _box(ax, x, centre, shape, name, below) -> float:
    channels, height, width = shape
    deep = 3.2 * np.log2(channels + 1)
    skew = width * 0.22
    bottom, top = centre - height / 2, centre + height / 2
    front = [(x, bottom), (x + deep, bottom), (x + deep, top), (x, top)]
    roof = [(x, top), (x + deep, top), (x + deep + skew, top + skew), (x + skew, top + skew)]
    side = [(x + deep, bottom), (x + deep + skew, bottom + skew),
            (x + deep + skew, top + skew), (x + deep, top)]  # fmt: skip
    for corners, colour in zip((front, roof, side), FILL, strict=True):
        edge = {"edgecolor": style.ACCENT, "lw": 0.8, "joinstyle": "round"}
        ax.add_patch(Polygon(corners, facecolor=colour, **edge))
    middle = x + (deep + skew) / 2
    text = f"{channels}×{height}×{width}"
    ax.text(middle, top + skew + 2, text, ha="center", fontsize=7.5)
    ax.text(middle, -9, name, ha="center", va="top", fontsize=7.5)
    look = {"fontsize": 6.5, "color": style.MUTED, "linespacing": 1.3}
    ax.text(middle, -15, below, ha="center", va="top", **look)
    return x + deep + skew


def cost_by_block(table: pd.DataFrame) -> Figure:
    """Share of parameters and of multiply-adds, a bar a block; blocks without either are left out.

    ``table``: columns ``block``, ``parameters``, ``multiply-adds``, a row a layer.
    """
    shares = table.groupby("block", sort=False)[["parameters", "multiply-adds"]].sum()
    shares = 100 * shares[shares.any(axis=1)] / shares.sum()
    drawn, ax = style.figure(height=2.2, width=5.0)
    y = np.arange(len(shares))[::-1]
    looks = ((0.2, style.ACCENT), (-0.2, "#E69F00"))
    for (column, share), (offset, colour) in zip(shares.items(), looks, strict=True):
        bars = ax.barh(y + offset, share, 0.38, color=colour, label=column)
        ax.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    ax.set_yticks(y, shares.index)
    ax.set_xlabel("share of the whole network (%)")
    ax.legend(loc="upper right")
    return drawn
