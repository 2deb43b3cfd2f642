"""Backward passes of the other layers: activations, pools, linear, convolution.

x is the layer's input, dy the gradient at its output; images are (b, c, h, w). ValueError where
their shapes don't fit. Dumoulin & Visin, arXiv:1603.07285.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from fer_utils.derivations.sizes import conv_output_size, pool_output_size


def leaky_relu_backward(dy: Tensor, x: Tensor, slope: float) -> Tensor:
    """dy where x > 0, slope · dy elsewhere; at 0 the left slope, as torch. Slope 0 is ReLU."""
    _check_output(dy, x.shape)
    return torch.where(x > 0, dy, slope * dy)


def silu_backward(dy: Tensor, x: Tensor) -> Tensor:
    """z = x σ(x), with σ the logistic function: dx = σ(x) (1 + x (1 − σ(x))) dy."""
    _check_output(dy, x.shape)
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate)) * dy


def max_pool_backward(dy: Tensor, x: Tensor, kernel, stride=None, padding=0) -> Tensor:
    """Each dy goes to its window's maximum, to the first in reading order among equals.

    Overlapping windows may share a winner: their dy add up.
    """
    (kh, kw), (ph, pw) = _pair(kernel), _pair(padding)
    sh, sw = _pair(kernel if stride is None else stride)
    height, width = pool_output_size(x.shape[2:], (kh, kw), (sh, sw), (ph, pw))
    _check_output(dy, (*x.shape[:2], height, width))
    field = F.pad(x, (pw, pw, ph, ph), value=-torch.inf)
    windows = field.unfold(2, kh, sh).unfold(3, kw, sw)  # (b, c, h', w', kh, kw)
    first = windows.flatten(4).argmax(4)
    rows = torch.arange(height, device=x.device)[:, None] * sh - ph + first // kw
    columns = torch.arange(width, device=x.device) * sw - pw + first % kw
    winners = rows * x.shape[3] + columns  # places in h × w, row by row
    flat = torch.zeros_like(x.flatten(2), dtype=dy.dtype)
    return flat.scatter_add(2, winners.flatten(2), dy.flatten(2)).view_as(x)


def average_pool_backward(dy: Tensor, x: Tensor, kernel, stride=None, padding=0) -> Tensor:
    """An average is a convolution of each channel by itself, whose weights are all 1/(kh · kw)."""
    stride = kernel if stride is None else stride
    _check_output(dy, (*x.shape[:2], *pool_output_size(x.shape[2:], kernel, stride, padding)))
    kh, kw = _pair(kernel)
    weight = torch.full((1, 1, kh, kw), 1 / (kh * kw), dtype=x.dtype, device=x.device)
    alone = dy.flatten(0, 1)[:, None], x.flatten(0, 1)[:, None]  # each channel as an image
    dx, _, _ = conv2d_backward(*alone, weight, stride, padding)
    return dx.reshape(x.shape)


def linear_backward(dy: Tensor, x: Tensor, weight: Tensor):
    """z = x Wᵀ + b: dx = dy W, dW = dyᵀ x, db = Σ dy; dy (b, out), x (b, in), W (out, in)."""
    _check_channels(x, weight)
    _check_output(dy, (len(x), len(weight)))
    return dy @ weight, dy.T @ x, dy.sum(0)


def conv2d_backward(dy: Tensor, x: Tensor, weight: Tensor, stride=1, padding=0, dilation=1):
    """dx: dy through the transposed convolution; dW: x correlated with dy; db = Σ dy.

    In dW stride and dilation change places: dy is the kernel, and its values lie ``stride``
    apart in x. dy (b, out, h', w'), x (b, in, h, w), weight (out, in, kh, kw); ``padding`` may be
    "same" or "valid".
    """
    _check_channels(x, weight)
    (height, width), (kh, kw) = x.shape[2:], weight.shape[2:]
    small = conv_output_size((height, width), (kh, kw), stride, padding, dilation)
    _check_output(dy, (len(x), len(weight), *small))
    if padding == "same":  # d(k − 1) zeros on each axis, the odd one on the right
        down, across = (d * (k - 1) for d, k in zip(_pair(dilation), (kh, kw), strict=True))
        top, left = down // 2, across // 2
    else:
        top, left = _pair(0 if padding == "valid" else padding)
        down, across = 2 * top, 2 * left
    padded = F.pad(x, (left, across - left, top, down - top))
    dx = F.conv_transpose2d(dy, weight, None, stride, dilation=dilation)
    # pixels on the right that no window reached come back as zeros
    dx = F.pad(dx, (0, padded.shape[3] - dx.shape[3], 0, padded.shape[2] - dx.shape[2]))
    dx = dx[:, :, top : top + height, left : left + width]
    correlated = F.conv2d(padded.transpose(0, 1), dy.transpose(0, 1), None, dilation, 0, stride)
    return dx, correlated[:, :, :kh, :kw].transpose(0, 1), dy.sum((0, 2, 3))


def _check_channels(x, weight):
    if x.ndim != weight.ndim or x.shape[1] != weight.shape[1]:
        raise ValueError(f"x {tuple(x.shape)} and weight {tuple(weight.shape)} don't chain")


def _check_output(dy, shape):
    if dy.shape != tuple(shape):
        raise ValueError(f"dy is {tuple(dy.shape)}, the layer's output {tuple(shape)}")
