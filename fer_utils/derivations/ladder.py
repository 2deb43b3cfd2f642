"""A ladder of checks for hand-written gradients, and errors planted to see each rung fail.

``layers(seed)`` sets up six layers at seeded points; ``climb(layer)`` runs every rung on one of
them, ``climb(layer, layer.wrong[...])`` on a pass with an error planted in it. A rung's verdict
is that what it measures lies within its bound of its target; NaN never does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import fer_utils.derivations as by_hand  # looked up when called: a planted error reaches here

EPS = 0.3  # large, so that ε's part in the gradient is as large as any other
NEGATIVE_SLOPE = 0.05
STEPS = torch.logspace(-1, -10, 28, dtype=torch.float64)
VARIANT = slice(6, 10)  # 1e-3 … 1e-4: small enough for Taylor's first term, far above rounding


class Layer(NamedTuple):
    """A layer at one point: everything that a rung needs."""

    forward: Callable  # (*inputs) -> y, also for complex inputs
    backward: Callable  # (dy, *inputs) -> gradients, by hand
    reference: Callable  # torch's own forward
    inputs: list[Tensor]
    dy: Tensor
    direction: list[Tensor]
    invariants: Callable  # (dy, y, inputs, gradients) -> residuals, all 0 for a true gradient
    wrong: dict[str, Callable]  # what is wrong -> a backward pass with that error


class Rung(NamedTuple):
    measure: Callable  # (layer, backward) -> float
    target: float
    bound: float

    def described(self) -> str:
        if self.target:
            return f"{self.target:g} ± {self.bound:g}"
        return f"{self.bound:.0e}" if self.bound else "torch's own"


def layers(seed: int = 9) -> dict[str, Layer]:
    """Six layers in float64, at points that keep their distance from kinks and ties.

    Differences look along one direction only. In seed 9's every planted error shows: it changes
    the slope by 6 % or more.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def layer(forward, backward, reference, inputs, invariants, wrong):
        direction = [draw(*x.shape) for x in inputs]
        dy = draw(*forward(*inputs).shape)
        return Layer(forward, backward, reference, inputs, dy, direction, invariants, wrong)

    # soft, and not all of sum 1, so that Σy shows in the gradient
    y = draw(3, 5).softmax(1) * torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)
    total = y.sum(1, keepdim=True)
    spread = torch.randperm(20, generator=generator).double().view(1, 1, 4, 5) / 4
    away = (x := draw(3, 4)) + x.sign() / 2
    return {
        "convolution": layer(
            lambda x, w, c: by_hand.conv2d(x, w, c, 2, 1),
            lambda dy, x, w, c: by_hand.conv2d_backward(dy, x, w, 2, 1),
            lambda x, w, c: F.conv2d(x, w, c, 2, 1),
            [draw(1, 2, 4, 3), draw(1, 2, 3, 2), draw(1)],
            _products,
            {
                "wrong sign of dW": lambda dy, x, w, c: _conv(dy, x, w, dw_sign=-1),
                "wrong sign of dx": lambda dy, x, w, c: _conv(dy, x, w, dx_sign=-1),
                "kernel turned round": lambda dy, x, w, c: _conv(dy, x, w, turned=(2, 3)),
            },
        ),
        "LeakyReLU": layer(
            lambda x: by_hand.leaky_relu(x, NEGATIVE_SLOPE),
            lambda dy, x: by_hand.leaky_relu_backward(dy, x, NEGATIVE_SLOPE),
            lambda x: F.leaky_relu(x, NEGATIVE_SLOPE),
            [away],
            _scaling,
            {
                "wrong sign of the slope": lambda dy, x: _where(x, dy, -NEGATIVE_SLOPE),
                "slope missing": lambda dy, x: _where(x, dy, 0.0),
            },
        ),
        "max-pool": layer(
            lambda x: by_hand.max_pool(x, 3, 2, 1),
            lambda dy, x: by_hand.max_pool_backward(dy, x, 3, 2, 1),
            lambda x: F.max_pool2d(x, 3, 2, 1),
            [spread],
            _scaling,
            {"wrong sign": lambda dy, x: -by_hand.max_pool_backward(dy, x, 3, 2, 1)},
        ),
        "linear": layer(
            F.linear,
            lambda dy, x, w, c: by_hand.linear_backward(dy, x, w),
            F.linear,
            [draw(3, 4), draw(2, 4), draw(2)],
            _products,
            {
                "wrong sign of dW": lambda dy, x, w, c: (dy @ w, -dy.T @ x, dy.sum(0)),
                "wrong sign of db": lambda dy, x, w, c: (dy @ w, dy.T @ x, -dy.sum(0)),
            },
        ),
        "batch norm": layer(
            lambda x, g, b: by_hand.batchnorm(x, g, b, EPS),
            lambda dy, x, g, b: by_hand.batchnorm_backward(dy, x, g, EPS),
            lambda x, g, b: F.batch_norm(x, None, None, g, b, True, 0.0, EPS),
            [draw(3, 2, 2, 1), draw(2), draw(2)],
            _norm,
            {
                "wrong sign before x̂": lambda dy, x, g, b: norm_pass(dy, x, g, x_hat=-1),
                "variance's term missing": lambda dy, x, g, b: norm_pass(dy, x, g, x_hat=0),
                "mean's term missing": lambda dy, x, g, b: norm_pass(dy, x, g, mean=0),
                "m − 1 variance": lambda dy, x, g, b: norm_pass(dy, x, g, correction=1),
            },
        ),
        "cross-entropy": layer(
            lambda z: by_hand.softmax_cross_entropy(z, y),
            lambda dy, z: dy[:, None] * by_hand.softmax_cross_entropy_grad(z, y),
            lambda z: F.cross_entropy(z, y, reduction="none"),
            [draw(3, 5)],
            lambda dy, _, inputs, gradients: _entropy(gradients[0] / dy[:, None], y, inputs[0]),
            {
                "wrong sign before y": lambda dy, z: dy[:, None] * (z.softmax(1) * total + y),
                "y missing": lambda dy, z: dy[:, None] * z.softmax(1) * total,
                "Σy missing": lambda dy, z: dy[:, None] * (z.softmax(1) - y),
            },
        ),
    }


def climb(layer: Layer, backward=None) -> dict[str, tuple[float, bool]]:
    """Each rung's measurement and verdict, for the layer's own backward pass or another."""
    backward = backward or layer.backward
    measured = {name: float(rung.measure(layer, backward)) for name, rung in RUNGS.items()}
    return {
        name: (value, abs(value - RUNGS[name].target) <= RUNGS[name].bound)
        for name, value in measured.items()
    }


def decade(error: float) -> str:
    """``≤ 1e-13``: the power of ten that an error stays under.

    Below 1e-13 nothing is told apart: those digits are rounding and differ between CPUs.
    """
    if not error < math.inf:
        return str(error)
    return f"≤ 1e{max(-13, math.ceil(math.log10(max(error, 1e-99))))}"


# ---- rungs ----------------------------------------------------------------------------------


def torch_checks(layer, backward):
    function = by_hand.as_function(layer.forward, backward)
    inputs = [x.clone().requires_grad_() for x in layer.inputs]
    passed = gradcheck(function, inputs, raise_exception=False) and gradgradcheck(
        function, inputs, raise_exception=False
    )
    return 0.0 if passed else math.inf


def torch_error(layer, backward):
    theirs = by_hand.gradients_by_torch(layer.reference, layer.inputs, layer.dy)
    return by_hand.relative_error(backward(layer.dy, *layer.inputs), theirs)


def differences(layer, backward, central):
    """Relative errors at ``STEPS``."""
    return by_hand.difference_errors(
        layer.forward, backward, layer.inputs, layer.direction, STEPS, central
    )


def slope(layer, backward, central):
    errors = differences(layer, backward, central)[VARIANT]
    return float((errors[-1] / errors[0]).log() / (STEPS[VARIANT][-1] / STEPS[VARIANT][0]).log())


def complex_step(layer, backward):
    return by_hand.complex_step_error(layer.forward, backward, layer.inputs, layer.direction)


def invariants(layer, backward):
    y, gradients = layer.forward(*layer.inputs), backward(layer.dy, *layer.inputs)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    residuals = layer.invariants(layer.dy, y, layer.inputs, gradients)
    return float(torch.cat([r.reshape(-1) for r in residuals]).abs().max())


RUNGS = {  # gradcheck ×2: first and second derivatives; slopes: of finite differences' errors
    "gradcheck ×2": Rung(torch_checks, 0, 0),
    "torch": Rung(torch_error, 0, 1e-12),
    "forward slope": Rung(lambda *a: slope(*a, central=False), 1, 0.05),
    "central slope": Rung(lambda *a: slope(*a, central=True), 2, 0.05),
    "complex step": Rung(complex_step, 0, 1e-12),
    "invariants": Rung(invariants, 0, 1e-12),
}

# ---- invariants: residuals that are 0 for a true gradient -------------------------------------


def _scaling(dy, y, inputs, gradients):  # f(λx) = λ f(x) for λ > 0, hence Euler's identity
    return [(gradients[0] * inputs[0]).sum() - (dy * y).sum()]


def _products(dy, y, inputs, gradients):  # y − c is linear in x and in W
    dx, dw, dc = ((g * v).sum() for g, v in zip(gradients, inputs, strict=True))
    return [dx - dw, dx + dc - (dy * y).sum()]


def _norm(dy, y, inputs, gradients):  # Σdx = 0, Σdx·x̂ = γε/s³ Σdy·x̂, y linear in (γ, β)
    (x, gamma, beta), (dx, dgamma, dbeta), over = inputs, gradients, (0, 2, 3)
    x_hat, std, _ = _normalised(x, 0)
    kept = gamma.view(1, -1, 1, 1) * EPS / std**3 * dy * x_hat
    linear = (dgamma * gamma + dbeta * beta).sum() - (dy * y).sum()
    return [dx.sum(over), (dx * x_hat - kept).sum(over), linear]


def _entropy(gradient, y, z):  # gradient + y = Σy·ŷ, whose logarithm is z up to a constant a row
    log = (gradient + y).log() - z
    return [gradient.sum(1), log - log.mean(1, keepdim=True)]


# ---- planted errors ---------------------------------------------------------------------------


def norm_pass(dy, x, gamma, mean=1, x_hat=1, correction=0):
    """Batch norm's backward pass written apart from the module's, with factors to spoil it."""
    normalised, std, m = _normalised(x, correction)
    row, over = (1, -1, 1, 1), (0, 2, 3)
    dgamma, dbeta = (dy * normalised).sum(over), dy.sum(over)
    passed = m * dy - mean * dbeta.view(row) - x_hat * normalised * dgamma.view(row)
    return gamma.view(row) / (m * std) * passed, dgamma, dbeta


def _normalised(x, correction):
    var, mean = torch.var_mean(x, (0, 2, 3), correction=correction, keepdim=True)
    std = (var + EPS).sqrt()
    return (x - mean) / std, std, x.numel() // x.shape[1]


def _conv(dy, x, w, dx_sign=1, dw_sign=1, turned=()):
    _, dw, dc = by_hand.conv2d_backward(dy, x, w, 2, 1)
    dx, _, _ = by_hand.conv2d_backward(dy, x, w.flip(turned), 2, 1)
    return dx_sign * dx, dw_sign * dw, dc


def _where(x, dy, slope):
    return torch.where(x > 0, dy, slope * dy)
