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
    "AvgPool2d (no ceil_mode), AdaptiveAvgPool2d to a divisor, Flatten, Identity, Dropout in "
    "eval mode"
)


@torch.no_grad()
def network_backward(model: nn.Module, images: Tensor, targets: Tensor):
    """(loss, dimages, {parameter: its gradient}): mean cross-entropy's, without autograd.

    The network runs forward once, as it is. Each leaf layer must be given what the one before it
    put out, flattened or not; a ValueError names the first layer that is not, or that has no
    derivation. A batch norm in train mode uses the batch's statistics; nothing is written to
    the model, not even the running ones.
    """
    tape, logits = _forward(model, images)
    loss = softmax_cross_entropy(logits, targets).mean()
    dy = softmax_cross_entropy_grad(logits, targets) / len(logits)
    gradients = {}
    for name, layer, x, output in reversed(tape):
        dy, *own = _backward(name, layer, dy.reshape(output.shape), x)
        for parameter, gradient in zip(("weight", "bias"), own, strict=False):
            if getattr(layer, parameter) is not None:
                key = f"{name}.{parameter}".lstrip(".")  # a layer may be called twice
                gradients[key] = gradients.get(key, 0) + gradient
    wanted = [name for name, _ in model.named_parameters()]
    if missing := [name for name in wanted if name not in gradients]:
        raise ValueError(f"no backward pass by hand: no layer of the chain holds {missing[0]!r}")
    return loss, dy.reshape(images.shape), {name: gradients[name] for name in wanted}


def _forward(model, images):
    """([(name, layer, its input, its output)], logits), each fed by the one before."""
    if not images.isfinite().all():
        raise ValueError("images hold NaN or infinity: they have no gradient")
    names = {m: name for name, m in model.named_modules() if not any(m.children())}
    tape, inputs = [], []

    def enter(layer, given):
        if not given or not isinstance(given[0], Tensor):
            raise ValueError(
                f"no backward pass by hand: layer {names[layer]!r} is given no tensor by position"
            )
        inputs.append(given[0].clone())  # the layer may work in place, and so may the next one

    def leave(layer, given, output):
        if not isinstance(output, Tensor) or output.ndim < 2:
            raise ValueError(
                f"no backward pass by hand: layer {names[layer]!r} returns no batch of values"
            )
        tape.append((names[layer], layer, inputs[-1], output.clone()))

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
    source, given = "the images", images
    for name, _, x, output in tape:
        _check_fed(f"layer {name!r}", x, source, given)
        source, given = f"layer {name!r}", output
    _check_fed("the network's answer", logits, source, given)
    return tape, logits


def _check_fed(place, x, source, given):
    """ValueError unless x holds the very values given, flattened or not."""
    flat = given.flatten(1)
    fits = isinstance(x, Tensor) and x.shape in (given.shape, flat.shape)
    if not fits or not torch.equal(x.flatten(1), flat):
        raise ValueError(
            f"no backward pass by hand: {place} is not fed by {source}, called before it; it "
            "needs a chain of nn.Modules"
        )


def _backward(name, layer, dy, x):  # -> dx, then weight's and bias's gradients
    unknown = ValueError(
        f"no backward pass was derived for layer {name!r}: {layer}; known: {KNOWN}"
    )
    if not type(layer).__module__.startswith("torch.nn."):
        raise unknown  # a class of one's own may compute anything
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
    raise unknown


def _batchnorm_backward(layer, dy, x):
    gamma = x.new_ones(x.shape[1]) if layer.weight is None else layer.weight
    if layer.training or layer.running_mean is None:
        return batchnorm_backward(dy, x, gamma, layer.eps)
    mean, var = layer.running_mean, layer.running_var
    return batchnorm_eval_backward(dy, x, gamma, mean, var, layer.eps)


def _sides(x, dy):  # (height in, height out), (width in, width out)
    return zip(x.shape[2:], dy.shape[2:], strict=True)
