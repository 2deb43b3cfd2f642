"""The table of results says what the predictions of the fits say, and nothing else."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from fer_utils import metrics, results, runs
from fer_utils.runs import Run


@pytest.fixture
def five(runs_folder):
    """A copy of the synthetic run, whose variant ``original`` is a second seed of its recipe.

    So is ``hard``, but on other faces.
    """
    shutil.copytree(ROOT / "runs" / "synthetic", runs_folder / "five")
    recipe = json.loads((runs_folder / "five/config.json").read_text())["recipe"]
    recipe.pop("ema", None)  # stored before there was such an option
    for name, seed in (("original", 7), ("hard", 8)):
        path = runs_folder / "five/variants" / name / "config.json"
        config = json.loads(path.read_text())
        runs.write_json(path, config | {"recipe": recipe | {"seed": seed}})
    return runs_folder / "five"


def change(folder, processes=1, **recipe):
    """Write other settings into the recipe of a stored model."""
    config = json.loads((folder / "config.json").read_text())
    config |= {"recipe": config["recipe"] | recipe, "processes": processes}
    runs.write_json(folder / "config.json", config)


def titles(run):
    return {c.title: len(c.models) for c in results.configurations(run)}


def ours(run):
    return results.figures(run, results.configurations(run)[0])


def test_seeds_of_one_recipe_and_the_same_faces_are_taken_together(five):
    run = Run.load("five")
    assert titles(run) == {"our recipe": 2}
    table = ours(run)
    each = [model.metrics["PrivateTest"] for model in (run, run.variant("original"))]
    for figure, name in {"accuracy": "accuracy", "MCC": "mcc", "ECE, 15 bins": "ece"}.items():
        values = table.loc[("PrivateTest", figure), "values"]
        assert values == pytest.approx([one[name] for one in each])
    one, other = (
        model.predictions.query("split == 'PublicTest'") for model in (run, run.variant("original"))
    )
    both = one[list(run.classes)].to_numpy() + other[list(run.classes)].to_numpy()
    (together,) = table.loc[("PublicTest", "answers of the seeds averaged"), "values"]
    assert together == np.mean(both.argmax(1) == one["label"])


def test_a_deviation_and_an_interval_need_three_seeds(five):
    row = ("PrivateTest", "accuracy")
    assert ours(Run.load("five")).loc[row, ["lo", "hi"]].isna().all()
    assert re.fullmatch(r"\d\d\.\d, \d\d\.\d", results.results(Run.load("five")).loc[row].iloc[0])
    shutil.copytree(five / "variants/original", five / "variants/third")
    change(five / "variants/third", seed=50)
    three = ours(Run.load("five")).loc[row]
    values = three["values"]
    assert three["lo"] < np.mean(values) < three["hi"]
    cell = f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f} ["
    assert results.format_cell(three).startswith(cell)


def test_a_calibrated_networks_error_stands_beside_the_networks(five):
    run = Run.load("five")
    table = ours(run)
    tested = run.predictions.query("split == 'PrivateTest'")
    band = metrics.calibration_error(
        tested["label"].to_numpy(), tested[list(run.classes)].to_numpy()
    )
    lo, hi = table.loc[("PrivateTest", results.CALIBRATED), ["lo", "hi"]]
    assert [lo, hi] == pytest.approx([band["null_lo"], band["null_hi"]], rel=0.3)


def test_a_part_of_the_faces_is_that_part(five):
    run = Run.load("five")
    tested = run.predictions.query("split == 'PrivateTest'")
    right = tested[list(run.classes)].to_numpy().argmax(1) == tested["label"]
    some = tested["row"].to_numpy()[::3]
    run.store("copies", {"row": some})
    table = ours(run)
    row = "PrivateTest", f"without copies of Training ({len(tested) - len(some):,})"
    keep = ~np.isin(tested["row"], some)
    assert table.loc[row, "values"][0] == pytest.approx(right[keep].mean())
    votes = run.faces(rows=tested["row"].to_numpy()).votes
    clear = metrics.clear_majority(votes)
    row = "PrivateTest", f"where at least 6 of 10 voters agree ({clear.sum():,})"
    assert table.loc[row, "values"][0] == pytest.approx(right[clear].mean())


def test_named_epochs_have_columns_of_their_own(five):
    path = five / "variants/original"
    change(path, batch=64)
    scores = json.loads((path / "metrics.json").read_text())
    early = {split: {**figures, "accuracy_flip": 0.125} for split, figures in scores.items()}
    epochs = {name: {"epoch": 4, "metrics": early} for name in results.EPOCHS}
    runs.write_json(path / "metrics.json", scores | {"epochs": epochs})
    for name in results.EPOCHS:
        shutil.copy(path / "predictions.npz", path / f"predictions_{name}.npz")
    table = results.results(Run.load("five"))
    assert list(table.columns)[1:] == [
        "the 2019 recipe, last epoch, 1 seed", "the 2019 recipe, lowest PublicTest loss, 1 seed",
        "the 2019 recipe, best PublicTest accuracy, 1 seed",
    ]  # fmt: skip
    assert list(table.loc[("PublicTest", "mirror image averaged")])[2:] == ["12.5", "12.5"]


def test_a_column_has_the_title_of_its_recipe_and_none_takes_anothers_place(five):
    for name, decay in (("deeper-7", 0.1), ("deeper-8", 0.1), ("deeper-9", 0.2), ("mine-1", 0.3)):
        shutil.copytree(five / "variants/original", five / "variants" / name)
        change(five / "variants" / name, weight_decay=decay)
    assert titles(Run.load("five")) == {
        "our recipe": 2, "the deeper network": 2, "deeper-9": 1, "mine": 1
    }  # fmt: skip


def test_what_is_younger_than_a_run_was_off_in_it(five):
    path = five / "variants/original/config.json"
    config = json.loads(path.read_text())
    config["recipe"] = {"epochs": 3, "seed": 0}
    runs.write_json(path, config)
    old = results.settings(Run.load("five").variant("original"))
    assert (old["ema"], old["erase"]) == (0, 0)


def test_seeds_of_two_files_of_one_name_are_not_taken_together(five):
    for name, checksum in (("mine-1", "a" * 64), ("mine-2", "b" * 64)):
        folder = five / "variants" / name
        shutil.copytree(five / "variants/original", folder)
        change(folder, network="my_net.py:MyNet")
        config = json.loads((folder / "config.json").read_text())
        runs.write_json(folder / "config.json", config | {"network_checksum": checksum})
    assert titles(Run.load("five")) == {"our recipe": 2, "mine": 1, "mine-2": 1}


def test_a_model_that_was_not_scored_on_private_test_has_no_column(five):
    path = five / "variants/original/metrics.json"
    scores = json.loads(path.read_text())
    runs.write_json(path, {"PublicTest": scores["PublicTest"]})
    assert titles(Run.load("five")) == {"our recipe": 1}


def test_a_run_without_private_test_has_its_table_too(five):
    shutil.rmtree(five / "variants")
    scores = Run.load("five").metrics
    runs.write_json(five / "metrics.json", {"PublicTest": scores["PublicTest"]})
    stored = runs.read_arrays(five / "predictions.npz")
    public = stored["split"] == "PublicTest"
    runs.write_arrays(five / "predictions.npz", {k: v[public] for k, v in stored.items()})
    table = results.results(Run.load("five"))
    assert set(table.index.get_level_values("split")) == {"PublicTest"}
    assert ("PublicTest", "MCC") in table.index


def test_the_ledger_says_how_often_private_test_was_scored(five):
    assert results.scorings(Run.load("five")).startswith("No ledger")
    real = json.loads((five / "config.json").read_text())
    real["data"]["kind"] = "fer2013"
    runs.write_json(five / "config.json", real)
    assert results.scorings(Run.load("five")).startswith("PrivateTest was not scored")
    lines = ["variant,recipe", "main,x", '"seed-1, best of 30 epochs (invalid)",x', "seed-1,x"]
    (five / "ledger.csv").write_text("\n".join(lines) + "\n")
    assert results.scorings(Run.load("five")) == (
        "PrivateTest was scored 2 times for models of this run, those of earlier recipes included, "
        "and every epoch of 1 models (30 epochs) (ledger.csv)."
    )


def test_the_command_prints_both_tables(five, capsys):
    assert results.main(["five"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["| split | figure | our recipe, 2 seeds |", "|---|---|---|"]
    assert any(line.startswith("| 2016 | Pramerdorfer & Kampel | ") for line in printed)


def history(train, valid, accuracy):
    columns = {"epoch": range(1, len(train) + 1), "train_loss": train, "valid_loss": valid}
    return pd.DataFrame(
        columns | {"valid_accuracy": accuracy, "train_accuracy": np.linspace(0.3, 0.9, len(train))}
    )


def add_short(five, name, right, gap=0.1, **recipe):
    """A variant that answers so many PublicTest faces of a hundred right, on a recipe of its own."""
    path = five / "variants" / name
    shutil.copytree(five / "variants/original", path)
    change(path, **recipe)
    runs.write_json(path / "metrics.json", {"PublicTest": {"n": 100, "accuracy": right / 100}})
    table = history([1, 0.5], [1, 0.5 + gap], [0.2, right / 100])
    table.to_csv(path / "history.csv", index=False)


def test_an_ingredient_is_held_against_its_base_seed_by_seed(five):
    run = Run.load("five")
    none = results.ablations(results.ablation_groups(run))
    assert none.empty and results.describe_ablations(none).startswith("No variant")
    for seed, base, without in ((0, 60, 58), (1, 70, 67), (2, 65, 64)):
        suffix = f"-seed-{seed}" if seed else ""
        add_short(five, f"short{suffix}", base, seed=seed)
        add_short(five, f"short-no-flip{suffix}", without, gap=0.7, seed=seed, flip=False)
    add_short(five, "short-no-decay", 61, seed=0, weight_decay=0.0)
    add_short(five, "short-two-processes", 10, seed=0, processes=2)
    add_short(five, "short-deeper", 10, seed=0, network="FerResNet")
    table = results.ablations(results.ablation_groups(run))
    assert list(table.index) == ["our recipe", "no decay", "no flip"]
    assert list(table["changed"]) == ["–", "weight decay 0.0005 → 0", "flip True → False"]
    assert table["seeds"].tolist() == [3, 1, 3]
    assert table["change"].tolist() == pytest.approx([0, 1, -2])
    assert table["sd"].tolist() == pytest.approx([np.nan, np.nan, 1], nan_ok=True)
    assert table["gap"].tolist() == pytest.approx([0.1, 0.1, 0.7])
    assert table["clear"].tolist() == [False, False, False]  # t = 2 / (1 / √3) = 3.46, p = 0.07
    assert results.describe_ablations(table) == (
        "Accuracy changes most with *no flip* (-2.0 points), the gap with *no flip* (0.70 instead "
        "of 0.10 nats). 0 of 2 changes of accuracy are beyond the spread of the seeds (t test, "
        "5 % each); of the others nothing can be said."
    )
    gains = table.assign(change=[0, 3, -2], gap=[0.7, 0.1, 0.6])  # the largest change, either way
    assert "most with *no decay* (+3.0 points), the gap with *no decay*" in (
        results.describe_ablations(gains)
    )
    add_short(five, "short-adam", 50, optimiser="adam", seed=0)
    add_short(five, "short-adam-seed-1", 60, optimiser="adam", seed=1)
    add_short(five, "short-adam-seed-2", 54, optimiser="adam", seed=2)
    table = results.ablations(results.ablation_groups(run))
    assert table.loc["adam", "clear"] and table["clear"].sum() == 1  # −10, −10, −11


def test_a_history_is_summarised_by_where_it_turns_and_ends():
    found = results.history_summary(history([1.5, 1.0, 0.2], [1.6, 1.4, 2.0], [0.3, 0.45, 0.5]))
    assert (found["loss_minimum"], found["accuracy_maximum"]) == (2, 3)
    assert found["gap"] == pytest.approx(1.8) and found["rise"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("train", "valid", "accuracy", "verdict"),
    [
        ([1.5, 1.0, 0.2], [1.6, 1.4, 2.0], [0.3, 0.45, 0.5], "memorised"),
        ([1.5, 1.0, 0.2], [1.6, 1.4, 1.5], [0.3, 0.45, 0.5], "kept its loss"),
        ([1.5, 1.0, 1.2], [1.6, 1.4, 2.0], [0.3, 0.45, 0.5], "kept its loss"),  # it diverged
        ([1.9, 1.9, 1.9], [1.9, 1.9, 1.9], [0.2, 0.2, 0.2], "did not learn"),
        ([1.9, 1.5, 1.0], [1.9, 1.8, 1.7], [0.2, 0.25, 0.25], "did not learn"),
        # learned within the first epoch
        ([0.6, 0.5, 0.4], [0.45, 0.44, 0.43], [0.8, 0.85, 0.85], "kept its loss"),
    ],
)
def test_the_verdict_on_a_history_follows_its_rule(train, valid, accuracy, verdict):
    assert results.history_verdict(history(train, valid, accuracy), chance=0.25) == verdict
