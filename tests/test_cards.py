"""Each field of the filter cards against a computation of its own, on a run made in seconds."""

import numpy as np
import pytest
import torch
from conftest import ROOT

from fer_utils import filters, train
from fer_utils.model import FerCNN
from fer_utils.plotting import filter_words as words
from fer_utils.plotting import filters as draw
from fer_utils.precomputed import cards
from fer_utils.runs import Run
from fer_utils.train import Recipe

pytestmark = pytest.mark.whole
CLASSES, STEPS, CROP = 7, 3, slice(0, 40)
MIDDLE = [(2, 2), (2, 3), (3, 2), (3, 3)]


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
    """The training faces, and the last convolution's whole maps of them (n, 128, 6, 6)."""
    faces = few_faces.of("Training")
    return faces, maps_of(run.model(), run.scale(faces.images))


def maps_of(model, pixels):
    with torch.no_grad():
        return model.layer4[0](model.layer3(model.layer2(model.layer1(pixels)))).numpy()


def activation_of(maps):
    """The strongest of the four middle units: (n, 128)."""
    return np.stack([maps[:, :, i, j] for i, j in MIDDLE]).max(0)


def test_the_quantiles_are_those_of_the_middle_units(card, seen):
    a = activation_of(seen[1])
    assert int(card["faces"]) == len(a) and int(card["steps"]) == STEPS
    for key, value in (
        ("weakest", a.min(0)), ("median", np.median(a, 0)), ("strongest", a.max(0)),
        ("quantile99", np.percentile(a, 99, axis=0)), ("spread", a.std(0)),
    ):  # fmt: skip
        assert np.allclose(card[key], value, atol=1e-4), key


@pytest.mark.parametrize("kind", cards.KINDS)
def test_an_activation_is_that_of_the_picture_as_stored(run, card, kind):
    pictures = card[kind]
    assert pictures.dtype == np.uint8 and pictures.shape == (128, 40, 40)
    assert ((pictures % cards.LEVEL == 0) | (pictures == 255)).all()
    whole = np.zeros((128, 48, 48), np.uint8)
    whole[:, CROP, CROP] = pictures
    maps = maps_of(run.model(), run.scale(whole))  # what lies outside the field does not matter
    assert np.allclose(card[f"{kind}_activation"], maps[range(128), range(128), 2, 2], atol=1e-4)


def test_optima_go_where_they_should(card):
    assert (card["plain_activation"] > card["median"]).all()
    assert (card["negative_activation"] < card["median"]).mean() > 0.95  # three steps only


def test_the_mean_patch_is_the_mean_of_the_strongest_crops(run, card, seen):
    faces, maps = seen
    count = int(card["averaged"])
    assert count == len(faces) // 10
    units = np.stack([maps[:, :, i, j] for i, j in MIDDLE])
    for k in (0, 77):
        strongest = np.argsort(-units[:, :, k].max(0), kind="stable")[:count]
        starts = [MIDDLE[u] for u in units[:, strongest, k].argmax(0)]
        crops = [
            faces.images[i, 8 * (r - 2) :, 8 * (c - 2) :][:40, :40]
            for i, (r, c) in zip(strongest, starts, strict=True)
        ]
        gap = np.abs(card["mean_patch"][k] - np.mean(crops, axis=0)).max()
        assert gap <= cards.LEVEL / 2 + 1e-3  # half a tone: it is stored in steps of LEVEL


def test_tuning_and_the_share_explained_are_textbook_figures(run, card, seen):
    faces, maps = seen
    with torch.random.fork_rng():
        torch.manual_seed(cards.CONTROL_SEED)
        control = FerCNN(CLASSES).eval()
    for suffix, a in (
        ("", activation_of(maps)),
        ("_random", activation_of(maps_of(control, run.scale(faces.images)))),
    ):
        means = np.stack([a[faces.labels == c].mean(0) for c in range(CLASSES)], axis=1)
        wanted = (means - a.mean(0)[:, None]) / a.std(0)[:, None]
        assert np.allclose(card[f"tuning{suffix}"], wanted, atol=1e-3)
        within = sum(((a[rows := faces.labels == c] - a[rows].mean(0)) ** 2).sum(0)
                     for c in range(CLASSES))  # fmt: skip
        eta = 1 - within / ((a - a.mean(0)) ** 2).sum(0)
        assert np.allclose(card[f"explained{suffix}"], eta, atol=1e-3)


def test_action_units_and_parts_by_hand(run, card, seen):
    faces, maps = seen
    a = activation_of(maps)
    for k, unit in ((3, 0), (90, 7)):
        r = np.corrcoef(a[:, k], faces.action_units[:, unit])[0, 1]
        assert card["action_units"][k, unit] == pytest.approx(r, abs=1e-3)
        wide = torch.nn.functional.interpolate(torch.from_numpy(maps[:, k : k + 1]), (48, 48),
                                               mode="bilinear")[:, 0].numpy()  # fmt: skip
        lit = wide >= np.sort(wide.ravel())[-round(0.05 * wide.size)]
        for part in range(4):
            mask = faces.masks[:, part]
            overlap = (lit & mask).sum() / (lit | mask).sum()
            assert card["parts"][k, part] == pytest.approx(overlap, abs=1e-3)


def test_silence_costs_what_zeroing_the_map_costs(run, card, few_faces):
    unseen = few_faces.of("PublicTest")
    assert np.array_equal(card["tested"], np.bincount(unseen.labels, minlength=CLASSES))
    model, pixels = run.model(), run.scale(unseen.images)
    rows = np.arange(len(unseen))

    def logits(k=None):
        def silence(layer, given, maps):
            maps[:, k] = 0
            return maps

        handle = model.layer4[0].register_forward_hook(silence) if k is not None else None
        with torch.no_grad():
            result = model(pixels).numpy()
        if handle:
            handle.remove()
        return result

    before = logits()
    for k in (5, 100):
        after = logits(k)
        fall = (before - after)[rows, unseen.labels]
        lost = (before.argmax(1) == unseen.labels) * 1.0 - (after.argmax(1) == unseen.labels)
        for c in range(CLASSES):
            of = unseen.labels == c
            assert card["logit_fall"][k, c] == pytest.approx(fall[of].mean(), abs=1e-4)
            assert card["recall_fall"][k, c] == pytest.approx(lost[of].mean(), abs=1e-6)


def test_inactive_filters_and_duplicates_by_hand(card, seen):
    a = activation_of(seen[1]).astype(float)
    spread = a.std(0)
    assert card["inactive"].tolist() == np.flatnonzero(spread <= np.median(spread) / 100).tolist()
    r = np.triu(np.corrcoef(a.T), 1)
    assert sorted(card["duplicates"].tolist()) == np.argwhere(r > 0.95).tolist()
    assert np.allclose(card["duplicates_r"], [r[i, j] for i, j in card["duplicates"]], atol=1e-4)


@pytest.mark.parametrize(("block", "size", "unit"), [("layer2", 10, 2), ("layer3", 20, 2)])
def test_earlier_layers_ratios_are_to_their_strongest_patch(
    run, card, few_faces, block, size, unit
):
    which = card[f"{block}_filters"]
    pictures = card[block]
    assert pictures.shape == (12, size, size) and len(set(which.tolist())) == 12
    model = run.model()
    parts = [model.layer1, model.layer2, model.layer3]
    at = 1 if block == "layer2" else 2

    def maps(pixels):
        with torch.no_grad():
            for part in parts[:at]:
                pixels = part(pixels)
            return parts[at][0](pixels).numpy()

    real = maps(run.scale(few_faces.of("Training").images))[:, which]
    step = 2**at
    start = -((size - step) // 2) + unit * step  # of unit's field
    whole = np.zeros((12, 48, 48), np.uint8)
    whole[:, start : start + size, start : start + size] = pictures
    own = maps(run.scale(whole))[range(12), which, unit, unit]
    edge = -(-((size - step) // 2) // step)  # units whose field the border cuts
    strongest = real[:, :, edge : real.shape[2] - edge, edge : real.shape[3] - edge].max((0, 2, 3))
    # the ratio is that of the picture before it was stored in steps of LEVEL
    assert np.allclose(card[f"{block}_ratio"] * strongest, own, atol=0.05 * np.abs(strongest).max())


def test_outputs_are_the_logits_of_their_pictures(run, card, few_faces):
    model = run.model()
    with torch.no_grad():
        for row, name in enumerate(("plain", "natural")):
            logits = model(run.scale(card[f"outputs_{name}"])).numpy()
            assert np.allclose(card["outputs"][row], logits.diagonal(), atol=1e-4)
        real = model(run.scale(few_faces.of("Training").images)).numpy().max(0)
    assert np.allclose(card["outputs"][2], real, atol=1e-4)


def test_usefulness_counts_the_pairs_told_right(run, card, few_faces):
    crops = few_faces.of("PublicTest").images[:, CROP, CROP]
    true = maps_of(run.model(), run.scale(few_faces.of("PublicTest").images))[:, :, 2, 2]
    first, second = np.random.default_rng(0).integers(len(crops), size=(2, 2000))
    for guess, share in zip(cards.GUESSES, card["usefulness"], strict=True):
        shown = card[guess.split()[-1]].reshape(128, -1).astype(float)
        if "another" in guess:
            shown = np.concatenate([shown[-1:], shown[:-1]])
        like = np.corrcoef(crops.reshape(len(crops), -1), shown)[: len(crops), len(crops) :]
        differ = true[first] != true[second]
        told = (like[first] > like[second]) == (true[first] > true[second])
        assert share == pytest.approx(told[differ].mean(), abs=1e-3)


def test_restarts_are_two_climbs_from_different_noise(run, card):
    scale = run.config["scale"]
    bounds = tuple((v - scale["mean"]) / scale["sd"] for v in (0.0, 1.0))
    two = filters.maximise(run.model(), None, [9], filters.Prior(bounds), restarts=2, steps=STEPS)
    r = np.corrcoef(two.pictures[0].flatten(1).numpy())[0, 1]
    assert card["restarts"][0, 9] == pytest.approx(r, abs=1e-3)
    assert np.abs(card["restarts"][1]).max() <= 1 + 1e-6


def test_optima_sought_anew_are_the_stored_ones_and_another_networks_are_not(run, card):
    model = run.model()
    assert cards.sought_anew(run, model, card, [127, 3, 40]).max() < 0.01
    with torch.random.fork_rng():
        torch.manual_seed(5)
        other = FerCNN(CLASSES).eval()
    missed = cards.sought_anew(run, other, card, [127, 3, 40])
    assert np.median(missed) > words.AGREES
    told = words.on_trust(card, 0.0, missed)
    assert "**do not come out again**" in told and "3 optima" in told
    assert "**" not in words.on_trust(card, 0.0, np.zeros(3)).split("Diversity")[0]


def test_a_filter_of_zero_spread_gets_a_card_that_says_so(run, few_faces, monkeypatch):
    model = run.model()
    with torch.no_grad():
        model.layer4[0].weight[7] = 0
    monkeypatch.setattr(Run, "model", lambda self, *rest: model)
    card = cards.filter_cards(run, few_faces, steps=1)
    assert 7 in card["inactive"] and card["spread"][7] == 0
    assert np.isnan(words.reach(card, "plain")[7]) and not words.selective(card)[7]
    assert np.isnan(card["tuning"][7]).all() and card["explained"][7] == 0
    shown = draw.closer_look(card, [7, 8], ["by lot", "by lot"], run.classes)
    texts = [ax.get_ylabel() for ax in shown.axes] + [ax.get_xlabel() for ax in shown.axes]
    assert "7\nby lot\ninactive" in texts and texts.count("undefined") == 4
    assert "inactive filters: 1 (7)" in words.on_spare(card, run.classes).lower()
    bound = np.full(128, 1e6)
    assert "nan" not in words.on_reach(card, bound) + words.verdict(card)
    panels = {kind: card[kind] for kind in ("natural", "mean_patch")}
    draw.sheet(panels, words.by_preference(card), [None] * 128)


@pytest.mark.parametrize("name", ["fer2013", "synthetic"])
def test_the_shipped_cards_are_small_and_their_optima_beat_the_best_face(name, monkeypatch):
    monkeypatch.delenv("FER_RUNS", raising=False)
    assert (ROOT / "runs" / name / "precomputed" / "filters.npz").stat().st_size <= 1_000_000
    card = Run.load(name).read("filters")
    active = np.setdiff1d(np.arange(128), card["inactive"])
    assert (words.reach(card, "plain")[active] >= 1).mean() >= 0.95
    assert int(card["steps"]) == 256
