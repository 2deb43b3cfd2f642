"""One look for every figure: colours, sizes, and how a figure is shown and kept."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path

import matplotlib
import numpy as np
import seaborn as sns
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

WIDTH = 6.8  # inches: the text width of an A4 page
DPI = 120

# Okabe & Ito's palette (2008), distinguishable to colour-blind readers, one colour a class.
CLASS_COLOURS = {
    "Angry": "#D55E00",
    "Disgust": "#009E73",
    "Fear": "#7F5FA8",
    "Happy": "#E69F00",
    "Sad": "#0072B2",
    "Surprise": "#CC79A7",
    "Neutral": "#5F5F5F",
}
PALETTE = tuple(CLASS_COLOURS.values())
SIGNED = "RdBu_r"  # diverging: blue lowers the logit, red raises it
AMOUNT = sns.light_palette("#0072B2", as_cmap=True)  # counts and rates
ACCENT, MUTED, MARKED = "#0072B2", "#8C8C8C", "#D55E00"

matplotlib.rcParams |= {  # so that a reader's own figures look the same
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.03,
    "svg.hashsalt": "fer",  # the same figure is the same bytes
    "figure.constrained_layout.use": True,
    "image.interpolation": "nearest",
}


def colours(classes) -> list[str]:
    """One colour a class: an expression's own; other classes take what is left of the palette."""
    left = [colour for name, colour in CLASS_COLOURS.items() if name not in classes]
    others = itertools.cycle(left or PALETTE)
    return [CLASS_COLOURS.get(name) or next(others) for name in classes]


def figure(rows: int = 1, columns: int = 1, height: float = 2.6, width: float = WIDTH, **grid):
    """``plt.subplots`` in the report's style, without pyplot's global state."""
    drawn = Figure(figsize=(width, height), dpi=DPI)
    return drawn, drawn.subplots(rows, columns, **grid)


def signed_limit(*maps: np.ndarray, quantile: float = 0.995) -> float:
    """The symmetric limit of a signed scale: a high quantile of the finite |map|; 1 for none."""
    magnitude = np.abs(np.concatenate([np.asarray(m, float).ravel() for m in maps]))
    known = magnitude[np.isfinite(magnitude)]
    limit = float(np.quantile(known, quantile)) if len(known) else 0.0
    return limit or 1.0


def signed_image(ax: Axes, map_: np.ndarray, limit: float | None = None, **kwargs):
    """A signed (h, w) map on a diverging scale centred on zero; returns the image artist."""
    limit = signed_limit(map_) if limit is None else limit
    bare(ax)
    return ax.imshow(map_, cmap=SIGNED, vmin=-limit, vmax=limit, **kwargs)


def face_image(ax: Axes, image: np.ndarray, **kwargs):
    """A grey face (48, 48), 0–255, always on the same scale; returns the image artist."""
    bare(ax)
    return ax.imshow(image, cmap="gray", vmin=0, vmax=255, **kwargs)


def amount_image(ax: Axes, map_: np.ndarray, limit: float, **kwargs):
    """A (h, w) map of what is 0 or more, up to ``limit``; returns the image artist."""
    bare(ax)
    return ax.imshow(map_, cmap="viridis", vmin=0, vmax=limit, **kwargs)


def map_image(ax: Axes, map_: np.ndarray, limit: float):
    """Red and blue where there is a negative value, else dark to bright."""
    return (signed_image if map_.min() < 0 else amount_image)(ax, map_, limit)


def bare(ax: Axes) -> None:
    """No ticks, no frame: for pictures."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def frame(ax: Axes, corner, width: float, height: float, colour: str, **look) -> None:
    """An empty rectangle, ``corner`` (x, y) its upper left."""
    ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, **look))


def heads(axes: np.ndarray, above=(), beside=(), size: float = 7.5) -> None:
    """Titles over the columns of a grid of Axes (rows, columns), labels beside its rows."""
    for ax, text in zip(axes[0], above, strict=False):
        ax.set_title(text, fontsize=size)
    for ax, text in zip(axes[:, 0], beside, strict=False):
        ax.set_ylabel(text, fontsize=size)


def written(ax: Axes, texts: np.ndarray, light: np.ndarray, shift: float = 0, **font) -> None:
    """A text in each cell of a heat map (rows, columns), white where ``light``."""
    for (row, column), text in np.ndenumerate(texts):
        colour = "white" if light[row, column] else "black"
        ax.text(column, row + shift, text, ha="center", va="center", color=colour, **font)


def rows_downwards(ax: Axes, names) -> None:
    """A name for each of the rows 0, 1, … of a chart, the first on top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)


def png(drawn: Figure) -> bytes:
    """The figure as PNG: with 256 colours, half the size, where hardly a pixel moves by that."""
    buffer, smallest = io.BytesIO(), io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=DPI)
    full = Image.open(buffer).convert("RGB")
    few = full.quantize(256, kmeans=3, dither=Image.Dither.NONE)
    moved = np.abs(np.asarray(few.convert("RGB"), int) - np.asarray(full, int)).max(2)
    (few if np.quantile(moved, 0.999) < 10 else full).save(smallest, "PNG", optimize=True)
    return smallest.getvalue()


def show(drawn: Figure, name: str, alt: str, caption: str = "") -> None:
    """Display a figure once, and clear it.

    ``alt`` says what is seen, for readers who can't see it; ``caption`` is printed under the
    figure in HTML and PDF. The report sets ``FER_FIGURES``; name.svg and name.png are then
    written there as well.
    """
    if not alt.strip():
        raise ValueError(f"figure {name!r} has no alt text; describe in a sentence what it shows")
    picture = png(drawn)
    if folder := os.environ.get("FER_FIGURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(picture)
        drawn.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None, "Creator": None})
    metadata = {"alt": alt, "name": name, "width": int(drawn.get_figwidth() * 100)}
    if caption:
        metadata["caption"] = caption
    display({"image/png": picture, "text/plain": alt}, raw=True, metadata={"image/png": metadata})
    drawn.clear()
