"""Chapter 5 in numbers and sentences, all computed from a run's filter cards.

``cards`` is the aggregate ``filters`` (see ``aggregates.cards``): f filters, c classes.
"""

from __future__ import annotations

import numpy as np

SELECTIVE = 0.95  # a filter is selective above this quantile of the random network's filters
ACTION_UNIT = 0.5  # |r| from which on a filter follows an action unit
AGREES, ASTRAY = 0.01, 0.15  # what live optima may miss a card by: the median one, any one
PART = 0.15  # overlap (IoU) from which on a filter looks at a part
UNITS = (1, 2, 4, 5, 6, 7, 9, 12, 15, 16, 17, 20, 23, 25, 26)
PARTS = ("brow", "eye", "nose", "mouth")


def reach(cards: dict, kind: str) -> np.ndarray:
    """How far each filter's picture goes: 0 is the median real patch, 1 the strongest: (f,).

    A distance over a distance, since an activation has no natural zero (a plain ratio blows up
    where the strongest is near 0). NaN for a filter that answers to all faces alike. ``kind`` is
    a picture of the card, or one of the quantiles that it holds.
    """
    value = cards.get(f"{kind}_activation", cards.get(kind))
    span = cards["strongest"] - cards["median"]
    return (value - cards["median"]) / np.where(span > 0, span, np.nan)


def threshold(cards: dict) -> float:
    return float(np.quantile(cards["explained_random"], SELECTIVE))


def selective(cards: dict) -> np.ndarray:
    """Which filters tell the class better than 95 % of a random network's filters: bool (f,)."""
    return cards["explained"] > threshold(cards)


def favourite(cards: dict) -> np.ndarray:
    """The class that each filter answers to most: (f,)."""
    return np.nan_to_num(cards["tuning"], nan=-np.inf).argmax(1)


def by_preference(cards: dict) -> np.ndarray:
    """All filters in the order of the sheet: by the class they prefer, the most tuned first."""
    return np.lexsort((-np.nan_to_num(cards["tuning"]).max(1), favourite(cards)))


def closer(cards: dict) -> list[int]:
    """Eight filters to look at: for each class the one most tuned to it, and one by lot."""
    tuning = np.nan_to_num(cards["tuning"], nan=-np.inf)
    picked = []
    for k in range(tuning.shape[1]):
        picked.append(int(tuning[:, k].argmax()))
        tuning[picked[-1]] = -np.inf  # no filter twice
    rest = np.setdiff1d(np.arange(len(tuning)), picked)
    return [*picked, int(np.random.default_rng(5).choice(rest))]


def carriers(cards: dict, classes: tuple[str, ...], most: int = 3) -> list[dict]:
    """A row a class: the filters most tuned to it, and those whose silence costs it most."""
    rows = []
    for k, name in enumerate(classes):
        tuned, missed = (
            np.argsort(-np.nan_to_num(cards[key][:, k], nan=-np.inf), kind="stable")[:most]
            for key in ("tuning", "logit_fall")
        )
        rows.append({
            "class": name,
            "most tuned": ", ".join(map(str, tuned)),
            "spreads": f"{cards['tuning'][tuned[0], k]:+.2f}",
            "random net": f"{np.nan_to_num(cards['tuning_random'])[:, k].max():+.2f}",
            "most missed": ", ".join(map(str, missed)),
            "logit lost": f"{cards['logit_fall'][missed[0], k]:+.2f}",
            "recall lost, points": f"{100 * cards['recall_fall'][missed[0], k]:+.1f}",
            "test faces": int(cards["tested"][k]),
        })  # fmt: skip
    return rows


def on_reach(cards: dict, bound: np.ndarray) -> str:
    """How far off the faces the optima are, and how much room the certified bound leaves."""
    plain, natural, patch = (reach(cards, kind) for kind in ("plain", "natural", "mean_patch"))
    positive = cards["strongest"] > 0
    simple = np.median(cards["plain_activation"][positive] / cards["strongest"][positive])
    room = float(f"{np.median(bound / cards['plain_activation']):.2g}")
    return (
        f"The median filter is driven **{np.nanmedian(plain):.1f}** times as far by free pixels "
        f"and **{np.nanmedian(natural):.1f}** times as far by a picture with a face's spectrum as "
        f"by the strongest of {int(cards['faces'])} faces; {_beaten(plain):.0%} and "
        f"{_beaten(natural):.0%} of the optima beat that face. {_distance(natural)} "
        f"(As a plain ratio of activations, free pixels reach {simple:.1f}.) The mean of the "
        f"strongest patches reaches {np.nanmedian(patch):.1f}: a mean is blurred. The certified "
        f"bound lies {room:.0f} times above the best "
        "picture found (median), so it is safe and loose."
    )


def _beaten(reached: np.ndarray) -> float:
    """Share of the filters, of those that do not answer to all faces alike, that go beyond 1."""
    return float(np.mean(reached[np.isfinite(reached)] >= 1))


def _distance(natural: np.ndarray) -> str:
    natural = np.nanmedian(natural)
    if natural >= 1.5:
        return "So even the natural optima lie far off the faces."
    if natural >= 1:
        return "So the natural optima stay near to what faces do."
    return "So the natural optima stay below the best face: the prior holds them back."


def on_trust(cards: dict, gap: float, missed: np.ndarray) -> str:
    """Whether the cards belong to the live network, are the only ones, and are of use.

    Args:
        gap: largest difference of live and stored activations, over the median strongest.
        missed: what each optimum sought live misses its card's activation by, as a share.
    """
    belong = (
        "every stored activation comes out of the live network to within 1 %"
        if gap < 0.01 else "**the stored activations are not those of this network**"
    )  # fmt: skip
    near = np.median(missed) < AGREES and missed.max() < ASTRAY
    anew = (
        f"{'come out again' if near else '**do not come out again**'} (asked for: half of the "
        f"activations to within {AGREES:.0%}, all to within {ASTRAY:.0%})"
    )
    plain, natural = np.median(cards["restarts"], axis=1)
    patch, optimum, free, other = cards["usefulness"]
    useful = max(patch, optimum, free) - max(other, 1 - other)
    return (
        f"Weights: {belong}, and {len(missed)} optima, sought anew from the same noise in all "
        f"{int(cards['steps'])} steps, {anew}. "
        f"Diversity: two optima of a filter correlate by {plain:.2f} with free pixels and "
        f"{natural:.2f} under the natural prior (median), so {_alike(natural)}. Use: "
        f"the card tells which of two patches excites more in {min(patch, optimum, free):.0%} to "
        f"{max(patch, optimum, free):.0%} of the pairs, by the picture that is asked, another "
        f"filter's in {other:.0%}. "
        + ("The cards say something about their filters, and leave much unsaid."
           if useful > 0.02 else "**The cards are of no use for telling patches apart.**")
    )  # fmt: skip


def _alike(r: float) -> str:
    return "they show one pattern" if r > 0.7 else "a filter has more than one favourite picture"


def on_selectivity(cards: dict, classes: tuple[str, ...]) -> str:
    """How well filters tell the class, against a random network's."""
    trained, control = (np.median(cards[f"explained{s}"]) for s in ("", "_random"))
    found, best = selective(cards), int(np.argmax(cards["explained"]))
    by_class = np.bincount(favourite(cards)[found], minlength=len(classes))
    listed = ", ".join(f"{name} {n}" for name, n in zip(classes, by_class, strict=True))
    return (
        f"The class explains **{trained:.1%}** of the median filter's variance, {control:.1%} in "
        f"the random network. **{found.sum()} of {len(found)}** filters tell it better than 95 % "
        f"of the random ones ({(1 - SELECTIVE) * len(found):.0f} if they were random too); "
        f"by the class they prefer: {listed}. The most selective is filter {best} "
        f"({classes[favourite(cards)[best]]}; {cards['explained'][best]:.0%} explained)."
    )


def on_truth(cards: dict) -> str:
    """Action units and parts that filters follow, on faces where both are known."""
    sizes = {s: np.nan_to_num(np.abs(cards[f"action_units{s}"])) for s in ("", "_random")}
    units, control = ((size.max(1) > ACTION_UNIT).sum() for size in sizes.values())
    k, unit = np.unravel_index(sizes[""].argmax(), sizes[""].shape)
    parts, parts_control = ((cards[f"parts{s}"].max(1) > PART).sum() for s in ("", "_random"))
    part = PARTS[int(cards["parts"].max(0).argmax())]
    return (
        "Where the truth is known (the synthetic run's network and faces): "
        f"{units} of {len(sizes[''])} filters follow an action unit with |r| > {ACTION_UNIT} "
        f"({control} of a random network), filter {k} most: AU {UNITS[unit]}, "
        f"r = {cards['action_units'][k, unit]:+.2f}. {parts} look at one part of the face "
        f"(overlap above {PART}; random network {parts_control}), the clearest at the {part}."
    )


def on_spare(cards: dict, classes: tuple[str, ...]) -> str:
    """Filters that add nothing, and the dearest single filter."""
    idle, pairs = cards["inactive"], [f"{i} and {j}" for i, j in cards["duplicates"]]
    fall = np.nan_to_num(cards["recall_fall"])
    k, dearest = np.unravel_index(fall.argmax(), fall.shape)
    cost = (
        f"silencing a single filter costs a class at most {100 * fall.max():.1f} points of recall "
        f"(filter {k}, {fall.max() * cards['tested'][dearest]:.0f} of {cards['tested'][dearest]} "
        f"faces of {classes[dearest]}; the most among {fall.size} such losses)"
        if fall.max() > 0 else "no single filter's silence costs any class recall"
    )  # fmt: skip
    return f"Inactive filters: {_some(idle)}; duplicate pairs: {_some(pairs)}; {cost}."


def _some(names, most: int = 4) -> str:
    if not len(names):
        return "none"
    listed = ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")
    return f"{len(names)} ({listed})"


def on_textures(channels: int, size: tuple[int, int]) -> str:
    """Whether pictures in colour and larger than a face could be this network's filters."""
    field = f"a filter of its last convolution sees {size[0]}×{size[1]} pixels"
    if channels == 1:
        return (
            f"Those cannot be this network's: it takes one channel, so whatever it wants to see is "
            f"grey, and {field}."
        )
    return f"This network takes {channels} channels, and {field}."


def verdict(cards: dict) -> str:
    """Are the filters more than random ones?"""
    found = selective(cards)
    count = f"**{found.sum()} of {len(found)}** filters tell the expression better than 95 % of a "
    if found.mean() > 0.5:
        return f"{count}random network's, so most have learnt something about faces."
    if found.mean() > 3 * (1 - SELECTIVE):
        return f"{count}random network's: a part of the layer has learnt to tell expressions."
    return f"{count}random network's, as luck alone would give: **no sign of learning**."
