"""Filters: fields measured, optima where they must lie, patches cut where the unit looks."""

import copy

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from test_saliency import stirred
from torch import nn
from torch.nn import functional as F

from fer_utils import filters
from fer_utils.model import FerCNN, FerResNet

SIZE = 16
SHAPE = (1, SIZE, SIZE)
FREE = filters.FreePixels((0.0, 1.0))


def seeded(make, seed=0):
    with torch.random.fork_rng():  # the fixtures live longer than a test
        torch.manual_seed(seed)
        return stirred(make())


@pytest.fixture(scope="module")
def small():
    """Two blocks on 16 × 16: the second convolution's field is 3 + 1 + 2·2 = 8 pixels, step 2."""
    return seeded(
        lambda: nn.Sequential(
            *[nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(0.05), nn.BatchNorm2d(4)],
            nn.MaxPool2d(2),
            *[nn.Conv2d(4, 6, 3, padding=1), nn.LeakyReLU(0.05), nn.BatchNorm2d(6)],
            nn.MaxPool2d(2),
            *[nn.Flatten(), nn.Linear(96, 5)],
        )
    )


class Viewed(nn.Module):
    """Three channels in, functional layers between, flattened by ``view`` of the batch's size."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 6, 3, padding=1)
        self.head = nn.Linear(6 * 16, 4)

    def forward(self, x):
        batch = x.size(0)
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        return self.head(x.view(batch, -1))


class ByPassed(nn.Module):
    """A residual network: its second convolution's output is added to what went in."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 5, 3, padding=1)
        self.third = nn.Conv2d(5, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.first(x)
        x = x + self.second(F.relu(x))
        return self.head(self.third(x).mean((2, 3)))


NETWORKS = {"viewed": (Viewed, (3, SIZE, SIZE), "second"), "residual": (ByPassed, SHAPE, "second")}


@pytest.fixture(scope="module", params=NETWORKS)
def other(request):
    make, shape, layer = NETWORKS[request.param]
    return seeded(make), shape, layer


def faces(number=40, shape=SHAPE):
    return torch.rand(number, *shape, generator=torch.Generator().manual_seed(1))


def maps_of(model, layer, images):
    """A layer's output, by a hook of the test's own."""
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, out: seen.append(out))
    with torch.no_grad():
        model(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("layer", "size", "step", "start"),
    [("layer1.0", 5, 1, -2), ("layer2.0", 10, 2, -4), ("layer3.0", 20, 4, -8),
     ("layer4.0", 40, 8, -16)],
)  # fmt: skip
def test_the_measured_field_of_the_reports_network_is_that_by_hand(layer, size, step, start):
    field = filters.receptive_field(seeded(FerCNN), layer)
    assert field.size == (size, size)
    for i, (first, last) in enumerate(field.rows):  # clipped by the face's border
        assert (first, last) == (max(start + i * step, 0), min(start + i * step + size, 48))
    assert field.columns == field.rows
    if layer == "layer4.0":
        assert field.middle == [(2, 2), (2, 3), (3, 2), (3, 3)]
        assert field.box((2, 3)) == (slice(0, 40), slice(8, 48))


@pytest.mark.parametrize("seed", range(8))
def test_measured_fields_follow_the_formula_on_random_chains(seed):
    generator = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    settings = [  # kernel, stride, padding, dilation
        (pick(1, 3, 5), 1, pick(0, 1), 1), (pick(1, 3), pick(1, 2), pick(0, 1), 1),
        pick((2, 2, 0, 1), (3, 2, 0, 1)), (pick(2, 3), 1, 1, pick(1, 2)),
    ]  # fmt: skip
    first, second, pool, last = settings
    layers = [
        lambda: nn.Conv2d(1, 8, *first), lambda: nn.Conv2d(8, 8, *second),
        lambda: pick(nn.MaxPool2d, nn.AvgPool2d)(*pool[:2]), lambda: nn.Conv2d(8, 8, *last),
    ]  # fmt: skip
    size, step, start = 1, 1, 0
    for kernel, stride, padding, dilation in settings:
        size, start = size + (kernel - 1) * dilation * step, start - padding * step
        step *= stride
    model = seeded(lambda: nn.Sequential(*[make() for make in layers]), seed)
    field = filters.receptive_field(model, "3", (1, 32, 32))
    assert field.columns == field.rows
    for i, seen in enumerate(field.rows):
        wanted = start + i * step, start + i * step + size
        if wanted[0] >= 0 and wanted[1] <= 32:
            assert seen == wanted
        else:  # a dilated kernel that hangs over the border may see less than the clipped box
            assert seen[0] >= max(wanted[0], 0) and seen[1] <= min(wanted[1], 32)


def test_where_branches_meet_the_widest_field_counts():
    model = seeded(FerResNet)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(0.5)  # a branch starts at 0, as if it were not there
    # stem 5 and its pool 6, then 3×3 kernels at steps 2, 2, 2 and 4; the skip's 1×1 widens nothing
    sizes = {"stage1.0.body.3": 14, "stage2.0.skip.0": 14, "stage2.0.body.3": 26}
    assert {layer: filters.receptive_field(model, layer).size[0] for layer in sizes} == sizes


def test_a_field_is_measured_where_a_function_changes_the_size_of_the_maps():
    assert filters.receptive_field(seeded(Viewed), "second", (3, SIZE, SIZE)).size == (8, 8)


def test_a_layer_that_no_gradient_reaches_has_no_field():
    class Thresholded(nn.Sequential):
        def forward(self, x):
            return super().forward((x > 0).float())

    with pytest.raises(ValueError, match="no pixel moves"):
        filters.receptive_field(Thresholded(nn.Conv2d(1, 4, 3), nn.Flatten()), "0", SHAPE)


def test_a_filter_that_no_pixel_moves_has_no_field(small):
    model = copy.deepcopy(small)
    model[4].weight.data.zero_()
    with pytest.raises(ValueError, match="no pixel moves"):
        filters.receptive_field(model, "4", SHAPE)


def test_stages_are_up_to_four_convolutions_first_and_last_among_them(small):
    assert filters.stages(seeded(FerCNN)) == [(f"conv{k}", f"layer{k}.0") for k in (1, 2, 3, 4)]
    assert filters.stages(small, SHAPE) == [("conv1", "0"), ("conv2", "4")]
    names = [name for _, name in filters.stages(seeded(FerResNet))]
    assert names[0] == "stem.0" and names[-1] == "stage4.0.body.3" and len(set(names)) == 4


def test_responses_and_patches_are_the_middle_units_and_their_crops(small):
    x = faces()
    found = filters.responses(small, "4", x)
    maps = maps_of(small, "4", x)
    units = torch.tensor(found.field.middle)
    assert torch.allclose(found.activation, maps[:, :, units[:, 0], units[:, 1]].amax(2), atol=1e-6)
    for which in ("strongest", "median", "weakest"):
        patches = filters.top_patches(small, "4", x, [5, 2], 3, which, found)
        assert patches.pixels.shape == (2, 3, 1, 8, 8)
        for row, k in enumerate((5, 2)):
            again = filters.activation(small, "4", patches.pixels[row], SHAPE)[:, k]
            assert torch.allclose(again, patches.activation[row], atol=1e-6)
            assert len(set(patches.face[row].tolist())) == 3
            assert (patches.activation[row].diff() <= 0).all()
    every = filters.top_patches(small, "4", x, count=40, found=found)
    (middle,) = filters.top_patches(small, "4", x, [0], 1, "median", found).activation
    assert middle == every.activation[0, 19]
    assert torch.allclose(every.activation[:, 0], found.activation.amax(0))
    assert torch.allclose(every.activation[:, -1], found.activation.amin(0))
    weakest = filters.top_patches(small, "4", x, count=3, which="weakest", found=found)
    assert torch.equal(weakest.activation, every.activation[:, -3:])


def test_where_every_unit_sees_the_whole_face_the_central_one_is_meant():
    model, x = (
        seeded(FerResNet),
        torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0)),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # a skip's last norm begins at 0, and hides its branch
    field = filters.receptive_field(model)
    assert field.size == (48, 48) and field.middle == [(1, 1)]
    patches = filters.top_patches(model, None, x, [0, 9], 3)
    for row, k in enumerate((0, 9)):
        again = filters.activation(model, None, patches.pixels[row])[:, k]
        assert torch.allclose(again, patches.activation[row], atol=1e-5)


def test_of_all_the_pictures_of_a_climb_the_best_is_kept():
    seen = []

    def wave(pictures):  # a climb that steps over its tops
        seen.append(torch.sin(9 * pictures.flatten(1).sum(1, keepdim=True)).detach())
        return torch.sin(9 * pictures.flatten(1).sum(1, keepdim=True))

    code = torch.randn(2, 1, 4, 4)
    column = torch.zeros(2, dtype=torch.int64)
    pictures, best = filters._climb_chunk(wave, code, column, FREE, 1, 20)
    values = torch.cat(seen, 1)
    assert torch.equal(best, values.amax(1)) and (best > values[:, -1]).any()
    assert torch.equal(best, wave(pictures)[:, 0])


def test_any_network_is_answered_and_left_alone(other):
    model, shape, layer = other
    x, before = faces(9, shape), copy.deepcopy(model.state_dict())
    model.train()
    unit = filters.receptive_field(model, layer, shape).middle[0]
    optima = filters.maximise(model, layer, [0, 3], steps=12, shape=shape, prior=FREE)
    strongest = filters.responses(model, layer, x).activation.amax(0)
    rows, columns = filters.receptive_field(model, layer, shape).box(unit)
    face = torch.zeros(2, *shape)
    face[:, :, rows, columns] = optima.pictures
    maps = maps_of(model, layer, face)[:, :, unit[0], unit[1]]
    assert torch.allclose(optima.activation, maps[[0, 1], [0, 3]], atol=1e-5)
    assert (optima.activation > strongest[[0, 3]] * 0.9).all()
    assert model.training and not model._forward_hooks
    assert all(m.padding == (1, 1) for m in model.modules() if isinstance(m, nn.Conv2d))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("more", [{"dilation": 2, "padding": 2}, {"padding": "same"}], ids=str)
def test_without_padding_a_crop_gives_the_middle_unit(more):
    model = seeded(lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"), nn.LeakyReLU(0.05), nn.BatchNorm2d(4),
        nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, **more), nn.Flatten(), nn.Linear(384, 5),
    ))  # fmt: skip
    optima = filters.maximise(model, "4", steps=5, shape=SHAPE, prior=FREE)
    field = filters.receptive_field(model, "4", SHAPE)
    rows, columns = field.box(unit := field.middle[0])
    face = torch.zeros(6, *SHAPE)
    face[:, :, rows, columns] = optima.pictures
    wanted = maps_of(model, "4", face)[:, :, unit[0], unit[1]].diagonal()
    assert torch.allclose(optima.activation, wanted, atol=1e-5)


def test_a_linear_filters_optimum_is_its_kernels_sign():
    """conv1's activation is linear: white where the weight is positive, black where negative."""
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.Flatten()), 3)
    for sign in (1, -1):
        prior = filters.FreePixels((-1.0, 2.0))
        optima = filters.maximise(model, "0", prior=prior, sign=sign, shape=SHAPE)
        weight = sign * model[0].weight.detach()
        assert torch.equal(optima.pictures, torch.where(weight > 0, 2.0, -1.0))
        by_hand = torch.where(weight > 0, 2 * weight, -weight).sum((1, 2, 3)) * sign + model[0].bias
        assert torch.allclose(optima.activation, by_hand, atol=1e-5)


def test_free_pixels_begin_in_the_middle_and_go_by_a_fifth_of_the_range():
    prior, code = filters.FreePixels((-1.0, 3.0)), torch.zeros(1, 1, 2, 2)
    assert (prior.start(code) == 1).all() and (prior.start(code + 0.5) == 1.1).all()
    assert torch.allclose(prior.step(code, code - 7, 0.5), code - 0.4)


def test_a_linear_filters_spectrum_optimum_is_the_longest_code_along_it():
    """Over pictures mean + waves · (amplitude ∘ code), |code|² ≤ n, a linear filter has a known top."""
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 6)), 4)
    crops = 0.5 + 0.05 * torch.randn(60, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    prior = filters.PowerSpectrum.of(crops, (-9, 9))
    options = {"prior": prior, "steps": 60, "shape": (1, 6, 6)}
    high, low = (filters.maximise(model, "0", sign=sign, **options) for sign in (1, -1))
    for k, (weight, bias) in enumerate(zip(model[0].weight, model[0].bias, strict=True)):
        wave = torch.from_numpy(dctn(weight.detach().numpy(), axes=(1, 2), norm="ortho"))
        middle, reach = (weight * prior.mean).sum() + bias, 6 * (prior.amplitude * wave).norm()
        for optima, top in ((high, middle + reach), (low, middle - reach)):
            assert abs(optima.activation[k] - top) < 1e-3 * reach


def test_optima_go_beyond_the_data_in_both_directions(small):
    found = filters.responses(small, "4", faces(200))
    high, low = (
        filters.maximise(small, "4", sign=sign, shape=SHAPE, prior=FREE) for sign in (1, -1)
    )
    assert high.pictures.shape == (6, 1, 8, 8)
    assert high.pictures.min() >= 0 and high.pictures.max() <= 1
    assert (high.activation >= found.activation.amax(0)).all()
    assert (low.activation <= found.activation.amin(0)).all()
    again = filters.activation(small, "4", high.pictures, SHAPE).diagonal()
    assert torch.allclose(again, high.activation, atol=1e-6)
    outputs = filters.maximise_logits(small, [0, 4], shape=SHAPE, prior=FREE)
    assert outputs.pictures.shape == (2, 1, SIZE, SIZE)
    with torch.no_grad():
        assert (outputs.activation > small(faces(200))[:, [0, 4]].amax(0)).all()
        logits = small(outputs.pictures)[[0, 1], [0, 4]]
    assert torch.allclose(logits, outputs.activation, atol=1e-5)


def test_optima_repeat_from_their_seed_whatever_else_is_asked_for(small):
    every = filters.maximise(small, "4", steps=40, shape=SHAPE, prior=FREE)
    single = filters.maximise(small, "4", np.int64(4), steps=np.int64(40), shape=SHAPE, prior=FREE)
    assert torch.allclose(single.activation, every.activation[[4]], rtol=1e-4)
    some = filters.maximise(small, "4", [4, 1], steps=40, shape=SHAPE, prior=FREE)
    assert torch.allclose(some.activation, every.activation[[4, 1]], rtol=1e-4)
    again = filters.maximise(small, "4", [4, 1], steps=40, shape=SHAPE, prior=FREE)
    assert torch.equal(again.pictures, some.pictures)
    other = filters.maximise(small, "4", [4, 1], steps=40, seed=1, shape=SHAPE, prior=FREE)
    assert not torch.equal(other.pictures, some.pictures)
    state = torch.get_rng_state()
    filters.maximise(small, "4", [0], steps=1, shape=SHAPE, prior=FREE)
    assert torch.equal(state, torch.get_rng_state())


def test_the_power_spectrum_prior_keeps_the_crops_spectrum_and_size(small):
    """Smooth crops make smooth optima; a prior fitted on its own crops finds them typical."""
    rough = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    crops = 0.5 + 0.2 * F.avg_pool2d(F.pad(rough, (2, 2, 2, 2)), 5, 1) * 5
    prior = filters.PowerSpectrum.of(crops, (0, 1))
    white = torch.randn(4000, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    variance = (prior.picture(white) - prior.mean).square().mean()
    assert abs(variance / (crops - crops.mean(0)).square().mean() - 1) < 0.1  # bounds clip a little
    smooth = filters.maximise(small, "4", prior=prior, steps=80, shape=SHAPE)
    free = filters.maximise(small, "4", steps=80, shape=SHAPE, prior=FREE)

    def roughness(x):
        return x.diff(dim=-1).square().mean() / x.var(dim=(-1, -2)).mean()

    assert roughness(smooth.pictures) < 0.5 * roughness(free.pictures)
    assert (smooth.activation <= free.activation + 1e-3).all()


def test_class_tuning_and_eta_squared_by_hand():
    activation = torch.tensor([[0.0, 1], [3, 1], [4, 1], [6, 1], [99, 7]])
    labels = [0, 0, 1, 1, -1]
    tuning = filters.class_tuning(activation, labels, classes=3)
    variance = (0 + 9 + 16 + 36) / 4 - 3.25**2
    expected = torch.tensor([1.5 - 3.25, 5 - 3.25]).double() / variance**0.5
    assert torch.allclose(tuning[0, :2], expected)
    assert tuning[1].isnan().all() and tuning[0, 2].isnan()  # no spread; no such face
    eta_squared = filters.eta_squared(activation, labels, classes=3)
    within = (1.5**2 * 2 + 1**2 * 2) / 4
    assert torch.allclose(eta_squared, torch.tensor([1 - within / variance, 0]).double())


def zeroed_by_hand(model, layer, x, labels, classes):
    """Falls of logit and recall (filters, classes), by a hook that writes zeros."""
    layer, rows = model.get_submodule(layer), torch.arange(len(x))
    before = model(x)
    own = [labels == c for c in range(classes)]
    logit, recall = [], []
    for k in range(layer.out_channels):
        handle = layer.register_forward_hook(
            lambda m, i, out, k=k: out.index_fill(1, torch.tensor(k), 0)
        )
        after = model(x)
        handle.remove()
        fall = (before - after)[rows, labels]
        right = [(z.argmax(1) == labels).float() for z in (before, after)]
        logit.append(torch.stack([fall[of].mean() for of in own]))
        recall.append(torch.stack([(right[0] - right[1])[of].mean() for of in own]))
    return torch.stack(logit), torch.stack(recall)


@torch.no_grad()
def test_ablation_is_what_zeroing_the_filter_by_hand_does(small, other):
    """``view`` of a batch's size takes no more rows than came in; a by-pass adds one face to all."""
    for given, shape, layer, classes in ((small, SHAPE, "4", 5), (*other, 4)):
        model = copy.deepcopy(given)
        head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        head.bias -= model(faces(40, shape)).mean(0)  # else one class has all faces, loses none
        x, labels = faces(40, shape), torch.arange(40) % 4  # none of class 4
        effect = filters.ablation(model, layer, x, labels)
        logit, recall = zeroed_by_hand(model, layer, x, labels, classes)
        assert torch.allclose(effect.logit, logit, atol=1e-5, equal_nan=True)
        assert torch.allclose(effect.recall, recall, atol=1e-6, equal_nan=True)
        assert not model.get_submodule(layer)._forward_hooks and effect.recall.nan_to_num().any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: filters.maximise(m, "3", shape=SHAPE, prior=FREE), "MaxPool2d, not Conv2d"),
        (lambda m, x: filters.maximise(m, "4", [6], shape=SHAPE, prior=FREE),
         "no filter 6: there are 0 to 5"),
        (lambda m, x: filters.maximise(m, "4", sign=2, shape=SHAPE, prior=FREE), "sign must be 1"),
        (lambda m, x: filters.FreePixels((1, 1)), "bounds must be"),
        (lambda m, x: filters.PowerSpectrum.of(x[:1], (0, 1)), "2 crops or more"),
        (lambda m, x: filters.top_patches(m, "4", x, count=41), "count must be 1 to 40"),
        (lambda m, x: filters.top_patches(m, "4", x, which="best"), "strongest, median, weakest"),
        (lambda m, x: filters.responses(m, "4", x.repeat(1, 2, 1, 1)), "refuses images"),
        (lambda m, x: filters.ablation(m, "4", x, torch.arange(40)), "out of range"),
        (lambda m, x: filters.activation(m, "4", x, SHAPE), r"see \(1, 8, 8\), .*\(1, 16, 16\)"),
        (lambda m, x: filters.activation(m, "4", x[..., :1, :1], SHAPE), "crops"),
        (lambda m, x: filters.maximise(m, "4", shape=SHAPE,
                                       prior=filters.PowerSpectrum.of(x, (0, 1))),
         r"crops of \(1, 16, 16\), .* asked for is \(1, 8, 8\)"),
        (lambda m, x: filters.stages(nn.Flatten(), SHAPE), "no weights"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_in_one_line(small, call, message):
    with pytest.raises(ValueError, match=message) as refused:
        call(small, faces())
    assert "\n" not in str(refused.value)
