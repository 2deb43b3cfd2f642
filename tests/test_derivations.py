"""The mathematics of chapter 6: true against torch, and every check able to fail."""

from __future__ import annotations

import json
import math
import random
import re
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

EXACT = 1e-12  # float64 keeps 16 digits; the sums here lose two or three of them
EPS = cases.EPS


def seeded(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


# ---- output sizes -------------------------------------------------------------------------


def torch_conv(n, kernel, stride, padding, dilation):
    x, weight = torch.zeros(1, 1, n), torch.zeros(1, 1, kernel)
    return F.conv1d(x, weight, None, stride, padding, dilation).shape[2]


def torch_pool(n, kernel, stride, padding, dilation, ceil_mode):
    return F.max_pool1d(torch.zeros(1, 1, n), kernel, stride, padding, dilation, ceil_mode).shape[2]


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
CONV = list(product(range(9), range(5), SMALL, SMALL, SMALL))
POOL = list(product(range(9), range(5), SMALL, SMALL, SMALL, (False, True)))
TRANSPOSED = list(product(range(6), range(4), SMALL, SMALL, SMALL, SMALL))


@pytest.mark.parametrize(
    "mine, torchs, space",
    [
        (conv_output_size, torch_conv, CONV),
        (pool_output_size, torch_pool, POOL),
        (transposed_output_size, torch_transposed, TRANSPOSED),
    ],
    ids=["conv", "pool", "transposed"],
)
def test_sizes_and_refusals_are_torchs_on_thousands_of_settings(mine, torchs, space):
    for setting in random.Random(0).sample(space, 1500):
        assert size_or_refusal(mine, setting) == size_or_refusal(torchs, setting), setting


axis = st.tuples(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 9), st.integers(1, 4)
)


@settings(max_examples=40)
@given(axis, axis)
def test_each_axis_of_a_convolution_has_its_own_size(rows, columns):
    n, kernel, stride, padding, dilation = zip(rows, columns, strict=True)
    x, weight = torch.zeros(1, 1, *n), torch.zeros(1, 1, *kernel)

    def torchs():
        return tuple(F.conv2d(x, weight, None, stride, padding, dilation).shape[2:])

    mine = size_or_refusal(conv_output_size, (n, kernel, stride, padding, dilation))
    assert mine == size_or_refusal(torchs, ())


def test_padding_that_is_too_large_is_refused_with_what_is_wrong():
    with pytest.raises(ValueError, match=r"more than half of kernel=5: .*; at most 2$"):
        pool_output_size(20, 5, padding=3)
    with pytest.raises(ValueError, match=r"padding=3 crops too much: .* would be -1"):
        transposed_output_size((3, 1), (4, 4), (4, 2), 3, (2, 1))


def test_same_padding_keeps_the_size_at_stride_1_and_valid_pads_nothing():
    assert conv_output_size((48, 9), (5, 4), padding="same", dilation=2) == (48, 9)
    assert conv_output_size(9, 4, padding="valid") == conv_output_size(9, 4)
    with pytest.raises(ValueError, match="stride=2: padding='same'"):
        conv_output_size(9, 4, 2, padding="same")


@pytest.mark.parametrize(
    "setting, says",
    [
        ({"n": 4, "kernel": 5, "dilation": 2}, "kernel=5 with dilation=2 spans 9 .* padding >= 3"),
        ({"n": 4, "kernel": 0}, "kernel=0 must be at least 1"),
        ({"n": 0, "kernel": 1, "padding": 3}, "n=0 must be at least 1"),
        ({"n": 4, "kernel": 2, "stride": 0}, "stride=0"),
        ({"n": 4, "kernel": 2, "padding": -1}, "padding=-1"),
        ({"n": 4, "kernel": 2.5}, "kernel=2.5 must be an integer"),
        ({"n": "48", "kernel": 5}, "n='48' must be an integer"),
        ({"n": (4, 4), "kernel": (1, 2, 3)}, "n has 2 entries, other settings 3"),
    ],
)
def test_an_impossible_convolution_is_refused_by_name(setting, says):
    with pytest.raises(ValueError, match=says):
        conv_output_size(**setting)


# ---- gradient checks: on every layer, and on every planted error ----------------------------

CASES = cases.cases(seed=4)
GROSS = [(n, w) for n, case in CASES.items() for w in case.wrong if w != cases.ROUNDED]


@pytest.mark.parametrize("name", CASES)
def test_every_check_confirms_the_gradient_of(name):
    results = checks.run_checks(CASES[name])
    assert all(held for _, held in results.values()), results
    assert checks.passes_gradcheck(CASES[name], CASES[name].backward, second=True)


@pytest.mark.parametrize("name, what", GROSS, ids=": ".join)
def test_every_check_catches(name, what):
    results = checks.run_checks(CASES[name], CASES[name].wrong[what])
    assert not any(held for _, held in results.values()), results


@pytest.mark.parametrize("name", CASES)
def test_an_error_of_1e7_escapes_gradcheck_but_not_torch(name):
    results = checks.run_checks(CASES[name], CASES[name].wrong[cases.ROUNDED])
    assert results["gradcheck"][1]
    assert not results["torch"][1]
    assert 1e-9 < results["torch"][0] < 1e-5


def test_catch_rates_are_shares_of_the_seeds_for_each_layer_and_error():
    rates = checks.catch_rates(range(5), ["torch", "forward slope"])
    assert len(rates) == sum(1 + len(case.wrong) for case in CASES.values())
    gross = rates.drop(index=["none", cases.ROUNDED], level="error")
    assert (gross == 1).all(axis=None)
    assert (rates.xs("none", level="error")["torch"] == 0).all()
    assert rates.xs(cases.ROUNDED, level="error")["forward slope"].max() <= 0.2


def test_a_check_holds_no_gradient_that_is_not_a_number():
    results = checks.run_checks(CASES["LeakyReLU"], lambda dy, x: dy * math.nan)
    assert not any(held for _, held in results.values()), results


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


# ---- properties against torch --------------------------------------------------------------


@settings(max_examples=40)
@given(axis, axis, st.integers(0, 99))
def test_both_gradients_of_any_convolution_are_torchs(rows, columns, seed):
    n, kernel, stride, padding, dilation = zip(rows, columns, strict=True)
    n = [size % 12 + 1 for size in n]
    kernel, padding, draw = [k % 4 + 1 for k in kernel], [p % 3 for p in padding], seeded(seed)
    try:
        small = conv_output_size(tuple(n), tuple(kernel), stride, tuple(padding), dilation)
    except ValueError:
        return
    x, weight, dy = draw(2, 2, *n), draw(3, 2, *kernel), draw(2, 3, *small)
    torchs = by_hand.gradients_by_torch(
        lambda x, w: F.conv2d(x, w, None, stride, padding, dilation), [x, weight], dy
    )
    mine = by_hand.conv2d_backward(dy, x, weight, stride, tuple(padding), dilation)
    for hand, reference in zip(mine[:2], torchs, strict=True):
        torch.testing.assert_close(hand, reference, rtol=EXACT, atol=EXACT)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_convolution_of_padding_same_goes_back_as_torchs():
    draw = seeded(2)
    inputs, dy = [draw(2, 2, 7, 6), draw(3, 2, 4, 3), draw(3)], draw(2, 3, 7, 6)
    torchs = by_hand.gradients_by_torch(
        lambda x, w, c: F.conv2d(x, w, c, 1, "same", (2, 3)), inputs, dy
    )
    mine = by_hand.conv2d_backward(dy, *inputs[:2], 1, "same", (2, 3))
    assert by_hand.relative_error(mine, torchs) <= EXACT


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_average_pools_gradient_is_torchs(kernel, stride, padded, seed):
    padding, draw = kernel // 2 if padded else 0, seeded(seed)
    x = draw(2, 3, 7, 6)
    dy = draw(*F.avg_pool2d(x, kernel, stride, padding).shape)
    torchs = by_hand.gradients_by_torch(lambda x: F.avg_pool2d(x, kernel, stride, padding), [x], dy)
    mine = by_hand.average_pool_backward(dy, x, kernel, stride, padding)
    assert by_hand.relative_error(mine, torchs) <= EXACT


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(1, 4), st.integers(0, 99))
def test_max_pool_gives_ties_to_the_same_pixel_as_torch(kernel, stride, padded, levels, seed):
    padding = kernel // 2 if padded else 0
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, levels, (2, 2, 7, 6), generator=generator).double()
    dy = seeded(seed)(*F.max_pool2d(x, kernel, stride, padding).shape)
    (torchs,) = by_hand.gradients_by_torch(
        lambda x: F.max_pool2d(x, kernel, stride, padding), [x], dy
    )
    mine = by_hand.max_pool_backward(dy, x, kernel, stride, padding)
    torch.testing.assert_close(mine, torchs, rtol=0, atol=EXACT)


@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_at_zero_leaky_relu_takes_the_left_slope_as_torch(slope):
    x, dy = torch.tensor([-1.0, -0.0, 0.0, 2.0]), torch.ones(4)
    (torchs,) = by_hand.gradients_by_torch(lambda x: F.leaky_relu(x, slope), [x], dy)
    mine = by_hand.leaky_relu_backward(dy, x, slope)
    assert torch.equal(mine, torchs)
    assert mine[2] == slope


@settings(max_examples=40)
@given(
    st.integers(2, 6), st.integers(1, 4), st.sampled_from([(), (3,), (2, 3)]),
    st.sampled_from([1e-5, 1e-2, 1.0]), st.integers(0, 99),
)  # fmt: skip
def test_batch_norms_gradients_are_torchs_for_vectors_and_images(b, channels, size, eps, seed):
    draw = seeded(seed)
    x, gamma, beta, dy = draw(b, channels, *size), draw(channels), draw(channels), None
    dy = draw(*x.shape)
    torchs = by_hand.gradients_by_torch(
        lambda x, g, b: F.batch_norm(x, None, None, g, b, True, 0.0, eps), [x, gamma, beta], dy
    )
    mine = by_hand.batchnorm_backward(dy, x, gamma, eps)
    # two nearly equal values divide by √ε, at most 316: as many digits go to rounding
    for hand, reference in zip(mine, torchs, strict=True):
        torch.testing.assert_close(hand, reference, rtol=1e-9, atol=1e-11)


@settings(max_examples=40)
@given(
    st.integers(1, 4), st.integers(1, 8), st.booleans(), st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 99),
)  # fmt: skip
def test_cross_entropys_gradient_is_torchs(b, k, soft, smoothing, temperature, seed):
    draw, generator = seeded(seed), torch.Generator().manual_seed(seed)
    z = 5 * draw(b, k)
    y = draw(b, k).softmax(1) if soft else torch.randint(0, k, (b,), generator=generator)

    def loss(z):
        return F.cross_entropy(z / temperature, y, reduction="none", label_smoothing=smoothing)

    options = {"label_smoothing": smoothing, "temperature": temperature}
    (torchs,) = by_hand.gradients_by_torch(loss, [z], torch.ones(b).double())
    mine = by_hand.softmax_cross_entropy_grad(z, y, **options)
    torch.testing.assert_close(mine, torchs, rtol=EXACT, atol=EXACT)
    value = by_hand.softmax_cross_entropy(z, y, **options)
    torch.testing.assert_close(value, loss(z), rtol=EXACT, atol=EXACT)


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
    one = torch.ones(1).double()
    numeric = torch.autograd.functional.jacobian(
        lambda x: by_hand.batchnorm(x[:, None], gamma * one, one, eps)[:, 0], x
    )
    torch.testing.assert_close(jacobian, numeric, rtol=EXACT, atol=EXACT)
    std = (x.var(correction=0) + eps).sqrt()
    x_hat = (x - x.mean()) / std
    torch.testing.assert_close(jacobian, jacobian.T, rtol=0, atol=0)
    assert (jacobian @ torch.ones(m).double()).abs().max() <= EXACT
    torch.testing.assert_close(jacobian @ x_hat, gamma * eps / std**3 * x_hat)
    expected = torch.full((m,), float(gamma / std)).double()
    expected[:2] = torch.stack([0 * std, gamma * eps / std**3])
    torch.testing.assert_close(torch.linalg.eigvalsh(jacobian), expected)


def test_in_eval_mode_batch_norm_passes_everything_back():
    draw = seeded(9)
    x, gamma, beta, dy = draw(3, 2, 2, 2), draw(2), draw(2), draw(3, 2, 2, 2)
    mean, var = draw(2), draw(2).abs()
    torchs = by_hand.gradients_by_torch(
        lambda x, g, b: F.batch_norm(x, mean, var, g, b, False, 0.0, EPS), [x, gamma, beta], dy
    )
    mine = by_hand.batchnorm_eval_backward(dy, x, gamma, mean, var, EPS)
    assert by_hand.relative_error(mine, torchs) <= EXACT


def test_a_constant_channel_has_a_gradient_only_with_eps():
    x, dy, gamma = torch.ones(4, 2).double(), seeded(0)(4, 2), torch.ones(2).double()
    x[:, 0] = torch.arange(4)
    dx, _, _ = by_hand.batchnorm_backward(dy, x, gamma, 1e-4)
    torch.testing.assert_close(dx[:, 1], 100 * (dy[:, 1] - dy[:, 1].mean()))  # 1/√ε = 100
    with pytest.raises(ValueError, match=r"channels \[1\] of x are constant and eps=0"):
        by_hand.batchnorm_backward(dy, x, gamma, 0.0)


@pytest.mark.parametrize(
    "dy, x, gamma, eps, says",
    [
        ((1, 3), (1, 3), (3,), 0.1, "one value a channel"),
        ((4, 2), (4, 3), (3,), 0.1, r"dy is \(4, 2\), x is \(4, 3\)"),
        ((4, 3), (4, 3), (4,), 0.1, r"gamma is \(4,\), must be \(3,\)"),
        ((4,), (4,), (4,), 0.1, "x must be"),
        ((0, 3), (0, 3), (3,), 0.1, "not empty"),
        ((4, 3), (4, 3), (3,), -0.1, "eps=-0.1 must not be negative"),
    ],
)
def test_batch_norm_refuses(dy, x, gamma, eps, says):
    draw = seeded(0)
    with pytest.raises(ValueError, match=says):
        by_hand.batchnorm_backward(draw(*dy), draw(*x), draw(*gamma), eps)


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
    "logits, targets, says",
    [
        (torch.zeros(7), torch.tensor([1]), "logits must be"),
        (torch.zeros(2, 7), torch.tensor([1]), r"fit neither class indices \(2,\)"),
        (torch.zeros(2, 7), torch.tensor([1, 7]), "must lie in 0…6"),
        (torch.zeros(2, 7), torch.tensor([1, -100]), "must lie in 0…6"),
        (torch.zeros(2, 7), torch.zeros(2, 6), "nor distributions"),
        (torch.zeros(2, 7), torch.zeros(2, 7, dtype=torch.long), "in floating point"),
    ],
)
def test_cross_entropy_refuses(logits, targets, says):
    with pytest.raises(ValueError, match=says):
        by_hand.softmax_cross_entropy_grad(logits, targets)


@pytest.mark.parametrize(
    "call",
    [
        lambda: by_hand.leaky_relu_backward(torch.ones(3), torch.ones(4), 0.1),
        lambda: by_hand.max_pool_backward(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 4, 4), 2),
        lambda: by_hand.max_pool_backward(torch.ones(1, 1, 3), torch.ones(1, 1, 4), 2),
        lambda: by_hand.average_pool_backward(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 4, 4), 2),
        lambda: by_hand.silu_backward(torch.ones(3), torch.ones(4)),
        lambda: by_hand.linear_backward(torch.ones(2, 3), torch.ones(2, 4), torch.ones(3, 5)),
        lambda: by_hand.linear_backward(torch.ones(2, 2), torch.ones(2, 4), torch.ones(3, 4)),
        lambda: by_hand.conv2d_backward(
            torch.ones(1, 1, 3, 3), torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)
        ),
        lambda: by_hand.conv2d_backward(
            torch.ones(1, 1, 2, 2), torch.ones(1, 2, 4, 4), torch.ones(1, 1, 3, 3)
        ),
        lambda: by_hand.relative_error(torch.ones(3, 1), torch.ones(3)),
    ],
)
def test_shapes_that_dont_match_are_refused(call):
    with pytest.raises(ValueError, match=r"\("):
        call()


def test_an_error_that_is_not_a_number_passes_no_bound():
    nan, one = torch.tensor([math.nan]), torch.ones(1)
    assert not by_hand.relative_error((one, nan), (one, one)) <= 1
    assert not by_hand.relative_error((nan, one), (one, one)) <= 1


# ---- the whole network -----------------------------------------------------------------------


def assert_is_autograds(model, images, targets):
    """By hand and by autograd, parameter by parameter; the model is left as it was found."""
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


def batch(b=6, size=48):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(b, 1, size, size, generator=generator, dtype=torch.float64)
    return images, torch.arange(b) % 7


@pytest.mark.parametrize("training", [True, False])
def test_the_whole_network_by_hand_is_autograd_parameter_by_parameter(training):
    torch.manual_seed(0)
    assert_is_autograds(FerCNN().double().train(training), *batch())


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


def student() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, (4, 3), padding="same"), nn.BatchNorm2d(4), nn.SiLU(inplace=True),
        nn.AvgPool2d(2), nn.Dropout2d(0.3), nn.Conv2d(4, 5, 3, stride=2, bias=False),
        nn.BatchNorm2d(5, affine=False), nn.LeakyReLU(0.1), nn.MaxPool2d(3, 1, 1), nn.Identity(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 6), nn.ReLU(), nn.Dropout(),
        nn.Linear(6, 7),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_students_chain_is_followed_in_eval_mode():
    torch.manual_seed(0)
    assert_is_autograds(student().double().eval(), *batch(4, 12))


def test_a_network_that_flattens_by_view_and_uses_a_layer_twice_is_followed():
    torch.manual_seed(0)
    assert_is_autograds(Flattening().double().train(), *batch(4, 8))


class Skip(nn.Module):
    def __init__(self, last=lambda z: z):
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(1, 1, 3, 1, 1), nn.ReLU(), nn.Linear(64, 7)
        self.last = last

    def forward(self, x):
        return self.last(self.fc(self.act(self.conv(x) + x).flatten(1)))


class Functional(nn.Module):
    def __init__(self, after):
        super().__init__()
        self.fc, self.after = nn.Linear(64, 7), after

    def forward(self, x):
        return self.after(self.fc(x.flatten(1)))


class WithScale(Functional):
    def __init__(self):
        super().__init__(lambda z: z)
        self.scale = nn.Parameter(torch.ones(()))


LEFT_OUT = {  # what is left out -> (network for 8 × 8 images, what is said)
    "a skip": (Skip(), r"layer 'act' is not fed by the layer called before it \(conv\)"),
    "a function at the end": (
        Functional(lambda z: F.log_softmax(z, 1)), r"changes what its last layer \(fc\) put out"
    ),
    "in place": (Functional(lambda z: z.mul_(2)), r"changes what its last layer \(fc\) put out"),
    "a parameter of no layer": (WithScale(), "no layer of the chain holds 'scale'"),
    "dropout that draws": (nn.Sequential(nn.Dropout(), nn.Flatten()), "layer '0': Dropout"),
    "groups": (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 8, groups=2), nn.Flatten()),
               r"layer '1': Conv2d\(2, 2, .*groups=2"),
    "reflections": (
        nn.Sequential(nn.Conv2d(1, 2, 8, 9, 1, padding_mode="reflect"), nn.Flatten()),
        "layer '0': Conv2d",
    ),
    "ceil_mode": (nn.Sequential(nn.MaxPool2d(8, ceil_mode=True), nn.Flatten()), "layer '0': MaxP"),
    "windows of unequal size": (nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten()), "Adaptive"),
    "a tuple": (nn.Sequential(nn.Flatten(2), nn.LSTM(64, 7)), "layer '1' returns no tensor"),
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


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_and_unfit_images_are_named():
    images, targets = torch.rand(2, 1, 40, 48), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"refuses images \(2, 1, 40, 48\): mat1 and mat2"):
        by_hand.network_backward(FerCNN().eval(), images, targets)
    scripted = torch.jit.trace(nn.Flatten(), images)
    with pytest.raises(ValueError, match="through TorchScript"):
        by_hand.network_backward(scripted, images, targets)
    with pytest.raises(ValueError, match="NaN or infinity"):
        by_hand.network_backward(FerCNN().eval(), images * math.nan, targets)


# ---- the exercise ----------------------------------------------------------------------------


def six(**changed):
    """The six derivatives as a reader would write them, with those given changed."""

    def pieces(x, eps):
        std = (((x - x.mean()) ** 2).mean() + eps).sqrt()
        return x - x.mean(), std, (x - x.mean()) / std

    def var(g, x, gamma, eps):
        centred, std, _ = pieces(x, eps)
        return (gamma * g * centred).sum() * -0.5 / std**3

    def mean(g, x, gamma, eps):
        return -gamma * g.sum() / pieces(x, eps)[1]

    def by_x(g, x, gamma, eps):
        centred, std, _ = pieces(x, eps)
        return gamma * g / std + (
            var(g, x, gamma, eps) * 2 * centred + mean(g, x, gamma, eps)
        ) / len(x)

    right = {
        "x_hat": lambda g, x, gamma, eps: gamma * g,
        "var": var, "mean": mean, "x": by_x,
        "gamma": lambda g, x, gamma, eps: (g * pieces(x, eps)[2]).sum(),
        "beta": lambda g, x, gamma, eps: g.sum(),
    }  # fmt: skip
    return right | changed


def test_the_checker_confirms_a_readers_six():
    assert exercise.check_six(six()) == dict.fromkeys(exercise.NODES, "right")


@pytest.mark.parametrize(
    "name, answer, says",
    [
        ("beta", lambda g, x, gamma, eps: -g.sum(), "wrong by the factor -1"),
        ("beta", lambda g, x, gamma, eps: g.mean(), "wrong at 5 of 5 points"),
        ("beta", lambda g, x, gamma, eps: g, r"wrong shape: (2,), expected ()"),
        ("x", lambda g, x, gamma, eps: 1 / 0, "fails: ZeroDivisionError: division by zero"),
        ("x", lambda g, x, gamma, eps: g * math.nan, "wrong at 5 of 5 points"),
        ("mean", lambda g, x, gamma, eps: 0.0 if len(x) == 2 else six()["mean"](g, x, gamma, eps),
         "wrong at 1 of 5 points"),
    ],
)  # fmt: skip
def test_the_checker_says_what_is_wrong_with_the_one_that_is(name, answer, says):
    verdicts = exercise.check_six(six(**{name: answer}))
    assert verdicts.pop(name) == says
    assert set(verdicts.values()) == {"right"}


def test_the_checker_knows_what_was_not_given_and_refuses_what_is_no_derivative():
    verdicts = exercise.check_six({"beta": six()["beta"]})
    assert verdicts["beta"] == "right" and verdicts["x"] == "not given"
    with pytest.raises(ValueError, match="no derivative is called 'sigma': name them x_hat"):
        exercise.check_six({"sigma": six()["var"]})


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
    torch.manual_seed(0)
    answer = answer_with(CHAPTER, FerCNN().eval())
    assert "six derivatives **not confirmed**" in answer
    assert "gradient ŷ − y **not confirmed**" in answer
    assert "size formula **not confirmed**" in answer
    equal, parameters = re.search(r"\*\*(\d+) of (\d+)\*\* parameters", answer).groups()
    assert int(equal) < int(parameters) == 26
    assert "fails first at size: windows counted" in answer


@pytest.mark.slow
def test_the_chapter_says_that_a_network_that_is_no_chain_is_left_out(one_seed, answer_with):
    torch.manual_seed(0)
    answer = answer_with(CHAPTER, FerResNet().eval())
    assert "six derivatives **correct**" in answer
    assert re.search(r"\*\*0 of \d+\*\* .* \(section 4 says what is left out\)", answer)
    assert "holds, but for the floor" in answer


def test_the_chapters_stored_answer_confirms_the_derivations():
    cells = json.loads((ROOT / "notebooks" / f"{CHAPTER}.ipynb").read_text("utf-8"))["cells"]
    (answer,) = (c for c in cells if "answer" in c["metadata"].get("tags", ()))
    text = " ".join("".join(answer["outputs"][0]["data"]["text/markdown"]).split())
    assert "six derivatives **correct**, the gradient ŷ − y **correct**" in text
    assert "**26 of 26** parameters" in text
