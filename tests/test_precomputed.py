"""What the saliency chapter shows from many faces, on small runs and on networks whose use of
pixels is known because it was written down."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fer_utils import data, runs, synthetic, train
from fer_utils.evaluation import METHODS
from fer_utils.precomputed import AGGREGATES, aggregate, fits, maps, scores, shortcut
from fer_utils.precomputed.__main__ import main

pytestmark = pytest.mark.whole
SOURCE = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
RECIPE = train.Recipe(epochs=1, batch=32, seed=5)


@pytest.fixture(scope="module")
def small(tmp_path_factory, few_faces):
    """A run of one epoch on 210 faces, in a runs/ of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield train.make_run("small", few_faces, RECIPE, SOURCE, precision="float32")


class Linear(nn.Module):
    """Seven logits, each a weighted sum of the pixels; batch norm or ReLU have no say."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Conv2d(1, 7, 48, bias=False)
        self.layer.weight.data = torch.as_tensor(weight, dtype=torch.float32).view(7, 1, 48, 48)

    def forward(self, x):
        return nn.functional.leaky_relu(self.layer(x).flatten(1), 1.0)


def stub(weight, **more):
    """What the aggregates ask of a run, around a linear network."""
    model, classes = Linear(weight), data.EMOTIONS
    grey = lambda images: torch.from_numpy(images).float()[:, None] / 255 - 0.5  # noqa: E731
    said = lambda images: model(grey(images)).softmax(1).detach().numpy()  # noqa: E731
    return SimpleNamespace(
        model=lambda: model, scale=grey, predict=said, classes=classes, name="stub", **more
    )


# -- mean maps ----------------------------------------------------------------------------------


def test_class_maps_are_means_over_the_correct_faces(small, monkeypatch):
    monkeypatch.setattr(maps, "MOST", 5)
    made = maps.class_maps(small, small.faces())
    table = small.predictions
    right = table[table[list(small.classes)].to_numpy().argmax(1) == table["label"]]
    assert made["count"].tolist() == [
        min((right["label"] == k).sum(), maps.MOST) for k in range(len(small.classes))
    ]
    drawn = [m for m in made["methods"].tolist() if not m.startswith("control")]
    assert made["methods"].tolist()[: len(drawn)] == drawn, "the controls come last"
    assert made["magnitude"].shape == (len(drawn), 7, 48, 48) == made["signed"].shape
    some, none = made["count"] > 0, made["count"] == 0
    assert some.any() and none.any(), "one epoch leaves a class without a correct face"
    # each face's |map| has mean 1, so their mean has too; stored to two decimals
    assert np.allclose(made["magnitude"][:, some].astype(float).mean((2, 3)), 1, atol=0.01)
    assert (
        np.isnan(made["magnitude"][:, none]).all() and np.isnan(made["band_share"][:, none]).all()
    )
    assert (abs(made["signed"][:, some]) <= made["magnitude"][:, some] + 0.01).all()
    assert np.allclose(made["band_share"][:, some].sum(2), 1, atol=1e-5)
    again = maps.class_maps(small, small.faces())
    assert all(np.array_equal(made[k], again[k], equal_nan=k not in ("methods", "bands"))
               for k in made)  # fmt: skip


def test_band_shares_count_rows():
    picture = np.zeros((2, 48, 48))
    picture[0, 12] = 1  # a row of the brow
    picture[1, [12, 40]] = [[1], [3]]  # and three times as much on the mouth
    names = list(maps.BANDS)
    share = maps.band_shares(picture)
    assert share[0, names.index("brow")] == 1 and share[0].sum() == 1
    assert share[1, names.index("brow")] == 0.25 and share[1, names.index("mouth")] == 0.75


# -- scores -------------------------------------------------------------------------------------


def test_the_mask_is_where_the_expression_shows(few_faces):
    some = few_faces[:14]
    mask = scores.expressive_mask(some, data.EMOTIONS)
    neutral = some.labels == data.EMOTIONS.index("Neutral")
    assert not mask[neutral].any() and mask[~neutral].any((1, 2)).all()
    for i in np.flatnonzero(~neutral):
        changed = synthetic.difference_map(some[i : i + 1], data.EMOTIONS[some.labels[i]])
        assert np.array_equal(mask[i], changed[0] > scores.VISIBLE)


def test_part_drops_are_what_rerendering_costs_the_logit(few_faces):
    weight = np.zeros((7, 48, 48))
    weight[:, 33:43] = 1  # every class: the sum of the mouth's rows
    some = few_faces[few_faces.labels == data.EMOTIONS.index("Happy")][:5]
    drop = scores.part_drops(stub(weight), some)
    for j, part in enumerate(synthetic.PARTS):
        rest = synthetic.rerender(some, part).images
        sums = (some.images.astype(float) - rest)[:, 33:43].sum((1, 2)) / 255
        assert np.allclose(drop[:, j], sums, atol=1e-3)
    assert abs(drop[:, list(synthetic.PARTS).index("mouth")]).min() > 0.1
    assert abs(drop[:, list(synthetic.PARTS).index("brow")]).max() < 0.05


@pytest.fixture(scope="module")
def quick_methods():
    """The two quickest methods and the controls: what is asked here holds for each alone."""
    kept = {n: m for n, m in METHODS.items() if n in ("gradient", "Grad-CAM") or "control" in n}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores.evaluation, "METHODS", kept)
        yield kept


@pytest.fixture(scope="module")
def scored(small, quick_methods):
    return scores.scores(small, small.faces(), n=12, few=3)


def test_methods_with_chance_inside_draw_the_same_each_time(small, few_faces):
    x = small.scale(few_faces.images[:1])
    method = scores.reader("SmoothGrad")
    assert torch.equal(method(small.model(), x, 0), method(small.model(), x, 0))


def test_an_empty_map_scores_as_an_even_one(few_faces):
    x = torch.from_numpy(few_faces.images[:2]).float()[:, None] / 255
    weight = -np.ones((7, 48, 48)) / 1000  # integrated from 0 it only speaks against
    assert (scores.reader("integrated gradients")(Linear(weight), x, 0) == 1).all()


def test_scores_are_means_of_what_each_face_scores(small, scored):
    k, m, s, n = scored["values"].shape
    assert (k, m, s, n) == (1, len(scored["methods"]), len(scores.SCORES), 12)
    values = scored["values"].astype(float)
    assert np.allclose(scored["mean"], np.nanmean(values, axis=3)[0], equal_nan=True)
    assert (scored["lo"] <= scored["mean"] + 1e-9).all() and (
        scored["mean"] <= scored["hi"] + 1e-9
    ).all()
    late = np.isin(scored["scores"], ("cascading", "stability"))
    assert np.isnan(values[:, :, late, 3:]).all() and np.isfinite(values[:, :, ~late]).all()
    assert scored["seeds"].tolist() == [5]
    assert scored["accuracy"].tolist() == [small.metrics["PrivateTest"]["accuracy"]]
    assert not np.isin(scored["labels"], small.classes.index("Neutral")).any()
    assert len(scored["layers"]) == scored["cascade"].shape[2] == 7


def test_controls_never_ask_the_network(scored):
    known = np.array([m.startswith("control") for m in scored["methods"].tolist()])
    at = {name: j for j, name in enumerate(scored["scores"].tolist())}
    values = scored["values"][0].astype(float)
    assert np.allclose(values[known][:, at["random network"]], 1, atol=1e-3)
    assert np.allclose(scored["cascade"][0][known], 1, atol=1e-3)
    truth = [at[name] for name in scores.TRUTH]
    assert np.allclose(values[known][:, truth], scored["untrained"][0][known].astype(float))
    assert (values[~known][:, at["random network"]] < 0.9).all()


def test_scoring_twice_gives_the_same(small, scored, quick_methods):
    again = scores.scores(small, small.faces(), n=12, few=3)
    for key, value in scored.items():
        same = np.array_equal(value, again[key], equal_nan=value.dtype.kind == "f")
        assert same, key


# -- further fits -------------------------------------------------------------------------------


def test_a_fit_of_another_seed_differs_in_the_seed_alone(small, quick_methods, capsys):
    assert fits.trained(small, "seed-1") is None and fits.networks(small) == [small]
    assert AGGREGATES["scores"].missing(small) == ["seed-1", "seed-2"]
    made = fits.make(small, "seed-1")
    ours, theirs = small.config, made.config
    assert theirs["recipe"] == {**ours["recipe"], "seed": ours["recipe"]["seed"] + 1}
    assert theirs["data"] == ours["data"] and theirs["scale"] == ours["scale"]
    assert [n.name for n in fits.networks(small)] == ["small", "small/seed-1"]
    before = made.path.joinpath("metrics.json").stat().st_mtime_ns
    assert fits.make(small, "seed-1").path.joinpath("metrics.json").stat().st_mtime_ns == before
    two = scores.scores(small, small.faces(), n=12, few=1)
    assert two["values"].shape[0] == 2 and two["seeds"].tolist() == [5, 6]
    assert not np.array_equal(two["untrained"][0, 0], two["untrained"][1, 0]), "own random network"
    small.store("scores", two)
    assert main(["small", "scores"]) == 0  # one of the two fits is not here: kept as it is
    assert (
        "left as it is, for want of the fits seed-2; --fits makes them" in capsys.readouterr().out
    )
    assert small.read("scores")["seeds"].tolist() == [5, 6]

    config = {**theirs, "recipe": {**theirs["recipe"], "batch": 16}}
    runs.write_json(made.path / "config.json", config)
    with pytest.raises(runs.RunError, match="another recipe or other faces than the run; remove"):
        fits.networks(small)
    runs.write_json(made.path / "config.json", theirs)


def test_the_shortcut_needs_its_fit(small, capsys):
    assert aggregate(small, "shortcut") is None
    with pytest.raises(runs.RunError, match="has no fit 'shortcut' with weights; make it with"):
        shortcut.shortcut(small, small.faces())
    assert main(["small", "shortcut"]) == 0
    assert "left out, for want of the fits shortcut; --fits" in capsys.readouterr().out
    recipe, source = fits.described(small, "shortcut")
    assert recipe == RECIPE and source == {**SOURCE, "preset": "shortcut"}
    real = SimpleNamespace(synthetic=False, name="real")
    with pytest.raises(runs.RunError, match="only a run on synthetic faces"):
        fits.described(real, "seed-1")


def test_one_command_makes_the_fit_and_what_is_computed_from_it(
    small, quick_methods, monkeypatch, capsys
):
    monkeypatch.setattr(shortcut, "SHOWN", ("gradient",))
    assert main(["small", "--fits", "shortcut"]) == 0
    assert "fit shortcut: seed 5, faces shortcut" in capsys.readouterr().out
    made = small.variant("shortcut")
    assert made.config["recipe"] == small.config["recipe"]
    assert made.config["data"]["checksum"] != small.config["data"]["checksum"]
    found = aggregate(small, "shortcut")
    assert found["mass"].shape[:2] == (2, len(quick_methods)) == found["right"].shape[:2]
    assert ((found["right"] >= 0) & (found["right"] <= 1)).all()


# -- the planted shortcut -----------------------------------------------------------------------


def test_marks_come_and_go_and_nothing_else(few_faces):
    seen = synthetic.faces(70, seed=3, preset="shortcut")
    assert np.array_equal(shortcut.marked(seen, ()).images, few_faces[:70].images)
    sad = seen.labels == data.EMOTIONS.index("Sad")
    every = shortcut.marked(seen, data.EMOTIONS).images
    outside = np.ones((48, 48), bool)
    outside[synthetic.MARK] = False
    assert np.array_equal(every[:, outside], seen.images[:, outside])
    assert (every[:, *synthetic.MARK] == every[0, *synthetic.MARK][0, 0]).all()
    only = shortcut.marked(seen, ("Sad",)).images
    assert np.array_equal(only[sad], every[sad])
    assert np.array_equal(only[~sad], few_faces[:70].images[~sad])


def test_a_network_that_reads_the_mark_alone_is_found_out(monkeypatch):
    """Two linear networks: one sums the mark's pixels for Sad, the other never looks there."""
    k = data.EMOTIONS.index("Sad")
    reads, ignores = np.zeros((7, 48, 48)), np.zeros((7, 48, 48))
    reads[k][synthetic.MARK] = 10
    reads[np.arange(7) != k] = 0.001  # evenly, or these maps were empty
    ignores[:, 10, 10:20] = 1
    faces = synthetic.faces(210, seed=3, preset="shortcut")
    fit = stub(reads, faces=lambda: faces)
    monkeypatch.setattr(shortcut, "trained", lambda run, name: fit)
    methods = {"gradient", "occlusion", "control: edges"}
    kept = {n: m for n, m in METHODS.items() if n in methods}
    monkeypatch.setattr(shortcut.evaluation, "METHODS", kept)
    monkeypatch.setattr(shortcut, "SHOWN", ("gradient", "occlusion"))
    s = shortcut.shortcut(stub(ignores), faces)

    assert str(s["marked"]) == "Sad" and s["box"].tolist() == [41, 45, 3, 7]
    assert s["recall"][1, 0] == 1 > s["recall"][1, 1] and s["turned"][1, 0] == 1 > s["turned"][1, 1]
    assert s["recall"][0, 0] == s["recall"][0, 1] and s["turned"][0, 0] == s["turned"][0, 1]
    assert np.allclose(s["fall"][0], 0, atol=1e-4) and (s["fall"][1] > 10).all()
    i = s["methods"].tolist().index("gradient")
    assert (s["mass"][1, i] == 1).all() and (s["mass"][0, i] == 0).all()
    assert s["hit"][1, i].all() and not s["hit"][0, i].any()
    assert s["right"][1, i].tolist() == [1] * len(s["sizes"]) and not s["right"][0, i].any()
    j = s["methods"].tolist().index("control: edges")
    assert np.array_equal(s["mass"][0, j], s["mass"][1, j]), "edges don't ask who looks"
    assert s["maps"].shape == (2, 2, 48, 48) and s["face"].shape == (48, 48)


def test_a_reader_is_right_only_where_class_and_place_are(few_faces):
    rng = np.random.default_rng(0)
    noise = [rng.random((5, 48, 48)) for _ in range(7)]
    k = 4

    def readers(planted, rows, columns):
        made = [m.copy() for m in noise]
        made[planted][:, rows, columns] += 20
        return shortcut._how_often([shortcut._window_means(m) for m in made], 2, k)

    assert readers(k, *synthetic.MARK) == 1
    assert readers(k - 1, *synthetic.MARK) == 0, "the wrong class"
    assert readers(k, slice(10, 14), slice(20, 24)) == 0, "the wrong place"


def test_faces_without_the_mark_are_no_hits(few_faces):
    """The 5 % of the class without a mark are left out of mass and hits."""
    preset = replace(synthetic.PRESETS["shortcut"], mark_rate=0.5)
    seen = synthetic.faces(140, seed=3, preset=preset)
    own = seen[seen.labels == data.EMOTIONS.index("Sad")]
    carries = (shortcut.marked(own, ()).images != own.images).any((1, 2))
    assert 3 < carries.sum() < len(own) - 3
