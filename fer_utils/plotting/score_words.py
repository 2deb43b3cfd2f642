"""Chapter 4's scores in words: every verdict follows from the numbers that it is given.

A method *finds* the expression on a score where it surely beats the best control on the same
faces in every network: the lower bound of the paired bootstrap over faces is above zero in each,
at 5 % shared out over all methods and scores that have controls. (Of a few networks no bootstrap
over networks can tell so little a chance: its draws never reach beyond the lowest of them.) Its own map of a randomly initialised
network is one of the controls. It *ignores* the network where random weights, in all layers or on
average layer by layer, leave more than half of the map's order: then it may find the expression and
still show the picture, not what was learned, and is not trusted.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fer_utils import metrics
from fer_utils.plotting.text import listed, said

QUESTIONS = {
    "pointing game": "pointing game ↑", "mass in mask": "mass in mask ↑",
    "rank accuracy": "rank accuracy ↑", "deletion": "deletion ↓", "insertion": "insertion ↑",
    "part agreement": "part agreement ↑", "top part": "top part ↑",
    "random network": "ρ, random net ↓", "cascading": "ρ, layer by layer ↓",
    "stability": "ρ, noisy face ↑",
}  # fmt: skip
HEADS = (  # of the table, in the order of the scores
    "pointing ↑", "mass ↑", "rank ↑", "deletion ↓", "insertion ↑", "part agr. ↑", "top part ↑",
    "ρ random ↓", "ρ layers ↓", "ρ noise ↑",
)  # fmt: skip
WITHOUT = ("random network", "cascading", "stability")  # controls never ask the network: 1
TRUTH = 3  # the first scores are held against the mask
IGNORES = 0.5  # a map that correlates more with a random network's hardly asks the network
MATTERS = 0.02  # a lead below this is not spoken of, however sure
AGREE = 0.8  # Kendall's W from which networks are said to put the methods in one order
RESAMPLES = 5000


def controls(s: dict) -> np.ndarray:
    return np.array([str(m).startswith("control") for m in s["methods"]])


def methods(s: dict) -> list[str]:
    return [str(m) for m in s["methods"][~controls(s)]]


def margins(s: dict, score: str) -> dict[str, tuple[float, float]]:
    """Method -> its lead over the best control on one score: mean, and the lowest bound of any
    network."""
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
        drawn = [metrics.crossed_means(each[None], RESAMPLES) for each in lead]
        rows[str(s["methods"][i])] = (lead.mean(), np.quantile(drawn, 0.05 / tests, axis=1).min())
    return rows


def winners(s: dict, score: str) -> list[str]:
    """Methods that surely and visibly beat the best control on a score, the best first."""
    if score in WITHOUT:
        return []
    lead = {name: mean for name, (mean, least) in margins(s, score).items() if least > 0}
    return sorted((m for m in lead if lead[m] >= MATTERS), key=lead.get, reverse=True)


def finders(s: dict) -> dict[str, int]:
    """Method -> on how many of the scores against the mask it surely beats the controls."""
    won = [winners(s, str(score)) for score in s["scores"][:TRUTH]]
    return {method: sum(method in names for names in won) for method in methods(s)}


def ignoring(s: dict) -> list[str]:
    """Methods whose maps keep more than half of their order under random weights."""
    rho, layers = column(s, "random network"), column(s, "cascading")
    return [m for m in methods(s) if max(rho[m], layers[m]) > IGNORES]


def nearest(s: dict, among=None) -> tuple[str | None, int]:
    """Of the methods that ask the network, the one that finds most, and on how many scores.

    Where several find as much, the one of the highest rank accuracy; None where none finds any.
    """
    out, won = ignoring(s), finders(s)
    asked = [m for m in won if m not in out and (among is None or m in among) and won[m]]
    rank = column(s, "rank accuracy")
    best = max(asked, key=lambda m: (won[m], rank[m]), default=None)
    return best, won.get(best, 0)


def value(s: dict, method: str, score: str) -> str:
    """A mean with its interval, two digits: 0.78 [0.70, 0.86]."""
    i, j = list(s["methods"]).index(method), list(s["scores"]).index(score)
    return said(*(s[key][i, j] for key in ("mean", "lo", "hi")), digits=2).replace("-", "−")


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
        columns[HEADS[j]] = [
            f"{mean:z.2f}".replace("-", "−") + "*" * (method in won)
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


def column(s: dict, score: str) -> dict[str, float]:
    """Method -> mean of a score."""
    j = list(s["scores"]).index(score)
    return dict(zip(s["methods"].tolist(), s["mean"][:, j].tolist(), strict=True))


def which_to_trust(s: dict) -> str:
    """For what which method is good, and which fail."""
    found, (best, won), out = finders(s), nearest(s), ignoring(s)
    control, theirs = best_control(s, "rank accuracy")
    task = "To see where the expression is"
    if best is None:
        lines = [
            f"**{task}: no method.** None that asks the network surely finds the expressive pixels "
            "better than the controls on any of the three scores against the mask."
        ]
    else:
        reserve = "" if won == TRUTH else ", with reserve"
        lines = [
            f"**{task}: {best}{reserve}**, rank accuracy {value(s, best, 'rank accuracy')} against "
            f"{theirs} of the best control ({control}); it surely beats every control on {won} of "
            f"the {TRUTH} scores against the mask."
        ]
    for name in out:
        lines.append(
            f"**Not {name}**, though it does on {found[name]}: its maps keep "
            f"{value(s, name, 'cascading')} of their order while the layers lose what they learned, "
            f"so they hardly show what its last layers learned (with all weights random they keep "
            f"{value(s, name, 'random network')})."
        )
    for text, score in (
        ("To find what changes the answer if it goes", "deletion"),
        ("To find what is enough for the answer", "insertion"),
        ("To say on which part this face's answer rests", "part agreement"),
    ):
        sure, (control, theirs) = winners(s, score), best_control(s, score)
        asking = [name for name in sure if name not in out]
        if asking:
            lines.append(
                f"**{text}: {asking[0]}**, {score} {value(s, asking[0], score)} against {theirs} of "
                f"the best control ({control})."
            )
        else:
            but = f" but {listed(sure)}" if sure else ""
            lines.append(
                f"**{text}: no method{but}** surely beats the best control ({control}, {theirs})."
            )
    failed = [m for m, n in found.items() if n == 0]
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
            else "With all layers random no method keeps more than half of the order."
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


def correlations(rho: dict) -> str:
    told = listed(f"{name} {r + 0.0:.1f}" for name, r in rho.items())
    return f"rank correlation {told}.".replace("-0.0", "0.0").replace("-0.", "−0.")
