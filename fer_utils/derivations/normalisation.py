"""Batch normalisation's gradients: six small steps, one line, one Jacobian.

x and dy are (b, channels, …): m values a channel, on every axis but 1. Mean μ, variance σ²
(divided by m), σ_ε = √(σ² + ε), x̂ = (x − μ)/σ_ε, z = γ x̂ + β; gamma is (channels,).

ValueError where m = 1 (as torch), and where ε = 0 and a channel is constant: x̂ is 0/0 there.
"""

from __future__ import annotations

import torch
from torch import Tensor


def batchnorm_steps(dy: Tensor, x: Tensor, gamma: Tensor, eps: float) -> dict[str, Tensor]:
    """∂ℓ/∂x̂, ∂ℓ/∂σ², ∂ℓ/∂μ, ∂ℓ/∂x, ∂ℓ/∂γ, ∂ℓ/∂β, one from the other, as chapter 6 derives them.

    Keys ``x_hat``, ``var``, ``mean``, ``x``, ``gamma``, ``beta``; ``var`` and ``mean`` (channels,).
    """
    centred, std, normalised = _normalise(dy, x, gamma, eps)
    over, m = _values(x), x.numel() // x.shape[1]
    by_x_hat = dy * _row(gamma, x)
    by_var = (by_x_hat * centred * -0.5 * std**-3).sum(over)
    by_mean = (by_x_hat * -1 / std).sum(over) + by_var * (-2 * centred / m).sum(over)
    by_x = by_x_hat / std + _row(by_var, x) * 2 * centred / m + _row(by_mean, x) / m
    by_gamma, by_beta = (dy * normalised).sum(over), dy.sum(over)
    return {
        "x_hat": by_x_hat, "var": by_var, "mean": by_mean,
        "x": by_x, "gamma": by_gamma, "beta": by_beta,
    }  # fmt: skip


def batchnorm_backward(dy: Tensor, x: Tensor, gamma: Tensor, eps: float):
    """(dx, dgamma, dbeta), the six in one line: dx = γ/(m σ_ε) · (m dy − Σ dy − x̂ Σ dy·x̂)."""
    _, std, normalised = _normalise(dy, x, gamma, eps)
    over, m = _values(x), x.numel() // x.shape[1]
    dgamma, dbeta = (dy * normalised).sum(over), dy.sum(over)
    passed = dy - _row(dbeta / m, x) - normalised * _row(dgamma / m, x)
    return _row(gamma, x) / std * passed, dgamma, dbeta


def batchnorm_eval_backward(dy, x, gamma, mean, var, eps):
    """In eval mode μ and σ² are constants: dx = γ/σ_ε · dy, and nothing is projected out."""
    std = _row((var + eps).sqrt(), x)
    normalised, over = (x - _row(mean, x)) / std, _values(x)
    return _row(gamma, x) / std * dy, (dy * normalised).sum(over), dy.sum(over)


def batchnorm_jacobian(x: Tensor, gamma: float, eps: float) -> Tensor:
    """∂z/∂x of one channel, x (m,): γ/σ_ε · (I − 11ᵀ/m − x̂x̂ᵀ/m), for every m.

    Where σ > 0 and m ≥ 2 its eigenvectors are 1 (eigenvalue 0), x̂ (γε/σ_ε³), and whatever is
    orthogonal to both (γ/σ_ε). A constant channel has x̂ = 0, which is no direction.
    """
    m, std = len(x), (x.var(correction=0) + eps).sqrt()
    normalised = (x - x.mean()) / std
    identity = torch.eye(m, dtype=x.dtype)
    return gamma / std * (identity - 1 / m - torch.outer(normalised, normalised) / m)


def _normalise(dy, x, gamma, eps):  # -> x − μ, σ_ε, x̂
    if x.ndim < 2 or dy.shape != x.shape or gamma.shape != x.shape[1:2]:
        raise ValueError(
            f"dy {tuple(dy.shape)} and x {tuple(x.shape)} must both be (batch, channels, …), "
            f"gamma {tuple(gamma.shape)} must be (channels,)"
        )
    if x.numel() <= x.shape[1]:
        raise ValueError(
            f"x of shape {tuple(x.shape)} has one value a channel (m = 1): its normalised value "
            "is 0 whatever x is; use at least two samples, or eval mode"
        )
    var, mean = torch.var_mean(x, _values(x), correction=0, keepdim=True)
    if eps == 0 and (var == 0).any():
        channels = (var.flatten() == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"channels {channels} of x are constant and eps=0, so x̂ is 0/0; use eps > 0"
        )
    centred, std = x - mean, (var + eps).sqrt()
    return centred, std, centred / std


def _values(x):  # the axes that a channel's m values lie on
    return [axis for axis in range(x.ndim) if axis != 1]


def _row(per_channel, x):  # (channels,) -> (1, channels, 1, …)
    return per_channel.reshape([1, -1] + [1] * (x.ndim - 2))
