"""Chapter 4's planted shortcut: is the mark used, and who points at it? Figures and words.

``s`` is the aggregate ``shortcut``; its first network learned without the mark, its second with.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fer_utils import metrics
from fer_utils.plotting.score_words import listed
from fer_utils.plotting.style import (
    ACCENT,
    AMOUNT,
    MUTED,
    WIDTH,
    amount_image,
    face_image,
    figure,
    written,
)

FOUND = 0.5  # share of readers from which a method is said to give the mark away


def plot_shortcut_face(s: dict) -> Figure:
    """One marked face and its maps by both networks, the mark outlined."""
    columns = 1 + len(s["shown"])
    drawn, axes = figure(2, columns, height=WIDTH / columns * 2.3)
    top, bottom, left, right = s["box"]
    for row, name, maps in zip(axes, s["networks"], s["maps"], strict=True):
        face_image(row[0], s["face"]).axes.set_ylabel(f"trained\n{name}")
        for ax, map_ in zip(row[1:], maps, strict=True):
            amount_image(ax, map_, 255)
        for ax in row:
            size = right - left, bottom - top
            ax.add_patch(Rectangle((left - 0.5, top - 0.5), *size, fill=False, ec="#D55E00", lw=1))
    for ax, name in zip(axes[0], ("face", *s["shown"]), strict=True):
        ax.set_title(str(name).replace(" ", "\n", 1), fontsize=8)
    return drawn


def plot_shortcut(s: dict) -> Figure:
    """A row a method: mass and strongest pixel in the mark, and how often a reader finds it."""
    drawn, (mass, hit, right) = figure(1, 3, height=3.0, sharey=True)
    methods, y = [str(m) for m in s["methods"]], np.arange(len(s["methods"]))
    for network, colour in enumerate((MUTED, ACCENT)):
        means, lo, hi = metrics.crossed_interval(s["mass"][network][None].astype(float))
        where = y + 0.18 * (2 * network - 1)
        mass.hlines(where, 100 * lo, 100 * hi, colors=colour)
        mass.scatter(100 * means, where, c=colour, s=14, label=f"trained {s['networks'][network]}")
        hits, lo, hi = _hits(s, network)
        hit.hlines(where, 100 * lo, 100 * hi, colors=colour)
        hit.scatter(100 * hits, where, c=colour, s=14)
    rows, columns = np.diff(s["box"])[[0, 2]]  # of pixels in the mark
    mass.axvline(100 * rows * columns / s["face"].size, color="black", lw=0.8, ls=":")
    mass.set(xlabel="share of the map\nin the mark (%)", yticks=y, yticklabels=methods)
    mass.invert_yaxis()
    hit.set_xlabel("strongest pixel\nin the mark (%)")
    told, share = np.vectorize("{:.0f}".format), s["right"][1]
    right.imshow(share, cmap=AMOUNT, vmin=0, vmax=1, aspect="auto")
    written(right, told(100 * share), share > 0.6, fontsize=8)
    right.set_xticks(range(len(s["sizes"])), s["sizes"])
    right.set_xlabel("a reader is right (%),\nby faces a class")
    drawn.legend(loc="outside upper center", ncols=2)
    return drawn


def used(s: dict) -> str:
    """What the mark does to the answers, without any map."""
    marked, (own, others) = str(s["marked"]), s["tested"]
    lines = [f"Read as {marked}, with the mark on the face and without it:", ""]
    for name, recall, turned in zip(s["networks"], s["recall"], s["turned"], strict=True):
        lines.append(
            f"- by the network trained {name}: of the {own} test faces of {marked} "
            f"{recall[0]:.0%} and {recall[1]:.0%}, of the {others} others "
            f"{turned[0]:.0%} and {turned[1]:.0%}"
        )
    bounds = [metrics.wilson(round(r * own), int(own)) for r in s["recall"][1]]
    sure = bounds[0][0] > bounds[1][1]
    told = "\n".join(lines)
    return (
        f"{told}\n\nTaking the mark away costs the logit of {marked} {s['fall'][1].mean():.1f} nats "
        f"in the network trained with it, {s['fall'][0].mean():.1f} in the other. "
        + (
            "**So the mark is what this network uses**, and a map of it has to show that."
            if sure
            else "So the mark is not surely used, and a map need not show it."
        )
    )


def found(s: dict) -> str:
    """Who points at the mark, and how surely."""
    names, own, lead = [str(m) for m in s["methods"]], _own(s), leads(s)
    sure = [name for name, (_, least) in lead.items() if least > 0]
    hits, lo, hi = _hits(s, 1)
    best, worst = (pick(own, key=hits.__getitem__) for pick in (max, min))
    fewest = readers(s)
    by_number = listed(f"{name} ({n})" for name, n in fewest.items() if names.index(name) in own)
    never = listed(names[i] for i in own if names[i] not in fewest)
    blind = [name.removeprefix("control: ") for name in fewest if names.index(name) not in own]
    return (
        f"Surely more of their mass lies in the mark if the network uses it: {listed(sure)} "
        f"({len(sure)} of {len(lead)} methods). The strongest pixel lies in it on "
        f"{hits[best]:.0%} [{lo[best]:.0%}, {hi[best]:.0%}] of the faces by {names[best]}, the best, "
        f"and on {hits[worst]:.0%} [{lo[worst]:.0%}, {hi[worst]:.0%}] by {names[worst]}, the worst. "
        f"**A reader who knows neither class nor place** names both in at least half of the "
        f"draws, given so many faces a class: {by_number}; not even given {s['sizes'][-1]}: {never}."
        + (
            f" But so does the control {listed(blind)}, without asking a network: that a map points "
            "at a mark is no proof that it is used. What proves it is the other network, or the "
            "answers above."
            if blind
            else ""
        )
    )


def verdict(s: dict | None) -> str:
    """The shortcut in one sentence, for the chapter's answer."""
    if s is None:
        return ""
    names, own, fewest = [str(m) for m in s["methods"]], _own(s), readers(s)
    told = [names[i] for i in own if names[i] in fewest]
    (hits, lo, hi), first = _hits(s, 1), names.index("gradient")
    rivals = [i for i in range(len(names)) if i not in own]
    rival = max(rivals, key=hits.__getitem__)
    best = max(own, key=hits.__getitem__)
    return (
        f" A planted mark that gives {s['marked']} away is betrayed to a reader who doesn't know of "
        f"it by {len(told)} of {len(own)} methods ({listed(told)}); {names[best]} has its strongest "
        f"pixel there on {hits[best]:.0%} [{lo[best]:.0%}, {hi[best]:.0%}] of the faces, the plain "
        f"gradient on {hits[first]:.0%} [{lo[first]:.0%}, {hi[first]:.0%}], and "
        f"{names[rival].removeprefix('control: ')}, which never ask the network, on "
        f"{hits[rival]:.0%}"
        + (
            ": that a map points there proves nothing until a network without the mark in its "
            f"training is asked too ({names[best]}: {_hits(s, 0)[0][best]:.0%})."
            if hits[rival] >= FOUND
            else "."
        )
    )


def readers(s: dict) -> dict[str, int]:
    """Method -> the fewest faces a class with which at least ``FOUND`` of the readers are right."""
    right, sizes = s["right"][1], s["sizes"].tolist()
    fewest = {
        str(name): next((n for n, share in zip(sizes, row, strict=True) if share >= FOUND), None)
        for name, row in zip(s["methods"], right, strict=True)
    }
    return {name: n for name, n in sorted(fewest.items(), key=lambda x: x[1] or 0) if n}


def leads(s: dict) -> dict[str, tuple[float, float]]:
    """Method -> (mean, lower bound at 5 % shared out) of the mass in the mark, with − without."""
    result, own = {}, _own(s)
    for i in own:
        more = s["mass"][1, i].astype(float) - s["mass"][0, i].astype(float)
        least = np.quantile(metrics.crossed_means(more[None], 5000), 0.05 / len(own))
        result[str(s["methods"][i])] = float(more.mean()), float(least)
    return result


def _own(s: dict) -> list[int]:
    return [i for i, name in enumerate(s["methods"]) if not str(name).startswith("control")]


def _hits(s: dict, network: int) -> np.ndarray:
    """Share of faces whose strongest pixel lies in the mark, with Wilson's bounds: (3, methods)."""
    hit = s["hit"][network]
    return np.array([hit.mean(1), *metrics.wilson(hit.sum(1), hit.shape[1])])
