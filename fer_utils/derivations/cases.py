"""Six layers at seeded points, each with wrong backward passes: what the gradient checks run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fer_utils.derivations import entropy, layers, normalisation

EPS = 0.3  # large, so that ε's part in the gradient is as large as any other
SLOPE = 0.05  # LeakyReLU's, below zero
ROUNDED = "computed in float32"  # the one planted error that is small: about 1e-7


class Case(NamedTuple):
    """A layer at one point, in float64."""

    forward: Callable  # (*inputs) -> z, torch's own
    backward: Callable  # (dy, *inputs) -> gradients, by hand
    inputs: list[Tensor]
    dy: Tensor
    direction: list[Tensor]  # along which finite differences look
    wrong: dict[str, Callable]  # what is wrong -> a backward pass with that error


def cases(seed: int = 0) -> dict[str, Case]:
    """Six layers, at points that keep their distance from kinks and ties."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def case(forward, backward, inputs, wrong):
        direction = [draw(*x.shape) for x in inputs]
        dy = draw(*forward(*inputs).shape)
        return Case(
            forward, backward, inputs, dy, direction, {**wrong, ROUNDED: _rounded(backward)}
        )

    def conv(dy, x, w, c):
        return layers.conv2d_backward(dy, x, w, 2, 1)

    def linear(dy, x, w, c):
        return layers.linear_backward(dy, x, w)

    def pool(dy, x):
        return (layers.max_pool_backward(dy, x, 3, 2, 1),)

    x = draw(3, 4)
    away_from_zero = x + x.sign() / 2
    no_ties = torch.randperm(20, generator=generator).double().view(1, 1, 4, 5) / 4
    # soft, and not all of sum 1, so that Σy shows in the gradient
    y = draw(3, 5).softmax(1) * torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)
    total = y.sum(1, keepdim=True)
    return {
        "convolution": case(
            lambda x, w, c: F.conv2d(x, w, c, 2, 1),
            conv,
            [draw(1, 2, 4, 3), draw(1, 2, 3, 2), draw(1)],
            {
                "wrong sign of dW": _signed(conv, 1, -1, 1),
                "wrong sign of dx": _signed(conv, -1, 1, 1),
                "kernel turned round": lambda dy, x, w, c: conv(dy, x, w.flip(2, 3), c),
            },
        ),
        "LeakyReLU": case(
            lambda x: F.leaky_relu(x, SLOPE),
            lambda dy, x: layers.leaky_relu_backward(dy, x, SLOPE),
            [away_from_zero],
            {
                "wrong sign of the slope": lambda dy, x: layers.leaky_relu_backward(dy, x, -SLOPE),
                "slope missing": lambda dy, x: layers.leaky_relu_backward(dy, x, 0.0),
            },
        ),
        "max-pool": case(
            lambda x: F.max_pool2d(x, 3, 2, 1), pool, [no_ties], {"wrong sign": _signed(pool, -1)}
        ),
        "linear": case(
            F.linear,
            linear,
            [draw(3, 4), draw(2, 4), draw(2)],
            {
                "wrong sign of dW": _signed(linear, 1, -1, 1),
                "wrong sign of db": _signed(linear, 1, 1, -1),
            },
        ),
        "batch norm": case(
            lambda x, g, b: F.batch_norm(x, None, None, g, b, True, 0.0, EPS),
            lambda dy, x, g, b: normalisation.batchnorm_backward(dy, x, g, EPS),
            [draw(3, 2, 2, 1), draw(2), draw(2)],
            {
                "wrong sign before x̂": lambda dy, x, g, b: norm_pass(dy, x, g, x_hat=-1),
                "variance's term missing": lambda dy, x, g, b: norm_pass(dy, x, g, x_hat=0),
                "mean's term missing": lambda dy, x, g, b: norm_pass(dy, x, g, mean=0),
                "m − 1 variance": lambda dy, x, g, b: norm_pass(dy, x, g, correction=1),
            },
        ),
        "cross-entropy": case(
            lambda z: F.cross_entropy(z, y, reduction="none"),
            lambda dy, z: dy[:, None] * entropy.softmax_cross_entropy_grad(z, y),
            [draw(3, 5)],
            {
                "wrong sign before y": lambda dy, z: dy[:, None] * (z.softmax(1) * total + y),
                "y missing": lambda dy, z: dy[:, None] * z.softmax(1) * total,
                "Σy missing": lambda dy, z: dy[:, None] * (z.softmax(1) - y),
            },
        ),
    }


def norm_pass(dy, x, gamma, mean=1, x_hat=1, correction=0):
    """Batch norm's backward pass with factors to spoil its terms; right as it stands."""
    row, over, m = (1, -1, 1, 1), (0, 2, 3), x.numel() // x.shape[1]
    var, mean_of_x = torch.var_mean(x, over, correction=correction, keepdim=True)
    std = (var + EPS).sqrt()
    normalised = (x - mean_of_x) / std
    dgamma, dbeta = (dy * normalised).sum(over), dy.sum(over)
    passed = m * dy - mean * dbeta.view(row) - x_hat * normalised * dgamma.view(row)
    return gamma.view(row) / (m * std) * passed, dgamma, dbeta


def _signed(backward, *signs):
    """The pass with a sign before each of its gradients."""
    return lambda *of: tuple(s * g for s, g in zip(signs, backward(*of), strict=True))


def _rounded(backward):
    def in_float32(*of):
        gradients = backward(*(x.float() for x in of))
        if isinstance(gradients, Tensor):
            return gradients.double()
        return tuple(g.double() for g in gradients)

    return in_float32
