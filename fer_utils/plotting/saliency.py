"""Chapter 4: maps beside their faces, methods beside their controls, means beside mean faces."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting.style import (
    ACCENT,
    AMOUNT,
    MUTED,
    WIDTH,
    amount_image,
    bare,
    face_image,
    figure,
    signed_image,
    signed_limit,
    written,
)

MASK = "#FFFFFF"  # outline of the known truth, over dark maps
RING = "#D55E00"
STYLES = [  # of lines, for eight methods: colours of Okabe & Ito, told apart by markers as well
    {"color": colour, "marker": marker}
    for colour, marker in zip(
        ["#000000", "#5F5F5F", "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"],
        "osv^DPX*",
        strict=True,
    )
]
FADE = 0.35  # share of a map's range below which an overlay lets the face through


def plot_attributions(images: np.ndarray, maps: np.ndarray, names, unit: str) -> Figure:
    """A column a face: the input, the signed map, its magnitude, and that laid over the face.

    Args:
        images: uint8 (n, 48, 48).  maps: (n, 48, 48), signed; one scale for all.
        names: the columns' heads.  unit: of the maps.
    """
    drawn, axes = figure(4, len(images), height=WIDTH / len(images) * 4.05)
    limit = signed_limit(maps)
    for column, name, image, map_ in zip(axes.T, names, images, maps, strict=True):
        face_image(column[0], image).axes.set_title(name)
        signed = signed_image(column[1], map_, limit)
        size = amount_image(column[2], abs(map_), limit)
        overlay(column[3], image, abs(map_), limit)
    for ax, label in zip(axes[:, 0], ("input", "gradient", "|gradient|", "overlay"), strict=True):
        ax.set_ylabel(label)
    drawn.colorbar(signed, ax=axes[:2].ravel().tolist(), label=unit, shrink=0.9, aspect=25)
    drawn.colorbar(size, ax=axes[2:].ravel().tolist(), label=unit, shrink=0.9, aspect=25)
    return drawn


def plot_methods(images: np.ndarray, masks: np.ndarray, maps: dict, names) -> Figure:
    """A column a face, a row a method; the outline is where the expression really lies.

    Args:
        masks: bool (n, 48, 48).  maps: method -> (n, 48, 48), importance, 0 or more; each map
            up to its own 99.5 % quantile, since methods have different units.
    """
    rows, width = 1 + len(maps), 0.82 * WIDTH  # so that it fits on a page with its caption
    height = width / len(images) * rows * 1.02
    drawn, axes = figure(rows, len(images), height=height, width=width)
    for column, (ax, image) in enumerate(zip(axes[0], images, strict=True)):
        face_image(ax, image).axes.set_title(names[column])
        for below, values in zip(axes[1:, column], maps.values(), strict=True):
            amount_image(below, values[column], signed_limit(values[column]))
            if masks[column].any():
                below.contour(masks[column], levels=[0.5], colors=[MASK], linewidths=0.7)
    for ax, label in zip(axes[:, 0], ("face", *maps), strict=True):
        ax.set_ylabel(label.replace(" ", "\n", 1))
    return drawn


def plot_scores(s: dict, questions: dict) -> Figure:
    """A panel a score, a row a method: mean and 95 % interval; controls in grey.

    Args:
        s: the aggregate ``scores``.  questions: score -> the panel's axis label.
            Small dots: each network. Rings: the same method on networks with random weights.
    """
    drawn, axes = figure(2, -(-len(s["scores"]) // 2), height=5.0, sharey=True)
    methods = [str(m) for m in s["methods"]]
    y = np.arange(len(methods))[::-1]
    known = np.array([m.startswith("control") for m in methods])
    colours = np.where(known, MUTED, ACCENT)
    of_network = np.nanmean(s["values"].astype(np.float64), axis=3)
    for j, (ax, name) in enumerate(zip(axes.ravel(), s["scores"], strict=False)):
        mean, lo, hi = (s[key][:, j] for key in ("mean", "lo", "hi"))
        ax.hlines(y, lo, hi, colors=colours, lw=1.6)
        ax.scatter(mean, y, c=colours, s=15, zorder=3)
        for values in of_network[:, :, j] if len(of_network) > 1 else ():
            ax.scatter(values, y + 0.3, c=colours, s=2.5)
        if j < s["untrained"].shape[2]:
            ring = s["untrained"][:, :, j].astype(np.float64).mean((0, 2))
            ax.scatter(ring[~known], y[~known], s=18, facecolors="none", edgecolors=RING, lw=0.9)
        if not questions[str(name)].startswith("ρ"):
            best = (min if name == "deletion" else max)(mean[known])
            ax.axvline(best, color=MUTED, lw=0.8, ls=":")
        ax.set_xlabel(questions[str(name)], fontsize=8)
        ax.grid(axis="x")
        ax.set_axisbelow(True)
    for ax in axes[:, 0]:
        ax.set_yticks(y, methods)
        for label, control in zip(ax.get_yticklabels(), known, strict=True):
            label.set_color(MUTED if control else "black")
    return drawn


def plot_cascade(s: dict) -> Figure:
    """A line a method: rank correlation with the trained map as layers go, from the output down.

    Args:
        s: the aggregate ``scores``.
    """
    drawn, ax = figure(height=2.7)
    names = [str(m) for m in s["methods"] if not str(m).startswith("control")]
    rho = s["cascade"].mean(0)[: len(names)]
    x = np.arange(1 + rho.shape[1])
    for name, row, style in zip(names, rho, STYLES, strict=False):
        ax.plot(x, [1, *row], **style, ms=4, lw=1.3, label=name)
    ax.axhline(0, color=MUTED, lw=0.8)
    ax.set_xticks(x, ["trained", *s["layers"].tolist()])
    ax.set(xlabel="random weights from the output down to this layer", ylabel="rank correlation ρ")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def plot_random(image: np.ndarray, trained: dict, random: dict, rho: dict) -> Figure:
    """One face's maps from the trained and from a randomly initialised network.

    Args:
        trained, random: method -> (48, 48) importance.  rho: method -> mean rank correlation.
    """
    drawn, axes = figure(2, 1 + len(trained), height=2.75)
    face_image(axes[0, 0], image).axes.set_ylabel("trained")
    face_image(axes[1, 0], image).axes.set_ylabel("random weights")
    for column, name in enumerate(trained, 1):
        axes[0, column].set_title(name.replace(" ", "\n", 1), fontsize=8)
        for ax, maps in zip(axes[:, column], (trained, random), strict=True):
            amount_image(ax, maps[name], signed_limit(maps[name]))
        axes[1, column].set_xlabel(f"ρ = {rho[name]:z.1f}".replace("-", "−"))
    return drawn


def plot_parts(drop: np.ndarray, mass: np.ndarray, parts, classes, methods) -> Figure:
    """Left: what the network loses when a part goes to rest. Right: where the maps put their mass.

    Args:
        drop: (classes, parts), nats of the label's logit.
        mass: (methods, parts), shares of the mass that lies in any part.
    """
    drawn, (left, right) = figure(1, 2, height=3.0, width_ratios=(1, 1.05))
    limit = max(abs(drop).max(), 1e-6)
    bar = left.imshow(drop, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    _written(left, drop, "{:z.1f}", abs(drop) > 0.6 * limit)
    drawn.colorbar(bar, ax=left, label="fall of the logit (nats)")
    shares = mass / mass.sum(1, keepdims=True)
    top = shares.max()
    bar = right.imshow(shares, cmap=AMOUNT, vmin=0, vmax=top, aspect="auto")
    _written(right, 100 * shares, "{:z.0f}", shares > 0.6 * top)
    bar = drawn.colorbar(bar, ax=right, label="share of the parts' mass")
    for ax, names in ((left, classes), (right, methods)):
        ax.set_xticks(range(len(parts)), parts)
        ax.set_yticks(range(len(names)), names)
    return drawn


def plot_class_maps(mean_face: np.ndarray, maps: dict, heads, signed=()) -> Figure:
    """A column a class: the mean face, and each method's mean map, in units of an even map.

    Args:
        mean_face: (classes, 48, 48) grey levels.  maps: method -> (classes, 48, 48).
        heads: the columns' heads.  signed: methods on a diverging scale; the others, 0 or more,
            are laid over the mean face.
    """
    rows, columns = 1 + len(maps), len(mean_face)
    drawn, axes = figure(rows, columns, height=WIDTH / columns * (rows * 0.98 + 0.25))
    for column, head in enumerate(heads):
        face_image(axes[0, column], np.nan_to_num(mean_face[column]))
        axes[0, column].set_title(head)
    for row, (name, values) in zip(axes[1:], maps.items(), strict=True):
        finite = values[np.isfinite(values)]
        limit = signed_limit(finite) if len(finite) else 1.0
        row[0].set_ylabel(name.replace(" ", "\n", 1))
        for ax, face, map_ in zip(row, mean_face, values, strict=True):
            if not np.isfinite(map_).all():
                bare(ax)
                ax.text(0.5, 0.5, "no face", ha="center", transform=ax.transAxes, color=MUTED)
            elif name in signed:
                artist = signed_image(ax, map_, limit)
            else:
                artist = overlay(ax, np.nan_to_num(face), map_, limit)
        if len(finite):
            drawn.colorbar(artist, ax=row.tolist(), shrink=0.85, aspect=10)
    return drawn


def plot_bands(shares: dict, bands, rows, classes) -> Figure:
    """Share of a class's mass in each band of rows, over the band's share of the rows.

    Args:
        shares: method -> (classes, bands).  rows: (bands, 2), first and last row + 1.
    """
    drawn, axes = figure(1, len(shares), height=2.5, sharey=True)
    even = np.diff(rows, axis=1)[:, 0] / 48
    ratios = {name: share / even for name, share in shares.items()}
    limit = np.log2(np.nanmax([*ratios.values(), np.full((len(classes), len(bands)), 1.5)]))
    for ax, (name, ratio) in zip(axes, ratios.items(), strict=True):
        ax.imshow(np.log2(ratio), cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        _written(ax, ratio, "{:z.1f}", abs(np.log2(ratio)) > 0.6 * limit)
        ax.set_title(name)
        ax.set_xticks(range(len(bands)), bands, rotation=40, ha="right")
    axes[0].set_yticks(range(len(classes)), classes)
    return drawn


def plot_mistakes(images: np.ndarray, predicted: np.ndarray, label: np.ndarray, names) -> Figure:
    """A row a mistake: the face, the maps of the predicted and of the true class.

    Args:
        predicted, label: (n, 48, 48), signed, one scale a row.
        names: [(predicted, label)], class names.
    """
    drawn, axes = figure(len(images), 4, height=1.7 * len(images), squeeze=False)
    for row, image, p, t, (said, true) in zip(axes, images, predicted, label, names, strict=True):
        limit = signed_limit(p, t)
        face_image(row[0], image).axes.set_xlabel("face")
        signed_image(row[1], p, limit).axes.set_xlabel(f"for {said}\n(its answer)")
        artist = signed_image(row[2], t, limit)
        row[2].set_xlabel(f"for {true}\n(the label)")
        signed_image(row[3], p - t, limit).axes.set_xlabel("difference")
        drawn.colorbar(artist, ax=row.tolist(), label="logit (nats)", shrink=0.8)
    return drawn


def overlay(ax, image: np.ndarray, amount: np.ndarray, limit: float, **kwargs):
    """A map of what is 0 or more over a grey face: weak places let the face through."""
    face_image(ax, image, **kwargs)
    alpha = np.clip(amount / limit / FADE, 0, 1) * 0.75
    return amount_image(ax, amount, limit, alpha=alpha, **kwargs)


def _written(ax, values: np.ndarray, form: str, light: np.ndarray) -> None:
    told = np.vectorize(lambda v: form.format(v).replace("-", "−") if np.isfinite(v) else "")
    written(ax, told(values), light, fontsize=7.5)
