"""What a recipe reaches: the models that differ in their seed alone, taken together.

``python -m fer_utils.results RUN`` prints the table that the README shows, from the predictions
that the run and its variants ship; nothing is trained and no image is read.

A row names its split, a column its recipe and number of seeds. From three seeds on a cell is
their mean ± standard deviation and, where it follows from single faces' answers, the 95 %
interval for other seeds and other faces (``metrics.crossed_scores``); with fewer seeds it is
their values, one after the other.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fer_utils import metrics
from fer_utils.commandline import run_command
from fer_utils.runs import Run
from fer_utils.train.recipe import recorded

OURS = "our recipe"
TITLES = {"original": "the 2019 recipe", "deeper": "the deeper network"}
EPOCHS = {"lowest_loss": "lowest PublicTest loss", "best_accuracy": "best PublicTest accuracy"}
SCORES = {
    "macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy", "mcc": "MCC",
    "nll": "NLL, nats (no probability below 6e-8)", "brier": "Brier (0–2)", "ece": "ECE, 15 bins",
}  # fmt: skip
CALIBRATED = "ECE if calibrated, 95 %"
FEWEST = 3  # seeds of which a standard deviation and an interval are shown
BASE = "short"  # the variant that the ablations are held against: our recipe, fewer epochs
NO_INGREDIENT = {"network", "epochs", "processes"}

# Accuracy on FER2013 as published, %: of PrivateTest where nothing else is said.
PUBLISHED = """
year · who · parameters · networks · other data · chosen on · accuracy · source
2013 · people (a small sample) · – · – · – · – · 65 ± 5 · arXiv:1307.0414
2013 · Tang, the contest's winner · – · single · no · PublicTest · 71.2 · arXiv:1306.0239
2016 · Pramerdorfer & Kampel · – · single · no · not said · 72.7 · arXiv:1612.02903
2016 · Pramerdorfer & Kampel · – · ensemble of 8 · no · not said · 75.2 · arXiv:1612.02903
2020 · Pham et al. · 143 M · single · ImageNet · not said · 74.1 · arXiv:2603.05937
2020 · Pham et al. · – · ensemble · ImageNet · the test labels · 76.8 · arXiv:2603.05937
2021 · Khaireddin & Chen (PublicTest) · – · single · no · PrivateTest · 73.3 · arXiv:2105.03588
2023 · El Boudouri & Bohi · – · single · ImageNet-22k · not said · 76.1 · arXiv:2501.08199
"""


@dataclass(frozen=True)
class Configuration:
    """Trained models that differ in their seed alone, after one of ``EPOCHS`` (None: the last)."""

    title: str
    models: list[Run]
    epoch: str | None = None

    def metrics(self, split: str) -> pd.DataFrame:
        """The figures of a split as metrics.json has them, a row a seed."""
        scored = [
            model.epochs[self.epoch]["metrics"] if self.epoch else model.metrics
            for model in self.models
        ]
        return pd.DataFrame([scores[split] for scores in scored])

    def answers(self, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the faces of a split: rows (n,), labels (n,), probabilities (seeds, n, classes)."""
        tables = []
        for model in self.models:
            table = model.predictions_at(self.epoch).query("split == @split")
            tables.append(table.set_index("row").sort_index())
        classes = list(self.models[0].classes)
        probabilities = np.stack([table[classes].to_numpy() for table in tables])
        return tables[0].index.to_numpy(), tables[0]["label"].to_numpy(), probabilities


def configurations(run: Run) -> list[Configuration]:
    """The run and those of its variants that were scored on the same splits, by recipe.

    Variants on other faces are left out. The run's own recipe comes first; where other epochs
    than the last were scored, each has its own configuration.
    """
    groups: dict[str, list[Run]] = {}
    for model in (run, *map(run.variant, run.variants)):
        same = model.config["data"]["checksum"] == run.config["data"]["checksum"]
        if same and set(run.metrics) <= set(model.metrics):
            file = model.config.get("network_checksum", "")
            recipe = settings(model) | {"seed": None, "network_checksum": file}
            groups.setdefault(json.dumps(recipe, sort_keys=True), []).append(model)
    found, taken = [], set()
    for models in groups.values():
        folder = models[0].path.name
        name = re.sub(r"(-seed)?-\d+$", "", folder)
        title = OURS if models[0] is run else TITLES.get(name, name)
        title = folder if title in taken else title
        taken.add(title)
        epochs = [epoch for epoch in EPOCHS if all(epoch in model.epochs for model in models)]
        found.append(Configuration(f"{title}, last epoch" if epochs else title, models))
        found += [Configuration(f"{title}, {EPOCHS[e]}", models, e) for e in epochs]
    return found


def settings(model: Run) -> dict:
    """The recipe of a model; what is younger than the model was off."""
    return recorded(model.config["recipe"])


def figures(run: Run, configuration: Configuration) -> pd.DataFrame:
    """A row a split and figure; columns values (tuple, one a seed), lo, hi (NaN: no interval).

    Accuracies are shares, 0–1; the figures of ``SCORES`` are in their own units.

    Args:
        run: knows which faces are copies and what the voters said.
    """
    rows: dict[tuple[str, str], dict] = {}
    seeds = len(configuration.models)

    def add(figure: str, values, interval=(np.nan, np.nan)) -> None:
        lo, hi = interval
        rows[split, figure] = {"values": tuple(values), "lo": lo, "hi": hi}

    def interval(scores: dict, name: str) -> tuple[float, float]:
        return scores[name][2:] if seeds >= FEWEST else (np.nan, np.nan)

    def add_accuracy(figure: str, part) -> None:
        hits = (answers[:, part].argmax(2) == labels[part]).mean(1)
        scores = metrics.crossed_scores(labels[part], answers[:, part])
        add(figure, hits, interval(scores, "accuracy"))

    for split in run.metrics:  # the last is the one kept for the end, where there is one
        numbers, labels, answers = configuration.answers(split)
        scored = configuration.metrics(split)
        add_accuracy("accuracy", slice(None))
        add("mirror image averaged", scored["accuracy_flip"])
        if seeds > 1:
            together = answers.mean(0).argmax(1) == labels
            add("answers of the seeds averaged", [together.mean()])
    if run.has("copies"):
        alone = ~np.isin(numbers, run.read("copies")["row"])
        add_accuracy(f"without copies of Training ({alone.sum():,})", alone)
    if run.has("votes"):
        clear = metrics.clear_majority(metrics.votes_of(run.read("votes"), numbers))
        if clear.any():
            add_accuracy(f"where at least 6 of 10 voters agree ({clear.sum():,})", clear)
    crossed = metrics.crossed_scores(labels, answers)
    for name, title in SCORES.items():
        add(title, scored[name], interval(crossed, name))
    bands = pd.DataFrame(metrics.calibration_error(labels, each, draws=500) for each in answers)
    add(CALIBRATED, [], bands[["null_lo", "null_hi"]].mean())
    return pd.DataFrame.from_dict(rows, orient="index")


def format_cell(row: pd.Series) -> str:
    """``67.7 ± 0.4 [66.1, 69.2]``, or ``67.7, 68.1``: percent, but for the figures of SCORES."""
    _, figure = row.name
    unit, digits = (1, 3) if figure in (*SCORES.values(), CALIBRATED) else (100, 1)
    values = unit * np.array(row["values"])
    told = ", ".join(f"{value:.{digits}f}" for value in values)
    if len(values) >= FEWEST:
        told = f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"
    if not np.isnan(row["lo"]):
        told += f" [{unit * row['lo']:.{digits}f}, {unit * row['hi']:.{digits}f}]"
    return told.strip()


def results(run: Run) -> pd.DataFrame:
    """A row a split and figure, a column a configuration, each cell by ``format_cell``."""
    columns = {}
    for configuration in configurations(run):
        seeds = len(configuration.models)
        title = f"{configuration.title}, {seeds} seed" + "s" * (seeds > 1)
        columns[title] = figures(run, configuration).apply(format_cell, axis=1)
    order = dict.fromkeys(figure for column in columns.values() for figure in column.index)
    table = pd.DataFrame(columns).reindex(pd.MultiIndex.from_tuples(order)).fillna("–")
    return table.rename_axis(["split", "figure"])


def scorings(run: Run) -> str:
    """How often PrivateTest was looked at, by the ledger: a sentence."""
    variants = run.ledger["variant"]
    if variants.empty and run.synthetic:
        return "No ledger: the faces are drawn, so PrivateTest can be drawn anew."
    if variants.empty:
        return "PrivateTest was not scored for any model of this run."
    # Entries of an earlier command stand for a scoring of every epoch.
    epochs = [int(n) for n in re.findall(r"best of (\d+) epochs", "\n".join(variants))]
    every = f", and every epoch of {len(epochs)} models ({sum(epochs)} epochs)" if epochs else ""
    models = len(variants) - len(epochs)
    return (
        f"PrivateTest was scored {models} times for models of this run, those of earlier recipes "
        f"included{every} (ledger.csv)."
    )


def ablation_groups(run: Run) -> dict[str, dict[int, Run]]:
    """Change -> seed -> model: variants ``short-WHAT`` and ``short-WHAT-seed-K``, the base first.

    The base is ``short``; empty where there is none. A variant that differs from it in more than
    ingredients of the recipe (``NO_INGREDIENT``) is left out.
    """
    groups: dict[str, dict[int, Run]] = {BASE: {}}
    for name in run.variants:
        stem = re.sub(r"-seed-\d+$", "", name)
        if f"{stem}-".startswith(f"{BASE}-"):
            model = run.variant(name)
            groups.setdefault(stem, {})[settings(model)["seed"]] = model
    if not groups[BASE]:
        return {}
    reference = next(iter(groups[BASE].values()))
    return {
        stem.removeprefix(f"{BASE}-").replace("-", " ") if stem != BASE else OURS: models
        for stem, models in groups.items()
        if NO_INGREDIENT.isdisjoint(changes(reference, next(iter(models.values()))))
    }


def ablations(groups: dict[str, dict[int, Run]]) -> pd.DataFrame:
    """What each of ``ablation_groups`` does on PublicTest, a row each, the base first.

    Columns: changed (the settings), seeds, accuracy (mean, a share), change (mean, points, of the
    seeds that both have), sd (of the change, NaN below three seeds), clear (the change is beyond
    the spread of the seeds: t test, 5 %), gap (PublicTest less training loss after the last
    epoch, mean, nats).
    """
    from scipy.stats import t

    rows = []
    first = {name: next(iter(models.values())) for name, models in groups.items()}
    for name, models in groups.items():
        changed = ", ".join(changes(first[OURS], first[name]).values()) or "–"
        for seed, each in models.items():
            gap = history_summary(each.history)["gap"]
            accuracy = each.metrics["PublicTest"]["accuracy"]
            rows.append((name, changed, seed, accuracy, gap))
    table = pd.DataFrame(rows, columns=["variant", "changed", "seed", "accuracy", "gap"])
    table = table.astype({"seed": int, "accuracy": float, "gap": float})
    base = table[table["variant"] == OURS].set_index("seed")["accuracy"]
    table["change"] = 100 * (table["accuracy"] - table["seed"].map(base))
    by_variant = table.groupby("variant", sort=False)
    found = by_variant[["accuracy", "change", "gap"]].mean()
    found["changed"] = by_variant["changed"].first()
    found["seeds"] = by_variant.size()
    number = by_variant["change"].count()
    found["sd"] = by_variant["change"].std().where((number >= FEWEST) & (found.index != OURS))
    ratio = found["change"].abs() / (found["sd"] / np.sqrt(number))
    found["clear"] = 2 * t.sf(ratio, number - 1) < 0.05
    return found[["changed", "seeds", "accuracy", "change", "sd", "clear", "gap"]]


def changes(old: Run, new: Run) -> dict[str, str]:
    """The settings in which two models differ, but for the seed: name -> ``smoothing 0.1 → 0``."""
    one, other = (settings(m) | {"processes": m.config.get("processes", 1)} for m in (old, new))
    told = {}
    for name, value in one.items():
        if name != "seed" and value != other[name]:
            pair = (f"{x:g}" if isinstance(x, float) else str(x) for x in (value, other[name]))
            told[name] = f"{name.replace('_', ' ')} {' → '.join(pair)}"
    return told


def describe_ablations(table: pd.DataFrame) -> str:
    """What ``ablations`` found, in two sentences."""
    if len(table) < 2:
        return "No variant of this run leaves an ingredient out."
    base, changed = table.iloc[0], table.iloc[1:]
    worst = changed["change"].abs().idxmax()
    widest = (changed["gap"] - base["gap"]).abs().idxmax()
    told = (
        f"Accuracy changes most with *{worst}* ({changed['change'][worst]:+.1f} points), the gap "
        f"with *{widest}* ({changed['gap'][widest]:.2f} instead of {base['gap']:.2f} nats). "
    )
    if changed["sd"].isna().all():
        return told + "No row has three seeds to compare: a small change tells nothing."
    return told + (
        f"{changed['clear'].sum()} of {len(changed)} changes of accuracy are beyond the spread of "
        "the seeds (t test, 5 % each); of the others nothing can be said."
    )


def history_summary(history: pd.DataFrame) -> dict[str, float]:
    """Where a history turns and ends, on PublicTest where nothing else is said.

    loss_minimum and accuracy_maximum are epochs, lowest_loss, final_loss, training_loss, gap
    (final less training loss) and rise (final less lowest loss) are nats, best_accuracy,
    final_accuracy and training_accuracy shares.
    """
    last = history.iloc[-1]
    lowest, best = history["valid_loss"].idxmin(), history["valid_accuracy"].idxmax()
    return {
        "loss_minimum": int(history["epoch"][lowest]), "lowest_loss": history["valid_loss"][lowest],
        "accuracy_maximum": int(history["epoch"][best]),
        "best_accuracy": history["valid_accuracy"][best],
        "final_loss": last["valid_loss"], "final_accuracy": last["valid_accuracy"],
        "training_loss": last["train_loss"], "training_accuracy": last["train_accuracy"],
        "gap": last["valid_loss"] - last["train_loss"],
        "rise": last["valid_loss"] - history["valid_loss"][lowest],
    }  # fmt: skip


def history_verdict(history: pd.DataFrame, chance: float) -> str:
    """``did not learn``, ``memorised`` or ``kept its loss``, by thresholds that are a choice.

    It did not learn where it hardly beats ``chance`` (a share); it memorised where the loss on
    unseen faces rose by a quarter of a nat from its minimum while the training loss went on
    falling.
    """
    found = history_summary(history)
    if found["best_accuracy"] < 1.15 * chance:
        return "did not learn"
    at_minimum = history["train_loss"][history["valid_loss"].idxmin()]
    if found["rise"] > 0.25 and found["training_loss"] < at_minimum:
        return "memorised"
    return "kept its loss"


def published() -> pd.DataFrame:
    """Others' results, from ``PUBLISHED``."""
    head, *rows = (line.split(" · ") for line in PUBLISHED.strip().splitlines())
    return pd.DataFrame(rows, columns=head)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fer_utils.results", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run")
    name = parser.parse_args(arguments).run
    return run_command("results", lambda: print_results(Run.load(name)))


def print_results(run: Run) -> None:
    print_table(results(run).reset_index())
    print(f"\n{scorings(run)}\n\nPublished, for comparison:\n")
    print_table(published())


def print_table(table: pd.DataFrame) -> None:
    """A table in Markdown."""
    print("|", " | ".join(table.columns), "|")
    print("|---" * len(table.columns) + "|")
    for cells in table.to_numpy():
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    sys.exit(main())
