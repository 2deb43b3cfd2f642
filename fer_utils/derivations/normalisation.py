"""Batch normalisation and its gradients: six small steps, one line, one Jacobian."""

from __future__ import annotations

import torch
from torch import Tensor


def batchnorm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """y = γ x̂ + β with x̂ = (x − μ)/√(σ² + ε); σ² divides by m, not m − 1."""
    _, _, normalised = _normalise(x, gamma, eps)
    return _row(gamma, x) * normalised + _row(beta, x)


def batchnorm_steps(dy: Tensor, x: Tensor, gamma: Tensor, eps: float) -> dict[str, Tensor]:
    """The six derivatives of the original report, each from its graph: see the chapter."""
    centred, std, normalised = _normalise(x, gamma, eps, dy)
    over, m = _values(x), x.numel() // x.shape[1]
    step = {"x_hat": dy * _row(gamma, x)}
    step["var"] = (step["x_hat"] * centred * -0.5 * std**-3).sum(over, keepdim=True)
    step["mean"] = -(step["x_hat"] / std).sum(over, keepdim=True) + step["var"] * (
        -2 * centred / m
    ).sum(over, keepdim=True)
    step["x"] = step["x_hat"] / std + step["var"] * 2 * centred / m + step["mean"] / m
    step["gamma"] = (dy * normalised).sum(over)
    step["beta"] = dy.sum(over)
    return step | {"var": step["var"].flatten(), "mean": step["mean"].flatten()}


def batchnorm_backward(dy: Tensor, x: Tensor, gamma: Tensor, eps: float):
    """The six derivatives in one line: dx = γ/(m s) · (m dy − Σ dy − x̂ Σ dy·x̂).

    Args:
        dy, x: (b, channels, …); every other axis than 1 is averaged over, m values a channel.
        gamma: (channels,).
        eps: 0 is allowed where no channel is constant (torch refuses it: its result can be NaN).

    Returns:
        (dx, dgamma, dbeta).

    Raises:
        ValueError: shapes that don't match; m = 1, where y = β whatever x is (torch refuses it
            too; the formula's limit is dx = 0); ε = 0 with a constant channel, where x̂ is 0/0.
    """
    _, std, normalised = _normalise(x, gamma, eps, dy)
    over, m = _values(x), x.numel() // x.shape[1]
    dgamma, dbeta = (dy * normalised).sum(over), dy.sum(over)
    passed = dy - _row(dbeta / m, x) - normalised * _row(dgamma / m, x)
    return _row(gamma, x) / std * passed, dgamma, dbeta


def batchnorm_eval_backward(dy, x, gamma, mean, var, eps):
    """In eval mode μ and σ² are constants: dx = γ/s · dy, and nothing is projected out."""
    _check_channels(x, gamma, eps, dy)
    std = _row((var + eps).sqrt(), x)
    normalised, over = (x - _row(mean, x)) / std, _values(x)
    return _row(gamma, x) / std * dy, (dy * normalised).sum(over), dy.sum(over)


def batchnorm_jacobian(x: Tensor, gamma: float, eps: float) -> Tensor:
    """∂y/∂x of one channel, x (m,): γ/s · (I − 11ᵀ/m − x̂x̂ᵀ/m), for every m."""
    m, centred = len(x), x - x.mean()
    std = (centred.square().mean() + eps).sqrt()
    normalised = centred / std
    identity = torch.eye(m, dtype=x.dtype)
    return gamma / std * (identity - 1 / m - torch.outer(normalised, normalised) / m)


def _normalise(x, gamma, eps, dy=None):  # -> x − μ, s = √(σ² + ε), x̂
    _check_channels(x, gamma, eps, dy)
    if x.numel() == x.shape[1]:
        raise ValueError(
            f"x of shape {tuple(x.shape)} has one value a channel (m = 1): its normalised value "
            "is 0 whatever x is; use at least two samples, or eval mode"
        )
    over = _values(x)
    centred = x - x.mean(over, keepdim=True)
    var = (centred * centred).mean(over, keepdim=True)  # not .var(): complex steps must pass
    if eps == 0 and (var == 0).any():
        channels = (var.flatten() == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"channels {channels} of x are constant and eps=0, so x̂ is 0/0; use eps > 0"
        )
    std = (var + eps).sqrt()
    return centred, std, centred / std


def _check_channels(x, gamma, eps, dy=None):
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x must be (batch, channels, …) and not empty, not {tuple(x.shape)}")
    if dy is not None and dy.shape != x.shape:
        raise ValueError(f"dy is {tuple(dy.shape)}, x is {tuple(x.shape)}: they must be equal")
    if gamma.shape != (x.shape[1],):
        raise ValueError(
            f"gamma is {tuple(gamma.shape)}, must be ({x.shape[1]},): one value a channel of x"
        )
    if eps < 0:
        raise ValueError(f"eps={eps} must not be negative: σ² + ε is under a root")


def _values(x):  # the axes that a channel's m values lie on
    return [axis for axis in range(x.ndim) if axis != 1]


def _row(per_channel, x):  # (channels,) -> (1, channels, 1, …)
    return per_channel.reshape([1, -1] + [1] * (x.ndim - 2))
