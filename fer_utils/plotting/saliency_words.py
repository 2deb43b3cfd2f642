"""Chapter 4 in words: every verdict follows from the numbers that it is given.

A method *finds* the expression on a score where it surely beats the best control on the same
faces: the lower bound of the paired bootstrap over faces and networks is above zero, at 5 %
shared out over all methods and scores that have controls. Its own map of a randomly initialised
network is one of the controls.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fer_utils import metrics

QUESTIONS = {
    "pointing game": "pointing game ↑", "mass in mask": "mass in mask ↑",
    "rank accuracy": "rank accuracy ↑", "deletion": "deletion ↓", "insertion": "insertion ↑",
    "part agreement": "part agreement ↑", "top part": "top part ↑",
    "random network": "ρ, random net ↓", "cascading": "ρ, layer by layer ↓",
    "stability": "ρ, noisy face ↑",
}  # fmt: skip
WITHOUT = ("random network", "cascading", "stability")  # controls never ask the network: 1
TRUTH = 3  # the first scores are held against the mask
IGNORES = 0.5  # a map that correlates more with a random network's hardly asks the network
MATTERS = 0.02  # a lead below this is not spoken of, however sure
FEW = 5  # correct faces of a class, below which nothing is said of its mean
AGREE = 0.8  # Kendall's W from which networks are said to put the methods in one order
RESAMPLES = 5000


def controls(s: dict) -> np.ndarray:
    return np.array([str(m).startswith("control") for m in s["methods"]])


def methods(s: dict) -> list[str]:
    return [str(m) for m in s["methods"][~controls(s)]]


def margins(s: dict, score: str) -> pd.DataFrame:
    """Each method's lead over the best control on one score: mean and lower bound, a row each."""
    j = list(s["scores"]).index(score)
    sign = -1.0 if score == "deletion" else 1.0
    values = sign * s["values"][:, :, j].astype(np.float64)  # (networks, methods, faces)
    known, rows = controls(s), {}
    tests = (~known).sum() * (len(s["scores"]) - len(WITHOUT))
    for i in np.flatnonzero(~known):
        rivals = [values[:, c] for c in np.flatnonzero(known)]
        if j < s["untrained"].shape[2]:
            rivals.append(s["untrained"][:, i, j].astype(np.float64))
        lead = values[:, i] - max(rivals, key=np.mean)
        drawn = metrics.crossed_means(lead, RESAMPLES)
        rows[str(s["methods"][i])] = (lead.mean(), np.quantile(drawn, 0.05 / tests))
    return pd.DataFrame(rows, index=["lead", "at least"]).T


def winners(s: dict, score: str) -> list[str]:
    """Methods that surely and visibly beat the best control on a score, the best first."""
    if score in WITHOUT:
        return []
    table = margins(s, score)
    return list(
        table[(table["at least"] > 0) & (table["lead"] >= MATTERS)]
        .sort_values("lead", ascending=False)
        .index
    )


def finders(s: dict) -> dict[str, int]:
    """Method -> on how many of the scores against the mask it surely beats the controls."""
    won = [winners(s, str(score)) for score in s["scores"][:TRUTH]]
    return {method: sum(method in names for names in won) for method in methods(s)}


def trusted(s: dict, among=None) -> str | None:
    """Of those that pass every score against the mask, the one of the highest rank accuracy."""
    passed = [m for m, won in finders(s).items() if won == TRUTH and (not among or m in among)]
    return max(passed, key=column(s, "rank accuracy").get) if passed else None


def value(s: dict, method: str, score: str) -> str:
    """A mean with its interval, two digits: 0.78 [0.70, 0.86]."""
    i, j = list(s["methods"]).index(method), list(s["scores"]).index(score)
    return "{:.2f} [{:.2f}, {:.2f}]".format(
        *(s[key][i, j] for key in ("mean", "lo", "hi"))
    ).replace("-", "−")


def best_control(s: dict, score: str) -> tuple[str, str]:
    """Name of the best control on a score, and its value."""
    j, known = list(s["scores"]).index(score), np.flatnonzero(controls(s))
    pick = np.argmin if score == "deletion" else np.argmax
    name = str(s["methods"][known[pick(s["mean"][known, j])]])
    return name.removeprefix("control: "), value(s, name, score)


def score_table(s: dict) -> pd.DataFrame:
    """Method × score, two digits; * marks a sure lead over the controls; below, Kendall's W."""
    columns = {}
    for j, score in enumerate(s["scores"]):
        won = winners(s, str(score))
        columns[QUESTIONS[str(score)]] = [
            f"{mean:.2f}".replace("-", "−") + ("*" if method in won else "")
            for method, mean in zip(s["methods"], s["mean"][:, j], strict=True)
        ]
    table = pd.DataFrame(columns, index=pd.Index(s["methods"], name="method"))
    if len(s["seeds"]) > 1:
        table.loc["order agrees (W)"] = [f"{w:.2f}" for w in orders(s).values()]
    return table


def by_network(s: dict) -> np.ndarray:
    """Means over faces, controls aside: (networks, methods, scores)."""
    return np.nanmean(s["values"].astype(np.float64), axis=3)[:, ~controls(s)]


def orders(s: dict) -> dict[str, float]:
    """Score -> how far the networks put the methods, controls aside, in one order: Kendall's W."""
    means = by_network(s)
    return {str(name): metrics.concordance(means[..., j]) for j, name in enumerate(s["scores"])}


def agreement(s: dict) -> str:
    """Whether several networks put the methods in one order, score by score."""
    if len(s["seeds"]) < 2:
        return (
            "One network was scored here: whether another puts the methods in the same order "
            "stays open."
        )
    w, own, first = orders(s), np.array(methods(s)), {}
    for j, score in enumerate(w):
        sign = -1 if score == "deletion" or score in WITHOUT[:2] else 1
        first[score] = list(dict.fromkeys(own[(sign * by_network(s)[..., j]).argmax(1)].tolist()))
    same = listed(f"{score} ({w[score]:.2f})" for score in w if w[score] >= AGREE)
    other = listed(f"{score} ({w[score]:.2f})" for score in w if not w[score] >= AGREE)
    steady = listed(f"{score} ({names[0]})" for score, names in first.items() if len(names) == 1)
    split = listed(
        f"{score} ({' or '.join(names)})" for score, names in first.items() if len(names) > 1
    )
    return (
        f"**Do the {len(s['seeds'])} networks agree** on the order of the methods (Kendall's W, "
        f"1: the same order)? On {same}; less on {other}. The best method is the same in every "
        f"network on {steady}; not on {split}."
    )


def listed(names, none: str = "none") -> str:
    names = list(names)
    return none if not names else " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def which_to_trust(s: dict) -> str:
    """For what which method is good, and which fail."""
    found = finders(s)
    full, failed = ([m for m, won in found.items() if won == n] for n in (TRUTH, 0))
    control, theirs = best_control(s, "rank accuracy")
    if best := trusted(s):
        lines = [
            f"**To see where the expression is: {best}**, rank accuracy "
            f"{value(s, best, 'rank accuracy')} against {theirs} of the best control ({control}). "
            f"{listed(full)} surely beat{'s' * (len(full) == 1)} every control on all three "
            "scores against the mask."
        ]
    else:
        lines = [
            "**To see where the expression is: no method.** None finds the expressive pixels "
            "better than the controls do on all three scores against the mask."
        ]
    for text, score in (
        ("To find what changes the answer", "deletion"),
        ("To say on which part this face's answer rests", "part agreement"),
    ):
        won, (control, theirs) = winners(s, score), best_control(s, score)
        if won:
            lines.append(
                f"**{text}: {won[0]}**, {score} {value(s, won[0], score)} against {theirs} of the "
                f"best control ({control})."
            )
        else:
            lines.append(
                f"**{text}: no method** surely beats the best control ({control}, {theirs})."
            )
    lines.append(f"On none of the three surely better than the controls: {listed(failed)}.")
    return " ".join(lines)


def randomisation(s: dict) -> str:
    """Which maps hardly change when the network's weights are drawn anew."""
    rho = column(s, "random network")
    own = methods(s)
    stuck = [m for m in own if rho[m] > IGNORES]
    most = max(own, key=rho.get)
    return (
        f"Over {s['values'].shape[3]} faces the correlation is highest for {most}, "
        f"{value(s, most, 'random network')}, and lowest for "
        f"{(least := min(own, key=rho.get))}, {value(s, least, 'random network')}. "
        + (
            f"{listed(stuck)} still show{'s' * (len(stuck) == 1)} more than half of the same "
            "order without any training: such a picture comes from the face, not from what "
            "was learned."
            if stuck
            else "No method keeps more than half of the order, so all of them ask the network."
        )
    )


def cascade_words(s: dict) -> str:
    """How many layers must go before a map's order is lost, and what noise does to it."""
    below = s["cascade"].mean(0)[~controls(s)] < IGNORES
    names, layers = methods(s), [str(name) for name in s["layers"]]
    kept = [int(row.argmax()) if row.any() else len(row) for row in below]
    at_once = listed(m for m, n in zip(names, kept, strict=True) if n == 0)
    slow, n = max(zip(names, kept, strict=True), key=lambda pair: pair[1])
    until = "the last" if n >= len(layers) else f"`{layers[n]}`"
    steady = column(s, "stability")
    least, most = (pick(names, key=steady.get) for pick in (min, max))
    return (
        f"With `{layers[0]}` alone drawn anew, less than half of the order is left for: {at_once}. "
        + (f"{slow} keeps half longest, until {until} goes too. " if n else "")
        + f"Slight noise on the face, 5 % of its range, changes the order of {most} least, "
        f"{value(s, most, 'stability')}, that of {least} most, {value(s, least, 'stability')}."
    )


def part_words(s: dict, classes) -> str:
    """The part that each class's logit rests on most, and whether maps agree."""
    drop, parts = s["part_drop"].mean(0), [str(p) for p in s["parts"]]
    top, same = drop.max(1), (s["part_drop"].argmax(2) == drop.argmax(1)).all(0)
    rests = [
        f"{name} on the {parts[drop[k].argmax()]} ({top[k]:.1f}{'' if same[k] else '; not in every network'})"
        for k, name in enumerate(classes)
        if top[k] >= 0.5
    ]
    said = (
        f"The logit rests (nats lost) for {listed(rests)}."
        if rests
        else "No part's action units move a logit by half a nat: this network uses none of them."
    )
    won, (even, chance) = winners(s, "top part"), best_control(s, "top part")
    return (
        f"{said} The heaviest part of a map is the one that matters most on {chance} of the faces "
        f"even for the best control ({even}), since parts differ in size; surely more often for: "
        f"{listed(won)}. Better than any control at saying which part matters *more on this face "
        f"than on others*: {listed(winners(s, 'part agreement'))}."
    )


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
    if high == low:
        return f"The upper half holds {upper[low]:.0%} of the mean |map| of {method}."
    return (
        f"The upper half of the picture holds between {upper[low]:.0%} ({classes[low]}) and "
        f"{upper[high]:.0%} ({classes[high]}) of the mean |map| of {method}."
    )


def answer(s: dict, maps: dict, run_name: str, classes) -> str:
    """The chapter's answer, one paragraph."""
    k, _, _, n = s["values"].shape
    full = [m for m, won in finders(s).items() if won == TRUTH]
    control, theirs = best_control(s, "pointing game")
    found = (
        f"on {n} synthetic faces whose expressive pixels are known, and for {k} "
        f"network{'s' * (k > 1)} trained on such faces, the strongest pixel of the "
        f"plain gradient lies in the expression on {value(s, 'gradient', 'pointing game')} of the "
        f"faces, that of the best control ({control}) on {theirs}; it surely beats the controls "
        f"on {finders(s)['gradient']} of 3 scores. "
    )
    best = trusted(s)
    if best is None:
        won = finders(s)
        near = max(won, key=won.get)
        nearest = f"{near} comes nearest, with {won[near]}" if won[near] else "none on any"
        return found + (
            "**No method finds the expressive pixels better than the controls do** on all "
            f"three ({nearest}), so these pictures can't be trusted to show where it looks."
        )
    least = sorted((m for m in finders(s) if m not in full), key=lambda m: finders(s)[m])
    found += f"**{len(full)} of {len(finders(s))} methods pass all three, {best} best**"
    found += f"; {listed(least)} {'does' if len(least) == 1 else 'do'} not. " if least else ". "
    shown = trusted(s, [str(m) for m in maps["methods"]])
    if shown is None:
        return found + f"None of them is among the mean maps of `{run_name}`."
    return found + f"On `{run_name}`: {band_words(maps, shown, classes)}"


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


def few_faces(hits: dict, known: int, error: float) -> str:
    """Where the strongest pixels of a handful of faces lie."""
    told = listed(f"{name} {n}" for name, n in hits.items())
    return (
        f"On how many of the {known} faces with an expression does the strongest pixel lie inside "
        f"it? {told}. The sums of integrated gradients miss the difference of the scores by at "
        f"most {error:.1g} nats. A few faces prove nothing; the next section counts over many."
    )


def column(s: dict, score: str) -> dict[str, float]:
    """Method -> mean of a score."""
    j = list(s["scores"]).index(score)
    return dict(zip(s["methods"].tolist(), s["mean"][:, j].tolist(), strict=True))


def correlations(rho: dict) -> str:
    told = listed(f"{name} {r + 0.0:.1f}" for name, r in rho.items())
    return f"rank correlation {told}.".replace("-0.0", "0.0").replace("-0.", "−0.")


def peaks(maps: dict, method: str, classes) -> str:
    """Where the mean signed map of each class is highest: band of rows, and how high."""
    i = [str(m) for m in maps["methods"]].index(method)
    found = {}
    for k, name in enumerate(classes):
        map_ = maps["signed"][i, k].astype(np.float64)
        if maps["count"][k] >= FEW:
            row = int(map_.argmax()) // map_.shape[1]
            band = next(
                str(b)
                for b, (a, z) in zip(maps["bands"], maps["band_rows"], strict=True)
                if a <= row < z
            )
            found.setdefault(band, []).append(f"{name} ({map_.max():.1f})")
    told = "; ".join(f"on the {band} for {listed(names)}" for band, names in found.items())
    return f"What speaks most for a class by the mean map of {method} lies {told or 'nowhere'}."


def warning(best: str | None, shown: str) -> str:
    """What to add to means of a method that did not pass the test of the known truth."""
    if best:
        return ""
    return (
        f" But {shown} did not pass the test above, nor did any other method whose means are at "
        "hand: they show where a map is large, not where the network looks."
    )
