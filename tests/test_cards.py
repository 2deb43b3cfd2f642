"""Each field of the filter cards against a computation of its own, on a run made in seconds."""

import copy

import numpy as np
import pytest
import torch
from conftest import ROOT

from fer_utils import filters, train
from fer_utils.plotting import filters as draw
from fer_utils.precomputed import cards
from fer_utils.runs import Run, RunError
from fer_utils.train import Recipe

CLASSES, STEPS = 7, 3
HALF_A_TONE = cards.TONE / 2 + 1e-3  # pictures are stored in steps of TONE
whole = pytest.mark.whole


@pytest.fixture(scope="module")
def run(tmp_path_factory, few_faces):
    source = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS", str(tmp_path_factory.mktemp("runs")))
        train.make_run("tiny", few_faces, Recipe(epochs=1, batch=32), source, precision="float32")
        yield Run.load("tiny")


@pytest.fixture(scope="module")
def card(run, few_faces):
    return cards.filter_cards(run, few_faces, steps=STEPS)


@pytest.fixture(scope="module")
def seen(run, few_faces):
    """The held-out faces, as the network sees them, and the filters' responses to them."""
    faces = few_faces.of("PublicTest")
    pixels = run.scale(faces.images)
    return faces, pixels, filters.responses(run.model(), None, pixels)


@whole
def test_the_figures_of_a_card_are_those_of_the_held_out_faces(run, card, seen):
    faces, pixels, found = seen
    a = found.activation.numpy()
    cost = filters.ablation(run.model(), None, pixels, faces.labels)
    for key, value in (
        ("faces", np.bincount(faces.labels, minlength=CLASSES)), ("steps", STEPS),
        ("weakest", a.min(0)), ("median", np.median(a, 0)), ("strongest", a.max(0)),
        ("quantile99", np.percentile(a, 99, axis=0)),
        ("tuning", filters.class_tuning(found.activation, faces.labels)),
        ("eta_squared", filters.eta_squared(found.activation, faces.labels)),
        ("logit_fall", cost.logit), ("recall_fall", cost.recall),
    ):  # fmt: skip
        assert np.allclose(card[key], value, atol=1e-4), key
    for k, unit in ((3, 0), (90, 7)):
        r = np.corrcoef(a[:, k], faces.action_units[:, unit])[0, 1]
        assert card["action_units"][k, unit] == pytest.approx(r, abs=1e-3)


@whole
def test_each_untrained_network_is_asked_the_same_and_keeps_nothing_of_the_trained_one(
    run, card, seen
):
    faces, pixels, _ = seen
    networks = [cards.untrained(run.model(), seed) for seed in cards.UNTRAINED]
    for row, network in zip(card["eta_squared_untrained"], networks, strict=True):
        a = filters.responses(network, None, pixels).activation
        assert np.allclose(row, filters.eta_squared(a, faces.labels), atol=1e-3)
        assert not torch.equal(network.layer4[0].weight, run.model().layer4[0].weight)
        assert network.layer4[2].running_mean.eq(0).all()
    assert not torch.equal(networks[0].layer4[0].weight, networks[1].layer4[0].weight)


@whole
def test_an_activation_is_that_of_the_picture_as_stored(run, card):
    for kind in cards.KINDS:
        pictures = card[kind]
        assert pictures.dtype == np.uint8 and pictures.shape == (128, 40, 40)
        own = filters.activation(run.model(), None, run.scale(pictures)).diagonal()
        assert np.allclose(card[f"{kind}_activation"], own, atol=1e-4), kind


@whole
def test_the_mean_patch_is_the_mean_of_the_strongest_crops(run, card, seen):
    faces, pixels, found = seen
    count = max(1, len(faces) // 10)
    crops = filters.top_patches(run.model(), None, pixels, [0, 77], count, found=found)
    scale = run.config["scale"]
    grey = 255 * (crops.pixels.mean(1)[:, 0].numpy() * scale["sd"] + scale["mean"])
    gap = np.abs(card["mean_patch"][[0, 77]] - grey).max()
    assert card["averaged"] == count and gap <= HALF_A_TONE


def test_inactive_filters_and_duplicates_by_hand():
    activation = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    activation[:, 1] = 0.5
    activation[:, 2] = 3 * activation[:, 5]
    found = cards._distribution(activation)
    assert found["inactive"].tolist() == [1] and found["duplicates"].tolist() == [[2, 5]]


@whole
def test_earlier_layers_optima_are_measured_against_their_patches(run, card, seen):
    which, pictures = card["conv3_filters"], card["conv3"]
    assert pictures.shape == (12, 20, 20) and len(set(which.tolist())) == 12
    found = filters.responses(run.model(), "layer3.0", seen[1]).activation
    own = filters.activation(run.model(), "layer3.0", run.scale(pictures))[range(12), which]
    median, strongest = found.median(0).values[which], found.amax(0)[which]
    wanted = (own - median) / (strongest - median)
    assert np.allclose(card["conv3_reached"][1], wanted, atol=1e-3)
    assert card["early"].tolist() == ["conv2", "conv3"]


@whole
def test_outputs_are_the_logits_of_their_pictures(run, card, seen):
    with torch.no_grad():
        logits = run.model()(run.scale(card["outputs"])).numpy()
        real = run.model()(seen[1]).numpy().max(0)
    assert np.allclose(card["outputs_logit"], logits.diagonal(), atol=1e-4)
    assert np.allclose(card["outputs_strongest"], real, atol=1e-4)


@whole
def test_cards_of_other_weights_are_refused(run, card, monkeypatch):
    cards.check(run, card)
    other = cards.untrained(run.model(), 5)
    monkeypatch.setattr(Run, "model", lambda self: other)
    with pytest.raises(RunError, match=r"python -m fer_utils\.precomputed tiny filters"):
        cards.check(run, card)


@whole
def test_a_filter_of_zero_spread_gets_a_card_that_says_so(run, few_faces, monkeypatch):
    model = copy.deepcopy(run.model())
    with torch.no_grad():
        model.layer4[0].weight[7] = 0
        model.layer2[0].weight[0] = 0
    monkeypatch.setattr(Run, "model", lambda self: model)
    card = cards.filter_cards(run, few_faces, steps=1)
    assert 7 in card["inactive"] and card["eta_squared"][7] == 0
    assert np.isnan(cards.normalised(card, "free")[7]) and np.isnan(card["tuning"][7]).all()
    assert 7 not in cards.closer(card)
    assert np.isnan(card["conv2_reached"][:, 0]).all()  # it is the first of those shown
    assert np.isfinite(cards.reached_by_layer(card, "conv4")).all(axis=None)
    shown = {"optimum": (card["free"], cards.normalised(card, "free"))}
    rows = dict(zip(run.classes, range(7, 14), strict=True))
    drawn = draw.closer_look(shown, card["tuning"], card["logit_fall"], rows)
    assert "a undefined" in [ax.get_xlabel() for ax in drawn.axes]


@whole
def test_patches_are_cut_from_the_faces_given(run, few_faces):
    faces = few_faces[:30]
    rows = cards.patches(run, faces, [4, 9], count=2)
    assert list(rows) == [4, 9] and list(rows[4]) == ["strongest", "median", "weakest"]
    crops = [faces.images[:, r : r + 40, c : c + 40].astype(int) for r in (0, 8) for c in (0, 8)]
    for patch in np.concatenate(list(rows[9].values())):
        gap = np.abs(np.concatenate(crops) - patch).max((1, 2)).min()
        assert gap <= HALF_A_TONE


def few_cards(**changes):
    """Cards of four filters and two classes, by hand; one control network of 20 filters."""
    return {
        "median": np.array([0.0, 1, 2, 3]),
        "strongest": np.array([1.0, 3, 2, 5]),
        "free_activation": np.array([2.0, 2, 9, 1]),
        "spectrum_activation": np.array([1.0, 1, 1, 1]),
        "tuning": np.array([[0.1, 0.9], [0.5, -0.2], [np.nan, np.nan], [0.8, 0.95]]),
        "logit_fall": np.array([[0.1, 0.0], [0.3, 0.2], [0.0, 0.5], [-1, 0.4]]),
        "recall_fall": np.array([[0.1, 0.0], [0.02, 0.2], [0.0, 0.05], [-1, 0.4]]),
        "faces": np.array([30, 20]),
        "eta_squared": np.array([0.5, 0.01, 0.0, 0.3]),
        "eta_squared_untrained": np.array([np.linspace(0, 0.2, 20)]),
    } | changes


def test_a_normalised_activation_counts_from_the_median_face_to_the_strongest():
    reached = cards.normalised(few_cards(), "free")
    assert np.allclose(reached, [2, 0.5, np.nan, -1], equal_nan=True)
    assert np.allclose(cards.normalised(few_cards(), "strongest")[[0, 1, 3]], 1)


def test_selective_is_above_95_of_100_untrained_filters():
    assert cards.selective(few_cards()).tolist() == [[True, False, False, True]]
    limit = np.quantile(np.linspace(0, 0.2, 20), 0.95)
    at_the_limit = few_cards(eta_squared=np.array([limit, limit + 1e-9, 0, 0]))
    assert cards.selective(at_the_limit).tolist() == [[False, True, False, False]]


def test_the_verdict_counts_selective_filters():
    for selective, verdict in ((51, "most"), (50, "some"), (16, "some"), (15, "none")):
        found = np.where(np.arange(100) < selective, 0.9, 0)
        assert cards.verdict(few_cards(eta_squared=found)) == verdict


def test_a_prior_holds_back_a_layer_whose_median_optimum_stays_below_the_best_patch():
    card = few_cards(
        early=np.array(["conv2", "conv3"]),
        conv2_reached=np.array([[2.0, 3, 4], [0.5, 0.9, 1.5]]),
        conv3_reached=np.array([[2.0, 3, 4], [0.5, 1.1, 1.5]]),
    )
    reached = cards.reached_by_layer(card, "conv4")
    assert reached.loc["free pixels"].tolist() == [3, 3, 0.5]  # conv4: 2, 0.5, undefined, -1
    assert reached.loc["power spectrum"].tolist() == [0.9, 1.1, 0]  # conv4: 1, 0, undefined, -1
    assert cards.held_back(reached) == ["conv2", "conv4"]


def test_tables_and_choices_by_hand():
    card, classes = few_cards(), ("Angry", "Happy")
    table = cards.by_filter(card, classes)
    assert table["responds to"].tolist()[:2] == ["Happy", "Angry"]
    assert table["missed by"].tolist() == ["Angry", "Angry", "Happy", "Happy"]
    assert table["selective"].tolist() == [True, False, False, True]
    assert cards.closer(card) == [3, 0]  # 3 is the most tuned to both, and taken once
    assert cards.closer({"tuning": card["tuning"][3:]}) == [0, 0]  # there is no other
    assert cards.sheet_order(card).tolist() == [1, 2, 3, 0]
    rows = cards.by_class(card, classes, most=2)
    assert rows.loc["Angry", "most tuned"] == "3, 1"
    assert rows.loc["Happy", "most missed"] == "2, 3"
    assert rows.loc["Happy", "recall lost, points"] == pytest.approx(5)


@pytest.mark.parametrize("name", ["fer2013", "synthetic"])
def test_the_shipped_cards_are_small_and_their_optima_beat_the_best_face(name, monkeypatch):
    monkeypatch.delenv("FER_RUNS", raising=False)
    assert (ROOT / "runs" / name / "precomputed" / "filters.npz").stat().st_size <= 1_000_000
    run = Run.load(name)
    card = run.read("filters")
    cards.check(run, card)
    active = np.setdiff1d(np.arange(len(card["free"])), card["inactive"])
    assert (cards.normalised(card, "free")[active] >= 1).mean() >= 0.95
    assert int(card["steps"]) == 128
