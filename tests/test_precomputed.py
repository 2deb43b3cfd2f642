"""What the chapters show from many faces, on small runs and on networks whose use of pixels is
known because it was written down."""

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from fer_utils import data, evaluation, precomputed, runs, synthetic, train
from fer_utils.precomputed import aggregates, truth
from fer_utils.precomputed.__main__ import differing, main

pytestmark = pytest.mark.whole
SOURCE = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
METHODS = dict(evaluation.METHODS)
RECIPE = train.Recipe(epochs=1, batch=32, seed=5)


@pytest.fixture(scope="module")
def small(tmp_path_factory, few_faces):
    """A run of one epoch on 210 faces, in a runs/ of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield train.make_run("small", few_faces, RECIPE, SOURCE, precision="float32")


@pytest.fixture(scope="module")
def quick_methods():
    """The two quickest methods and a control: what is asked here holds for each alone."""
    kept = {name: METHODS[name] for name in ("gradient", "Grad-CAM", "control: edges")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "METHODS", kept)
        patch.setattr(aggregates, "METHODS", ("gradient", "Grad-CAM"))
        patch.setattr(truth, "SHOWN", ("gradient", "Grad-CAM"))
        yield kept


class Linear(nn.Module):
    """Seven logits, each a weighted sum of the pixels; batch norm or ReLU have no say."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Conv2d(1, 7, 48, bias=False)
        self.layer.weight.data = torch.as_tensor(weight, dtype=torch.float32).view(7, 1, 48, 48)

    def forward(self, x):
        return nn.functional.leaky_relu(self.layer(x).flatten(1), 1.0)


def stub(weight, **more):
    """What the results ask of a run, around a linear network."""
    model, classes = Linear(weight), data.EMOTIONS
    grey = lambda images: torch.from_numpy(images).float()[:, None] / 255 - 0.5  # noqa: E731
    said = lambda images: model(grey(images)).softmax(1).detach().numpy()  # noqa: E731
    return SimpleNamespace(
        model=lambda: model, scale=grey, predict=said, classes=classes, name="stub", **more
    )


# -- the registry -------------------------------------------------------------------------------


def folder(tmp_path, kind, *have):
    (tmp_path / "precomputed").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"data": {"kind": kind}}))
    for name in have:
        (tmp_path / "precomputed" / f"{name}.npz").touch()
    return tmp_path


def test_missing_says_what_a_synthetic_run_lacks(tmp_path):
    path = folder(tmp_path, "synthetic", "dataset", "votes")
    assert precomputed.missing(path) == ["copies", "class_maps", "filters"]
    assert precomputed.missing(path, further=True)[-2:] == ["scores", "shortcut"]


@pytest.mark.parametrize("faces", [None, SimpleNamespace(votes=None)])
def test_a_run_without_votes_has_no_result_of_them(faces):
    real = SimpleNamespace(has=lambda name: False, faces=lambda: faces, synthetic=False)
    assert precomputed.result(real, "votes") is None


def test_a_real_run_lacks_votes_only_where_there_are_some(tmp_path, monkeypatch):
    path = folder(tmp_path, "fer2013", "copies", "class_maps", "filters")
    monkeypatch.delenv("FER_VOTES", raising=False)
    assert precomputed.missing(path, further=True) == ["dataset"]
    monkeypatch.setenv("FER_VOTES", "votes.csv")
    assert precomputed.missing(path) == ["dataset", "votes"]


def test_shipped_runs_lack_nothing():
    for name in ("fer2013", "synthetic"):
        assert precomputed.missing(ROOT / "runs" / name, further=True) == []


def test_what_is_missing_is_found_without_torch():
    code = (
        "import pathlib, sys; from fer_utils import precomputed; "
        "precomputed.missing(pathlib.Path('runs/synthetic')); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True, cwd=ROOT).strip() == "False"


def test_a_result_is_made_once_and_an_interrupted_one_is_made_again(small, monkeypatch):
    asked = []
    monkeypatch.setattr(
        precomputed.Result, "compute", lambda *_: asked.append(1) or {"a": np.arange(3)}
    )

    def full(*_, **__):
        raise OSError("no room left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room left"):
        patch.setattr(np, "savez_compressed", full)
        precomputed.result(small, "dataset")
    assert not small.has("dataset") and "dataset" in precomputed.missing(small.path)
    for _ in range(2):
        assert precomputed.result(small, "dataset")["a"].tolist() == [0, 1, 2]
    assert len(asked) == 2
    (small.path / "precomputed" / "dataset.npz").unlink()


def test_a_result_that_cannot_be_made_says_how(small, monkeypatch):
    with pytest.raises(ValueError, match=r"no result 'nosuch' \(have: dataset"):
        precomputed.result(small, "nosuch")
    monkeypatch.setattr(runs.Run, "faces", lambda run: None)
    with pytest.raises(runs.RunError, match=r"python -m fer_utils\.precomputed small dataset"):
        precomputed.result(small, "dataset")


def test_what_takes_long_is_made_by_name_or_where_a_run_has_it(small, monkeypatch, capsys):
    monkeypatch.setattr("fer_utils.precomputed.__main__.make", lambda run, faces, n: print(*n))
    assert main(["small"]) == 0
    quick = ["dataset", "copies", "votes", "class_maps", "filters"]
    assert capsys.readouterr().out.split() == quick
    assert "`python -m fer_utils.precomputed small scores shortcut --missing`" in (
        precomputed.elsewhere(small)
    )
    small.store("scores", {})
    assert main(["small"]) == 0 and capsys.readouterr().out.split()[-1] == "scores"
    assert "small shortcut --missing" in precomputed.elsewhere(small)
    (small.path / "precomputed" / "scores.npz").unlink()
    for shipped in ("fer2013", "synthetic"):
        assert precomputed.elsewhere(runs.Run.load(shipped)) == ""


@pytest.mark.parametrize(
    "name, other",
    [("row", [0, 3001]), ("row", [0]), ("mean", [0.1, 1, np.nan]), ("mean", [0, 1, 0.0])],
)
def test_a_row_that_is_off_by_one_and_a_mean_by_a_hundredth_differ(name, other):
    kept = {"row": np.array([0, 3000]), "mean": np.array([0.0, 1.0, np.nan])}
    assert differing(kept, kept | {"mean": kept["mean"] + 0.009}) == []
    assert differing(kept, kept | {name: np.array(other)}) == [name]
    assert differing(kept, {key: kept[key] for key in kept if key != name}) == [name]


def test_verifying_compares_every_result_so_it_takes_no_name(capsys):
    with pytest.raises(SystemExit):
        main(["small", "--verify", "votes"])
    assert "--verify compares every result: give no NAME" in capsys.readouterr().err


def test_copies_are_found_pixel_by_pixel():
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    images[4] = images[1]
    images[5] = images[3]  # a copy within the test splits is not one of Training
    split = np.array(["Training"] * 3 + ["PublicTest", "PrivateTest", "PrivateTest"])
    drawn = data.Faces(images, np.zeros(6, int), split)
    assert aggregates.copies(None, drawn)["row"].tolist() == [4]


# -- mean maps ----------------------------------------------------------------------------------


def test_class_maps_are_means_over_the_correct_faces(small, quick_methods, monkeypatch):
    monkeypatch.setattr(aggregates, "MOST", 5)
    made = aggregates.class_maps(small, small.faces())
    table = small.predictions
    right = table[table[list(small.classes)].to_numpy().argmax(1) == table["label"]]
    wanted = [min((right["label"] == k).sum(), aggregates.MOST) for k in range(len(small.classes))]
    assert made["count"].tolist() == wanted == np.bincount(made["labels"], minlength=7).tolist()
    some, none = made["count"] > 0, made["count"] == 0
    assert some.any() and none.any(), "one epoch leaves a class without a correct face"
    gradient, cam = made["maps"].astype(float)
    # each face's |map| has mean 1, so their mean has too; stored to two decimals
    assert np.allclose(gradient[some].mean((1, 2)), 1, atol=0.01)
    assert (abs(cam[some]).mean((1, 2)) <= 1.01).all()
    assert np.isnan(made["maps"][:, none]).all()
    assert made["upper"].shape == (3, made["count"].sum())
    again = aggregates.class_maps(small, small.faces())
    assert all(np.array_equal(made[k], again[k], equal_nan=k == "maps") for k in made)


def test_the_upper_half_is_the_first_24_rows():
    picture = np.zeros((2, 48, 48))
    picture[0, 23] = -1
    picture[1, [12, 40]] = [[1], [3]]
    assert aggregates.upper_share(picture).tolist() == [1, 0.25]


# -- scores -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(small, quick_methods):
    return truth.method_scores(small, small.faces(), n=8, few=2)


def test_a_map_that_speaks_only_against_has_the_mass_of_an_even_one():
    mask = torch.zeros(1, 48, 48, dtype=torch.bool)
    mask[:, :12] = True
    _, mass, _ = truth._on_mask(-torch.ones(1, 1, 48, 48), mask)
    assert mass.item() == 0.25


def test_scores_stand_face_by_face(small, scored):
    k, m, s, n = scored["values"].shape
    assert (k, m, s, n) == (1, len(scored["methods"]), len(evaluation.ALL_SCORES), 8)
    values = scored["values"].astype(float)
    late = scored["scores"] == "cascading"
    assert np.isnan(values[:, :, late, 2:]).all() and np.isfinite(values[:, :, ~late]).all()
    assert np.allclose(
        values[:, :, list(scored["scores"]).index("cascading"), :2].mean(2),
        scored["cascade"].mean(2), atol=1e-3,
    )  # fmt: skip
    assert scored["seeds"].tolist() == [5]
    assert len(scored["layers"]) == scored["cascade"].shape[2] == 7


def test_controls_never_ask_the_network(scored):
    known = np.array([m.startswith("control") for m in scored["methods"].tolist()])
    table = evaluation.mean_scores(scored)
    assert np.allclose(table["random network"][known], 1, atol=1e-3)
    assert np.allclose(scored["cascade"][0][known], 1, atol=1e-3)
    values = scored["values"][0].astype(float)
    assert np.allclose(values[known][:, :3], scored["untrained"][0][known].astype(float))
    assert (table["random network"][~known] < 0.9).all()


# -- further networks ---------------------------------------------------------------------------


def test_a_network_of_another_seed_differs_in_the_seed_alone(small, quick_methods, capsys):
    assert truth.trained(small, "seed-1") is None and truth.with_seeds(small) == [small]
    made = truth.make(small, "seed-1")
    ours, theirs = small.config, made.config
    assert theirs["recipe"] == {**ours["recipe"], "seed": ours["recipe"]["seed"] + 1}
    assert theirs["data"] == ours["data"] and theirs["scale"] == ours["scale"]
    assert [n.name for n in truth.with_seeds(small)] == ["small", "small/seed-1"]
    two, again = (truth.method_scores(small, small.faces(), n=4, few=1) for _ in range(2))
    for key, value in two.items():
        assert np.array_equal(value, again[key], equal_nan=value.dtype.kind == "f"), key
    assert two["values"].shape[0] == 2 and two["seeds"].tolist() == [5, 6]
    assert not np.array_equal(two["untrained"][0, 0], two["untrained"][1, 0]), "own random network"
    small.store("scores", two)
    assert main(["small", "scores"]) == 0 and small.read("scores")["seeds"].tolist() == [5, 6]
    assert "kept as it is: its networks are not here: seed-2" in capsys.readouterr().out
    (small.path / "precomputed" / "scores.npz").unlink()

    config = {**theirs, "recipe": {**theirs["recipe"], "batch": 16}}
    runs.write_json(made.path / "config.json", config)
    with pytest.raises(runs.RunError, match="another recipe or other faces than the run; remove"):
        truth.with_seeds(small)
    runs.write_json(made.path / "config.json", theirs)


def test_only_a_synthetic_run_has_further_networks():
    real = SimpleNamespace(synthetic=False, name="real")
    with pytest.raises(runs.RunError, match="only a run on synthetic faces"):
        truth.described(real, "seed-1")


def test_without_its_network_the_shortcut_is_left_out(small, capsys):
    with pytest.raises(runs.RunError, match="has no network 'shortcut' with weights; make it with"):
        truth.planted_shortcut(small, small.faces())
    assert main(["small", "shortcut"]) == 0
    assert "left out: its network is not here; --missing trains it" in capsys.readouterr().out


def test_missing_says_how_long_trains_the_network_and_makes_the_result(
    small, quick_methods, capsys
):
    assert main(["small", "--missing", "shortcut"]) == 0
    said = capsys.readouterr().out
    assert "training shortcut: about 0 minutes each" in said and "kB" in said
    made = small.variant("shortcut")
    assert made.config["recipe"] == small.config["recipe"]
    assert made.config["data"]["checksum"] != small.config["data"]["checksum"]
    found = small.read("shortcut")
    assert found["pointing"].shape[:2] == (2, len(quick_methods))
    before = (small.path / "precomputed" / "shortcut.npz").stat().st_mtime_ns
    assert main(["small", "--missing", "shortcut"]) == 0
    assert (small.path / "precomputed" / "shortcut.npz").stat().st_mtime_ns == before


# -- the planted shortcut -----------------------------------------------------------------------


def test_marks_come_and_go_and_nothing_else(few_faces):
    seen = synthetic.faces(70, seed=3, preset="shortcut")
    assert np.array_equal(truth.marked(seen, ()).images, few_faces[:70].images)
    sad = seen.labels == data.EMOTIONS.index("Sad")
    every = truth.marked(seen, data.EMOTIONS).images
    outside = np.ones((48, 48), bool)
    outside[synthetic.MARK] = False
    assert np.array_equal(every[:, outside], seen.images[:, outside])
    assert (every[:, *synthetic.MARK] == every[0, *synthetic.MARK][0, 0]).all()
    only = truth.marked(seen, ("Sad",)).images
    assert np.array_equal(only[sad], every[sad])
    assert np.array_equal(only[~sad], few_faces[:70].images[~sad])


def test_a_network_that_reads_the_mark_alone_is_found_out(monkeypatch):
    """Two linear networks: one sums the mark's pixels for Sad, the other never looks there."""
    k = data.EMOTIONS.index("Sad")
    reads, ignores = np.zeros((7, 48, 48)), np.zeros((7, 48, 48))
    reads[k][synthetic.MARK] = 10
    ignores[:, 10, 10:20] = 1
    faces = synthetic.faces(210, seed=3, preset="shortcut")
    other = stub(reads, faces=lambda: faces)
    monkeypatch.setattr(truth, "trained", lambda run, name: other)
    kept = ("gradient", "occlusion", "control: edges")
    monkeypatch.setattr(evaluation, "METHODS", {name: METHODS[name] for name in kept})
    monkeypatch.setattr(truth, "SHOWN", ("gradient", "occlusion"))
    s = truth.planted_shortcut(stub(ignores), faces)

    assert str(s["marked"]) == "Sad" and s["box"].tolist() == [41, 45, 3, 7]
    assert s["recall"][1, 0] == 1 > s["recall"][1, 1]
    assert s["mistaken"][1, 0] == 1 > s["mistaken"][1, 1]
    assert s["recall"][0, 0] == s["recall"][0, 1] and s["mistaken"][0, 0] == s["mistaken"][0, 1]
    assert np.allclose(s["fall"][0], 0, atol=1e-4) and (s["fall"][1] > 10).all()
    assert s["pointing"][1, 0].all() and not s["pointing"][0, 0].any()
    assert (s["pointing"][1, 1] > 0).all(), "occlusion's plateau reaches beyond the mark: shared"
    assert np.array_equal(*s["pointing"][:, 2]), "edges don't ask who looks"
    assert s["maps"].shape == (2, 2, 48, 48) and s["face"].shape == (48, 48)
    table = evaluation.pointing_at_mark(s)
    assert (table["lo"] > 0).tolist() == [True, True, False]


def test_every_face_that_maps_are_made_of_carries_the_mark(few_faces):
    """5 % of the class have none; they are drawn with one."""
    preset = replace(synthetic.PRESETS["shortcut"], mark_rate=0.5)
    seen = synthetic.faces(140, seed=3, preset=preset)
    own = seen[seen.labels == data.EMOTIONS.index("Sad")]
    always, bare = truth.marked(own, ("Sad",)), truth.marked(own, ())
    assert (always.images != bare.images).any((1, 2)).all()
