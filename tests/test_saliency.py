"""Attribution maps: equal to captum's, true to their axioms, and gone without a trace."""

import copy
import warnings

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F

from fer_utils import cones, saliency
from fer_utils.anatomy import checked
from fer_utils.chains import Sign, split
from fer_utils.model import FerCNN, FerResNet

SIZE = 16
METHODS = [
    saliency.gradient,
    saliency.gradient_times_input,
    saliency.smoothgrad,
    saliency.integrated_gradients,
    saliency.grad_cam,
    saliency.hires_cam,
    saliency.guided_backprop,
    saliency.occlusion,
]
# here two copies of a network share their layers, which a class activation map refuses
UNFIT = [saliency.grad_cam, saliency.hires_cam, saliency.smoothgrad]
SYMMETRIC = [method for method in METHODS if method not in UNFIT]
ids = [method.__name__ for method in METHODS]


class Residual(nn.Module):
    """By-passes, functional relu and pool, a reused layer: nothing that a fast way may touch."""

    def __init__(self, channels=6):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.twice = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Linear(channels * 16, 5)

    def forward(self, x):
        h = F.relu(self.stem(x - x.mean((1, 2, 3), keepdim=True)))
        h = h + F.relu(self.twice(h))
        h = F.max_pool2d(h + self.twice(h), 4)
        return self.head(h.flatten(1))


def random_network(seed):
    """A small float64 network: kernels, strides, dilations, groups, norms and pools at random."""
    generator = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if seed % 6 == 5:
            return stirred(Residual()).double()
        layers, channels = [], 1
        for _ in range(pick(1, 2, 3)):
            groups = pick(1, 2) if channels > 1 else 1
            kernel, dilation = pick((3, 1), (3, 2), (5, 1), (1, 1))
            out = pick(4, 6, 8)
            block = [
                nn.Conv2d(channels, out, kernel, padding=pick(0, 1, kernel // 2), dilation=dilation,
                          groups=groups, stride=pick(1, 1, 2), bias=pick(True, False))
            ]  # fmt: skip
            activation = [pick(nn.LeakyReLU(0.05), nn.ReLU(inplace=True), nn.ELU(), nn.GELU())]
            norm = [nn.BatchNorm2d(out)] if pick(True, True, False) else []
            block += pick(activation + norm, norm + activation)
            block += [pick(nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2), nn.AvgPool2d(2))]
            candidate = nn.Sequential(*layers, *block)
            try:
                with torch.no_grad():
                    copy.deepcopy(candidate).eval()(torch.zeros(1, 1, SIZE, SIZE))
            except RuntimeError:
                break  # the face has shrunk away
            layers, channels = [*layers, *block], out
        body = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            wide = body.eval()(torch.zeros(1, 1, SIZE, SIZE)).shape[1]
        return stirred(nn.Sequential(body, nn.Linear(wide, 9), nn.ReLU(), nn.Linear(9, 5))).double()


def stirred(model):
    """In eval mode, its batch norms with statistics and weights (of both signs) as if trained."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, -1, 1)
            nn.init.uniform_(module.bias, -1, 1)
    return model.eval()


def faces(number=3, size=SIZE, dtype=torch.float64):
    x = torch.rand(number, 1, size, size, generator=torch.Generator().manual_seed(7), dtype=dtype)
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low)  # range 1: captum's absolute noise is our relative one


@pytest.fixture
def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = [
            nn.Conv2d(1, 4, 3, padding=1),
            nn.LeakyReLU(0.05),
            nn.BatchNorm2d(4),
            nn.MaxPool2d(2),
        ]
        return stirred(nn.Sequential(*block, nn.Flatten(), nn.Linear(256, 5))).double()


@pytest.mark.parametrize("seed", [*range(24), "FerResNet"])
def test_equals_captum_on_random_networks(seed, monkeypatch):
    """In float64, to 1e-10 of the largest value: in float32 ties of a max pool fall both ways."""
    attr = pytest.importorskip("captum.attr")
    model = stirred(FerResNet(5)).double() if seed == "FerResNet" else random_network(seed)
    x, t = faces(), torch.tensor([0, 3, 4])
    layer = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    noise = torch.randn(
        3, 4, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=x.dtype
    )
    calls = []  # of a layer: captum wants one
    layer.register_forward_hook(lambda *_: calls.append(1))

    def close(ours, theirs, tolerance=1e-10):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert (ours - theirs).abs().max() <= tolerance * max(1, float(theirs.abs().max()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum on inputs that asked for no gradient
        plain = attr.Saliency(model)
        close(saliency.gradient(model, x, t), plain.attribute(x, t, abs=False))
        close(
            saliency.gradient_times_input(model, x, t), attr.InputXGradient(model).attribute(x, t)
        )
        # captum rounds its quadrature weights to float32, relative error up to 6e-8
        close(
            saliency.integrated_gradients(model, x, t, steps=7, baseline=0.2),
            attr.IntegratedGradients(model).attribute(x, 0.2, t, n_steps=7),
            1e-7,
        )
        monkeypatch.setattr(torch, "normal", lambda mean, sd: noise.flatten(0, 1) * sd)
        close(
            saliency.smoothgrad(
                model, x, t, samples=4, noise=0.125, generator=torch.Generator().manual_seed(1)
            ),
            attr.NoiseTunnel(plain).attribute(
                x, nt_type="smoothgrad", nt_samples=4, stdevs=0.125, target=t, abs=False
            ),
        )
        # captum divides occlusion's sums in float32: keep its .float() from rounding
        monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
        for size, stride in ((4, 2), (5, 3)):
            close(
                saliency.occlusion(model, x, t, size, stride, fill=0.3),
                attr.Occlusion(model).attribute(x, (1, size, size), (1, stride, stride), 0.3, t),
            )
        calls.clear()
        model(x)
        if len(calls) == 1:
            small = attr.LayerGradCam(model, layer).attribute(x, t)
            close(
                saliency.grad_cam(model, x, t, layer),
                attr.LayerAttribution.interpolate(small, (SIZE, SIZE), "bilinear"),
            )


class Squares(nn.Module):
    """Logits Σ x² and −Σ x²: the gradient at a place is twice what stands there."""

    def forward(self, x):
        energy = (x * x).sum((1, 2, 3))
        return torch.stack([energy, -energy], 1)


def test_smoothgrads_noise_is_a_share_of_each_faces_own_range():
    x = torch.rand(2, 1, SIZE, SIZE, dtype=torch.float64) + 3
    x[1] = 40 * x[1] - 7
    x[:, 0, 0, 0], x[:, 0, 0, 1] = x.amin((1, 2, 3)) - 1, x.amax((1, 2, 3)) + 1
    maps = saliency.smoothgrad(Squares(), x, 0, 2000, 0.1, torch.Generator().manual_seed(0))
    noise = (maps / 2 - x) * 2000**0.5  # the sum of 2,000 draws, so itself of one draw's spread
    for face, drawn in zip(x, noise, strict=True):
        assert float(drawn.std() / (face.max() - face.min())) == pytest.approx(0.1, rel=0.15)


def test_a_blur_keeps_what_is_even_and_spreads_a_dot_as_gauss_does():
    even = torch.full((1, 2, SIZE, SIZE), 0.7, dtype=torch.float64)
    assert torch.allclose(saliency.blurred(even), even)
    dot = torch.zeros(1, 1, 33, 33, dtype=torch.float64)
    dot[..., 16, 16] = 1
    spread = saliency.blurred(dot, sigma=2)[0, 0]
    far = torch.arange(-16, 17, dtype=torch.float64)
    assert float(spread.sum()) == pytest.approx(1)
    assert float((spread.sum(0) * far**2).sum()) == pytest.approx(4, rel=0.05)  # σ², cut at 3 σ
    assert torch.allclose(spread, spread.T) and spread.argmax() == 16 * 33 + 16


@pytest.mark.parametrize("size, reach", [((33, 40), 12), ((9, 20), 8), ((20, 2), 1)])
def test_a_blur_is_scipys_as_far_as_the_mirrored_border_lets_it_reach(size, reach):
    noise = torch.rand(2, 1, *size, dtype=torch.float64)
    theirs = gaussian_filter(noise.numpy(), 4, mode="mirror", radius=(0, 0, reach, reach))
    assert torch.allclose(saliency.blurred(noise), torch.from_numpy(theirs))


def test_smoothgrad_is_the_mean_gradient_over_the_very_noise_it_was_given(small):
    x, t = faces(), torch.tensor([0, 3, 4])
    noise = torch.randn(
        3, 4, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=x.dtype
    )
    mean = sum(saliency.gradient(small, x + 0.3 * noise[:, k], t) for k in range(4)) / 4
    ours = saliency.smoothgrad(small, x, t, 4, 0.3, torch.Generator().manual_seed(1))
    assert torch.allclose(ours, mean, rtol=0, atol=1e-12)


def test_integrated_gradients_are_the_quadrature_to_the_last_digits(small):
    import numpy as np

    x, t = faces(), torch.tensor([0, 3, 4])
    nodes, weights = np.polynomial.legendre.leggauss(6)
    mean = sum(
        w / 2 * saliency.gradient(small, 0.2 + (a + 1) / 2 * (x - 0.2), t)
        for a, w in zip(nodes, weights, strict=True)
    )
    ours = saliency.integrated_gradients(small, x, t, steps=6, baseline=0.2)
    assert torch.allclose(ours, mean * (x - 0.2), rtol=0, atol=1e-12)


def test_integrated_gradients_are_complete(small):
    x, t = faces(), torch.tensor([0, 3, 4])
    start = saliency.blurred(x)
    maps = saliency.integrated_gradients(small, x, t, steps=400, baseline=start)
    error = saliency.completeness_error(small, x, t, maps, baseline=start)
    gain = (small(x) - small(start)).gather(1, t[:, None])[:, 0]
    assert (error.abs() < 1e-3 * gain.abs().max()).all()
    assert torch.allclose(maps.sum((1, 2, 3)) - gain, error, atol=1e-12)


def test_gradient_of_a_linear_model_is_its_weight_row():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 5)).double()
    x, t = faces(), torch.tensor([4, 0, 2])
    rows = linear[1].weight[t].view(3, 1, SIZE, SIZE)
    assert torch.equal(saliency.gradient(linear, x, t), rows)
    for maps in (
        saliency.gradient_times_input(linear, x, t),
        saliency.integrated_gradients(linear, x, t),
    ):
        assert torch.allclose(maps, rows * x, atol=1e-14)
    noise = torch.Generator().manual_seed(0)
    assert torch.allclose(saliency.smoothgrad(linear, x, t, 3, generator=noise), rows, atol=1e-14)
    single = saliency.occlusion(linear, x, t, size=1, stride=1)  # one pixel hidden at a time
    assert torch.allclose(single, rows * x, atol=1e-13)


def test_occlusion_by_hand():
    """Logit = sum of all pixels of ones; 2 × 2 windows over 3 × 3, step 1: each hides 4."""
    ones = nn.Sequential(nn.Flatten(), nn.Linear(9, 1, bias=False)).double()
    nn.init.ones_(ones[1].weight)
    x = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    assert torch.equal(saliency.occlusion(ones, x, 0, 2, 1), 4 * x)
    # step 2: the second window is cut at the border and hides 2, or the corner alone
    expected = torch.tensor([[4.0, 4, 2], [4, 4, 2], [2, 2, 1]], dtype=torch.float64)
    assert torch.equal(saliency.occlusion(ones, x, 0, 2, 2)[0, 0], expected)


def test_guided_backprop_by_hand_also_for_leaky_and_functional_relu():
    """Two units with weights (1, −1) behind x and −x: plain 1·1 + (−1)·(slope)(−1) …"""

    class Two(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.inner, self.activation = nn.Conv2d(1, 2, 1, bias=False), activation
            self.outer = nn.Linear(2, 1, bias=False)
            self.inner.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
            self.outer.weight.data = torch.tensor([[3.0, -2.0]])

        def forward(self, x):
            return self.outer(self.activation(self.inner(x)).flatten(1))

    x = torch.ones(1, 1, 1, 1)  # units see +1 and −1; gradients arriving are 3 and −2
    for activation, plain, guided in (
        (nn.LeakyReLU(0.5), 3 + 2 * 0.5, 3),  # −2 is stopped
        (F.relu, 3, 3),
        (nn.ReLU(inplace=True), 3, 3),
    ):
        model = Two(activation)
        assert saliency.gradient(model, x, 0).item() == plain
        assert saliency.guided_backprop(model, x, 0).item() == guided
        assert saliency.guided_backprop(model, -x, 0).item() == 0.5 * 3 * (plain == 4)
    with pytest.raises(ValueError, match="ReLU or LeakyReLU"):
        saliency.guided_backprop(Two(torch.tanh), x, 0)


def test_hires_cam_of_a_linear_head_sums_to_the_logit_without_its_bias():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 14 * 14, 5)).double()
    x, t = faces(), torch.tensor([0, 3, 4])
    maps = saliency.hires_cam(model, x, t)
    z = model[0](x)
    small = (model[2].weight[t].view(3, 3, 14, 14) * z).sum(1, keepdim=True)
    assert torch.allclose(small.sum((1, 2, 3)), model(x)[range(3), t] - model[2].bias[t])
    assert torch.allclose(maps, F.interpolate(small, (SIZE, SIZE), mode="bilinear"))


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_scaling_a_hidden_channel_and_undoing_it_changes_no_map(small, method):
    other = copy.deepcopy(small)
    with torch.no_grad():
        conv, norm = other[0], other[2]
        conv.weight[1] *= 4
        conv.bias[1] *= 4
        norm.running_mean[1] *= 4  # LeakyReLU(4 z) = 4 LeakyReLU(z)
        norm.weight[1] /= 4
    x, t = faces(), torch.tensor([0, 3, 4])
    if method in (saliency.smoothgrad,):
        maps = [
            method(m, x, t, 5, generator=torch.Generator().manual_seed(0)) for m in (small, other)
        ]
    else:
        maps = [method(m, x, t) for m in (small, other)]
    assert torch.allclose(*maps, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", SYMMETRIC, ids=[method.__name__ for method in SYMMETRIC])
def test_a_flip_symmetric_network_gives_flipped_maps(small, method):
    class Symmetric(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small

        def forward(self, x):
            return self.net(x) + self.net(x.flip(3))

    x, t = faces(), torch.tensor([0, 3, 4])
    model = Symmetric()
    assert torch.allclose(method(model, x.flip(3), t), method(model, x, t).flip(3), atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_leaves_no_trace_on_the_model(small, method):
    model = small.train()
    model[2].eval()
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    before = copy.deepcopy(model.state_dict())
    x, t = faces(), torch.tensor([0, 3, 4])
    kept = x.clone()
    method(model, x, t)

    def broken(module, inputs):
        raise RuntimeError("half-way")

    handle = model[5].register_forward_pre_hook(broken)
    with pytest.raises(ValueError, match="half-way"):
        method(model, x, t)
    handle.remove()
    assert model.training and not model[2].training
    assert not model[0].weight.requires_grad and model[0].bias.requires_grad
    assert torch.equal(model[5].weight.grad, torch.ones_like(model[5].weight))
    assert model[0].bias.grad is None
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert torch.equal(x, kept) and not x.requires_grad


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_mode_batch_and_no_grad_make_no_difference(small, method):
    """A model in train mode is explained in eval mode; a face's map does not know its batch."""
    x, t = faces(3), torch.tensor([0, 3, 4])

    def run(model, x, t):
        if method is saliency.smoothgrad:
            return method(model, x, t, 5, generator=torch.Generator().manual_seed(0))
        return method(model, x, t)

    maps = run(small, x, t)
    assert maps.shape == (3, 1, SIZE, SIZE) and not maps.requires_grad and maps.is_contiguous()
    assert torch.allclose(run(small, x[:1], t[:1]), maps[:1], atol=1e-13)
    with torch.no_grad():
        assert torch.allclose(run(copy.deepcopy(small).train(), x, t), maps, atol=1e-13)
    many = run(small, x.repeat(30, 1, 1, 1)[:70], t.repeat(30)[:70])
    if method is not saliency.smoothgrad:
        assert torch.allclose(many[66:69], maps, atol=1e-13)


def test_the_fast_ways_are_taken_on_the_reports_network():
    x, t = faces(2, 48, torch.float32), torch.tensor([0, 3])
    model = stirred(FerCNN())
    twin, _ = checked(model, x, t)
    assert [type(m).__name__ for m in twin.layer1] == [
        "Conv2d",
        "MaxPool2d",
        "Sign",
        "LeakyReLU",
        "BatchNorm2d",
    ]
    chain, rest = split(twin, x, cones.fits)
    assert [type(m) for m in chain[:3]] == [nn.Conv2d, nn.MaxPool2d, Sign] and len(chain) == 20
    with torch.no_grad():
        z = x
        for module in chain:
            z = module(z)
        assert torch.equal(rest(z), twin(x))
        assert torch.allclose(twin(x), model(x), atol=1e-5)


@pytest.mark.parametrize("seed", range(24))
def test_the_cone_gives_what_the_whole_network_gives(seed):
    model, x = random_network(seed), faces()
    chain, rest = split(checked(model, x, 0)[0], x, cones.fits)
    if chain is None:
        assert isinstance(model, Residual) or not cones.fits(model[0][0])
        return
    cone = cones.Cones(chain, x)
    for rows, columns in (
        (slice(0, 4), slice(13, 16)),
        (slice(6, 9), slice(2, 7)),
        (slice(0, 16), slice(0, 16)),
    ):
        hidden = x.clone()
        hidden[:, :, rows, columns] = 0.3
        with torch.no_grad():
            changed = rest(cone(hidden[:, :, rows, columns], rows, columns))
            assert torch.allclose(changed, model(hidden), rtol=0, atol=1e-12)


def test_hooks_and_by_passes_switch_the_fast_ways_off():
    x = faces()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = stirred(Residual()).double()
    assert split(checked(model, x, 0)[0], x, lambda module: True) == (None, None)
    hooked = random_network(0)
    hooked[0][0].register_forward_hook(lambda module, inputs, output: output.abs())
    assert split(checked(hooked, x, 0)[0], x, lambda module: True) == (None, None)
    ours = saliency.gradient(hooked, x, 0)
    x.requires_grad_()
    (theirs,) = torch.autograd.grad(hooked(x)[:, 0].sum(), x)
    assert torch.allclose(ours, theirs, atol=1e-13)


def test_a_layer_used_twice_and_logits_without_gradient_are_refused():
    x = faces()
    twice = Residual().double()
    with pytest.raises(ValueError, match="once on the way to the logits, not 2 times"):
        saliency.grad_cam(twice, x, 0, "twice")
    twice.never = nn.Conv2d(6, 6, 3)
    with pytest.raises(ValueError, match=r"'never' must be used once on the way .*, not 0 times"):
        saliency.grad_cam(twice, x, 0, "never")

    class Hard(nn.Module):
        def forward(self, x):
            return (x > 0.5).flatten(1).double()

    for method in (saliency.gradient, saliency.smoothgrad, saliency.guided_backprop):
        with pytest.raises(ValueError, match="no gradient"):
            method(Hard(), x, 0)


BAD = [
    ({"images": torch.zeros(0, 1, SIZE, SIZE)}, "none of them 0"),
    ({"images": torch.zeros(SIZE, SIZE)}, r"\(batch, channels, height, width\)"),
    ({"images": torch.zeros(3, 1, SIZE, SIZE, dtype=torch.uint8)}, "floating-point"),
    ({"images": torch.full((3, 1, SIZE, SIZE), float("nan")).double()}, "finite, got nan at"),
    ({"images": torch.zeros(3, 1, 9, 9).double()}, "refuses images of shape"),
    ({"target": 5}, "target 5 is out of range: the model has classes 0 to 4"),
    ({"target": torch.tensor([0, -1, 2])}, "target -1 is out of range"),
    ({"target": torch.tensor([0, 1])}, r"shape \(3,\), got \(2,\)"),
    ({"target": torch.tensor([0.0, 1, 2])}, "integers"),
    ({"model": nn.Identity()}, r"logits of shape \(batch, classes\), got \(1, 1, 16, 16\)"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[m[:20] for _, m in BAD])
@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_bad_input_gives_one_clear_line(small, method, change, message):
    if method in (saliency.grad_cam, saliency.hires_cam) and "model" in change:
        message = "no Conv2d layer"
    given = {"model": small, "images": faces(), "target": torch.tensor([0, 1, 2]), **change}
    with pytest.raises(ValueError, match=message) as caught:
        method(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: saliency.grad_cam(m, x, 0, "nosuch"), r"no layer 'nosuch' .*have: 0"),
        (lambda m, x: saliency.grad_cam(m, x, 0, "2"), "'2' is BatchNorm2d, not Conv2d"),
        (lambda m, x: saliency.grad_cam(m, x, 0, nn.Conv2d(1, 1, 1)), "no layer Conv2d"),
        (lambda m, x: saliency.occlusion(m, x, 0, size=17), "size 17 does not fit"),
        (lambda m, x: saliency.occlusion(m, x, 0, size=2, stride=3), "stride 3"),
        (lambda m, x: saliency.occlusion(m, x, 0, fill=torch.zeros(2, 2)), "fill of shape"),
        (lambda m, x: saliency.integrated_gradients(m, x, 0, steps=0), "steps must be"),
        (lambda m, x: saliency.integrated_gradients(m, x, 0, baseline=float("nan")), "baseline"),
        (lambda m, x: saliency.smoothgrad(m, x, 0, samples=2.5), "samples must be"),
        (lambda m, x: saliency.smoothgrad(m, x, 0, noise=-1), "noise must be"),
    ],
)
def test_bad_options_give_one_clear_line(small, call, message):
    with pytest.raises(ValueError, match=message):
        call(small, faces())
