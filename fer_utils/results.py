"""What a recipe reaches: the fits that differ in their seed alone, taken together.

``python -m fer_utils.results RUN`` prints the table that the README shows, from the predictions
that the run and its fits ship; nothing is trained and no image is read.

Each figure is the mean over seeds ± their standard deviation, then its 95 % interval for other
seeds and other faces (``metrics.comparison``). What follows from no single face's answer (the mean
with the mirror image, ECE, the best epoch) has no interval; nor have the seeds taken as one
ensemble.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict

import numpy as np
import pandas as pd

from fer_utils import metrics
from fer_utils.runs import Run
from fer_utils.train.recipe import Recipe

OURS = "this recipe"
TITLES = {
    "original": "the original recipe", "deeper": "the deeper network",
    "taught": "this recipe and teachers",
}  # fmt: skip
SCORES = {
    "macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy", "mcc": "MCC",
    "nll": "NLL, nats", "brier": "Brier (0–2)", "ece": "ECE, 15 bins",
}  # fmt: skip
BEST = "best epoch on PrivateTest (invalid)"


def configurations(run: Run) -> dict[str, list[Run]]:
    """The run and those of its fits that PrivateTest was scored for, by recipe.

    Fits on other faces are left out. The run's own recipe comes first.
    """
    found: dict[str, list[Run]] = {}
    for fit in (run, *map(run.variant, run.variants)):
        same = fit.config["data"]["checksum"] == run.config["data"]["checksum"]
        if same and "PrivateTest" in fit.metrics:
            recipe = settings(fit) | {"seed": None}
            found.setdefault(json.dumps(recipe, sort_keys=True), []).append(fit)
    named: dict[str, list[Run]] = {}
    for fits in found.values():
        name = fits[0].path.name
        title = OURS if fits[0] is run else TITLES.get(re.sub(r"-\d+$", "", name), name)
        named[name if title in named else title] = fits
    return named


def settings(fit: Run) -> dict:
    """The recipe of a fit; an option that is younger than the fit has its default."""
    return asdict(Recipe()) | fit.config["recipe"]


def figures(run: Run, fits: list[Run]) -> pd.DataFrame:
    """One configuration: a row a figure, columns mean, sd, lo, hi; NaN where it is not known.

    Accuracies are shares, 0–1; the figures of ``SCORES`` are in their own units.

    Args:
        run: knows which faces are copies and of which the voters are sure.
    """
    rows = {}
    for split in ("PublicTest", "PrivateTest"):
        tables = [fit.predictions.set_index("row").sort_index() for fit in fits]
        tables = [table[table["split"] == split] for table in tables]
        numbers, labels = tables[0].index, tables[0]["label"].to_numpy()
        answers = np.stack([table[list(run.classes)].to_numpy() for table in tables])
        crossed = metrics.crossed_scores(labels, answers)
        rows[split] = crossed["accuracy"]
        mirrored = [fit.metrics[split]["accuracy_flip"] for fit in fits]
        rows[f"{split}, mirror image averaged"] = across(mirrored)
        if len(fits) > 1:
            hits = answers.mean(0).argmax(1) == labels
            rows[f"{split}, answers of the seeds averaged"] = across([hits.mean()])
    parts = {}
    if run.has("copies"):
        parts["without copies of Training"] = ~np.isin(numbers, run.read("copies")["row"])
    if run.has("votes"):
        votes = metrics.votes_of(run.read("votes"), numbers)
        parts["where at least 6 of 10 voters agree"] = metrics.clear_majority(votes)
    for name, part in parts.items():
        if part.any():
            some = metrics.crossed_scores(labels[part], answers[:, part])
            rows[f"PrivateTest {name} ({part.sum():,})"] = some["accuracy"]
    if best := [fit.best_epoch["accuracy"] for fit in fits if fit.best_epoch]:
        rows[BEST] = across(best)
    rows |= {title: crossed[name] for name, title in SCORES.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "sd", "lo", "hi"])


def across(values: list[float]) -> tuple[float, float, float, float]:
    """Mean and standard deviation of one value a seed; no interval."""
    sd = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return float(np.mean(values)), float(sd), np.nan, np.nan


def told(row) -> str:
    """``67.7 ± 0.4 [66.1, 69.2]``: percent with one digit, other figures with three."""
    unit, digits = (1, 3) if row.name in SCORES.values() else (100, 1)
    mean, sd, lo, hi = (f"{unit * row[name]:.{digits}f}" for name in ("mean", "sd", "lo", "hi"))
    spread = "" if np.isnan(row["sd"]) else f" ± {sd}"
    return mean + spread + ("" if np.isnan(row["lo"]) else f" [{lo}, {hi}]")


def results(run: Run) -> pd.DataFrame:
    """A row a figure, a column a configuration, each cell as ``told``."""
    columns = {}
    for name, fits in configurations(run).items():
        seeds = f"{len(fits)} seed" + "s" * (len(fits) > 1)
        columns[f"{name}, {seeds}"] = figures(run, fits).apply(told, axis=1)
    order = dict.fromkeys(figure for column in columns.values() for figure in column.index)
    return pd.DataFrame(columns).reindex(list(order)).fillna("–").rename_axis("figure")


def choosing(run: Run) -> str:
    """What it would seem to gain to choose each seed's epoch on PrivateTest: a sentence."""
    fits = [fit for fit in configurations(run).get(OURS, ()) if fit.best_epoch]
    if not fits:
        return "No fit kept its epochs, so what choosing among them would claim is not known."
    last = np.array([fit.metrics["PrivateTest"]["accuracy"] for fit in fits])
    best = np.array([fit.best_epoch["accuracy"] for fit in fits])
    return (
        f"Choosing the epoch on PrivateTest would have claimed {best.mean():.1%} instead of "
        f"{last.mean():.1%} (mean of {len(fits)} fits that kept their epochs): {100 * (best - last).mean():.1f} "
        "percentage points more."
    )


def ablations(run: Run, base: str = "short") -> pd.DataFrame:
    """What each change of the fit ``base`` costs on PublicTest; empty where there is no such fit.

    A row a fit whose name begins with that of ``base``, which comes first. Columns: accuracy (a
    share), worse (by how many points), p (McNemar's exact test against ``base``, Holm's
    correction), gap (PublicTest loss less training loss after the last epoch, nats).
    """
    names = (
        [name for name in run.variants if name.startswith(f"{base}-")]
        if base in run.variants
        else []
    )
    fits = [run.variant(name) for name in (base, *names)] if names else []
    rows, answers = {}, []
    for fit in fits:
        public = fit.predictions.query("split == 'PublicTest'").set_index("row").sort_index()
        labels, last = public["label"].to_numpy(), fit.history.iloc[-1]
        answers.append(public[list(run.classes)].to_numpy().argmax(1))
        rows[changes(fits[0], fit) or f"this recipe in {len(fit.history)} epochs"] = {
            "accuracy": (labels == answers[-1]).mean(),
            "worse": 100 * ((labels == answers[0]).mean() - (labels == answers[-1]).mean()),
            "p": metrics.mcnemar(labels, answers[0], answers[-1])[2],
            "gap": last["valid_loss"] - last["train_loss"],
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["accuracy", "worse", "p", "gap"])
    table.iloc[1:, 2] = metrics.holm(table["p"].to_numpy()[1:])
    return table.rename_axis("changed")


def changes(fit: Run, other: Run) -> str:
    """The settings in which two fits differ: ``smoothing 0.1 → 0``."""
    old, new = (settings(f) | {"processes": f.config.get("processes", 1)} for f in (fit, other))
    values = {
        name.replace("_", " "): [f"{x:g}" if isinstance(x, float) else x for x in (value, new[name])]
        for name, value in old.items() if value != new[name]
    }  # fmt: skip
    return ", ".join(f"{name} {a} → {b}" for name, (a, b) in values.items())


def bought(table: pd.DataFrame) -> str:
    """What ``ablations`` found, in a sentence."""
    changed = table.iloc[1:].sort_values("worse", ascending=False)
    if changed.empty:
        return "No fit of this run leaves an ingredient out."
    sure = changed[changed["p"] < 0.05]
    told = "; ".join(
        f"{name}: {abs(by):.1f} points {'worse' if by > 0 else 'better'}"
        for name, by in sure["worse"].items()
    )
    return (
        f"{len(sure)} of {len(changed)} changes move the accuracy of this seed by more than the "
        f"choice of faces explains{': ' + told if told else ''}."
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fer_utils.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run")
    args = parser.parse_args(arguments)
    try:
        table = results(Run.load(args.run))
    except (ValueError, OSError) as error:
        print(f"results: {error}", file=sys.stderr)
        return 1
    print("|", *(f"| {name}" for name in table), "|")
    print("|---" * (len(table.columns) + 1) + "|")
    for name, cells in table.iterrows():
        print(f"| {name} |", " | ".join(cells), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
