"""The other layers of ``FerCNN``: LeakyReLU, max-pool, linear, convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fer_utils.derivations.sizes import conv_output_size, pool_output_size


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    return torch.where(x.real > 0, x, slope * x)


def leaky_relu_backward(dy: Tensor, x: Tensor, slope: float) -> Tensor:
    """dy where x > 0, slope · dy elsewhere; at 0 the left slope, as torch. Slope 0 is ReLU."""
    _check_same("dy", dy, x.shape)
    return torch.where(x > 0, dy, slope * dy)


def max_pool(x: Tensor, kernel, stride=None, padding=0) -> Tensor:
    winners = _winners(x, kernel, stride, padding)
    return x.flatten(2).gather(2, winners.flatten(2)).view_as(winners)


def max_pool_backward(dy: Tensor, x: Tensor, kernel, stride=None, padding=0) -> Tensor:
    """Each dy goes to its window's maximum, to the first in reading order among equals.

    Overlapping windows may share a winner: their dy add up. dy (b, c, h', w'), x (b, c, h, w).
    """
    winners = _winners(x, kernel, stride, padding)
    _check_same("dy", dy, winners.shape)
    flat = torch.zeros_like(x.flatten(2), dtype=dy.dtype)
    return flat.scatter_add(2, winners.flatten(2), dy.flatten(2)).view_as(x)


def _winners(x, kernel, stride, padding):  # -> (b, c, h', w') positions in h × w, row by row
    if x.ndim != 4:
        raise ValueError(f"x must be (batch, channels, height, width), not {tuple(x.shape)}")
    (kh, kw), (ph, pw) = _pair(kernel), _pair(padding)
    sh, sw = _pair(kernel if stride is None else stride)
    height, width = pool_output_size(tuple(x.shape[2:]), (kh, kw), (sh, sw), (ph, pw))
    field = F.pad(x.detach().real, (pw, pw, ph, ph), value=-torch.inf) if ph or pw else x.real
    best = winner = None
    for i in range(kh):
        for j in range(kw):
            value = field[:, :, i::sh, j::sw][:, :, :height, :width]
            if best is None:
                best, winner = value, torch.zeros_like(value, dtype=torch.int32)
                continue
            wins = (value > best) | (value != value)  # strictly above, or NaN: torch's own rule
            best = torch.where(wins, value, best)
            winner = winner.masked_fill(wins, i * x.shape[3] + j)
    rows = torch.arange(height, device=x.device)[:, None] * sh - ph
    return winner + (rows * x.shape[3] + torch.arange(width, device=x.device) * sw - pw)


def linear_backward(dy: Tensor, x: Tensor, weight: Tensor):
    """y = x Wᵀ + b: dx = dy W, dW = dyᵀ x, db = Σ dy; dy (b, out), x (b, in), W (out, in)."""
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"x {tuple(x.shape)} and weight {tuple(weight.shape)} don't chain")
    _check_same("dy", dy, (len(x), len(weight)))
    return dy @ weight, dy.T @ x, dy.sum(0)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride=1, padding=0, dilation=1) -> Tensor:
    """torch's convolution, for complex numbers too.

    torch multiplies complex numbers by three products and their differences (Gauss), in which an
    imaginary part of 1e-20 is lost; so real and imaginary parts are convolved one by one.
    """
    if not x.is_complex():
        return F.conv2d(x, weight, bias, stride, padding, dilation)
    (xr, xi), (wr, wi) = (x.real, x.imag), (weight.real, weight.imag)
    xx, yy, xy, yx = (
        F.conv2d(a, b, None, stride, padding, dilation)
        for a, b in ((xr, wr), (xi, wi), (xr, wi), (xi, wr))
    )
    return torch.complex(xx - yy, xy + yx) + bias[:, None, None]


def conv2d_backward(dy: Tensor, x: Tensor, weight: Tensor, stride=1, padding=0, dilation=1):
    """dx: dy through the transposed convolution; dW: x correlated with dy; db = Σ dy.

    In dW stride and dilation change places: dy is the kernel, and its values lie ``stride``
    apart in x. dy (b, out, h', w'), x (b, in, h, w), weight (out, in, kh, kw).
    """
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"x {tuple(x.shape)} and weight {tuple(weight.shape)} don't chain")
    size, kernel = tuple(x.shape[2:]), tuple(weight.shape[2:])
    small = conv_output_size(size, kernel, stride, padding, dilation)
    _check_same("dy", dy, (len(x), len(weight), *small))
    # pixels on the right that no window reached come back as zeros
    whole = zip(size, small, kernel, *map(_pair, (stride, padding, dilation)), strict=True)
    lost = [(n + 2 * p - d * (k - 1) - 1) - (out - 1) * s for n, out, k, s, p, d in whole]
    dx = F.conv_transpose2d(dy, weight, None, stride, padding, lost, 1, dilation)
    correlated = F.conv2d(x.transpose(0, 1), dy.transpose(0, 1), None, dilation, padding, stride)
    dw = correlated[:, :, : kernel[0], : kernel[1]].transpose(0, 1)
    return dx, dw, dy.sum((0, 2, 3))


def _pair(value):
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _check_same(name, tensor, shape):
    if tensor.shape != tuple(shape):
        raise ValueError(f"{name} is {tuple(tensor.shape)}, the layer's output {tuple(shape)}")
