"""Scores of attribution maps, on maps small enough to score by hand."""

import pytest
import torch
from torch import nn

from fer_utils import evaluation, saliency

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


def test_scores_by_hand():
    assert evaluation.pointing_game(MAPS, MASKS).tolist() == [1, 0]
    assert evaluation.mass_in_mask(MAPS, MASKS).tolist() == pytest.approx([0.6, 0])
    # the two strongest are 4 (in) and 3 (out); then 5 (out) and the first two of the ties (in)
    assert evaluation.rank_accuracy(MAPS, MASKS).tolist() == pytest.approx([1 / 2, 2 / 3])
    parts = torch.stack([MASKS, ~MASKS], dim=1)
    by_part = evaluation.mass_by_part(MAPS, parts)
    assert torch.allclose(by_part, torch.tensor([[0.6, 0.4], [0, 1]]))


def test_empty_maps_and_masks_score_nan():
    nothing = torch.zeros(2, 1, 2, 2)
    assert evaluation.mass_in_mask(nothing, MASKS).isnan().all()
    assert evaluation.rank_accuracy(MAPS, torch.zeros(2, 2, 2, dtype=torch.bool)).isnan().all()
    assert evaluation.rank_correlation(nothing, MAPS).isnan().all()


def test_rank_correlation_is_spearmans_with_mean_ranks_for_ties():
    scipy = pytest.importorskip("scipy.stats")
    a = torch.randint(6, (5, 1, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    b = torch.randint(6, (5, 1, 4, 4), generator=torch.Generator().manual_seed(1)).float()
    expected = [
        scipy.spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)
    ]
    assert evaluation.rank_correlation(a, b).tolist() == pytest.approx(expected)


def test_the_true_map_deletes_faster_and_inserts_faster_than_any_control(linear):
    x, t = faces(), torch.tensor([0, 1, 0, 1])
    maps = {
        name: evaluation.importance(name, linear, x, t)
        for name in ("integrated gradients", "control: centre prior", "control: random")
    }
    fall = {k: evaluation.deletion(linear, x, t, m, fill=0.0) for k, m in maps.items()}
    rise = {k: evaluation.insertion(linear, x, t, m, fill=0.0) for k, m in maps.items()}
    for control in ("control: centre prior", "control: random"):
        assert (fall["integrated gradients"] < fall[control]).all()
        assert (rise["integrated gradients"] > rise[control]).all()


def test_deletion_and_insertion_by_hand(linear):
    """Two steps: nothing, half, all of the face replaced by 0; the half is the target's own."""
    x = faces(1)
    maps = linear[1].weight[0].detach().view(1, 1, 8, 8)
    p = [linear(y).softmax(1)[0, 0].item() for y in (x, x * (maps == 0), 0 * x, x * (maps > 0))]
    down = evaluation.deletion(linear, x, 0, maps, fill=0.0, steps=2)
    up = evaluation.insertion(linear, x, 0, maps, fill=0.0, steps=2)
    assert down.item() == pytest.approx(sum(p[:3]) / 3)
    assert up.item() == pytest.approx((p[2] + p[3] + p[0]) / 3)


def test_randomised_copies_differ_and_leave_model_and_random_state_alone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
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


def with_random(method, model, x, t):
    """Rank correlation of a map with that of the network of random weights."""
    other = evaluation.randomised(model, 0).eval()
    return evaluation.rank_correlation(method(model, x, t), method(other, x, t))


def test_randomisation_tells_a_map_of_the_network_from_one_of_the_picture(linear):
    x, t = faces(), torch.tensor([0, 1, 0, 1])

    def reads(name):
        return lambda model, x, t: evaluation.importance(name, model, x, t)

    assert torch.allclose(
        with_random(reads("control: edges"), linear, x, t), torch.ones(4).double()
    )
    assert (with_random(reads("gradient"), linear, x, t).abs() < 0.5).all()
    steps = evaluation.cascading_randomisation(reads("gradient"), linear, x, t)
    assert [name for name, _ in steps] == ["1"]
    steady = evaluation.stability(reads("gradient"), linear, x, t)
    assert torch.allclose(steady, torch.ones(4).double())  # a linear model's gradient is constant
    assert (evaluation.stability(reads("control: edges"), linear, x, t) < 0.999).all()


def test_cascading_goes_from_the_output_down_to_the_first_layer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 2)).eval()
    x = faces()
    steps = evaluation.cascading_randomisation(saliency.gradient, model, x, 0)
    assert [name for name, _ in steps] == ["6", "3", "0"]
    whole = with_random(saliency.gradient, model, x, 0)
    assert torch.allclose(steps[-1][1], whole)


def test_controls_never_ask_the_network():
    x = faces()
    for name in (n for n in evaluation.METHODS if n.startswith("control")):
        maps = evaluation.importance(name, None, x, None)
        assert maps.shape == x.shape and (maps >= 0).all()
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1  # one edge, between columns 3 and 4: Sobel gives 4 on both sides
    assert evaluation.edges(step)[0, 0, 3].tolist() == [0, 0, 0, 4, 4, 0, 0, 0]


def test_bad_input_gives_one_clear_line(linear):
    with pytest.raises(ValueError, match="no method 'nosuch'"):
        evaluation.importance("nosuch", linear, faces(), 0)
    with pytest.raises(ValueError, match="must both be"):
        evaluation.pointing_game(MAPS, MASKS[:1])
    with pytest.raises(ValueError, match=r"maps \(1, 1, 2, 2\)"):
        evaluation.deletion(linear, faces(), 0, MAPS[:1])
    with pytest.raises(ValueError, match="steps must be"):
        evaluation.insertion(linear, faces(), 0, faces(), steps=0)
