"""Chapter 4: maps beside their faces, methods beside their controls, means beside mean faces."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fer_utils.plotting import style
from fer_utils.plotting.style import ACCENT, MARKED, MUTED, WIDTH, face_image, signed_limit

STEPS = 9  # of a randomisation that are shown


def plot_maps(images: np.ndarray, maps: dict, names, units: dict, masks=None) -> Figure:
    """A row a face: the input, then each method's map up to its own maximum, printed below.

    Many faces and few methods change places: then a column is a face. ``maps`` method ->
    (n, 48, 48); ``names``: the faces' heads; ``units`` method -> unit of its maximum; ``masks``
    bool (n, 48, 48), outlined where there is something to outline.
    """
    heads = ["input", *(f"{_broken(method)}\n{units[method]}" for method in maps)]
    across = len(images) > len(heads)
    above, beside = (names, heads) if across else (heads, names)
    drawn, axes = _grid(len(beside), len(above), 1.2)
    for i, row in enumerate(axes.T if across else axes):
        face_image(row[0], images[i])
        for ax, stack in zip(row[1:], maps.values(), strict=True):
            most = signed_limit(stack[i], quantile=1)
            style.map_image(ax, stack[i], most)
            ax.set_xlabel(f"max {most:.2g}", fontsize=7)
            if masks is not None and masks[i].any():
                colour = "black" if stack[i].min() < 0 else "white"  # on signed and on dark maps
                ax.contour(masks[i], levels=[0.5], colors=[colour], linewidths=0.7)
    style.heads(axes, above, beside)
    return drawn


def plot_scores(table: pd.DataFrame, scores, labels) -> Figure:
    """A panel a score, a row a method: mean and 95 % interval, controls in grey.

    ``table`` of ``evaluation.score_table``.
    """
    drawn, axes = style.figure(1, len(scores), height=3.6, sharey=True)
    methods = table.index.unique("method").tolist()
    y = np.arange(len(methods))[::-1]
    known = np.array([name.startswith("control") for name in methods])
    for ax, score, label in zip(axes, scores, labels, strict=True):
        of = table.xs(score, level="score").loc[methods]
        for which, colour, told in ((~known, ACCENT, "method"), (known, MUTED, "control")):
            part = of[which]
            ax.hlines(y[which], part["lo"], part["hi"], colors=colour, lw=1.6)
            ax.scatter(part["mean"], y[which], c=colour, s=15, zorder=3, label=told)
        ring = {"facecolors": "none", "edgecolors": MARKED, "label": "the method, random weights"}
        ax.scatter(of["untrained"][~known], y[~known], s=18, lw=0.9, **ring)
        ax.axvline(of["mean"][known].max(), color=MUTED, lw=0.8, ls=":", label="best control")
        ax.set_xlabel(label, fontsize=8)
        ax.grid(axis="x")
    axes[0].set_yticks(y, methods)
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return drawn


def plot_strip(image: np.ndarray, maps: dict, rho: dict) -> Figure:
    """One face: a row a method, a column a step of the randomisation, from the output down.

    ``maps`` method -> {layer: (48, 48)}, the trained network's first; ``rho`` method -> rank
    correlation of each with the first, printed below it. Of many steps some are shown, evenly
    picked, first and last among them.
    """
    layers = list(next(iter(maps.values())))
    shown = np.linspace(0, len(layers) - 1, min(len(layers), STEPS)).round().astype(int)
    drawn, axes = _grid(len(maps), 1 + len(shown), 1.28, extra=0.3)
    for row, (method, steps) in zip(axes, maps.items(), strict=True):
        face_image(row[0], image)
        for ax, k in zip(row[1:], shown, strict=True):
            map_ = steps[layers[k]]
            style.map_image(ax, map_, signed_limit(map_))
            ax.set_xlabel(f"{rho[method][k]:z.2f}".replace("-", "−"), fontsize=7)
    style.heads(axes, above=("", *(layers[k] for k in shown)))
    style.heads(axes, beside=map(_broken, maps), size=7)
    return drawn


def plot_marked_face(found: dict) -> Figure:
    """One marked face and its maps by both networks, one scale a method; the mark outlined.

    ``found``: the result ``shortcut``, whose first network is the control.
    """
    drawn, axes = _grid(2, 1 + len(found["shown"]), 1.2, extra=0)
    top, bottom, left, right = found["box"]
    maps = found["maps"].astype(float)
    for row, own in zip(axes, maps, strict=True):
        face_image(row[0], found["face"])
        for ax, map_, both in zip(row[1:], own, maps.swapaxes(0, 1), strict=True):
            image = style.signed_image if both.min() < 0 else style.amount_image
            image(ax, map_, signed_limit(both))
        for ax in row:
            style.frame(ax, (left - 0.5, top - 0.5), right - left, bottom - top, MARKED, lw=1)
    style.heads(axes, above=("face", *map(_broken, map(str, found["shown"]))))
    beside = "network\ntrained\nwithout\nthe mark", "network\ntrained\nwith it"
    style.heads(axes, beside=beside, size=8.5)
    return drawn


def plot_pointing(table: pd.DataFrame) -> Figure:
    """A row a method: how often its strongest pixel lies in the mark, by either network.

    ``table`` of ``evaluation.pointing_at_mark``.
    """
    drawn, (both, apart) = style.figure(1, 2, height=3.0, sharey=True)
    y, percent = np.arange(len(table)), 100 * table
    both.hlines(y, percent["control"], percent["used"], colors="#DDDDDD", zorder=1)
    ring = {"facecolors": "none", "edgecolors": MUTED, "label": "control: trained without the mark"}
    both.scatter(percent["control"], y, s=42, zorder=3, **ring)  # seen around a dot at its place
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
    laid over the mean face. A class without a face has no finite map.
    """
    drawn, axes = _grid(1 + len(maps), len(mean_face), 0.98, extra=0.25)
    for ax, face in zip(axes[0], mean_face, strict=True):
        face_image(ax, np.nan_to_num(face))
    for row, values in zip(axes[1:], maps.values(), strict=True):
        known = np.isfinite(values).all((1, 2))
        limit = signed_limit(values)
        signed = bool((values[known] < 0).any())
        for ax, face, map_ in zip(row[known], mean_face[known], values[known], strict=True):
            if signed:
                artist = style.signed_image(ax, map_, limit)
            else:
                artist = overlay(ax, np.nan_to_num(face), map_, limit)
        for ax in row[~known]:
            style.bare(ax)
            ax.text(0.5, 0.5, "no face", ha="center", transform=ax.transAxes, color=MUTED)
        if known.any():
            bar = drawn.colorbar(artist, ax=row.tolist(), shrink=0.85, aspect=10)
            bar.set_label("for (+)" if signed else "times even", fontsize=7)
    style.heads(axes, above=heads, size=9)
    style.heads(axes, beside=("mean face", *map(_broken, maps)), size=8.5)
    return drawn


def plot_mistakes(images: np.ndarray, answer: np.ndarray, label: np.ndarray, names) -> Figure:
    """A row a mistake: the face, the maps of the answer and of the label, their difference.

    ``answer``, ``label`` (n, 48, 48), signed, one scale a row; ``names`` [(answer, label)].
    """
    drawn, axes = style.figure(len(images), 4, height=1.7 * len(images), squeeze=False)
    for row, image, said, true, (a, b) in zip(axes, images, answer, label, names, strict=True):
        limit = signed_limit(said, true)
        face_image(row[0], image).axes.set_xlabel("face")
        style.signed_image(row[1], said, limit).axes.set_xlabel(f"for {a}\n(its answer)")
        artist = style.signed_image(row[2], true, limit)
        row[2].set_xlabel(f"for {b}\n(the label)")
        style.signed_image(row[3], said - true, limit).axes.set_xlabel("difference")
        drawn.colorbar(artist, ax=row.tolist(), label="logit (nats)", shrink=0.8)
    return drawn


def overlay(ax, image: np.ndarray, amount: np.ndarray, limit: float, **kwargs):
    """A map of what is 0 or more over a grey face, which always shows through."""
    face_image(ax, image, **kwargs)
    alpha = 0.75 * np.clip(amount / limit / 0.35, 0, 1)
    return style.amount_image(ax, amount, limit, alpha=alpha, **kwargs)


def _grid(rows: int, columns: int, tall: float, extra: float = 0.35):
    """Axes (rows, columns) for pictures, as wide as the text unless they are few.

    ``tall``: a row's height over a picture's; ``extra`` inches for the heads.
    """
    cell = min(WIDTH / columns, 1.35)
    height, width = tall * cell * rows + extra, cell * columns
    return style.figure(rows, columns, height, width, squeeze=False)


def _broken(name: str) -> str:
    return name.replace(" ", "\n", 1)
