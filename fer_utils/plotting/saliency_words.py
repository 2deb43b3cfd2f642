"""Chapter 4's maps in words: faces, mean maps, bands of rows, and the chapter's answer.

Every sentence follows from the numbers that it is given; what the scores say is ``score_words``'.
"""

from __future__ import annotations

import numpy as np

from fer_utils.plotting.score_words import (
    TRUTH,
    best_control,
    finders,
    ignoring,
    listed,
    nearest,
    value,
)

FEW = 5  # correct faces of a class, below which nothing is said of its mean


def shares(maps: dict, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean share of mass by class and band, and its standard error: (classes, bands) each."""
    i = maps["methods"].tolist().index(method)
    return maps["band_share"][i].astype(np.float64), maps["band_error"][i].astype(np.float64)


def beyond(own, rival) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of two (share, error) pairs, and where it is surely above 1 (three errors)."""
    return own[0] / rival[0], own[0] - rival[0] > 3 * np.hypot(own[1], rival[1])


def band_words(maps: dict, method: str, classes) -> str:
    """The bands of rows that stand out: beyond both controls, and beyond the other classes."""
    own = shares(maps, method)
    control = np.array([shares(maps, m) for m in maps["methods"] if m.startswith("control")])
    enough = maps["count"] >= FEW
    others = np.array([
        [a[enough & (np.arange(len(classes)) != k)].mean(0) for k in range(len(classes))]
        for a in own
    ]) if enough.sum() > 1 else np.full((2, *own[0].shape), np.nan)  # fmt: skip
    few = listed(np.array(classes)[~enough])
    return (
        f"Beyond both controls, {method} weighs "
        f"{_bands(maps, beyond(own, control.max(0)), classes)}."
        f" Beyond the mean of the other classes: {_bands(maps, beyond(own, others), classes)}."
        + ("" if enough.all() else f" Too few correct faces to say: {few}.")
    )


def _bands(maps: dict, found, classes) -> str:
    """'the mouth for Happy (1.4×)': the surest excess of each class that has one."""
    ratio, sure = found
    out = {}
    for k, name in enumerate(classes):
        if maps["count"][k] >= FEW and sure[k].any():
            b = int(np.where(sure[k], ratio[k], 0).argmax())
            out.setdefault(str(maps["bands"][b]), []).append(f"{name} ({ratio[k, b]:.1f}×)")
    return "; ".join(f"the {b} for {listed(names)}" for b, names in out.items()) or (
        "no band surely more in any class"
    )


def halves(maps: dict, method: str, classes) -> str:
    """How much of each class's mean |map| lies in the upper half of the picture."""
    i = [str(m) for m in maps["methods"]].index(method)
    rows = maps["magnitude"][i].astype(np.float64).sum(2)  # (classes, 48)
    upper = rows[:, :24].sum(1) / rows.sum(1)
    if np.isnan(upper).all():
        return "No class has a correct face, so there is no mean map."
    high, low = int(np.nanargmax(upper)), int(np.nanargmin(upper))
    return (
        f"The upper half of the picture holds between {upper[low]:.0%} ({classes[low]}) and "
        f"{upper[high]:.0%} ({classes[high]}) of the mean |map| of {method}."
    )


def answer(s: dict, maps: dict, run_name: str, classes) -> str:
    """The chapter's answer, one paragraph."""
    k, _, _, n = s["values"].shape
    beat, out, (best, won) = finders(s), ignoring(s), nearest(s)
    control, theirs = best_control(s, "pointing game")
    found = (
        f"on {n} synthetic faces whose expressive pixels are known, and for {k} "
        f"network{'s' * (k > 1)} trained on such faces, the strongest pixel of the "
        f"plain gradient lies in the expression on {value(s, 'gradient', 'pointing game')} of the "
        f"faces, that of the best control ({control}) on {theirs}; it surely beats the controls "
        f"on {beat['gradient']} of 3 scores. "
    )
    for name in (name for name in out if beat[name]):
        found += (
            f"{name[0].upper()}{name[1:]} does on {beat[name]}, but keeps most of its map's order "
            "when the layers lose what they learned. "
        )
    if best is None:
        return found + (
            "**No method that asks the network surely finds the expressive pixels better than the "
            "controls do**, so these pictures can't be trusted to show where it looks."
        )
    reach = "passes all three" if won == TRUTH else f"comes nearest, with {won} of {TRUTH}"
    found += f"Of those that ask the network **{best} {reach}**. "
    shown, _ = nearest(s, [str(m) for m in maps["methods"]])
    if shown is None:
        return found + f"Mean maps of `{run_name}` by such a method are not at hand."
    told = band_words(maps, shown, classes)
    return found + f"On `{run_name}`, {told[0].lower()}{told[1:]}"


def surest(run, n: int) -> list[int]:
    """For each class the row, below ``n``, that the run gets right most surely.

    Where it gets none of a class right: the one to which it gives that class the highest chance.
    """
    table = run.predictions[run.predictions["row"] < n]
    answers = table[list(run.classes)].to_numpy().argmax(1)
    rows = []
    for k, name in enumerate(run.classes):
        own, right = table["label"] == k, (table["label"] == k) & (answers == k)
        rows.append(int(table.loc[table[right if right.any() else own][name].idxmax(), "row"]))
    return rows


def surest_mistakes(run, n: int, most: int = 2):
    """(rows, predicted, label) of the mistakes below row ``n`` made most surely, one an answer."""
    table = run.predictions[run.predictions["row"] < n]
    chance = table[list(run.classes)].to_numpy()
    said, label = chance.argmax(1), table["label"].to_numpy()
    wrong = np.flatnonzero(said != label)
    wrong = wrong[np.argsort(-chance.max(1)[wrong], kind="stable")]
    first = [i for j, i in enumerate(wrong) if said[i] not in said[wrong[:j]]][:most]
    return table["row"].to_numpy()[first], said[first], label[first]


def inside(maps: np.ndarray, mask: np.ndarray) -> str:
    """How much larger a map is where the expression lies."""
    known = mask.any((1, 2))
    size, mask = abs(maps[known]), mask[known]
    ratio = size[mask].mean() / size[~mask].mean()
    return (
        f"On these faces the gradient is on average {ratio:.1f} times as large inside the "
        "expression as outside; 1 would mean that it knows nothing of it."
    )


def few_faces(hits: dict, known: int, error: np.ndarray, gain: np.ndarray) -> str:
    """Where the strongest pixels of a handful of faces lie.

    Args:
        error, gain: of each face, what integrated gradients should sum to less what they do, and
            what they should sum to.
    """
    worst = int(abs(error).argmax())
    told = listed(f"{name} {n}" for name, n in hits.items())
    return (
        f"On how many of the {known} faces with an expression does the strongest pixel lie inside "
        f"it? {told}. The sums of integrated gradients miss the difference of the scores by at "
        f"most {abs(error[worst]):.1f} nats, on a face where it is "
        f"{gain[worst]:.1f}: more points on the path bring them nearer. A few faces prove nothing; the next section counts over many."
    )


def peaks(maps: dict, classes, method: str = "occlusion") -> str:
    """Where the mean signed map of each class is highest: band of rows, and how high."""
    i = [str(m) for m in maps["methods"]].index(method)
    found = {}
    for k, name in enumerate(classes):
        map_ = maps["signed"][i, k].astype(np.float64)
        if maps["count"][k] >= FEW:
            # windows make plateaus: their middle, not the first of their rows
            row = int(np.argwhere(map_ >= map_.max() - 0.005)[:, 0].mean())
            band = maps["bands"][np.searchsorted(maps["band_rows"][:, 0], row, side="right") - 1]
            found.setdefault(band, []).append(f"{name} ({map_.max():.1f})")
    told = "; ".join(f"on the {band} for {listed(names)}" for band, names in found.items())
    return f"What speaks most for a class by the mean map of {method} lies {told or 'nowhere'}."


def warning(s: dict, shown: str) -> str:
    """What to add to means of a method that did not pass the whole test of the known truth."""
    won = finders(s)[shown]
    if won == TRUTH and shown not in ignoring(s):
        return ""
    return (
        f" But {shown} passed only {won} of {TRUTH} scores of the test above: its means say where "
        "its maps are large, and only likely where the network looks."
    )
