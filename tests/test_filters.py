"""Filters: fields measured, optima bounded from both sides, patches cut where the unit looks."""

import copy

import pytest
import torch
from scipy.fft import dctn
from torch import nn
from torch.nn import functional as F

from fer_utils import chains, filters
from fer_utils.anatomy import private_copy
from fer_utils.model import FerCNN

SIZE = 16


def stirred(model, seed=0):
    """In eval mode, its batch norms with statistics and weights (of both signs) as if trained."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(-1, 1, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def small():
    """Two blocks on 16 × 16: the second convolution's field is 3 + 1 + 2·2 = 8 pixels, step 2."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return stirred(
            nn.Sequential(
                *[nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(0.05), nn.BatchNorm2d(4)],
                nn.MaxPool2d(2),
                *[nn.Conv2d(4, 6, 3, padding=1), nn.LeakyReLU(0.05), nn.BatchNorm2d(6)],
                nn.MaxPool2d(2),
                *[nn.Flatten(), nn.Linear(96, 5)],
            )
        )


def faces(number=40, size=SIZE):
    return torch.rand(number, 1, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("layer", "size"), [("layer1.0", 5), ("layer2.0", 10), ("layer3.0", 20), ("layer4.0", 40)]
)
def test_the_measured_field_of_the_reports_network_is_the_arithmetic_one(layer, size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = stirred(FerCNN())
    field = filters.receptive_field(model, layer, samples=4)
    by_book, step, start = filters.field_arithmetic(model, layer)
    assert field.size == (size, size) == (by_book, by_book)
    for i, (first, last) in enumerate(field.rows):  # clipped by the face's border
        assert (first, last) == (max(start + i * step, 0), min(start + i * step + size, 48))
    assert field.columns == field.rows
    if layer == "layer4.0":
        assert field.middle == [(2, 2), (2, 3), (3, 2), (3, 3)]
        assert field.box((2, 3)) == (slice(0, 40), slice(8, 48))


def test_no_pixel_outside_the_field_moves_the_unit(small):
    field, x = filters.receptive_field(small, "4", (1, SIZE, SIZE)), faces(1)
    unit = field.middle[0]
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[field.box(unit)] = True
    other = torch.where(inside, x, 1 - x)
    with torch.no_grad():
        maps, moved = small[:5](x), small[:5](other)
    assert torch.allclose(maps[..., unit[0], unit[1]], moved[..., unit[0], unit[1]], atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_measured_and_arithmetic_fields_agree_on_random_chains(seed):
    generator = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [
            nn.Conv2d(1, 8, pick(1, 3, 5), padding=pick(0, 1), stride=pick(1, 2)),
            nn.LeakyReLU(0.1),
            pick(nn.MaxPool2d(2), nn.AvgPool2d(3, 2)),
            nn.Conv2d(8, 8, pick(2, 3), padding=1, dilation=pick(1, 2)),
        ]
        model = nn.Sequential(*layers)
    field = filters.receptive_field(model, "3", (1, 32, 32), samples=16)
    size, step, start = filters.field_arithmetic(model, "3", (1, 32, 32))
    assert field.columns == field.rows
    for i, (first, last) in enumerate(field.rows):
        wanted = start + i * step, start + i * step + size
        if wanted[0] >= 0 and wanted[1] <= 32:
            assert (first, last) == wanted
        else:  # a dilated kernel that hangs over the border may see less than the clipped box
            assert first >= max(wanted[0], 0) and last <= min(wanted[1], 32)


def test_the_cone_gives_the_middle_units_activation(small):
    activation, crop = filters.cone(small, "4", (1, SIZE, SIZE))
    assert crop == (1, 8, 8) and activation.__name__ == "by_cone"
    x, field = faces(), filters.receptive_field(small, "4", (1, SIZE, SIZE))
    with torch.no_grad():
        maps = small[:5](x)
        for unit in field.middle[:3]:
            crops = x[(slice(None), slice(None), *field.box(unit))]
            assert torch.allclose(activation(crops), maps[..., unit[0], unit[1]], atol=1e-6)


@pytest.mark.parametrize("more", [{"dilation": 2, "padding": 2}, {"groups": 2, "padding": 1},
                                  {"padding": "same"}], ids=str)  # fmt: skip
def test_one_filters_activation_is_its_column_in_any_kind_of_convolution(more):
    model = stirred(nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"), nn.LeakyReLU(0.05), nn.BatchNorm2d(4),
        nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, **more), nn.Flatten(), nn.Linear(384, 5),
    ))  # fmt: skip
    activation, _ = filters.cone(model, "4", (1, SIZE, SIZE))
    assert activation.__name__ == "by_cone"
    unit = filters.receptive_field(model, "4", (1, SIZE, SIZE)).middle[0]
    x, which = faces(6), torch.arange(6)
    box = filters.receptive_field(model, "4", (1, SIZE, SIZE)).box(unit)
    crops = x[(slice(None), slice(None), *box)]
    with torch.no_grad():
        wanted = model[:5](x)[:, :, unit[0], unit[1]]
        assert torch.allclose(activation(crops), wanted, atol=1e-6)
        assert torch.allclose(activation(crops, which), wanted.diagonal(), atol=1e-6)


def test_the_whole_network_is_used_where_the_cone_would_lie():
    class Centred(nn.Module):  # a by-pass over a padded layer: its size changes without padding
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 3, 3, padding=1)
            self.second = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            h = self.first(x)
            return self.second(h + F.relu(h)[:, :, :, : x.shape[3]] + 0 * x).mean((2, 3))

    model = Centred().eval()
    activation, crop = filters.cone(model, "second", (1, SIZE, SIZE))
    assert activation.__name__ == "by_whole" and crop == (1, 5, 5)
    optima = filters.maximise(model, "second", steps=20, shape=(1, SIZE, SIZE))
    assert torch.allclose(activation(optima.pictures[:, 0]).diagonal(), optima.activation[:, 0])


def test_responses_and_patches_are_the_middle_units_and_their_crops(small):
    x = faces()
    found = filters.responses(small, "4", x)
    with torch.no_grad():
        maps = small[:5](x)
    units = torch.tensor(found.field.middle)
    assert torch.allclose(found.activation, maps[:, :, units[:, 0], units[:, 1]].amax(2), atol=1e-6)
    activation, _ = filters.cone(small, "4", (1, SIZE, SIZE))
    for which in ("strongest", "median", "weakest"):
        patches = filters.top_patches(small, "4", x, [5, 2], 3, which, found)
        assert patches.pixels.shape == (2, 3, 1, 8, 8)
        for row, k in enumerate((5, 2)):
            with torch.no_grad():
                again = activation(patches.pixels[row])[:, k]
            assert torch.allclose(again, patches.activation[row], atol=1e-6)
            assert len(set(patches.face[row].tolist())) == 3
            assert (patches.activation[row].diff() <= 0).all()
    strongest = filters.top_patches(small, "4", x, count=40, found=found)
    assert torch.allclose(strongest.activation[:, 0], found.activation.amax(0))
    assert torch.allclose(strongest.activation[:, -1], found.activation.amin(0))
    mean = filters.mean_patch(small, "4", x, count=40, found=found)
    assert torch.allclose(mean, strongest.pixels.mean(1), atol=1e-6)
    many = faces(130)
    hundred = filters.top_patches(small, "4", many, [3], 100).pixels.mean(1)
    assert torch.allclose(filters.mean_patch(small, "4", many, [3]), hundred, atol=1e-6)


def test_a_linear_filters_optimum_is_its_kernels_sign():
    """conv1's activation is linear: white where the weight is positive, black where negative."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.Flatten(), nn.Linear(4 * 256, 2))
    for sign in (1, -1):
        optima = filters.maximise(
            model, "0", prior=filters.Prior((-1.0, 2.0)), sign=sign, shape=(1, 16, 16)
        )
        weight = sign * model[0].weight.detach()
        assert torch.equal(optima.pictures[:, 0], torch.where(weight > 0, 2.0, -1.0))
        by_hand = torch.where(weight > 0, 2 * weight, -weight).sum((1, 2, 3)) * sign + model[0].bias
        assert torch.allclose(optima.activation[:, 0], by_hand, atol=1e-5)
        if sign == 1:
            bound = filters.upper_bound(model, "0", (-1, 2), (1, 16, 16))
            assert torch.allclose(bound.float(), by_hand, atol=1e-5)  # one layer: exact


def test_a_linear_filters_natural_optimum_is_the_longest_code_along_it():
    """Over pictures mean + waves · (amplitude ∘ code), |code|² ≤ n, a linear filter has a known top."""
    conv = nn.Conv2d(1, 3, 6)
    crops = 0.5 + 0.05 * torch.randn(60, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    prior = filters.Prior.natural(crops, (-9, 9))
    found = filters.maximise(nn.Sequential(conv), "0", prior=prior, steps=60, shape=(1, 6, 6))
    low = filters.maximise(
        nn.Sequential(conv), "0", prior=prior, steps=60, shape=(1, 6, 6), sign=-1
    )
    for k, (weight, bias) in enumerate(zip(conv.weight.detach(), conv.bias.detach(), strict=True)):
        along = prior.amplitude * torch.from_numpy(dctn(weight.numpy(), axes=(1, 2), norm="ortho"))
        middle, reach = (weight * prior.mean).sum() + bias, 6 * along.norm()
        for optima, top in ((found, middle + reach), (low, middle - reach)):
            assert abs(optima.activation[k, 0] - top) < 1e-3 * reach


def test_a_climb_comes_to_rest_on_a_round_top():
    class Tops(nn.Module):
        def __init__(self):
            super().__init__()
            self.top = nn.Parameter(torch.rand(3, 1, 6, 6) * 0.8 + 0.1)

        def forward(self, x):
            return -(x[:, None] - self.top).square().sum((2, 3, 4))

    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = Tops()
    optima = filters.maximise_logits(model, [2, 0], shape=(1, 6, 6))
    assert (optima.activation > -36 * 0.005**2).all()  # a last step is 0.004
    assert torch.allclose(optima.pictures[:, 0], model.top[[2, 0]], atol=0.03)
    lowest = filters.maximise_logits(model, [1], sign=-1, shape=(1, 6, 6))
    furthest = (model.top[1] < 0.5).float()  # of a top near the middle either corner may be met
    sure = (model.top[1] - 0.5).abs() > 0.1
    assert torch.equal(lowest.pictures[0, 0][sure], furthest[sure]) and sure.sum() > 20


def test_optima_lie_between_the_data_and_the_certified_bound(small):
    x = faces(200)
    found = filters.responses(small, "4", x)
    high = filters.maximise(small, "4", restarts=2, steps=120, shape=(1, SIZE, SIZE))
    low = filters.maximise(small, "4", sign=-1, steps=120, shape=(1, SIZE, SIZE))
    bound = filters.upper_bound(small, "4", (0, 1), (1, SIZE, SIZE))
    assert high.pictures.shape == (6, 2, 1, 8, 8)
    assert high.pictures.min() >= 0 and high.pictures.max() <= 1
    assert (high.activation.amax(1) >= found.activation.amax(0)).all()
    assert (low.activation[:, 0] <= found.activation.amin(0)).all()
    assert (high.activation.amax(1) <= bound).all()
    activation, _ = filters.cone(small, "4", (1, SIZE, SIZE))
    with torch.no_grad():
        again = activation(high.pictures[:, 1]).diagonal()
    assert torch.allclose(again, high.activation[:, 1], atol=1e-6)


def test_the_bound_of_two_layers_by_hand():
    """0 … 2 becomes −2 … 0 behind the first, 1 … 7 behind the second: its top is the first's floor."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        for layer, weight, bias in ((model[0], -1.0, 0.0), (model[1], -3.0, 1.0)):
            layer.weight.fill_(weight), layer.bias.fill_(bias)
    assert float(filters.upper_bound(model, "1", (0, 2), (1, 4, 4))) == pytest.approx(7)


def test_the_bound_holds_for_random_pictures_also_out_of_0_to_1(small):
    bound = filters.upper_bound(small, "4", (-2, 1), (1, SIZE, SIZE))
    for kind in (torch.rand, lambda *s, **k: torch.rand(*s, **k).round()):
        x = kind(500, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) * 3 - 2
        assert (filters.responses(small, "4", x).activation <= bound).all()


def test_optima_repeat_from_their_seed_whatever_else_is_asked_for(small):
    shape = (1, SIZE, SIZE)
    every = filters.maximise(small, "4", restarts=2, steps=40, shape=shape)
    some = filters.maximise(small, "4", [4, 1], restarts=2, steps=40, shape=shape)
    assert torch.allclose(some.activation, every.activation[[4, 1]], rtol=1e-4)
    assert torch.equal(
        filters.maximise(small, "4", [4, 1], restarts=2, steps=40, shape=shape).pictures,
        some.pictures,
    )
    other = filters.maximise(small, "4", [4, 1], restarts=2, steps=40, seed=1, shape=shape)
    assert not torch.equal(other.pictures, some.pictures)
    state = torch.get_rng_state()
    filters.maximise(small, "4", [0], steps=1, shape=shape)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("which", [[4], [32], [7, 4], [0, 1, 2, 3, 4]])
def test_a_filters_optimum_is_the_same_alone_and_among_all(which):
    """A climb is chaotic: rounded once otherwise, it ends elsewhere, by per cents."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = stirred(FerCNN())
    every = filters.maximise(model, None, range(33), steps=30).activation[which]
    assert torch.allclose(filters.maximise(model, None, which, steps=30).activation, every, 1e-5)


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 2, 1), (2, 1, 2), ((1, 2), 0, 1)])
def test_the_quick_way_back_through_a_thin_convolution_is_its_gradient(stride, padding, dilation):
    conv = nn.Conv2d(1, 6, (3, 5), stride, padding, dilation).double()
    model = nn.Sequential(conv, nn.LeakyReLU(0.1))
    x = torch.rand(2, 1, 17, 20, dtype=torch.float64, requires_grad=True)
    weights = torch.rand_like(model(x))
    wanted = torch.autograd.grad((model(x) * weights).sum(), x)[0]
    quick = chains.thin_first(private_copy(model))
    assert type(quick[0]) is not nn.Conv2d
    got = torch.autograd.grad((quick(x) * weights).sum(), x)[0]
    assert torch.allclose(got, wanted, rtol=1e-12)


def test_norms_folded_away_leave_the_function_where_nothing_is_padded():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.05), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, bias=False),
        nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, 2, 3), nn.Flatten(),
    ).double()  # fmt: skip
    stirred(nn.Sequential(model[:3]))
    model[4].running_mean.fill_(0.3)
    folded, x = private_copy(model.eval()), torch.rand(3, 1, 9, 9, dtype=torch.float64)
    chains.fold_norms(folded, x)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert torch.allclose(folded(x), model(x), rtol=1e-12)


def test_the_natural_prior_keeps_the_crops_spectrum_and_size(small):
    """Smooth crops make smooth optima; a prior fitted on its own crops finds them typical."""
    rough = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    crops = 0.5 + 0.2 * F.avg_pool2d(F.pad(rough, (2, 2, 2, 2)), 5, 1) * 5
    prior = filters.Prior.natural(crops, (0.0, 1.0))
    white = torch.randn(4000, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    spread = (prior.picture(white) - prior.mean).square().mean()
    assert abs(spread / (crops - crops.mean(0)).square().mean() - 1) < 0.1  # bounds clip a little
    natural = filters.maximise(small, "4", prior=prior, steps=80, shape=(1, SIZE, SIZE))
    plain = filters.maximise(small, "4", steps=80, shape=(1, SIZE, SIZE))

    def roughness(x):
        return x.diff(dim=-1).square().mean() / x.var(dim=(-1, -2)).mean()

    assert roughness(natural.pictures) < 0.5 * roughness(plain.pictures)
    assert (natural.activation <= plain.activation + 1e-3).all()


def test_the_outputs_optimum_beats_every_face(small):
    x = faces(200)
    optima = filters.maximise_logits(small, [0, 4], steps=120, shape=(1, SIZE, SIZE))
    assert optima.pictures.shape == (2, 1, 1, SIZE, SIZE)
    with torch.no_grad():
        assert (optima.activation[:, 0] > small(x)[:, [0, 4]].amax(0)).all()
        assert torch.allclose(
            small(optima.pictures[:, 0])[[0, 1], [0, 4]], optima.activation[:, 0], atol=1e-5
        )


def test_class_tuning_by_hand():
    activation = torch.tensor([[0.0, 1], [3, 1], [4, 1], [6, 1], [99, 7]])
    tuning = filters.class_tuning(activation, [0, 0, 1, 1, -1], classes=3)
    variance = (0 + 9 + 16 + 36) / 4 - 3.25**2
    expected = torch.tensor([1.5 - 3.25, 5 - 3.25]).double() / variance**0.5
    assert torch.allclose(tuning[0, :2], expected)
    assert tuning[1].isnan().all() and tuning[0, 2].isnan()  # no spread; no such face


def test_correlations_are_pearsons():
    generator = torch.Generator().manual_seed(0)
    a, v = torch.randn(50, 3, generator=generator), torch.randn(50, 2, generator=generator)
    expected = torch.corrcoef(torch.cat([a, v], 1).double().T)[:3, 3:]
    assert torch.allclose(filters.correlations(a, v), expected)


def test_part_overlap_finds_the_part_a_filter_lights_up():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(2 * 256, 2))
    model[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    parts = torch.zeros(3, 2, SIZE, SIZE, dtype=torch.bool)
    for i in range(3):
        parts[i, 0, i : i + 4, 2:6] = True
        parts[i, 1, 10:14, i + 3 : i + 7] = True
    x = parts[:, :1].float() - parts[:, 1:].float()
    overlap = filters.part_overlap(model, "0", x, parts, share=16 / 256)
    assert torch.equal(overlap, torch.eye(2))


@pytest.mark.parametrize("chained", [True, False])
def test_ablation_is_what_zeroing_the_filter_by_hand_does(small, chained):
    small, x, labels = copy.deepcopy(small), faces(40), torch.arange(40) % 4  # no face of class 4
    with torch.no_grad():
        small[9].bias -= small(x).mean(0)  # else one class would have all faces, and lose none

    class Wrapped(nn.Module):  # a by-pass: no chain to cut
        def __init__(self):
            super().__init__()
            self.net = small

        def forward(self, x):
            return self.net(x) + 0 * x.sum()

    model, layer = (small, "4") if chained else (Wrapped().eval(), "net.4")
    effect = filters.ablation(model, layer, x, labels)
    for k in range(len(effect.logit)):
        with torch.no_grad():
            maps, before = small[:5](x), small(x)
            maps[:, k] = 0
            after = small[5:](maps)
        fall = (before - after)[range(40), labels]
        for c in range(4):
            of = labels == c
            assert torch.allclose(effect.logit[k, c], fall[of].mean(), atol=1e-6)
            recall = [(z.argmax(1) == labels)[of].float().mean() for z in (before, after)]
            assert torch.allclose(effect.recall[k, c], recall[0] - recall[1], atol=1e-6)
    assert effect.logit.shape == effect.recall.shape == (maps.shape[1], 5)
    assert effect.recall[:, :4].any() and effect.logit[:, 4].isnan().all()


def test_inactive_and_duplicate_filters_are_those_planted(small):
    model = copy.deepcopy(small)
    with torch.no_grad():
        model[4].weight[2] = 0  # a constant
        model[4].weight[5] = 3 * model[4].weight[1]
    activation = filters.responses(model, "4", faces(200)).activation
    assert filters.inactive(activation) == [2]
    pairs = filters.duplicates(activation)
    assert [(i, j) for i, j, _ in pairs][:1] == [(1, 5)] and pairs[0][2] == pytest.approx(1)
    optima = filters.maximise(model, "4", [2], steps=5, shape=(1, SIZE, SIZE))
    assert optima.activation.item() == pytest.approx(model[4].bias[2].item())  # nothing moves it


def test_leaves_no_trace_on_the_model(small):
    model, x = copy.deepcopy(small).train(), faces(12)
    before = copy.deepcopy(model.state_dict())
    for call in (
        lambda: filters.responses(model, "4", x),
        lambda: filters.maximise(model, "4", [0], steps=2, shape=(1, SIZE, SIZE)),
        lambda: filters.ablation(model, "4", x, torch.zeros(12, dtype=torch.long)),
        lambda: filters.upper_bound(model, "4", (0, 1), (1, SIZE, SIZE)),
        lambda: filters.part_overlap(
            model, "4", x, torch.ones(12, 1, SIZE, SIZE, dtype=torch.bool)
        ),
    ):
        call()
    assert model.training and all(m.training for m in model.modules())
    assert all(not m._forward_hooks for m in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    eager = filters.responses(model, "4", x).activation
    assert torch.equal(eager, filters.responses(small, "4", x).activation)  # eval mode all along


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: filters.responses(m, "nosuch", x), r"no layer 'nosuch' .*have: 0, 4"),
        (lambda m, x: filters.ablation(m, "4", x, torch.tensor([3, -1] * 6)), "got -1: drop unlab"),
        (lambda m, x: filters.responses(m, "9", x), "layer '9' is Linear, not Conv2d"),
        (lambda m, x: filters.responses(m, "4", x[:0]), "none of them 0"),
        (lambda m, x: filters.maximise(m, "4", [6], shape=(1, 16, 16)), "no filter 6: .* 0 to 5"),
        (lambda m, x: filters.maximise(m, "4", [], shape=(1, 16, 16)), "none asked for"),
        (lambda m, x: filters.maximise_logits(m, [5], shape=(1, 16, 16)), "no filter 5"),
        (lambda m, x: filters.top_patches(m, "4", x, count=41), "count must be 1 to 40"),
        (lambda m, x: filters.top_patches(m, "4", x, which="best"), "strongest, median, weakest"),
        (lambda m, x: filters.Prior((1.0, 0.0)), "bounds must be"),
        (lambda m, x: filters.Prior.natural(x[:1], (0, 1)), "2 crops or more"),
        (lambda m, x: filters.upper_bound(m, "4", (1, 0), (1, 16, 16)), "bounds must be"),
        (lambda m, x: filters.maximise(m, "4", steps=0, shape=(1, 16, 16)), "steps must be"),
        (lambda m, x: filters.maximise(m, "4", restarts=0, shape=(1, 16, 16)), "restarts must be"),
        (lambda m, x: filters.maximise(m, "4", sign=0, shape=(1, 16, 16)), "sign must be"),
    ],
)
def test_bad_input_gives_one_clear_line(small, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(small, faces())
    assert "\n" not in str(caught.value)


def test_a_network_without_an_interval_rule_is_refused():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.GELU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(288, 2)
    )
    with pytest.raises(ValueError, match=r"no interval rule for layer '1' \(GELU\)"):
        filters.upper_bound(model, "2", (0, 1), (1, SIZE, SIZE))
