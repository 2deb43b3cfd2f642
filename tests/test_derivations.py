"""The mathematics of chapter 6: true against torch, and every check able to fail."""

from __future__ import annotations

import json
import math
import random
import re
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fer_utils import derivations as by_hand
from fer_utils.derivations import (
    cases,
    checks,
    conv_output_size,
    exercise,
    pool_output_size,
    symbolic,
    transposed_output_size,
)
from fer_utils.model import FerCNN, FerResNet

EXACT = checks.EXACT
EPS = cases.EPS


def seeded(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def assert_is_torchs(mine, forward, inputs, dy, bound=EXACT):
    theirs = by_hand.gradients_by_torch(forward, inputs, dy)
    for hand, reference in zip(mine, theirs, strict=True):
        torch.testing.assert_close(hand, reference, rtol=bound, atol=bound)


# ---- output sizes -------------------------------------------------------------------------


def torch_conv(n, kernel, *setting):
    return F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, kernel), None, *setting).shape[2]


def torch_pool(n, *setting):
    return F.max_pool1d(torch.zeros(1, 1, n), *setting).shape[2]


def torch_transposed(n, kernel, stride, padding, output_padding, dilation):
    """torch reckons a size of 0 and, but for some kernels, calls it too small: here it is 0."""
    x, weight = torch.zeros(1, 1, n), torch.zeros(1, 1, kernel)
    try:
        y = F.conv_transpose1d(x, weight, None, stride, padding, output_padding, 1, dilation)
    except RuntimeError as error:
        if "output size per channel: (1 x 0)" in str(error):
            return 0
        raise
    return y.shape[2]


def size_or_refusal(function, setting):
    try:
        return function(*setting)
    except (ValueError, RuntimeError):
        return "refused"


SMALL = range(-1, 4)
SIZES = {
    "conv": (conv_output_size, torch_conv, (range(9), range(5), SMALL, SMALL, SMALL)),
    "pool": (pool_output_size, torch_pool,
             (range(9), range(5), SMALL, SMALL, SMALL, (False, True))),
    "transposed": (transposed_output_size, torch_transposed,
                   (range(6), range(4), SMALL, SMALL, SMALL, SMALL)),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_refusals_are_torchs_on_thousands_of_settings(name):
    mine, torchs, space = SIZES[name]
    for setting in random.Random(0).sample(list(product(*space)), 5000):
        assert size_or_refusal(mine, setting) == size_or_refusal(torchs, setting), setting


def test_each_axis_has_its_own_size_and_a_number_counts_for_all():
    assert conv_output_size((48, 9), (5, 3), (2, 1), 1, (1, 2)) == (23, 7)
    assert transposed_output_size(5, 3) == 7
    # torch gives (8, 0) here, though it calls a size of 0 too small elsewhere
    assert transposed_output_size((3, 1), (4, 5), (4, 2), 3, (2, 1)) == (8, 0)
    with pytest.raises(ValueError, match="one entry an axis"):
        conv_output_size((4, 4), (1, 2, 3))


def test_same_padding_keeps_the_size_at_stride_1_and_valid_pads_nothing():
    assert conv_output_size((48, 9), (5, 4), padding="same", dilation=2) == (48, 9)
    assert conv_output_size(9, 4, padding="valid") == conv_output_size(9, 4)
    with pytest.raises(ValueError, match="stride=2: padding='same'"):
        conv_output_size(9, 4, 2, padding="same")


@pytest.mark.parametrize(
    "size, setting, says",
    [
        (conv_output_size, (4, 5, 1, 0, 2), "kernel=5 with dilation=2 spans 9 .* holds 4"),
        (conv_output_size, (4, 2.5), r"kernel=2.5 must be a whole number, 1 or more"),
        (conv_output_size, ("48", 5), "n='48' must be"),
        (pool_output_size, (20, 5, None, 3), r"more than half of kernel=5: .*; at most 2$"),
        (transposed_output_size, (3, 4, 4, 0, 4), "output_padding=4 must be below stride=4"),
        (transposed_output_size, (1, 4, 2, 3, 1), "padding=3 crops too much: .* would be -1"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(size, setting, says):
    with pytest.raises(ValueError, match=says):
        size(*setting)


# ---- gradient checks: on every layer, and on every planted error ----------------------------

CASES = cases.cases(seed=4)


@pytest.fixture(scope="module")
def rates():
    """Whether each check objects to the gradients of ``CASES``: 0 or 1."""
    return checks.catch_rates([4])


def test_every_check_confirms_every_gradient_and_catches_every_gross_error(rates):
    assert list(rates.columns) == ["gradcheck", "torch", "forward slope", "central slope"]
    assert len(rates) == sum(1 + len(case.wrong) for case in CASES.values()) == 27
    assert (rates.xs("none", level="error") == 0).all(axis=None)
    assert (rates.drop(index=["none", cases.ROUNDED], level="error") == 1).all(axis=None)


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_can_be_differentiated_again(name):
    assert checks.passes_gradcheck(CASES[name], CASES[name].backward, second=True)


def test_an_error_of_1e7_escapes_gradcheck_but_not_torch(rates):
    rounded = rates.xs(cases.ROUNDED, level="error")
    assert (rounded["gradcheck"] == 0).all() and (rounded["torch"] == 1).all()
    for case in CASES.values():
        right, wrong = (
            f(case.dy, *case.inputs) for f in (case.backward, case.wrong[cases.ROUNDED])
        )
        assert 1e-9 < by_hand.relative_error(wrong, right) < 1e-5


def test_catch_rates_are_shares_of_the_seeds():
    rates = checks.catch_rates(range(5), ["forward slope"])["forward slope"]
    assert set(5 * rates) <= set(range(6)) and 0 < rates.mean() < 1


def test_no_check_holds_where_a_gradient_is_not_a_number():
    of = CASES["LeakyReLU"], lambda dy, x: dy * math.nan
    assert not any(check(*of) for check in checks.CHECKS.values())
    nan, one = torch.tensor([math.nan]), torch.ones(1)
    assert not by_hand.relative_error((one, nan), (one, one)) <= 1
    assert not by_hand.relative_error((nan, one), (one, one)) <= 1


def test_the_planted_batch_norm_is_right_where_nothing_is_planted():
    case = CASES["batch norm"]
    x, gamma, _ = case.inputs
    right = by_hand.batchnorm_backward(case.dy, x, gamma, EPS)
    assert by_hand.relative_error(cases.norm_pass(case.dy, x, gamma), right) <= EXACT


def test_a_function_that_saves_x_hat_as_a_constant_fails_gradgradcheck():
    case = CASES["batch norm"]

    def naive(dy, x, g, b):
        return by_hand.batchnorm_backward(dy, x.detach(), g, EPS)

    assert checks.passes_gradcheck(case, naive)
    assert not checks.passes_gradcheck(case, naive, second=True)


@pytest.mark.parametrize("name", ("batch norm", "cross-entropy", "linear", "convolution"))
def test_sympy_proves_the_formula_and_the_code_computes_it(name):
    identity = symbolic.identities()[name]
    assert identity.differing() == 0
    assert identity.code_error() <= EXACT
    # every entry is able to fail
    wrong = identity._replace(formulas=[2 * f for f in identity.formulas])
    assert wrong.differing() == len(identity.formulas)


def test_sympy_covers_all_six_derivatives_of_the_batch_norm():
    assert len(symbolic.batchnorm(m=3).formulas) == 3 + 1 + 1 + 3 + 1 + 1


# ---- each layer against torch ----------------------------------------------------------------

axis = st.tuples(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2), st.integers(1, 4)
)


@settings(max_examples=60)
@given(axis, axis, st.integers(0, 99))
def test_size_and_gradients_of_any_convolution_are_torchs(rows, columns, seed):
    n, kernel, stride, padding, dilation = zip(rows, columns, strict=True)
    draw = seeded(seed)
    inputs = [draw(2, 2, *n), draw(3, 2, *kernel), draw(3)]

    def forward(x, w, c):
        return F.conv2d(x, w, c, stride, padding, dilation)

    small = size_or_refusal(conv_output_size, (n, kernel, stride, padding, dilation))
    if small == "refused":
        with pytest.raises(RuntimeError):
            forward(*inputs)
        return
    dy = draw(2, 3, *small)
    mine = by_hand.conv2d_backward(dy, *inputs[:2], stride, padding, dilation)
    assert_is_torchs(mine, forward, inputs, dy)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_convolution_of_padding_same_goes_back_as_torchs():
    draw = seeded(2)
    inputs, dy = [draw(2, 2, 7, 6), draw(3, 2, 4, 3), draw(3)], draw(2, 3, 7, 6)
    mine = by_hand.conv2d_backward(dy, *inputs[:2], 1, "same", (2, 3))
    assert_is_torchs(mine, lambda x, w, c: F.conv2d(x, w, c, 1, "same", (2, 3)), inputs, dy)


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(1, 4), st.integers(0, 99))
def test_pools_are_torchs_and_give_ties_to_the_same_pixel(kernel, stride, padded, levels, seed):
    setting = (kernel, stride, kernel // 2 if padded else 0)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, levels, (2, 2, 7, 6), generator=generator).double()
    for pool, backward in (
        (F.max_pool2d, by_hand.max_pool_backward),
        (F.avg_pool2d, by_hand.average_pool_backward),
    ):
        dy = seeded(seed)(*pool(x, *setting).shape)
        mine = [backward(dy, x, *setting)]
        assert_is_torchs(mine, lambda x, pool=pool: pool(x, *setting), [x], dy)


@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_at_zero_leaky_relu_takes_the_left_slope_as_torch(slope):
    x, dy = torch.tensor([-1.0, -0.0, 0.0, 2.0]), torch.ones(4)
    mine = by_hand.leaky_relu_backward(dy, x, slope)
    assert_is_torchs([mine], lambda x: F.leaky_relu(x, slope), [x], dy)
    assert mine[2] == slope


@settings(max_examples=40)
@given(
    st.integers(2, 6), st.integers(1, 4), st.sampled_from([(), (3,), (2, 3)]),
    st.sampled_from([1e-5, 1e-2, 1.0]), st.integers(0, 99),
)  # fmt: skip
def test_batch_norms_gradients_are_torchs_for_vectors_and_images(b, channels, size, eps, seed):
    draw = seeded(seed)
    x, gamma, beta = draw(b, channels, *size), draw(channels), draw(channels)
    dy = draw(*x.shape)
    mine = by_hand.batchnorm_backward(dy, x, gamma, eps)
    # two nearly equal values divide by √ε, at most 316: as many digits go to rounding
    assert_is_torchs(
        mine,
        lambda x, g, b: F.batch_norm(x, None, None, g, b, True, 0.0, eps),
        [x, gamma, beta], dy, bound=1e-9,
    )  # fmt: skip


@settings(max_examples=40)
@given(
    st.integers(1, 4), st.integers(1, 8), st.booleans(), st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 99),
)  # fmt: skip
def test_cross_entropy_and_its_gradient_are_torchs(b, k, soft, smoothing, temperature, seed):
    draw, generator = seeded(seed), torch.Generator().manual_seed(seed)
    z = 5 * draw(b, k)
    y = draw(b, k).softmax(1) if soft else torch.randint(0, k, (b,), generator=generator)

    def loss(z):
        return F.cross_entropy(z / temperature, y, reduction="none", label_smoothing=smoothing)

    options = {"label_smoothing": smoothing, "temperature": temperature}
    mine = by_hand.softmax_cross_entropy_grad(z, y, **options)
    assert_is_torchs([mine], loss, [z], torch.ones(b).double())
    value = by_hand.softmax_cross_entropy(z, y, **options)
    torch.testing.assert_close(value, loss(z), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize(
    "backward, shapes, setting",
    [
        (by_hand.leaky_relu_backward, [(3,), (4,)], 0.1),
        (by_hand.silu_backward, [(3,), (4,)], None),
        (by_hand.max_pool_backward, [(1, 1, 3, 3), (1, 1, 4, 4)], 2),
        (by_hand.average_pool_backward, [(1, 1, 3, 3), (1, 1, 4, 4)], 2),
        (by_hand.linear_backward, [(2, 3), (2, 4), (3, 5)], None),
        (by_hand.linear_backward, [(2, 2), (2, 4), (3, 4)], None),
        (by_hand.conv2d_backward, [(1, 1, 3, 3), (1, 1, 4, 4), (1, 1, 3, 3)], 1),
        (by_hand.conv2d_backward, [(1, 1, 2, 2), (1, 2, 4, 4), (1, 1, 3, 3)], 1),
        (by_hand.batchnorm_backward, [(4, 2), (4, 3), (3,)], 0.1),
        (by_hand.batchnorm_backward, [(4, 3), (4, 3), (4,)], 0.1),
        (by_hand.batchnorm_backward, [(1, 3), (1, 3), (3,)], 0.1),  # one value a channel
        (by_hand.relative_error, [(3, 1), (3,)], None),
    ],
)
def test_shapes_that_dont_match_are_refused(backward, shapes, setting):
    more = [] if setting is None else [setting]
    with pytest.raises(ValueError, match=r"\("):
        backward(*map(torch.ones, shapes), *more)


# ---- batch norm --------------------------------------------------------------------------


def test_the_six_steps_are_what_autograd_finds_at_each_node():
    draw = seeded(7)
    x, gamma, beta, dy = draw(4, 3, 2, 2), draw(3), draw(3), draw(4, 3, 2, 2)
    nodes = {"x": x, "gamma": gamma, "beta": beta}
    for leaf in nodes.values():
        leaf.requires_grad_()
    nodes["mean"] = x.mean((0, 2, 3), keepdim=True)
    nodes["var"] = ((x - nodes["mean"]) ** 2).mean((0, 2, 3), keepdim=True)
    nodes["x_hat"] = (x - nodes["mean"]) / (nodes["var"] + EPS).sqrt()
    y = gamma.view(1, 3, 1, 1) * nodes["x_hat"] + beta.view(1, 3, 1, 1)
    torchs = dict(zip(nodes, torch.autograd.grad(y, nodes.values(), dy), strict=True))
    steps = by_hand.batchnorm_steps(dy, x.detach(), gamma.detach(), EPS)
    assert set(steps) == set(torchs)
    for name, gradient in steps.items():
        assert by_hand.relative_error(gradient, torchs[name].view_as(gradient)) <= EXACT, name


def test_the_jacobian_stops_the_mean_and_nearly_stops_x_hat():
    m, gamma, eps = 17, 1.7, 0.1
    x = seeded(0)(m)
    jacobian = by_hand.batchnorm_jacobian(x, gamma, eps)
    numeric = torch.autograd.functional.jacobian(
        lambda x: gamma * F.batch_norm(x[:, None], None, None, training=True, eps=eps)[:, 0], x
    )
    torch.testing.assert_close(jacobian, numeric, rtol=EXACT, atol=EXACT)
    std = (x.var(correction=0) + eps).sqrt()
    x_hat = (x - x.mean()) / std
    assert (jacobian @ torch.ones(m).double()).abs().max() <= EXACT
    torch.testing.assert_close(jacobian @ x_hat, gamma * eps / std**3 * x_hat)
    expected = torch.full((m,), float(gamma / std)).double()
    expected[:2] = torch.stack([0 * std, gamma * eps / std**3])
    torch.testing.assert_close(torch.linalg.eigvalsh(jacobian), expected)


def test_a_constant_channel_has_a_gradient_only_with_eps():
    x, dy, gamma = torch.ones(4, 2).double(), seeded(0)(4, 2), torch.ones(2).double()
    x[:, 0] = torch.arange(4)
    dx, _, _ = by_hand.batchnorm_backward(dy, x, gamma, 1e-4)
    torch.testing.assert_close(dx[:, 1], 100 * (dy[:, 1] - dy[:, 1].mean()))  # 1/√ε = 100
    with pytest.raises(ValueError, match=r"channels \[1\] of x are constant and eps=0"):
        by_hand.batchnorm_backward(dy, x, gamma, 0.0)


# ---- softmax with cross-entropy --------------------------------------------------------------


def test_huge_logits_neither_overflow_nor_vanish():
    z = torch.tensor([[1e4, -1e4, 0.0]])
    torch.testing.assert_close(
        by_hand.softmax_cross_entropy(z, torch.tensor([1])), torch.tensor([2e4])
    )
    grad = by_hand.softmax_cross_entropy_grad(z, torch.tensor([1]))
    assert grad.tolist() == [[1, -1, 0]]


def test_the_hessian_is_autograds_and_never_negative():
    z, y = seeded(3)(3, 7), torch.tensor([0, 3, 6])
    hessian = by_hand.softmax_cross_entropy_hessian(z, 3.0)
    for row in range(3):
        torchs = torch.autograd.functional.hessian(
            lambda z, r=row: F.cross_entropy(z / 3, y[r]), z[row]
        )
        torch.testing.assert_close(hessian[row], torchs, rtol=EXACT, atol=EXACT)
    assert torch.linalg.eigvalsh(hessian).min() >= -EXACT


@pytest.mark.parametrize(
    "targets, says",
    [
        (torch.tensor([1]), r"fit neither class indices \(2,\)"),
        (torch.tensor([1, 7]), "must lie in 0…6"),
        (torch.tensor([1, -100]), "must lie in 0…6"),
        (torch.zeros(2, 6), "nor distributions"),
        (torch.zeros(2, 7, dtype=torch.long), "in floating point"),
    ],
)
def test_cross_entropy_refuses_targets_that_dont_fit(targets, says):
    with pytest.raises(ValueError, match=says):
        by_hand.softmax_cross_entropy_grad(torch.zeros(2, 7), targets)


# ---- the whole network -----------------------------------------------------------------------


def assert_is_autograds(model, b, size):
    """By hand and by autograd, parameter by parameter; the model is left as it was found."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(b, 1, size, size, generator=generator, dtype=torch.float64)
    targets = torch.arange(b) % 7
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, dimages, gradients = by_hand.network_backward(model, images, targets)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(g.requires_grad for g in (loss, dimages, *gradients.values()))

    images = images.clone().requires_grad_()
    reference = F.cross_entropy(model(images), targets)
    reference.backward()
    torch.testing.assert_close(loss, reference.detach(), rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(dimages, images.grad, rtol=EXACT, atol=EXACT)
    assert list(gradients) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() <= EXACT, name


@pytest.mark.parametrize("training", [True, False])
def test_the_whole_network_by_hand_is_autograd_parameter_by_parameter(training):
    assert_is_autograds(FerCNN().double().train(training), 6, 48)


class Flattening(nn.Module):
    """Flattens by ``view`` and uses one activation in two places, as students' networks do."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.pool, self.fc1 = nn.MaxPool2d(2), nn.Linear(64, 9)
        self.fc2 = nn.Linear(9, 7, bias=False)

    def forward(self, x):
        x = self.pool(self.act(self.conv(x)))
        return self.fc2(self.act(self.fc1(x.view(x.size(0), -1))))


def test_a_network_that_flattens_by_view_and_uses_a_layer_twice_is_followed():
    assert_is_autograds(Flattening().double().train(), 4, 8)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_students_chain_is_followed_in_eval_mode():
    student = nn.Sequential(
        nn.Conv2d(1, 4, (4, 3), padding="same"), nn.BatchNorm2d(4), nn.SiLU(inplace=True),
        nn.AvgPool2d(2), nn.Dropout2d(0.3), nn.Conv2d(4, 5, 3, stride=2, bias=False),
        nn.BatchNorm2d(5, affine=False), nn.LeakyReLU(0.1), nn.MaxPool2d(3, 1, 1), nn.Identity(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 6), nn.ReLU(), nn.Dropout(),
        nn.Linear(6, 7),
    )  # fmt: skip
    assert_is_autograds(student.double().eval(), 4, 12)


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(1, 1, 3, 1, 1), nn.ReLU(), nn.Linear(64, 7)

    def forward(self, x):
        return self.fc(self.act(self.conv(x) + x).flatten(1))


class Functional(nn.Module):
    def __init__(self, after, **parameters):
        super().__init__()
        self.fc, self.after = nn.Linear(64, 7), after
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)

    def forward(self, x):
        return self.after(self.fc(x.flatten(1)))


class Keyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 7)

    def forward(self, x):
        return self.fc(input=x.flatten(1))


class Standardised(nn.Conv2d):
    """A class of one's own: what it computes is not what its parent does."""

    def forward(self, x):
        return super().forward(x) / self.weight.std()


LEFT_OUT = {  # what is left out -> (network for 8 × 8 images, what is said)
    "a skip": (Skip(), r"layer 'act' is not fed by layer 'conv', called before it"),
    "a function at the end": (
        Functional(lambda z: F.log_softmax(z, 1)), "the network's answer is not fed by layer 'fc'"
    ),
    "in place": (Functional(lambda z: z.mul_(2)), "the network's answer is not fed by layer 'fc'"),
    "a parameter of no layer": (
        Functional(lambda z: z, scale=nn.Parameter(torch.ones(()))),
        "no layer of the chain holds 'scale'",
    ),
    "dropout that draws": (nn.Sequential(nn.Dropout(), nn.Flatten()), "layer '0': Dropout"),
    "groups": (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 8, groups=2), nn.Flatten()),
               r"layer '1': Conv2d\(2, 2, .*groups=2"),
    "one's own class": (nn.Sequential(Standardised(1, 2, 8), nn.Flatten()),
                        "layer '0': Standardised"),
    "reflections": (
        nn.Sequential(nn.Conv2d(1, 2, 8, 9, 1, padding_mode="reflect"), nn.Flatten()),
        "layer '0': Conv2d",
    ),
    "ceil_mode": (nn.Sequential(nn.MaxPool2d(8, ceil_mode=True), nn.Flatten()), "layer '0': MaxP"),
    "windows of unequal size": (nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten()), "Adaptive"),
    "a tuple": (nn.Sequential(nn.Flatten(2), nn.LSTM(64, 7)), "layer '1' returns no batch"),
    "no batch": (nn.Sequential(nn.Flatten(0)), "layer '0' returns no batch"),
    "two answers": (Functional(lambda z: (z, z)), "the network's answer is not fed by layer 'fc'"),
    "a keyword": (Keyword(), "layer 'fc' is given no tensor"),
    "GELU": (nn.Sequential(nn.Flatten(), nn.GELU()), "layer '1': GELU"),
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_the_backward_pass_leaves_out_is_said_in_one_line(what):
    network, says = LEFT_OUT[what]
    images, targets = torch.rand(2, 1, 8, 8), torch.tensor([0, 0])
    with pytest.raises(ValueError, match=f"no backward pass .*{says}") as refusal:
        by_hand.network_backward(network.train(), images, targets)
    assert "\n" not in str(refusal.value)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_unfit_images_are_named():
    images, targets = torch.rand(2, 1, 40, 48), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"refuses images \(2, 1, 40, 48\): mat1 and mat2"):
        by_hand.network_backward(FerCNN().eval(), images, targets)
    with pytest.raises(ValueError, match="NaN or infinity"):
        by_hand.network_backward(FerCNN().eval(), images * math.nan, targets)


# ---- the exercise ----------------------------------------------------------------------------


def by_autograd(name, g, x, gamma, eps):
    """∂ℓ/∂node of one channel, for ℓ = Σ g y."""
    node = {"x": x.clone().requires_grad_()}
    node["mean"] = node["x"].mean()
    node["var"] = ((node["x"] - node["mean"]) ** 2).mean()
    node["x_hat"] = (node["x"] - node["mean"]) / (node["var"] + eps).sqrt()
    node["gamma"] = torch.tensor(gamma, dtype=x.dtype, requires_grad=True)
    node["beta"] = torch.zeros((), dtype=x.dtype, requires_grad=True)
    y = node["gamma"] * node["x_hat"] + node["beta"]
    return torch.autograd.grad(y, node[name], g)[0]


READERS = {name: partial(by_autograd, name) for name in exercise.NODES}


def test_the_checker_confirms_a_readers_six():
    assert exercise.check_six(READERS) == dict.fromkeys(exercise.NODES, "right")


def test_the_checker_takes_plain_numbers_and_lists_in_full_precision():
    def plain(name):
        return lambda *of: READERS[name](*of).tolist()

    verdicts = exercise.check_six({name: plain(name) for name in exercise.NODES})
    assert verdicts == dict.fromkeys(exercise.NODES, "right")


@pytest.mark.parametrize(
    "name, answer, says",
    [
        ("beta", lambda g, x, gamma, eps: -g.sum(), "wrong by the factor -1"),
        ("beta", lambda g, x, gamma, eps: g.mean(), "wrong at 5 of 5 points"),
        ("beta", lambda g, x, gamma, eps: g, r"wrong shape: (2,), expected ()"),
        ("x", lambda g, x, gamma, eps: 1 / 0, "fails: ZeroDivisionError: division by zero"),
        ("x", lambda g, x, gamma, eps: g * math.nan, "wrong at 5 of 5 points"),
        ("mean", lambda g, x, gamma, eps: (len(x) > 2) * by_autograd("mean", g, x, gamma, eps),
         "wrong at 1 of 5 points"),
    ],
)  # fmt: skip
def test_the_checker_says_what_is_wrong_with_the_one_that_is(name, answer, says):
    verdicts = exercise.check_six(READERS | {name: answer})
    assert verdicts.pop(name) == says
    assert set(verdicts.values()) == {"right"}


def test_the_checker_knows_what_was_not_given_and_refuses_what_is_no_derivative():
    verdicts = exercise.check_six({"beta": READERS["beta"]})
    assert verdicts["beta"] == "right" and verdicts["x"] == "not given"
    with pytest.raises(ValueError, match="no derivative is called 'sigma': name them x_hat"):
        exercise.check_six({"sigma": READERS["var"]})


# ---- the chapter -----------------------------------------------------------------------------


CHAPTER = "06_mathematics"


@pytest.fixture
def one_seed(monkeypatch):
    monkeypatch.setattr(by_hand, "catch_rates", lambda _, names: checks.catch_rates([0], names))


@pytest.mark.slow
def test_the_chapters_answer_turns_when_the_code_is_wrong(monkeypatch, one_seed, answer_with):
    norm, entropy = by_hand.batchnorm_backward, by_hand.softmax_cross_entropy_grad

    def wrong_norm(dy, x, gamma, eps):
        dx, dgamma, dbeta = norm(dy, x, gamma, eps)
        return -dx, dgamma, dbeta

    monkeypatch.setattr(by_hand, "batchnorm_backward", wrong_norm)
    monkeypatch.setattr(by_hand.network, "batchnorm_backward", wrong_norm)
    monkeypatch.setattr(by_hand, "softmax_cross_entropy_grad", lambda *a: -entropy(*a))

    def wrong_size(n, *setting, **named):
        size = conv_output_size(n, *setting, **named)
        return size + 1 if (n, *setting) == (9, 2, 2, 0, 1) else size

    monkeypatch.setattr(by_hand, "conv_output_size", wrong_size)
    answer = answer_with(CHAPTER, FerCNN().eval())
    assert "six derivatives **not confirmed**" in answer
    assert "gradient ŷ − y **not confirmed**" in answer
    assert "size formula **not confirmed**" in answer
    equal, parameters = re.search(r"\*\*(\d+) of (\d+)\*\* parameter tensors", answer).groups()
    assert int(equal) < int(parameters) == 26
    assert "fails first at size: windows counted" in answer


@pytest.mark.slow
def test_the_chapter_says_that_a_network_that_is_no_chain_is_left_out(one_seed, answer_with):
    answer = answer_with(CHAPTER, FerResNet().eval())
    assert "six derivatives **correct**" in answer
    assert "no chain of known layers, so its own backward pass is left out" in answer
    assert "holds, but for the floor" in answer


def test_the_chapters_stored_answer_confirms_the_derivations():
    cells = json.loads((ROOT / "notebooks" / f"{CHAPTER}.ipynb").read_text("utf-8"))["cells"]
    (answer,) = (c for c in cells if "answer" in c["metadata"].get("tags", ()))
    text = " ".join("".join(answer["outputs"][0]["data"]["text/markdown"]).split())
    assert "six derivatives **correct**, the gradient ŷ − y **correct**" in text
    assert "**26 of 26** parameter tensors" in text
