"""Chapter 4: maps beside their faces, methods beside their controls, means beside mean faces."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fer_utils.plotting.style import (
    ACCENT,
    MUTED,
    WIDTH,
    amount_image,
    bare,
    face_image,
    figure,
    signed_image,
    signed_limit,
)

MASK = {True: "#000000", False: "#FFFFFF"}  # outline of the truth, on signed and dark maps
RING = "#D55E00"
STYLES = [  # of lines: colours of Okabe & Ito, told apart by markers as well
    {"color": colour, "marker": marker}
    for marker in "os^"
    for colour in ("#000000", "#0072B2", "#009E73", "#E69F00", "#CC79A7")
]
FADE = 0.35  # share of a map's range below which an overlay lets the face through
OPACITY = 0.75
CELL = 1.35  # inches: the side of a picture, at most


def plot_maps(images: np.ndarray, maps: dict, names, units: dict, masks=None) -> Figure:
    """A row a face: the input, then each method's map up to its own maximum, printed below.

    Many faces and few methods change places: then a column is a face. ``maps`` method ->
    (n, 48, 48); ``names``: the faces' heads; ``units`` method -> unit of its maximum; ``masks``
    bool (n, 48, 48), outlined where there is something to outline.
    """
    heads = ["input", *(f"{_broken(method)}\n{units[method]}" for method in maps)]
    across = len(images) > len(heads)
    rows, columns = (len(heads), len(images)) if across else (len(images), len(heads))
    cell = min(WIDTH / columns, CELL)
    size = {"height": 1.2 * cell * rows + 0.35, "width": cell * columns}
    drawn, axes = figure(rows, columns, **size, squeeze=False)
    of_face = axes.T if across else axes
    for i, (row, image) in enumerate(zip(of_face, images, strict=True)):
        face_image(row[0], image)
        for ax, method in zip(row[1:], maps, strict=True):
            map_ = maps[method][i]
            most = signed_limit(map_, quantile=1)
            _map_image(ax, map_, most)
            ax.set_xlabel(f"max {most:.2g}", fontsize=7)
            if masks is not None and masks[i].any():
                colour = MASK[bool(map_.min() < 0)]
                ax.contour(masks[i], levels=[0.5], colors=[colour], linewidths=0.7)
    above, beside = (names, heads) if across else (heads, names)
    for ax, head in zip(axes[0], above, strict=True):
        ax.set_title(head, fontsize=7.5)
    for ax, head in zip(axes[:, 0], beside, strict=True):
        ax.set_ylabel(head, fontsize=7.5)
    return drawn


def plot_scores(table: pd.DataFrame, scores, labels) -> Figure:
    """A panel a score, a row a method: mean and 95 % interval, controls in grey.

    ``table`` of ``evaluation.score_table``.
    """
    drawn, axes = figure(1, len(scores), height=3.6, sharey=True)
    methods = table.index.unique("method").tolist()
    y = np.arange(len(methods))[::-1]
    known = np.array([name.startswith("control") for name in methods])
    for ax, score, label in zip(axes, scores, labels, strict=True):
        of = table.xs(score, level="score").loc[methods]
        for which, colour, told in ((~known, ACCENT, "method"), (known, MUTED, "control")):
            part = of[which]
            ax.hlines(y[which], part["lo"], part["hi"], colors=colour, lw=1.6)
            ax.scatter(part["mean"], y[which], c=colour, s=15, zorder=3, label=told)
        ring = {"facecolors": "none", "edgecolors": RING, "label": "the method, random weights"}
        ax.scatter(of["untrained"][~known], y[~known], s=18, lw=0.9, **ring)
        ax.axvline(of["mean"][known].max(), color=MUTED, lw=0.8, ls=":", label="best control")
        ax.set_xlabel(label, fontsize=8)
        ax.grid(axis="x")
        ax.set_axisbelow(True)
    axes[0].set_yticks(y, methods)
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return drawn


def plot_strip(image: np.ndarray, maps: dict, rho: dict) -> Figure:
    """One face: a row a method, a column a step of the randomisation, from the output down.

    ``maps`` method -> {layer: (48, 48)}, the trained network's first; ``rho`` method -> rank
    correlation of each with the first, printed below it.
    """
    layers = list(next(iter(maps.values())))
    columns = 1 + len(layers)
    height = WIDTH / columns * 1.28 * len(maps) + 0.3
    drawn, axes = figure(len(maps), columns, height=height)
    for row, (method, steps) in zip(axes, maps.items(), strict=True):
        face_image(row[0], image).axes.set_ylabel(_broken(method), fontsize=7)
        for ax, map_, r in zip(row[1:], steps.values(), rho[method], strict=True):
            _map_image(ax, map_, signed_limit(map_))
            ax.set_xlabel(_signed(r), fontsize=7)
    for ax, layer in zip(axes[0, 1:], layers, strict=True):
        ax.set_title(layer, fontsize=7.5)
    return drawn


def plot_cascade(layers, rho: dict) -> Figure:
    """A line a method: mean rank correlation with the trained map as layers go."""
    drawn, ax = figure(height=2.9)
    for (name, row), style in zip(rho.items(), STYLES, strict=False):
        ax.plot(range(1 + len(row)), [1, *row], **style, ms=4, lw=1.2, label=name)
    ax.axhline(0, color=MUTED, lw=0.8)
    ax.set_xticks(range(1 + len(layers)), ["trained", *layers])
    ax.set(xlabel="random weights from the output down to this layer", ylabel="rank correlation ρ")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def plot_marked_face(found: dict) -> Figure:
    """One marked face and its maps by both networks, one scale a method; the mark outlined.

    ``found``: the result ``shortcut``, whose first network is the control.
    """
    columns = 1 + len(found["shown"])
    drawn, axes = figure(2, columns, height=WIDTH / columns * 2.4)
    top, bottom, left, right = found["box"]
    maps = found["maps"].astype(float)
    for row, name, own in zip(axes, ("control:\nno mark", "trained\nwith mark"), maps, strict=True):
        face_image(row[0], found["face"]).axes.set_ylabel(name)
        for ax, map_, both in zip(row[1:], own, maps.swapaxes(0, 1), strict=True):
            (signed_image if both.min() < 0 else amount_image)(ax, map_, signed_limit(both))
        for ax in row:
            size = right - left, bottom - top
            ax.add_patch(Rectangle((left - 0.5, top - 0.5), *size, fill=False, ec=RING, lw=1))
    for ax, name in zip(axes[0], ("face", *found["shown"]), strict=True):
        ax.set_title(_broken(str(name)), fontsize=7.5)
    return drawn


def plot_pointing(table: pd.DataFrame) -> Figure:
    """A row a method: how often its strongest pixel lies in the mark, by either network.

    ``table`` of ``evaluation.pointing_at_mark``.
    """
    drawn, (both, apart) = figure(1, 2, height=3.0, sharey=True)
    y, percent = np.arange(len(table)), 100 * table
    both.hlines(y, percent["control"], percent["used"], colors="#DDDDDD", zorder=1)
    both.scatter(percent["control"], y, c=MUTED, s=16, label="control: trained without the mark")
    both.scatter(percent["used"], y, c=ACCENT, s=16, label="trained with the mark")
    both.set(xlabel="strongest pixel in the mark (% of faces)", yticks=y, yticklabels=table.index)
    apart.hlines(y, percent["lo"], percent["hi"], colors=ACCENT)
    apart.scatter(percent["difference"], y, c=ACCENT, s=16)
    apart.axvline(0, color="black", lw=0.8, ls=":")
    apart.set_xlabel("difference (percentage points)")
    both.invert_yaxis()
    drawn.legend(loc="outside upper center", ncols=2)
    return drawn


def plot_class_maps(mean_face: np.ndarray, maps: dict, heads) -> Figure:
    """A column a class: the mean face, and each method's mean map, one scale a method.

    ``maps`` method -> (classes, 48, 48), in units of an even map; one without a negative value is
    laid over the mean face.
    """
    rows, columns = 1 + len(maps), len(mean_face)
    drawn, axes = figure(rows, columns, height=WIDTH / columns * (rows * 0.98 + 0.25))
    axes[0, 0].set_ylabel("mean face")
    for ax, face, head in zip(axes[0], mean_face, heads, strict=True):
        face_image(ax, np.nan_to_num(face)).axes.set_title(head)
    for row, (name, values) in zip(axes[1:], maps.items(), strict=True):
        finite = values[np.isfinite(values)]
        limit, signed = signed_limit(finite) if len(finite) else 1.0, (finite < 0).any()
        artist = None
        row[0].set_ylabel(_broken(name))
        for ax, face, map_ in zip(row, mean_face, values, strict=True):
            if not np.isfinite(map_).all():
                bare(ax)
                ax.text(0.5, 0.5, "no face", ha="center", transform=ax.transAxes, color=MUTED)
            elif signed:
                artist = signed_image(ax, map_, limit)
            else:
                artist = overlay(ax, np.nan_to_num(face), map_, limit)
        if artist:
            bar = drawn.colorbar(artist, ax=row.tolist(), shrink=0.85, aspect=10)
            bar.set_label("for (+)" if signed else "times even", fontsize=7)
    return drawn


def plot_mistakes(images: np.ndarray, answer: np.ndarray, label: np.ndarray, names) -> Figure:
    """A row a mistake: the face, the maps of the answer and of the label, their difference.

    ``answer``, ``label`` (n, 48, 48), signed, one scale a row; ``names`` [(answer, label)].
    """
    drawn, axes = figure(len(images), 4, height=1.7 * len(images), squeeze=False)
    for row, image, said, true, (a, b) in zip(axes, images, answer, label, names, strict=True):
        limit = signed_limit(said, true)
        face_image(row[0], image).axes.set_xlabel("face")
        signed_image(row[1], said, limit).axes.set_xlabel(f"for {a}\n(its answer)")
        artist = signed_image(row[2], true, limit)
        row[2].set_xlabel(f"for {b}\n(the label)")
        signed_image(row[3], said - true, limit).axes.set_xlabel("difference")
        drawn.colorbar(artist, ax=row.tolist(), label="logit (nats)", shrink=0.8)
    return drawn


def overlay(ax, image: np.ndarray, amount: np.ndarray, limit: float, **kwargs):
    """A map of what is 0 or more over a grey face: weak places let the face through."""
    face_image(ax, image, **kwargs)
    alpha = np.clip(amount / limit / FADE, 0, 1) * OPACITY
    return amount_image(ax, amount, limit, alpha=alpha, **kwargs)


def _map_image(ax, map_: np.ndarray, limit: float):
    """Red and blue where there is a negative value, else one colour."""
    return (signed_image if map_.min() < 0 else amount_image)(ax, map_, limit)


def _broken(name: str) -> str:
    return name.replace(" ", "\n", 1)


def _signed(value: float) -> str:
    return f"{value:z.2f}".replace("-", "−")
