"""Attribution maps: equal to captum's, true to their axioms, and gone without a trace."""

import copy
import random
import warnings

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F

from fer_utils import saliency
from fer_utils.inspection import explained
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


class OneConvolution(nn.Module):
    """As captum's tests have it: its maps are flattened by ``view``, a ReLU works in place."""

    size = 6

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)
        self.fc = nn.Linear(32, 5)

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).view(-1, 32))


class PublishedFerCNN(FerCNN):
    """As the report's author wrote it."""

    size = 48

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.view(x.size(0), -1))


def random_network(seed):
    """A small float64 network: kernels, strides, dilations, groups, norms and pools at random."""
    torch.manual_seed(seed)
    if seed % 6 == 5:
        return stirred(Residual()).double()
    pick = random.Random(seed).choice
    layers, channels = [], 1
    for _ in range(pick((1, 2, 3))):
        groups = pick((1, 2)) if channels > 1 else 1
        kernel, dilation = pick(((3, 1), (3, 2), (5, 1), (1, 1)))
        out = pick((4, 6, 8))
        conv = nn.Conv2d(channels, out, kernel, pick((1, 1, 2)), pick((0, 1, kernel // 2)),
                         dilation, groups, bias=pick((True, False)))  # fmt: skip
        activation = pick((nn.LeakyReLU(0.05), nn.ReLU(inplace=True), nn.ELU(), nn.GELU()))
        norm = nn.BatchNorm2d(out)
        order = pick(([activation], [activation, norm], [norm, activation]))
        pool = pick((nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2), nn.AvgPool2d(2)))
        block = [conv, *order, pool]
        try:
            nn.Sequential(*layers, *block).eval()(torch.zeros(1, 1, SIZE, SIZE))
        except RuntimeError:
            break  # the face has shrunk away
        layers, channels = [*layers, *block], out
    head = [nn.Flatten(), nn.LazyLinear(9), nn.ReLU(), nn.Linear(9, 5)]
    model = nn.Sequential(*layers, *head).eval()
    model(torch.zeros(1, 1, SIZE, SIZE))
    return stirred(model).double()


def stirred(model):
    """In eval mode, its batch norms with statistics and weights (of both signs) as if trained."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
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
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(0.05), nn.BatchNorm2d(4)]
    return stirred(
        nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 5))
    ).double()


@pytest.mark.parametrize("make", [*range(12), FerResNet, PublishedFerCNN, OneConvolution])
def test_equals_captum(make, monkeypatch):
    """In float64, to 1e-10 of the largest value: in float32 ties of a max pool fall both ways."""
    attr = pytest.importorskip("captum.attr")
    model = random_network(make) if isinstance(make, int) else stirred(make()).double()
    size = getattr(model, "size", SIZE)
    x, t = faces(4, size), torch.tensor([0, 3, 4, 1])
    layer = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    noise = torch.randn(
        4, 4, 1, size, size, generator=torch.Generator().manual_seed(1), dtype=x.dtype
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
        product = attr.InputXGradient(model).attribute(x, t)
        close(saliency.gradient_times_input(model, x, t), product)
        # captum rounds its quadrature weights to float32, relative error up to 6e-8
        integral = attr.IntegratedGradients(model).attribute(x, 0.2, t, n_steps=7)
        close(saliency.integrated_gradients(model, x, t, 7, 0.2), integral, 1e-7)
        monkeypatch.setattr(torch, "normal", lambda mean, sd: noise.flatten(0, 1) * sd)
        mean = attr.NoiseTunnel(plain).attribute(
            x, nt_type="smoothgrad", nt_samples=4, stdevs=0.125, target=t, abs=False
        )
        close(saliency.smoothgrad(model, x, t, 4, 0.125, torch.Generator().manual_seed(1)), mean)
        # captum divides occlusion's sums in float32: keep its .float() from rounding
        monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
        for wide, stride in ((4, 2), (5, 3)) if size < 48 else ((11, 9),):
            hidden = attr.Occlusion(model).attribute(
                x, (1, wide, wide), (1, stride, stride), 0.3, t
            )
            close(saliency.occlusion(model, x, t, wide, stride, fill=0.3), hidden)
        kinds = {type(module) for module in model.modules()}
        if nn.ReLU in kinds and not kinds & {nn.LeakyReLU, FerResNet}:
            guided = attr.GuidedBackprop(model).attribute(x, t)
            close(saliency.guided_backprop(model, x, t), guided)
        calls.clear()
        model(x)
        if len(calls) == 1:
            cam = attr.LayerGradCam(model, layer).attribute(x, t)
            cam = attr.LayerAttribution.interpolate(cam, (size, size), "bilinear")
            close(saliency.grad_cam(model, x, t, layer), cam)


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


@pytest.mark.parametrize("size, reach", [((33, 40), 12), ((9, 20), 8), ((20, 2), 1)])
def test_a_blur_is_scipys_as_far_as_the_mirrored_border_lets_it_reach(size, reach):
    noise = torch.rand(2, 1, *size, dtype=torch.float64)
    theirs = gaussian_filter(noise.numpy(), 4, mode="mirror", radius=(0, 0, reach, reach))
    assert torch.allclose(saliency.blurred(noise), torch.from_numpy(theirs))


def test_integrated_gradients_are_complete(small):
    x, t = faces(), torch.tensor([0, 3, 4])
    start = saliency.blurred(x)
    maps = saliency.integrated_gradients(small, x, t, steps=400, baseline=start)
    error = saliency.completeness_error(small, x, t, maps, baseline=start)
    gain = (small(x) - small(start)).gather(1, t[:, None])[:, 0]
    assert (error.abs() < 1e-3 * gain.abs().max()).all()
    assert torch.allclose(maps.sum((1, 2, 3)) - gain, error, atol=1e-12)
    maps = saliency.integrated_gradients(small, x, t, steps=400)  # both from 0, mean grey
    assert (saliency.completeness_error(small, x, t, maps).abs() < 1e-3).all()


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
def test_leaves_no_trace_on_the_model_also_when_it_fails_half_way(small, method):
    model, x, t = small.train(), faces(), torch.tensor([0, 3, 4])
    model[5].weight.grad = torch.ones_like(model[5].weight)
    before = [(module, dict(vars(module))) for module in model.modules()]
    weights, kept = copy.deepcopy(model.state_dict()), x.clone()
    method(model, x, t)

    def broken(module, inputs):
        raise RuntimeError("half-way")

    handle = model[5].register_forward_pre_hook(broken)
    with pytest.raises(ValueError, match="half-way"):
        method(model, x, t)
    handle.remove()
    for module, state in before:
        assert vars(module) == state and not module._forward_hooks
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in weights.items())
    assert torch.equal(model[5].weight.grad, torch.ones_like(model[5].weight))
    assert all(weight.requires_grad for weight in model.parameters())
    assert model[0].bias.grad is None and torch.equal(x, kept) and not x.requires_grad


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_mode_batch_and_no_grad_make_no_difference(small, method):
    """A model in train mode is explained in eval mode; a face's map does not know its batch."""
    x, t = faces(3), torch.tensor([0, 3, 4])
    more = {"generator": torch.Generator()} if method is saliency.smoothgrad else {}

    def run(model, x, t):
        if more:
            more["generator"].manual_seed(0)
        return method(model, x, t, **more)

    maps = run(small, x, t)
    assert maps.shape == (3, 1, SIZE, SIZE) and not maps.requires_grad and maps.is_contiguous()
    assert torch.allclose(run(small, x[:1], t[:1]), maps[:1], atol=1e-13)
    with torch.no_grad():
        assert torch.allclose(run(small.train(), x, t), maps, atol=1e-13)
    many = run(small, x.repeat(24, 1, 1, 1)[:70], t.repeat(24)[:70])
    if not more:
        assert torch.allclose(many[66:69], maps, atol=1e-13)


class Dense(nn.Module):
    """The third layer also sees what the first one gave: no chain longer than one."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(n, 3, 3, padding=1) for n in (1, 3, 6))
        self.head = nn.Linear(3, 5)

    def forward(self, x):
        first = self.layers[0](x)
        last = self.layers[2](torch.cat([first, self.layers[1](first)], 1))
        return self.head(last.relu().mean((2, 3)))


def test_the_chain_goes_as_far_as_its_layers_feed_each_other_alone():
    hooked = random_network(0)
    hooked[0].register_forward_hook(lambda module, inputs, output: output.abs())
    boxes = [(..., slice(0, 4), slice(0, 4)), (..., slice(6, 10), slice(5, 9))]
    for make, length in ((FerCNN, 16), (Dense, 1), (Residual, 0), (lambda: hooked, 0)):
        x = faces(1, 48 if length == 16 else SIZE)
        with explained(stirred(make().double())) as net, torch.no_grad():
            chain = saliency._checked_chain(net, x, torch.zeros_like(x), boxes)
            assert len(chain) == length


@pytest.mark.parametrize("seed", [*range(16), "dense"])
def test_the_cone_gives_what_the_whole_network_gives(seed, monkeypatch):
    """Also for windows at the border, and where a stride steps over what was covered."""
    model = stirred(Dense().double()) if seed == "dense" else random_network(seed)
    x = faces(5)
    for size, stride in ((3, 2), (16, 1)):
        quick = saliency.occlusion(model, x, 0, size, stride, fill=0.3)
        with monkeypatch.context() as patch:
            patch.setattr(saliency, "FEW", 6)
            plain = saliency.occlusion(model, x, 0, size, stride, fill=0.3)
        assert torch.allclose(quick, plain, rtol=0, atol=1e-12)


class Aside(Residual):
    """A layer runs, and nothing becomes of its output."""

    def __init__(self):
        super().__init__()
        self.aside = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        self.aside(x)
        return super().forward(x)


class Keyword(nn.Module):
    """Its first layer is given its input by keyword, and works in another precision."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1).double()
        self.head = nn.Linear(3, 5).double()

    def forward(self, x):
        return self.head(self.conv(input=x.double()).relu().mean((2, 3)))


def test_occlusion_also_takes_a_network_that_casts_its_input_and_names_it():
    model, x = Keyword(), faces(5, dtype=torch.float32)
    many, few = saliency.occlusion(model, x, 0), saliency.occlusion(model, x[:3], 0)
    assert torch.allclose(many[:3], few, atol=1e-6)


def test_maps_carry_no_gradient_though_images_and_baseline_do(small):
    x = faces().requires_grad_()
    maps = saliency.integrated_gradients(small, x, 0, baseline=saliency.blurred(x))
    assert not maps.requires_grad


def test_a_layer_used_twice_and_logits_without_gradient_are_refused():
    x = faces()
    twice = Residual().double()
    with pytest.raises(ValueError, match="once on the way to the logits, not 2 times"):
        saliency.grad_cam(twice, x, 0, "twice")
    twice.never = nn.Conv2d(6, 6, 3)
    with pytest.raises(ValueError, match=r"'never' must be used once on the way .*, not 0 times"):
        saliency.grad_cam(twice, x, 0, "never")
    aside = Aside().double()
    with pytest.raises(ValueError, match="no gradient leads from the logits to layer 'aside'"):
        saliency.grad_cam(aside, x, 0, "aside")
    dense = Dense().double()
    dense.aux = nn.Conv2d(6, 6, 3)  # defined last, never called: not the layer by default
    last = saliency.grad_cam(dense, x, 0, dense.layers[2])
    assert torch.equal(saliency.grad_cam(dense, x, 0), last)

    class Hard(nn.Module):
        def forward(self, x):
            return (x > 0.5).flatten(1).double()

    for method in (saliency.gradient, saliency.smoothgrad, saliency.guided_backprop):
        with pytest.raises(ValueError, match="no gradient"):
            method(Hard(), x, 0)


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_each_method_checks_network_images_and_target(small, method):
    with pytest.raises(ValueError, match=r"must be an nn\.Module"):
        method(lambda x: x, faces(), 0)
    with pytest.raises(ValueError, match="floating-point"):
        method(small, torch.zeros(3, 1, SIZE, SIZE, dtype=torch.uint8), 0)
    with pytest.raises(ValueError, match="target 5 is out of range"):
        method(small, faces(), 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: saliency.occlusion(m, x, 0, size=17), "size 17 does not fit"),
        (lambda m, x: saliency.occlusion(m, x, 0, size=2, stride=3), "stride 3"),
        (lambda m, x: saliency.occlusion(m, x, 0, fill=torch.zeros(2, 2)), "fill of shape"),
        (lambda m, x: saliency.integrated_gradients(m, x, 0, steps=0), "steps must be"),
        (lambda m, x: saliency.integrated_gradients(m, x, 0, baseline=float("nan")), "baseline"),
        (lambda m, x: saliency.smoothgrad(m, x, 0, samples=2.5), "samples must be"),
        (lambda m, x: saliency.smoothgrad(m, x, 0, noise=-1), "noise must be"),
        (lambda m, x: saliency.blurred((255 * x).byte()), "floating-point"),
    ],
)
def test_bad_options_give_one_clear_line(small, call, message):
    with pytest.raises(ValueError, match=message):
        call(small, faces())
