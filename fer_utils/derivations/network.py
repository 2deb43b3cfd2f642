"""The backward pass of a whole network by hand, for any chain of layers that chapter 6 derives."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fer_utils.derivations.entropy import softmax_cross_entropy, softmax_cross_entropy_grad
from fer_utils.derivations.layers import (
    average_pool_backward,
    conv2d_backward,
    leaky_relu_backward,
    linear_backward,
    max_pool_backward,
    silu_backward,
)
from fer_utils.derivations.normalisation import batchnorm_backward, batchnorm_eval_backward

KNOWN = (
    "Conv2d (groups 1, zeros around), Linear, BatchNorm, ReLU, LeakyReLU, SiLU, MaxPool2d and "
    "AvgPool2d (no ceil_mode), AdaptiveAvgPool2d to a divisor, Flatten, Dropout in eval mode"
)


@torch.no_grad()
def network_backward(model: nn.Module, images: Tensor, targets: Tensor):
    """(loss, dimages, {parameter: its gradient}): mean cross-entropy's, without autograd.

    The network runs forward once, as it is. Each leaf layer must be given what the one before it
    put out, flattened or not; ValueError for a skip, a functional operation, or a layer without
    a derivation. A batch norm in train mode uses the batch's statistics; nothing is written to
    the model, not even the running ones.
    """
    tape, logits = _run(model, images)
    loss = softmax_cross_entropy(logits, targets).mean()
    dy = softmax_cross_entropy_grad(logits, targets) / len(logits)
    gradients = {}
    for name, layer, x, shape in reversed(tape):
        dy, *own = _backward(name, layer, dy.reshape(shape), x)
        for parameter, gradient in zip(("weight", "bias"), own, strict=False):
            if getattr(layer, parameter) is not None:
                key = f"{name}.{parameter}".lstrip(".")  # a layer may be called twice
                gradients[key] = gradients.get(key, 0) + gradient
    wanted = [name for name, _ in model.named_parameters()]
    if missing := [name for name in wanted if name not in gradients]:
        raise ValueError(f"no backward pass by hand: no layer of the chain holds {missing[0]!r}")
    return loss, dy.reshape(images.shape), {name: gradients[name] for name in wanted}


def _run(model, images):
    """([(name, layer, its input, its output's shape)], logits), each fed by the one before."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("no backward pass by hand through TorchScript: give the nn.Module")
    if not images.isfinite().all():
        raise ValueError("images hold NaN or infinity: they have no gradient")
    tape, last = [], images
    names = {m: name for name, m in model.named_modules() if not any(m.children())}

    def enter(layer, inputs):
        nonlocal last
        if not _is(inputs[0], last):
            raise ValueError(
                f"no backward pass by hand: layer {names[layer]!r} is not fed by the layer called "
                f"before it ({tape[-1][0] if tape else 'the images'}); it needs a chain of nn.Modules"
            )
        last = last.reshape(inputs[0].shape)

    def leave(layer, inputs, output):
        nonlocal last
        if not isinstance(output, Tensor):
            raise ValueError(f"no backward pass by hand: layer {names[layer]!r} returns no tensor")
        tape.append((names[layer], layer, last, output.shape))
        last = output.clone()  # the next layer may work in place

    handles = [layer.register_forward_pre_hook(enter) for layer in names]
    handles += [layer.register_forward_hook(leave) for layer in names]
    # batch norms count into copies of their running statistics
    copies = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        logits = functional_call(model, copies, images)
    except RuntimeError as error:
        words = str(error).splitlines()[0]
        raise ValueError(f"the network refuses images {tuple(images.shape)}: {words}") from error
    finally:
        for handle in handles:
            handle.remove()
    if not tape or not _is(logits, last):
        raise ValueError(
            "no backward pass by hand: the network changes what its last layer "
            f"({tape[-1][0] if tape else 'none'}) put out; it needs a chain of nn.Modules"
        )
    return tape, logits


def _is(x, last):
    """The very values, flattened or not."""
    return x.shape in (last.shape, last.flatten(1).shape) and torch.equal(x, last.reshape(x.shape))


def _backward(name, layer, dy, x):  # -> dx, then weight's and bias's gradients
    match layer:
        case nn.Conv2d(groups=1, padding_mode="zeros"):
            return conv2d_backward(dy, x, layer.weight, layer.stride, layer.padding, layer.dilation)
        case nn.Linear() if x.ndim == 2:
            return linear_backward(dy, x, layer.weight)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return _batchnorm_backward(layer, dy, x)
        case nn.LeakyReLU() | nn.ReLU():
            return (leaky_relu_backward(dy, x, getattr(layer, "negative_slope", 0.0)),)
        case nn.SiLU():
            return (silu_backward(dy, x),)
        case nn.MaxPool2d(ceil_mode=False, dilation=1, return_indices=False):
            return (max_pool_backward(dy, x, layer.kernel_size, layer.stride, layer.padding),)
        case nn.AvgPool2d(ceil_mode=False, count_include_pad=True, divisor_override=None):
            return (average_pool_backward(dy, x, layer.kernel_size, layer.stride, layer.padding),)
        case nn.AdaptiveAvgPool2d() if not any(n % k for n, k in _sides(x, dy)):
            return (average_pool_backward(dy, x, tuple(n // k for n, k in _sides(x, dy))),)
        case nn.Flatten() | nn.Identity():
            return (dy.reshape(x.shape),)
        case nn.Dropout() | nn.Dropout2d() if not (layer.training and layer.p):
            return (dy,)
    raise ValueError(f"no backward pass was derived for layer {name!r}: {layer}; known: {KNOWN}")


def _batchnorm_backward(layer, dy, x):
    gamma = x.new_ones(x.shape[1]) if layer.weight is None else layer.weight
    if layer.training or layer.running_mean is None:
        return batchnorm_backward(dy, x, gamma, layer.eps)
    mean, var = layer.running_mean, layer.running_var
    return batchnorm_eval_backward(dy, x, gamma, mean, var, layer.eps)


def _sides(x, dy):  # (height in, height out), (width in, width out)
    return zip(x.shape[2:], dy.shape[2:], strict=True)
