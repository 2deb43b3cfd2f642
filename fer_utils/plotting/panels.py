"""What the panels of chapters 3 to 5 draw: one figure a choice, in well under 200 ms.

So few axes at fixed places: laying out twelve axes costs more than the network's own work.
"""

from __future__ import annotations

import base64
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting import style
from fer_utils.plotting.filters import CHARTS, activation_text, mosaic
from fer_utils.plotting.saliency import overlay


def blank(width: float, height: float, *places: tuple[float, float, float, float]):
    """A figure of fixed layout; an Axes for each (left, bottom, width, height) in inches."""
    drawn = Figure(figsize=(width, height), dpi=style.DPI, layout="constrained")
    drawn.set_layout_engine("none")  # a figure without any is laid out when it is saved twice
    size = np.array([width, height, width, height])
    return drawn, [drawn.add_axes(tuple(np.array(place) / size)) for place in places]


def data_url(drawn: Figure) -> str:
    """The figure as it is, uncropped, for the ``src`` of an HTML image."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"savefig.bbox": None}):
        drawn.savefig(buffer, format="png", dpi=style.DPI, pil_kwargs={"compress_level": 1})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def faces_in_rows(images: np.ndarray, captions) -> Figure:
    """Faces (n, 48, 48), six in a row, each with a caption of two lines below it."""
    below, gap, width, columns = 20, 6, 6.6, 6
    framed = np.full((len(images), 48 + below, 48), 255.0)
    framed[:, :48] = images
    sheet = mosaic(framed, columns, gap)
    height = width / sheet.shape[1] * sheet.shape[0]
    drawn, (ax,) = blank(width, height, (0, 0, width, height))
    style.face_image(ax, sheet)
    for k, caption in enumerate(captions):
        top, left = k // columns * (48 + below + gap) + 49, k % columns * (48 + gap) + 23.5
        ax.text(left, top, caption, ha="center", va="top", fontsize=6.5, linespacing=1.25)
    return drawn


def one_map(image: np.ndarray, map_: np.ndarray, unit: str, probabilities, classes) -> Figure:
    """The input, its signed map with a scale, the map's size over the face, the answer."""
    drawn, (ax, scale, bars) = blank(
        6.8, 1.95, (0.05, 0.05, 4.3, 1.6), (4.4, 0.12, 0.08, 1.2), (5.65, 0.1, 1.05, 1.6)
    )
    limit = style.signed_limit(map_)
    style.face_image(ax, image, extent=(0, 48, 48, 0))
    signed = style.signed_image(ax, map_, limit, extent=(51, 99, 48, 0))
    overlay(ax, image, abs(map_), limit, extent=(102, 150, 48, 0))
    ax.set(xlim=(0, 150), ylim=(48, -6))
    for left, title in zip((24, 75, 126), ("input", "signed map", "overlay"), strict=True):
        ax.text(left, -1.5, title, ha="center")
    drawn.colorbar(signed, cax=scale).ax.tick_params(labelsize=7)
    scale.set_title(unit, fontsize=7, loc="left")
    bars.barh(range(len(classes)), probabilities, color=style.colours(classes))
    style.rows_downwards(bars, classes)
    for place, value in enumerate(probabilities):
        bars.text(value + 0.02, place, f"{value:.0%}", va="center", fontsize=7)
    bars.set(xlim=(0, 1.25), xticks=[])
    bars.spines["bottom"].set_visible(False)
    bars.tick_params(length=0)
    return drawn


def one_card(pictures: dict, tuning: np.ndarray, fall: np.ndarray, classes) -> Figure:
    """A filter's pictures with their normalised activation, its tuning, what its loss costs.

    ``pictures`` title -> ((h, w) grey levels, normalised activation).
    """
    drawn, (ax, *charts) = blank(
        6.8, 2.95, (0.1, 1.62, 6.6, 1.3), (0.85, 0.42, 2.35, 1.0), (4.2, 0.42, 2.35, 1.0)
    )
    for place, (title, (picture, reached)) in enumerate(pictures.items()):
        height, width = picture.shape
        left = place * 2 * width
        low, high = (picture.min(), picture.max()) if title.startswith("mean") else (0, 255)
        box = (left, left + width, height, 0)
        ax.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1), extent=box)
        ax.text(left, -1.5, title, fontsize=8)
        ax.text(left + width + 2, height, activation_text(reached), fontsize=8)
    style.bare(ax)
    ax.set(xlim=(0, 8 * width), ylim=(height, -8), anchor="W")
    for chart, values, label in zip(charts, (tuning, fall), CHARTS, strict=True):
        chart.bar(classes, values, color=style.colours(classes))
        chart.axhline(0, color="#444444", lw=0.6)
        chart.set_ylabel(label, fontsize=7.5)
        chart.set_xticks(range(len(classes)), classes, rotation=30, ha="right", fontsize=7)
        chart.tick_params(axis="y", labelsize=7)
    return drawn
