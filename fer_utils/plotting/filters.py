"""Chapter 5: what the filters want to see, beside what faces give them."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting import style

PAPER = 255  # grey level between the pictures of a mosaic
IN_A_ROW = 6  # filters of a class in the sheet
CHARTS = ("class mean, sd", "logit lost, nats")


def mosaic(pictures: np.ndarray, columns: int, gap: int = 2, paper: float = PAPER) -> np.ndarray:
    """Pictures (n, h, w) side by side in rows of ``columns``, ``gap`` pixels apart."""
    n, height, width = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), paper, float)
    for k, picture in enumerate(pictures):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def stretched(pictures: np.ndarray) -> np.ndarray:
    """All pictures of a stack on one scale from black to white, its outermost 0.2 % cut off."""
    low, high = np.quantile(pictures, [0.002, 0.998])
    return np.clip((pictures - low) / max(high - low, 1) * 255, 0, 255)


def own_scale(maps: np.ndarray) -> np.ndarray:
    """Each signed map (n, h, w) over its own largest magnitude: −1 to 1."""
    largest = np.abs(maps).max((1, 2), keepdims=True)
    return maps / np.where(largest > 0, largest, 1)


def activation_text(value: float) -> str:
    """A normalised activation in a figure: 'a = 6.3'."""
    return f"a = {value.round(1) + 0:.1f}" if np.isfinite(value) else "a undefined"


def field_plot(fields: dict[str, np.ndarray], boxes: dict[str, tuple]) -> Figure:
    """Which pixels can move a unit: (48, 48) mean |gradient| of each name, with its field's box."""
    drawn, axes = style.figure(1, len(fields), height=2.2, width=5.6)
    for ax, (name, size) in zip(axes, fields.items(), strict=True):
        shown = style.amount_image(ax, size / size.max(), 1)
        rows, columns = boxes[name]
        width, height = columns.stop - columns.start, rows.stop - rows.start
        corner = (columns.start - 0.5, rows.start - 0.5)
        style.frame(ax, corner, width, height, "white", lw=1.2, ls="--")
        ax.set_title(name)
    drawn.colorbar(shown, ax=axes, label="|gradient|, share of the largest", shrink=0.9)
    return drawn


def feature_maps(face: np.ndarray, maps: dict[str, np.ndarray]) -> Figure:
    """A face (48, 48) and signed maps (n, h, w) of each convolution, each map on its own scale."""
    drawn, (left, right) = style.figure(1, 2, height=2.1, width_ratios=[1, 5.2])
    style.face_image(left, face)
    left.set_title("the face")
    style.bare(right)
    for row, (name, stack) in enumerate(maps.items()):
        for column, map_ in enumerate(own_scale(stack)):
            box = (column, column + 0.94, row + 0.94, row)
            shown = style.signed_image(right, map_, 1, extent=box)
        label = f"{name}  {stack.shape[1]}×{stack.shape[2]}"
        right.text(-0.1, row + 0.47, label, ha="right", va="center")
    right.set(xlim=(0, max(map(len, maps.values()))), ylim=(len(maps), 0))
    drawn.colorbar(shown, ax=right, label="output,\neach map's scale", shrink=0.8, pad=0.01)
    return drawn


def growth(kernels: np.ndarray, middle: dict[str, np.ndarray], outputs: dict) -> Figure:
    """From the first layer to the last: kernels, optima of layers between, of the outputs.

    ``kernels`` (n, k, k) signed; ``middle`` title -> (12, s, s) and ``outputs`` class -> (48, 48),
    grey levels.
    """
    heights = [0.75, *[0.5] * len(middle), 0.95]
    drawn, axes = style.figure(len(heights), height=3.9, height_ratios=heights)
    columns = max(16, math.ceil(math.sqrt(4 * len(kernels))))
    sheet = mosaic(own_scale(kernels), columns, gap=1, paper=np.nan)
    shown = style.signed_image(axes[0], sheet, 1)
    axes[0].set_title(f"conv1: its {kernels.shape[1]} × {kernels.shape[2]} kernels as they are")
    drawn.colorbar(shown, ax=axes[0], label="weight, each\nkernel's scale", fraction=0.03, pad=0.01)
    for ax, (title, pictures) in zip(axes[1:-1], middle.items(), strict=True):
        style.face_image(ax, mosaic(pictures, len(pictures), max(1, pictures.shape[1] // 20)))
        ax.set_title(title)
    faces = np.stack(list(outputs.values()))
    height, width = faces.shape[1:]
    style.face_image(axes[-1], mosaic(faces, len(faces), 3))
    for k, (name, colour) in enumerate(zip(outputs, style.colours(outputs), strict=True)):
        middle_of = (width + 3) * k + (width - 1) / 2
        axes[-1].text(middle_of, height + 2, name, ha="center", va="top", fontsize=8, color=colour)
    axes[-1].set_title(f"the outputs: whole faces of {height} × {width}")
    return drawn


def filter_sheet(panels: dict, order: np.ndarray, responds: list, classes) -> Figure:
    """The first filters of each class, a row a class: their pictures (f, h, w) side by side.

    ``order``: all filters, the most tuned of a class first. ``responds``: for each filter the
    class that it responds to; None where it is not selective. If none is, the first of all.
    """
    of_class = {name: [k for k in order if responds[k] == name][:IN_A_ROW] for name in classes}
    rows = {name: row for name, row in of_class.items() if row}
    rows = rows or {"not selective": list(order[:IN_A_ROW])}
    kinds = [stretched(pictures) for pictures in panels.values()]
    high, wide = kinds[0].shape[1:]
    above = max(4, high // 3)  # room for the number
    height, width = high + above, len(kinds) * wide + max(2, wide // 8)
    sheet = np.full((height * len(rows), width * IN_A_ROW), PAPER, float)
    drawn, ax = style.figure(height=min(9.5, 6.2 * sheet.shape[0] / sheet.shape[1] + 0.2))
    colours = dict(zip(classes, style.colours(classes), strict=True))
    for row, (name, filters) in enumerate(rows.items()):
        top, colour = row * height + above - 1, colours.get(name, "#888888")
        ax.text(-2, top + high / 2, name, ha="right", va="center", fontsize=8, color=colour)
        for place, k in enumerate(filters):
            left = place * width + 1
            cut = sheet[top : top + high, left : left + len(kinds) * wide]
            cut[:] = np.hstack([pictures[k] for pictures in kinds])
            style.frame(ax, (left - 1, top - 1), len(kinds) * wide + 1, high + 1, colour, lw=1.6)
            ax.text(left, top - 2, str(k), fontsize=7, va="bottom", color="#444444")
    style.face_image(ax, sheet)
    return drawn


def activation_plot(reached: dict[str, np.ndarray]) -> Figure:
    """A dot a filter, a row a kind of picture: its normalised activation."""
    drawn, ax = style.figure(height=2.3)
    for row, values in enumerate(reached.values()):
        values = values[np.isfinite(values)]
        y = row + np.random.default_rng(0).uniform(-0.28, 0.28, len(values))
        ax.plot(values, y, "o", ms=2.2, color=style.ACCENT, alpha=0.55, mew=0)
        ax.plot(np.median(values), row, "|", ms=17, mew=2, color="black")
    for place in (0, 1):
        ax.axvline(place, color=style.MUTED, lw=1, ls="--")
    ax.set_yticks(range(len(reached)), reached)
    ax.invert_yaxis()
    ax.grid(axis="x")
    ax.set_xlabel("normalised activation: 0 the median face, 1 the strongest")
    return drawn


def eta_plot(trained: np.ndarray, untrained: np.ndarray) -> Figure:
    """η² of each filter, filters in order; of each untrained network (seeds, filters) as well."""
    drawn, ax = style.figure(height=2.2, width=5.2)
    rank = np.arange(1, len(trained) + 1)
    controls = 100 * np.sort(untrained)[:, ::-1].T
    ax.plot(rank, 100 * np.sort(trained)[::-1], color=style.ACCENT, label="this network")
    labels = [f"{len(untrained)} untrained networks", *[None] * (len(untrained) - 1)]
    ax.plot(rank, controls, color=style.MUTED, lw=0.8, label=labels)
    ax.set(xlabel="filters, the most selective first", ylim=(0, None))
    ax.set_ylabel("η²: variance that\nthe class explains, %")
    ax.legend()
    return drawn


def closer_look(pictures: dict, tuning: np.ndarray, fall: np.ndarray, rows: dict) -> Figure:
    """A row a filter: its pictures with their normalised activation a, two bar charts.

    ``pictures`` title -> ((f, h, w) grey levels, (f,) normalised activation); ``tuning``, ``fall``
    (f, c); ``rows`` class that the filter was chosen for -> filter.
    """
    classes, which = list(rows), list(rows.values())
    wide = [1] * len(pictures) + [1.9, 1.9]
    drawn, axes = style.figure(len(rows), len(wide), 0.98 * len(rows) + 0.7, width_ratios=wide)
    limits = [1.05 * max(np.nanmax(np.abs(chart[which])), 1e-3) for chart in (tuning, fall)]
    for line, (name, k) in zip(axes, rows.items(), strict=True):
        for ax, (stack, reached) in zip(line, pictures.values(), strict=False):
            style.face_image(ax, stretched(stack)[k])
            ax.set_xlabel(activation_text(reached[k]), fontsize=7, labelpad=1)
        line[0].set_ylabel(f"{name}\nfilter {k}", fontsize=7.5)
        for ax, chart, limit in zip(line[-2:], (tuning, fall), limits, strict=True):
            ax.bar(classes, chart[k], color=style.colours(classes))
            ax.axhline(0, color="#444444", lw=0.6)
            ax.set_ylim(-limit, limit)
            ax.tick_params(labelsize=6.5)
            ax.set_xticks([])
    style.heads(axes, above=(*pictures, *CHARTS), size=7)
    for ax in axes[0, -2:]:
        ax.xaxis.tick_top()
        ax.set_xticks(range(len(classes)), [name[:3] for name in classes], rotation=90)
    return drawn


def patches_plot(rows: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Crops of faces: a row a filter, a block of pictures (n, h, w) for each title."""
    blocks = next(iter(rows.values()))
    wide = [len(stack) for stack in blocks.values()]
    height = 7.0 / sum(wide) * len(rows) + 0.35
    shape = len(rows), len(blocks), height
    drawn, axes = style.figure(*shape, squeeze=False, width_ratios=wide)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for ax, stack in zip(line, pictures.values(), strict=True):
            style.face_image(ax, mosaic(stack, len(stack), 3))
        line[0].set_ylabel(name, fontsize=7.5, rotation=0, ha="right", va="center")
    style.heads(axes, above=blocks, size=9)
    return drawn


def ablation_plot(fall: np.ndarray, favourite: np.ndarray, classes: tuple[str, ...]) -> Figure:
    """What each class's own logit loses when a filter is zeroed: ``fall`` (f, c), signed.

    Filters in the order of the sheet; lines part them by ``favourite`` (f,), the class that each
    responds to most.
    """
    drawn, ax = style.figure(height=1.9)
    limit = style.signed_limit(fall)
    shown = ax.imshow(fall.T, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    starts = np.flatnonzero(np.diff(favourite, prepend=-1))
    stops = np.append(starts[1:], len(favourite))
    for start in starts[1:]:
        ax.axvline(start - 0.5, color="black", lw=0.8)
    names = [classes[favourite[start]] for start in starts]
    ax.set_xticks((starts + stops - 1) / 2, names, fontsize=7)
    ax.tick_params(axis="x", length=0)
    ax.set_yticks(range(len(classes)), classes)
    ax.set_xlabel("filters by the class that they respond to most")
    drawn.colorbar(shown, ax=ax, label="logit lost, nats", pad=0.01, extend="both")
    return drawn
