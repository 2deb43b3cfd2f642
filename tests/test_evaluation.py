"""Scores and verdicts on attribution maps, on cases small enough to score by hand."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm, spearmanr
from torch import nn

from fer_utils import data, evaluation, saliency, synthetic
from fer_utils.runs import Run

MAPS = torch.tensor([[[[4.0, 3], [2, 1]]], [[[0, 0], [0, 5]]]])
MASKS = torch.tensor([[[1, 0], [1, 0]], [[1, 1], [1, 0]]], dtype=torch.bool)


@pytest.fixture
def linear():
    """Logit 0 is the left half's sum, logit 1 the right half's: the truth is known."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    half = torch.zeros(2, 8, 8)
    half[0, :, :4] = half[1, :, 4:] = 0.2
    model[1].weight.data = half.flatten(1)
    return model


def faces(number=4):
    return torch.rand(number, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1


# -- scores against a mask ----------------------------------------------------------------------


def test_scores_by_hand():
    assert evaluation.pointing_game(MAPS, MASKS).tolist() == [1, 0]
    assert evaluation.relevance_mass(MAPS, MASKS).tolist() == pytest.approx([0.6, 0])
    # the two strongest are 4 (in) and 3 (out); then 5 (out) and two of three ties (all in)
    assert evaluation.rank_accuracy(MAPS, MASKS).tolist() == pytest.approx([1 / 2, 2 / 3])


def test_equal_pixels_share_the_score():
    plateau = torch.tensor([[[[3.0, 3], [3, 0]]]])
    mask = torch.tensor([[[1, 0], [0, 1]]])
    assert evaluation.pointing_game(plateau, mask).item() == pytest.approx(1 / 3)
    # two of the three 3s are taken, each third one in the mask
    assert evaluation.rank_accuracy(plateau, mask).item() == pytest.approx((2 / 3) / 2)


def test_what_speaks_against_the_class_has_no_relevance_mass():
    against = torch.tensor([[[[-4.0, 3], [1, -1]]]])
    assert evaluation.relevance_mass(against, MASKS[:1]).item() == pytest.approx(1 / 4)


def test_empty_maps_and_masks_score_nan():
    nothing = torch.zeros(2, 1, 2, 2)
    assert evaluation.relevance_mass(nothing, MASKS).isnan().all()
    assert evaluation.rank_accuracy(MAPS, torch.zeros(2, 2, 2, dtype=torch.bool)).isnan().all()
    assert evaluation.rank_correlation(nothing, MAPS).isnan().all()


def test_the_mask_is_where_the_expression_shows(few_faces):
    some = few_faces[:14]
    mask = evaluation.expressive_mask(some, data.EMOTIONS)
    neutral = some.labels == data.EMOTIONS.index("Neutral")
    assert not mask[neutral].any() and mask[~neutral].any((1, 2)).all()
    for i in np.flatnonzero(~neutral):
        changed = synthetic.difference_map(some[i : i + 1], data.EMOTIONS[some.labels[i]])
        assert np.array_equal(mask[i], changed[0] > evaluation.VISIBLE)


# -- scores against the network -----------------------------------------------------------------


def test_rank_correlation_is_spearmans_with_mean_ranks_for_ties():
    a = torch.randint(6, (5, 1, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    b = torch.randint(6, (5, 1, 4, 4), generator=torch.Generator().manual_seed(1)).float()
    expected = [spearmanr(*pair).statistic for pair in zip(a.flatten(1), b.flatten(1), strict=True)]
    assert evaluation.rank_correlation(a, b).tolist() == pytest.approx(expected)


def test_deletion_and_insertion_by_hand(linear):
    """Two steps: nothing, half, all of the face replaced by 0; the half is the target's own."""
    x = faces(1)
    maps = linear[1].weight[0].detach().view(1, 1, 8, 8)
    p = [linear(y).softmax(1)[0, 0].item() for y in (x, x * (maps == 0), 0 * x, x * (maps > 0))]
    down = evaluation.deletion(linear, x, 0, maps, fill=0.0, steps=2)
    up = evaluation.insertion(linear, x, 0, maps, fill=0.0, steps=2)
    assert down.item() == pytest.approx(sum(p[:3]) / 3)
    assert up.item() == pytest.approx((p[2] + p[3] + p[0]) / 3)


def test_what_speaks_against_the_class_goes_last_and_comes_back_last():
    """The logit is the sum of signed pixels: ranked with its sign, the map is the best there is."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    chance = torch.Generator().manual_seed(0)
    model[1].weight.data = torch.randn(2, 64, generator=chance) / 2
    x = faces(8)
    maps = saliency.gradient_times_input(model, x, 0)
    for score, sign in ((evaluation.deletion, 1), (evaluation.insertion, -1)):
        signed, cut = (score(model, x, 0, m, fill=0.0) for m in (maps, maps.clamp(min=0)))
        assert (sign * signed < sign * cut).all()


def test_equal_pixels_do_not_go_from_the_top_down():
    even = torch.ones(4, 1, 8, 8)
    top = torch.zeros(2, 8, 8)
    top[0, :4] = top[1, 4:] = 0.2
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    model[1].weight.data = top.flatten(1)
    upper, lower = (evaluation.deletion(model, even, k, even, fill=0.0) for k in (0, 1))
    assert torch.allclose(upper, lower, atol=0.1)  # in raster order .2 and .8
    assert torch.equal(upper, evaluation.deletion(model, even, 0, even, fill=0.0))


# -- sanity checks ------------------------------------------------------------------------------


def test_randomised_copies_differ_and_leave_model_and_random_state_alone():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 2))
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    twin = evaluation.randomised(model, seed=3)
    only = evaluation.randomised(model, seed=3, only=["3"])
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in kept.items())
    assert not torch.equal(twin[0].weight, model[0].weight)
    assert torch.equal(only[0].weight, model[0].weight)
    assert not torch.equal(only[3].weight, model[3].weight)
    assert torch.equal(evaluation.randomised(model, seed=3)[0].weight, twin[0].weight)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's, that weight_norm is old
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_a_computed_weight_is_randomised_too_and_a_hidden_map_is_no_hindrance(norm):
    model = nn.Sequential(norm(nn.Conv2d(1, 2, 3)), nn.Flatten(), nn.Linear(72, 2))
    model.seen = model(faces())
    steps = evaluation.cascading_randomisation(saliency.gradient, model, faces(), 0)
    assert list(steps) == ["trained", "2", "0"]
    assert not torch.equal(steps["2"], steps["0"])
    assert torch.equal(saliency.gradient(model, faces(), 0), steps["trained"])


def test_randomisation_tells_a_map_of_the_network_from_one_of_the_picture(linear):
    x, t = faces(), torch.tensor([0, 1, 0, 1])

    def reads(name):
        return lambda model, x, t: evaluation.importance(name, model, x, t)

    for name, alike in (("control: edges", True), ("gradient", False)):
        steps = evaluation.cascading_randomisation(reads(name), linear, x, t)
        assert list(steps) == ["trained", "1"]
        r = evaluation.rank_correlation(steps["trained"], steps["1"])
        assert (r > 0.999).all() if alike else (r.abs() < 0.5).all()


def test_cascading_goes_from_the_output_down_and_keeps_the_random_weights():
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 2)).eval()
    x, asked = faces(), []

    def method(network, *of):
        asked.append({k: v.clone() for k, v in network.state_dict().items()})
        return saliency.gradient(network, *of)

    steps = evaluation.cascading_randomisation(method, model, x, 0)
    assert list(steps) == ["trained", "6", "3", "0"]
    whole = evaluation.randomised(model, 0)
    assert torch.equal(steps["0"], saliency.gradient(whole, x, 0))
    trained, last, two, three = (state["6.weight"] for state in asked)
    assert not torch.equal(trained, last)
    assert torch.equal(last, two) and torch.equal(two, three), "once random, always the same"
    assert torch.equal(asked[1]["3.weight"], asked[0]["3.weight"])
    assert torch.equal(asked[2]["3.weight"], asked[3]["3.weight"])


def test_the_cascade_follows_the_calls_not_the_order_of_definition():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(144, 2)
            self.first = nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return self.head(self.first(x).flatten(1))

    steps = evaluation.cascading_randomisation(saliency.gradient, Reversed(), faces(), 0)
    assert list(steps) == ["trained", "head", "first"]


# -- how maps are made --------------------------------------------------------------------------


def test_integrated_gradients_are_complete_to_one_percent():
    """On the synthetic run, where 50 points miss more than that from either baseline."""
    run = Run.load("synthetic")
    some = run.faces(rows=[8, 9])
    of = run.model(), run.scale(some.images), torch.from_numpy(some.labels)
    for name, baseline in (("integrated gradients", 0.0),
                           ("integrated gradients (blurred)", saliency.blurred(of[1]))):  # fmt: skip
        short = saliency.integrated_gradients(*of, steps=50, baseline=baseline)
        found = [short, evaluation.METHODS[name].maps(*of)]
        missed = [saliency.completeness_error(*of, m, baseline).abs() for m in found]
        gain = found[1].sum((1, 2, 3)).abs()
        assert (missed[1] <= 0.0102 * gain.clamp(min=1)).all() and missed[0].max() > 0.01


def test_only_faces_that_need_them_get_more_points(monkeypatch):
    """Logits of pixels and their products along the diagonal: 50 points are exact for both."""
    asked = []
    plain = saliency.integrated_gradients

    def counted(model, images, *of, steps, **more):
        asked.append((len(images), steps))
        return plain(model, images, *of, steps=steps, **more)

    monkeypatch.setattr(saliency, "integrated_gradients", counted)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    evaluation.converged_gradients(model, faces(), 0)
    assert asked == [(4, 50)]


def test_methods_with_chance_inside_draw_the_same_each_time(linear):
    x = faces(1)
    first, second = (evaluation.importance("SmoothGrad", linear, x, 0) for _ in range(2))
    assert torch.equal(first, second)


def test_importance_keeps_the_sign_unless_it_is_a_direction(linear):
    x = -faces()
    assert (evaluation.importance("gradient × input", linear, x, 0) <= 0).all()
    linear[1].weight.data *= -1
    assert (evaluation.importance("gradient", linear, x, 0) >= 0).all()


def test_controls_never_ask_the_network():
    x = faces()
    for name in (n for n in evaluation.METHODS if n.startswith("control")):
        maps = evaluation.importance(name, None, x, None)
        assert maps.shape == x.shape and (maps >= 0).all()
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1  # one edge, between columns 3 and 4: Sobel gives 4 on both sides
    assert evaluation.edges(step)[0, 0, 3].tolist() == [0, 0, 0, 4, 4, 0, 0, 0]
    blob = evaluation.centre_prior(torch.zeros(1, 1, 9, 9))[0, 0]
    assert blob[4, 4] == 1 and torch.equal(blob, blob.flip(0)) and torch.equal(blob, blob.T)
    assert blob[4, 0] == pytest.approx(np.exp(-2)) and blob[4, 2] == pytest.approx(np.exp(-0.5))


# -- which faces to show ------------------------------------------------------------------------


def answered(*rows):
    """A run of two classes from rows (row, label, probability of B)."""
    table = pd.DataFrame(rows, columns=["row", "label", "B"])
    return SimpleNamespace(classes=("A", "B"), predictions=table.assign(A=1 - table["B"]))


def test_a_black_image_is_no_mistake_of_the_networks():
    run = answered((0, 0, 0.99), (1, 0, 0.9), (2, 0, 0.8), (3, 1, 0.3), (4, 1, 0.6))
    images = np.arange(5 * 48 * 48).reshape(5, 48, 48).astype(np.uint8)
    images[0] = 0
    some = synthetic.faces(5)
    wrong = evaluation.surest_mistakes(run, replace(some, images=images))
    assert wrong["row"].tolist() == [1, 3], "the surest of each answer, 2 answers as 1 does"
    assert wrong["answer"].tolist() == [1, 0] and wrong["label"].tolist() == [0, 1]
    assert evaluation.surest_mistakes(run, replace(some, images=images)[:1]).empty


def test_the_surest_face_of_a_class_is_a_correct_one_where_there_is_one():
    run = answered((0, 0, 0.4), (1, 0, 0.1), (2, 1, 0.2), (3, 1, 0.45))
    assert evaluation.surest_faces(run).tolist() == [1, 3]
    assert evaluation.surest_faces(run, rows=[0, 2]).tolist() == [0, 2]
    assert evaluation.surest_faces(run, rows=[0]).tolist() == [0]


# -- verdicts on the stored scores --------------------------------------------------------------

SCORED = ["gradient", "SmoothGrad", "occlusion (blurred)", "control: edges", "control: random"]


def stored(networks=2, n=40, **means):
    """Stored scores, rank correlations .1 and all else .5 but for {score: {method: mean}}."""
    rng = np.random.default_rng(0)
    scores = list(evaluation.ALL_SCORES)
    values = np.full((networks, len(SCORED), len(scores), n), 0.5)
    values[:, :, -len(evaluation.RANK_SCORES) :] = 0.1
    for score, of in means.items():
        for method, mean in of.items():
            values[:, SCORED.index(method), scores.index(score.replace("_", " "))] = mean
    values += rng.normal(0, 0.02, values.shape)
    return {
        "methods": np.array(SCORED), "scores": np.array(scores), "values": values,
        "untrained": np.full((networks, len(SCORED), 3, n), 0.1),
    }  # fmt: skip


def test_a_method_wins_where_it_is_better_than_every_control():
    s = stored(n=90, pointing_game={"SmoothGrad": 0.6, "gradient": 0.51, "control: random": 0.2})
    assert evaluation.best_control(s, "pointing game") == "control: edges"
    assert evaluation.better_than_controls(s, "pointing game") == ["SmoothGrad"], ".01 is no lead"
    mean, bound = evaluation.leads(s, "pointing game")["SmoothGrad"]
    lead = s["values"][:, 1, 0] - s["values"][:, 3, 0]  # (networks, faces)
    z = norm.ppf(1 - 0.05 / (3 * 5))  # three methods on five scores
    lowest = lead.mean(1) - z * lead.std(1) / np.sqrt(lead.shape[1])
    assert (mean, bound) == pytest.approx((lead.mean(), lowest.min()), abs=0.001)
    assert evaluation.mask_wins(s) == {"gradient": 0, "SmoothGrad": 1, "occlusion (blurred)": 0}
    assert evaluation.most_trusted(s) == "SmoothGrad"
    assert evaluation.most_trusted(stored()) is None
    s = stored(pointing_game={"gradient": 0.6, "SmoothGrad": 0.7})
    assert evaluation.better_than_controls(s, "pointing game") == ["SmoothGrad", "gradient"]


def test_one_network_in_which_it_fails_or_its_own_map_of_random_weights_is_enough():
    s = stored(pointing_game={"SmoothGrad": 0.7})
    assert evaluation.better_than_controls(s, "pointing game") == ["SmoothGrad"]
    s["values"][1, SCORED.index("SmoothGrad"), 0] -= 0.2
    assert evaluation.leads(s, "pointing game")["SmoothGrad"][0] > 0.05
    assert evaluation.better_than_controls(s, "pointing game") == []
    s = stored(pointing_game={"SmoothGrad": 0.6})
    s["untrained"][:, SCORED.index("SmoothGrad"), 0] = 0.59
    assert evaluation.better_than_controls(s, "pointing game") == []


def test_deletion_is_better_when_lower_and_not_for_a_method_of_the_same_fill():
    s = stored(deletion={"SmoothGrad": 0.3, "occlusion (blurred)": 0.1, "control: random": 0.45})
    assert evaluation.best_control(s, "deletion") == "control: random"
    assert evaluation.better_than_controls(s, "deletion") == ["SmoothGrad"]
    assert evaluation.better_than_controls(s, "cascading") == []


def test_a_map_that_outlives_the_weights_is_not_trusted():
    s = stored(rank_accuracy={"SmoothGrad": 0.9, "gradient": 0.7},
               cascading={"SmoothGrad": 0.7, "gradient": 0.3})  # fmt: skip
    assert evaluation.ignoring_weights(s) == ["SmoothGrad"]
    assert evaluation.most_trusted(s) == "gradient"


def test_intervals_stand_beside_the_means():
    s = stored(pointing_game={"SmoothGrad": 0.6})
    row = evaluation.score_table(s).loc["SmoothGrad", "pointing game"]
    assert row["lo"] < row["mean"] < row["hi"] and row["mean"] == pytest.approx(0.6, abs=0.01)


# -- verdicts on the planted mark ---------------------------------------------------------------


def test_pointing_at_a_mark_counts_against_the_control_network():
    """Edges point at it whoever looks; SmoothGrad only where the network uses it."""
    control = np.array([[0.0] * 30, [1.0] * 20 + [0.0] * 10])
    used = np.array([[1.0] * 27 + [0.0] * 3, [1.0] * 20 + [0.0] * 10])
    found = {"methods": np.array(["SmoothGrad", "control: edges"]),
             "pointing": np.stack([control, used])}  # fmt: skip
    table = evaluation.pointing_at_mark(found)
    assert table.loc["SmoothGrad", "difference"] == pytest.approx(0.9)
    assert 0.6 < table.loc["SmoothGrad", "lo"] < 0.9 < table.loc["SmoothGrad", "hi"] <= 1
    assert table.loc["control: edges", ["difference", "lo", "hi"]].tolist() == [0, 0, 0]
    assert evaluation.showing_mark(found) == ["SmoothGrad"]


def test_the_interval_of_a_mark_is_shared_out_over_the_methods():
    difference = np.random.default_rng(0).uniform(0, 1, (2, 400))
    pointing = np.stack([np.zeros_like(difference), difference])
    table = evaluation.pointing_at_mark({"methods": np.array(["a", "b"]), "pointing": pointing})
    half = norm.ppf(1 - 0.05 / 2 / 2) * difference.std(1) / np.sqrt(400)
    assert (table["difference"] - table["lo"]).tolist() == pytest.approx(half, rel=0.04)
    assert (table["hi"] - table["difference"]).tolist() == pytest.approx(half, rel=0.04)


def test_a_mark_is_used_where_its_class_is_missed_without_it():
    found = {"tested": np.array([286, 1714]), "recall": np.array([[0.91, 0.90], [0.98, 0.76]])}
    assert evaluation.mark_is_used(found)
    assert not evaluation.mark_is_used(found | {"recall": np.array([[0.9, 0.9], [0.91, 0.90]])})


# -- verdicts on mean maps ----------------------------------------------------------------------


def test_paired_maps_are_compared_face_by_face():
    """Differences 1, 1, 4: mean 2, standard deviation √3, error 1; each alone varies far more."""
    mean, error = evaluation.paired_difference([11, 51, 94], [10, 50, 90])
    assert (mean, error) == pytest.approx((2, 1))


def test_the_error_of_a_mean_over_six_classes_shrinks_by_root_six():
    """Every class: two faces, one above and one below its mean by 1, so an error of 1."""
    labels = np.repeat(np.arange(7), 2)
    values = 10.0 * (labels == 0) + np.tile([-1, 1], 7)
    apart, error = evaluation.class_against_others(values, labels, 7)
    assert apart == pytest.approx([10] + [-10 / 6] * 6)
    assert error == pytest.approx((1 + 6 / 36) ** 0.5)


def test_a_class_without_faces_is_not_among_the_others():
    apart, _ = evaluation.class_against_others([1, 1, 3, 3, 9], [0, 0, 1, 1, 2], 3)
    assert apart[:2].tolist() == [-2, 2] and np.isnan(apart[2])


def test_agreement_of_maps_is_pearsons_r():
    a = np.arange(6.0).reshape(2, 1, 3)
    flat = np.stack([a[0], np.full((1, 3), 0.1)])  # whose mean is not quite 0.1
    assert evaluation.map_agreement(a, -a) == pytest.approx([-1, -1])
    assert np.isnan(evaluation.map_agreement(a, flat)[1])


def test_bad_input_gives_one_clear_line(linear):
    linear.lock = threading.Lock()
    with pytest.raises(ValueError, match="the network cannot be copied"):
        evaluation.randomised(linear)
    with pytest.raises(ValueError, match="no method 'nosuch'"):
        evaluation.importance("nosuch", linear, faces(), 0)
    with pytest.raises(ValueError, match="must both be"):
        evaluation.pointing_game(MAPS, MASKS[:1])
    with pytest.raises(ValueError, match=r"maps \(1, 1, 2, 2\)"):
        evaluation.deletion(linear, faces(), 0, MAPS[:1])
    with pytest.raises(ValueError, match=r"maps \(3, 1, 8, 8\)"):
        evaluation.deletion(linear, faces(), 0, faces(3))
    with pytest.raises(ValueError, match="steps must be"):
        evaluation.insertion(linear, faces(), 0, faces(), steps=0)


def test_a_method_that_a_network_does_not_allow_is_left_out():
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Flatten(), nn.Linear(2 * 46 * 46, 3))
    names = ["gradient", "guided backprop", "Grad-CAM"]
    x = torch.randn(1, 1, 48, 48)
    assert evaluation.applicable(names, plain, x) == ["gradient", "Grad-CAM"]
    plain[1] = nn.ReLU()
    assert evaluation.applicable(names, plain, x) == names
    with pytest.raises(ValueError, match="must be finite"):  # of the images, not of a method
        evaluation.applicable(names, plain, x * torch.nan)
