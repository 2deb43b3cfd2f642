"""Chapter 5: what the filters want to see, beside what real faces give them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fer_utils.plotting.filter_words import reach
from fer_utils.plotting.style import (
    ACCENT,
    CLASS_COLOURS,
    MUTED,
    SIGNED,
    amount_image,
    face_image,
    figure,
    signed_image,
    signed_limit,
)

PAPER = 255  # grey level between the pictures of a mosaic


def mosaic(pictures: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Pictures (n, h, w) side by side in rows of ``columns``, ``gap`` pixels apart."""
    n, height, width = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), PAPER, float)
    for k, picture in enumerate(pictures):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def stretched(pictures: np.ndarray) -> np.ndarray:
    """All pictures of a stack on one scale from black to white, its outermost 0.2 % cut off."""
    low, high = np.quantile(pictures, [0.002, 0.998])
    return np.clip((pictures - low) / max(high - low, 1) * 255, 0, 255)


def field_plot(fields: dict[str, np.ndarray], boxes: dict[str, tuple]) -> Figure:
    """Which pixels can move a unit: its gradient's size, with the field's box.

    Args:
        fields: name -> (48, 48) mean |gradient|.  boxes: name -> (row slice, column slice).
    """
    drawn, axes = figure(1, len(fields), height=2.2, width=5.2)
    for ax, (name, size) in zip(axes, fields.items(), strict=True):
        amount_image(ax, size / size.max(), 1)
        rows, columns = boxes[name]
        ax.add_patch(Rectangle(
            (columns.start - 0.5, rows.start - 0.5), columns.stop - columns.start,
            rows.stop - rows.start, fill=False, edgecolor="white", lw=1.2, ls="--",
        ))  # fmt: skip
        ax.set_title(name)
    return drawn


def growth(kernels: np.ndarray, middle: dict[str, np.ndarray], outputs: dict) -> Figure:
    """From the first layer to the last: kernels, optima of layers 2 and 3, of the outputs.

    Args:
        kernels: (32, 5, 5) signed weights.  middle: title -> (12, s, s) grey levels.
        outputs: class -> (48, 48) grey levels.
    """
    heights = [0.75, *[0.5] * len(middle), 0.95]
    drawn, axes = figure(len(heights), height=3.9, gridspec_kw={"height_ratios": heights})
    limit = signed_limit(kernels)
    shown = signed_image(axes[0], np.where(
        (sheet := mosaic(kernels, 16, 1)) == PAPER, np.nan, sheet), limit)  # fmt: skip
    axes[0].set_title("conv1: its 5 × 5 kernels as they are")
    drawn.colorbar(shown, ax=axes[0], label="weight", fraction=0.03, pad=0.01)
    for ax, (title, pictures) in zip(axes[1:-1], middle.items(), strict=True):
        gap = max(1, pictures.shape[1] // 20)
        face_image(ax, mosaic(pictures, len(pictures), gap))
        ax.set_title(title)
    face_image(axes[-1], mosaic(np.stack(list(outputs.values())), len(outputs), 3))
    for k, name in enumerate(outputs):
        axes[-1].text(51 * k + 23.5, 50, name, ha="center", va="top", fontsize=8,
                      color=CLASS_COLOURS.get(name, MUTED))  # fmt: skip
    axes[-1].set_title("the outputs: whole faces of 48 × 48")
    return drawn


def sheet(panels: dict, order: np.ndarray, preferred: list, columns: int = 8) -> Figure:
    """All filters twice: one panel a kind of picture, in the same places.

    Args:
        panels: title -> (f, h, w) grey levels.  order: which filter stands where.
        preferred: for each filter its class's name, or None where it is no more selective
            than a random one; the colour of the frame.
    """
    rows = -(-len(order) // columns)
    drawn, axes = figure(1, len(panels), height=0.46 * rows + 0.5)
    for ax, (title, pictures) in zip(axes, panels.items(), strict=True):
        height, width = pictures.shape[1] + 15, pictures.shape[2] + 5
        spaced = np.full((len(order), height - 2, width - 2), PAPER, float)
        spaced[:, 11:-2, 1:-2] = stretched(pictures)[order]
        face_image(ax, mosaic(spaced, columns))
        for place, k in enumerate(order):
            top, left = place // columns * height + 11, place % columns * width + 1
            colour = CLASS_COLOURS.get(preferred[k], "#CCCCCC")
            corner, size = (left - 1, top - 1), (width - 4, height - 14)
            ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, lw=1.3))
            ax.text(left, top - 2, str(k), fontsize=6, va="bottom", color="#444444")
        ax.set_title(title)
    names = sorted({p for p in preferred if p}, key=list(CLASS_COLOURS).index)
    colours = [*(CLASS_COLOURS[name] for name in names), "#CCCCCC"]
    marks = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=c, lw=1.5) for c in colours]
    drawn.legend(marks, [*names, "none"], loc="outside lower center", ncols=8, fontsize=7.5,
                 handlelength=1.2, columnspacing=1.1)  # fmt: skip
    return drawn


def reach_plot(reached: dict[str, np.ndarray]) -> Figure:
    """A dot a filter, a row a kind: how far its picture drives it (``filter_words.reach``)."""
    drawn, ax = figure(height=2.3)
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, 1024)
    for row, values in enumerate(reached.values()):
        values = values[np.isfinite(values)]
        ax.plot(values, row + jitter[: len(values)], "o", ms=2.2, color=ACCENT, alpha=0.55, mew=0)
        ax.plot(np.median(values), row, "|", ms=17, mew=2, color="black")
    for place in (0, 1):
        ax.axvline(place, color=MUTED, lw=1, ls="--")
    ax.set_yticks(range(len(reached)), reached)
    ax.invert_yaxis()
    ax.grid(axis="x")
    ax.set_xlabel("reach: 0 the median real patch, 1 the strongest")
    return drawn


def explained_plot(trained: np.ndarray, control: np.ndarray, limit: float) -> Figure:
    """Share of each filter's variance that the class explains, filters in order, both networks."""
    drawn, ax = figure(height=2.2, width=5.2)
    rank = np.arange(1, len(trained) + 1)
    ax.plot(rank, 100 * np.sort(trained)[::-1], color=ACCENT, label="this network")
    ax.plot(rank, 100 * np.sort(control)[::-1], color=MUTED, label="random network")
    ax.axhline(100 * limit, color="black", lw=0.8, ls=":", label="95 % of the random filters")
    ax.set_xlabel("filters, the most selective first")
    ax.set_ylabel("variance that the\nclass explains, %")
    ax.set_ylim(0)
    ax.legend()
    return drawn


def closer_look(cards: dict, which: list, names: list, classes: tuple[str, ...]) -> Figure:
    """A row a filter: its four pictures with their reach, tuning, cost of silence."""
    kinds = {"plain": "optimum,\nfree pixels", "natural": "optimum,\nnatural",
             "negative": "negative\noptimum", "mean_patch": "mean of\nstrongest"}  # fmt: skip
    drawn, axes = figure(len(which), 6, height=0.98 * len(which) + 0.5,
                         gridspec_kw={"width_ratios": [1, 1, 1, 1, 1.9, 1.9]})  # fmt: skip
    colours = [CLASS_COLOURS.get(name, MUTED) for name in classes]
    pictures = cards | {"mean_patch": stretched(cards["mean_patch"])}
    span = 1.05 * np.nanmax(np.abs(cards["tuning"][which]))
    cost = 1.05 * max(float(np.nanmax(np.abs(cards["logit_fall"][which]))), 1e-3)
    for row, (k, name) in enumerate(zip(which, names, strict=True)):
        for ax, kind in zip(axes[row], kinds, strict=False):
            face_image(ax, pictures[kind][k])
            far = reach(cards, kind)[k].round(1) + 0
            said = f"{far:.1f}" if np.isfinite(far) else "undefined"
            ax.set_xlabel(said, fontsize=7, labelpad=1)
        state = "\ninactive" if k in cards["inactive"] else ""
        axes[row, 0].set_ylabel(f"{k}\n{name}{state}", fontsize=7.5)
        bars, silence = axes[row, 4:]
        bars.bar(classes, cards["tuning"][k], color=colours)
        bars.plot(classes, cards["tuning_random"][k], "_", color="black", ms=7, mew=1)
        bars.set_ylim(-span, span)
        silence.bar(classes, cards["logit_fall"][k], color=colours)
        silence.set_ylim(-cost, cost)
        for ax in (bars, silence):
            ax.axhline(0, color="#444444", lw=0.6)
            ax.tick_params(labelsize=6.5)
            last = row == len(which) - 1
            ax.set_xticks(range(len(classes)), [c[:2] for c in classes] if last else [])
    charts = "class mean, spreads\n(–: random network)", "logit lost when\nsilenced, nats"
    for ax, title in zip(axes[0], (*kinds.values(), *charts), strict=True):
        ax.set_title(title, fontsize=7.5)
    return drawn


def patches_plot(rows: dict[str, dict[str, np.ndarray]], labels: dict[str, list[str]]) -> Figure:
    """Real patches: a row a filter, a block of pictures each for strongest, median, weakest.

    Args:
        rows: filter's name -> block's title -> (n, h, w) grey levels.
        labels: filter's name -> what is written under the strongest ones.
    """
    blocks = next(iter(rows.values()))
    drawn, axes = figure(len(rows), len(blocks), height=0.8 * len(rows) + 0.35, squeeze=False)
    for row, (name, pictures) in zip(axes, rows.items(), strict=True):
        for ax, stack in zip(row, pictures.values(), strict=True):
            face_image(ax, mosaic(stack, len(stack), 3))
        for k, text in enumerate(labels[name]):
            row[0].text(43 * k + 20, 42, text, ha="center", va="top", fontsize=5.5)
        row[0].set_ylabel(name, fontsize=7.5)
    for ax, title in zip(axes[0], blocks, strict=True):
        ax.set_title(title)
    return drawn


def ablation_plot(logit_fall: np.ndarray, order: np.ndarray, classes: tuple[str, ...]) -> Figure:
    """What each class's own logit loses when a filter is silenced: classes × filters, signed."""
    drawn, ax = figure(height=1.7)
    limit = signed_limit(logit_fall)
    shown = ax.imshow(logit_fall[order].T, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    ax.set_yticks(range(len(classes)), classes)
    ax.set_xlabel("filters in the order of the sheet")
    ax.set_xticks([])
    drawn.colorbar(shown, ax=ax, label="logit lost, nats", pad=0.01)
    return drawn
