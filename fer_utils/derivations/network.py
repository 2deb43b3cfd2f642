"""A hand-written backward pass for a chain of layers, compared with autograd in chapter 6."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_utils.derivations.entropy import softmax_cross_entropy, softmax_cross_entropy_grad
from fer_utils.derivations.layers import (
    conv2d_backward,
    leaky_relu_backward,
    linear_backward,
    max_pool_backward,
)
from fer_utils.derivations.normalisation import batchnorm_backward, batchnorm_eval_backward


@torch.no_grad()
def network_backward(model: nn.Module, images: Tensor, targets: Tensor):
    """Mean cross-entropy of a chain of layers and its gradient, without autograd.

    The leaves run in the order of ``named_modules`` with a flatten before the first linear
    layer, as ``FerCNN`` does. A batch norm in train mode uses the batch's statistics and, unlike
    torch's, leaves its running ones alone; in eval mode it uses the running ones.

    Returns:
        (loss, dimages, {parameter's name: its gradient}); nothing is written to the model.
    """
    x, tape = images, []
    for name, layer in model.named_modules():
        if any(layer.children()):
            continue
        x = x.flatten(1) if isinstance(layer, nn.Linear) else x
        y = _layer_forward(name, layer, x)
        tape.append((name, layer, x, y.shape))
        x = y
    loss = softmax_cross_entropy(x, targets).mean()
    dy, gradients = softmax_cross_entropy_grad(x, targets) / len(x), {}
    for name, layer, x, shape in reversed(tape):
        dy, *own = _layer_backward(layer, dy.reshape(shape), x)
        names = [f"{name}.{p}" for p in ("weight", "bias") if getattr(layer, p, None) is not None]
        gradients |= dict(zip(names, own, strict=False))
    return loss, dy, {name: gradients[name] for name, _ in model.named_parameters()}


def _layer_forward(name, layer, x):
    match layer:
        case nn.BatchNorm1d() | nn.BatchNorm2d() if layer.training:
            # torch's own: the passes to be compared must take the same side of every kink
            return F.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
        case nn.Conv2d(groups=1, padding_mode="zeros", padding=tuple()):
            return layer(x)
        case nn.MaxPool2d(ceil_mode=False, dilation=1, return_indices=False):
            return layer(x)
        case nn.Linear() | nn.ReLU() | nn.LeakyReLU() | nn.BatchNorm1d() | nn.BatchNorm2d():
            return layer(x.clone() if getattr(layer, "inplace", False) else x)
    raise ValueError(f"no backward pass was derived for layer {name!r}: {layer}")


def _layer_backward(layer, dy, x):  # -> dx, then weight's and bias's gradients
    match layer:
        case nn.Conv2d():
            return conv2d_backward(dy, x, layer.weight, layer.stride, layer.padding, layer.dilation)
        case nn.Linear():
            return linear_backward(dy, x, layer.weight)
        case nn.LeakyReLU() | nn.ReLU():
            return (leaky_relu_backward(dy, x, getattr(layer, "negative_slope", 0.0)),)
        case nn.MaxPool2d():
            return (max_pool_backward(dy, x, layer.kernel_size, layer.stride, layer.padding),)
    if layer.training:
        return batchnorm_backward(dy, x, layer.weight, layer.eps)
    return batchnorm_eval_backward(
        dy, x, layer.weight, layer.running_mean, layer.running_var, layer.eps
    )
