"""The table of results says what the predictions of the fits say, and nothing else."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import ROOT

from fer_utils import metrics, results, runs
from fer_utils.runs import Run


@pytest.fixture
def five(runs_folder):
    """A copy of the synthetic run whose ``original`` fit became a second seed of its recipe."""
    shutil.copytree(ROOT / "runs" / "synthetic", runs_folder / "five")
    config = json.loads((runs_folder / "five/config.json").read_text())
    for fit, seed in (("original", 7), ("hard", 8)):
        path = runs_folder / "five/variants" / fit / "config.json"
        old = json.loads(path.read_text())
        recipe = config["recipe"] | {"seed": seed}
        recipe.pop("ema", None)  # stored before there was such an option
        runs.write_json(path, old | {"recipe": recipe})
    return runs_folder / "five"


def test_seeds_of_one_recipe_and_the_same_faces_are_taken_together(five):
    run = Run.load("five")
    assert {n: [f.name for f in fits] for n, fits in results.configurations(run).items()} == {
        "this recipe": ["five", "five/original"]
    }
    table = results.figures(run, results.configurations(run)["this recipe"])
    each = [fit.metrics["PrivateTest"] for fit in (run, run.variant("original"))]
    for row, name in {"PrivateTest": "accuracy", "MCC": "mcc", "ECE, 15 bins": "ece"}.items():
        values = [one[name] for one in each]
        assert table.loc[row, ["mean", "sd"]].tolist() == pytest.approx(
            [np.mean(values), np.std(values, ddof=1)], rel=1e-3
        )
    assert table.loc["PublicTest, mirror image averaged", "mean"] == pytest.approx(
        np.mean([f.metrics["PublicTest"]["accuracy_flip"] for f in (run, run.variant("original"))])
    )
    one, other = (
        f.predictions.query("split == 'PublicTest'") for f in (run, run.variant("original"))
    )
    both = one[list(run.classes)].to_numpy() + other[list(run.classes)].to_numpy()
    together = table.loc["PublicTest, answers of the seeds averaged"]
    assert together["mean"] == np.mean(both.argmax(1) == one["label"])
    assert together[["sd", "lo", "hi"]].isna().all()
    alone = results.figures(run, [run]).index
    assert not [row for row in alone if "seeds averaged" in row]


def test_a_part_of_the_faces_is_that_part(five):
    run = Run.load("five")
    tested = run.predictions.query("split == 'PrivateTest'")
    right = tested[list(run.classes)].to_numpy().argmax(1) == tested["label"]
    some = tested["row"].to_numpy()[::3]
    run.store("copies", {"row": some})
    table = results.figures(run, [run])
    row = f"PrivateTest without copies of Training ({len(tested) - len(some):,})"
    keep = ~np.isin(tested["row"], some)
    assert table.loc[row, "mean"] == pytest.approx(right[keep].mean())
    votes = run.faces(rows=tested["row"].to_numpy()).votes
    sure = metrics.votes_by_class(votes, run.classes)[:, :-1].max(1) >= 6
    row = f"PrivateTest where at least 6 of 10 voters agree ({sure.sum():,})"
    assert table.loc[row, "mean"] == pytest.approx(right[sure].mean())


def test_a_column_has_the_title_of_its_kind_of_fit_and_none_takes_anothers_place(five):
    for name, decay in (("taught-7", 0.1), ("taught-8", 0.1), ("taught-9", 0.2), ("mine-1", 0.3)):
        shutil.copytree(five / "variants/original", five / "variants" / name)
        path = five / "variants" / name / "config.json"
        config = json.loads(path.read_text())
        runs.write_json(path, config | {"recipe": config["recipe"] | {"weight_decay": decay}})
    found = results.configurations(Run.load("five"))
    assert {title: len(fits) for title, fits in found.items()} == {
        "this recipe": 2, "this recipe and teachers": 2, "taught-9": 1, "mine-1": 1
    }  # fmt: skip


def test_a_fit_that_was_not_scored_on_private_test_has_no_column(five):
    path = five / "variants/original/metrics.json"
    scores = json.loads(path.read_text())
    runs.write_json(path, {"PublicTest": scores["PublicTest"]})
    assert [f.name for f in results.configurations(Run.load("five"))["this recipe"]] == ["five"]


def test_the_best_epoch_has_its_line_and_says_that_it_is_invalid(five, capsys):
    assert results.BEST not in results.results(Run.load("five")).index
    assert results.choosing(Run.load("five")).startswith("No fit kept its epochs")
    runs.write_json(five / "variants/original/best_epoch.json", {"accuracy": 0.8125})
    last = Run.load("five", "original").metrics["PrivateTest"]["accuracy"]
    told = f"81.2% instead of {last:.1%} (mean of 1 fits that kept their epochs): {81.25 - 100 * last:.1f} p"
    assert told in results.choosing(Run.load("five"))
    assert list(results.results(Run.load("five")).index)[:2] == [
        "PublicTest", "PublicTest, mirror image averaged"
    ]  # fmt: skip
    assert results.main(["five"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "| | this recipe, 2 seeds |" and printed[1] == "|---|---|"
    assert "| best epoch on PrivateTest (invalid) | 81.2 |" in printed
    assert any(
        re.match(r"\| PrivateTest \| \d+\.\d ± \d+\.\d \[\d+\.\d, \d+\.\d\] \|", p) for p in printed
    )


def test_no_such_run_is_one_line(runs_folder, capsys):
    assert results.main(["nosuch"]) == 1
    assert capsys.readouterr().err.startswith("results: no run named 'nosuch'")


def test_what_was_changed_is_held_against_the_fit_it_was_changed_from(five):
    run = Run.load("five")
    assert results.ablations(run).empty
    assert results.bought(results.ablations(run)) == "No fit of this run leaves an ingredient out."
    for name in ("short", "short-no-flip", "short-same"):
        shutil.copytree(five / "variants/original", five / "variants" / name)
    table = run.variant("short").predictions
    public = table["split"] == "PublicTest"
    right = np.eye(len(run.classes))[table["label"]]
    wrong = public & (np.arange(len(table)) % 3 > 0)
    for name, rows in {"short": public & False, "short-no-flip": wrong}.items():
        scores = np.where(rows.to_numpy()[:, None], np.roll(right, 1, axis=1), right)
        table[list(run.classes)] = scores
        table.to_csv(five / "variants" / name / "predictions.csv", index=False)
    shutil.copy(five / "variants/short/predictions.csv", five / "variants/short-same")
    for name, change in {"short-no-flip": {"flip": False, "seed": 3}, "short-same": {}}.items():
        path = five / "variants" / name / "config.json"
        config = json.loads(path.read_text())
        config |= {"recipe": config["recipe"] | change, "processes": 1 if change else 2}
        runs.write_json(path, config)
    found = results.ablations(run)
    epochs = len(run.variant("short").history)
    assert list(found.index) == [
        f"this recipe in {epochs} epochs", "flip True → False, seed 7 → 3", "processes 1 → 2"
    ]  # fmt: skip
    share = 100 * wrong.sum() / public.sum()
    assert found["accuracy"].tolist() == pytest.approx([1, 1 - share / 100, 1])
    assert found["worse"].tolist() == pytest.approx([0, share, 0])
    assert found["p"].iloc[0] == found["p"].iloc[2] == 1
    assert found["p"].iloc[1] == pytest.approx(min(1, 2 * 2 * 0.5 ** int(wrong.sum())))
    last = run.variant("short").history.iloc[-1]
    assert found["gap"].iloc[1] == pytest.approx(last["valid_loss"] - last["train_loss"])
    assert results.bought(found) == (
        "1 of 2 changes move the accuracy of this seed by more than the choice of faces explains: "
        f"flip True → False, seed 7 → 3: {share:.1f} points worse."
    )
