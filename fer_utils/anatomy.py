"""Explaining a network without touching it: the ground that saliency and filters stand on.

Whatever is explained is explained on a *private copy* of the model: in eval mode, without
gradients of its weights, in channels-last memory. So the model itself keeps its mode,
gradients and hooks by construction, also when something raises half-way.

- ``private_copy``   that copy;  ``quick_copy``: with its pools brought forward
- ``checked``        the copy and the target, after looking at every argument
- ``layer_name``     a layer given by name or as a module, found; or one clear line
- ``until``          run the network only as far as one layer
- ``keep_memory``    spares a long loop the system's page faults
"""

import copy
import ctypes

import torch
from torch import nn

from .chains import pool_first


def chunk_size(images) -> int:
    """Rows per pass: 32 faces keep the first layer's maps within a CPU's last cache."""
    return 32 if images.device.type == "cpu" else 512


def keep_memory(device) -> None:
    """Let a loop on the CPU that frees maps of many megabytes at every step keep their memory.

    glibc hands large freed blocks back to the system, and then every step faults its pages in
    anew; the process stays as large as it was at its largest. Nothing happens elsewhere.
    """
    if str(device) != "cpu":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**31 - 1)  # M_MMAP_THRESHOLD
    except (OSError, AttributeError):
        pass


def private_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode and channels-last, whose weights ask for no gradient."""
    with torch.no_grad():
        twin = copy.deepcopy(model).eval().requires_grad_(False)
        for module in twin.modules():
            if getattr(module, "inplace", False):
                module.inplace = False
        return twin.to(memory_format=torch.channels_last)


def checked(model, images, target, keep=None):
    """A private copy, and ``target`` as (batch,) int64; ValueError for what cannot be explained.

    The copy pools first where that leaves the logits of the first image as they were;
    layer ``keep`` gives what it gives in the model.
    """
    twin, logits = quick_copy(model, images, keep)
    batch, classes = len(images), logits.shape[1]
    target = torch.as_tensor(target, device=images.device)
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target must hold class indices (integers), got {target.dtype}")
    if target.ndim == 0:
        target = target.expand(batch)
    if target.shape != (batch,):
        raise ValueError(
            f"target must have one class per image: shape ({batch},), got {tuple(target.shape)}"
        )
    if int(target.min()) < 0 or int(target.max()) >= classes:
        wrong = int(target.min()) if int(target.min()) < 0 else int(target.max())
        raise ValueError(
            f"target {wrong} is out of range: the model has classes 0 to {classes - 1}"
        )
    return twin, target.long()


def quick_copy(model, images, keep=None):
    """A private copy, ``pool_first`` where that changes no logit, and the first image's logits."""
    check_images(images)
    twin = private_copy(model)
    logits = _logits(twin, images[:1])
    quick = pool_first(copy.deepcopy(twin), keep)
    with torch.no_grad():
        near = 1e-5 * float(logits.abs().max())
        same = torch.allclose(quick(images[:1]), logits, rtol=1e-5, atol=near)
    return quick if same else twin, logits


def check_images(images):
    """ValueError unless ``images`` is (batch ≥ 1, channels, height, width), floating and finite."""
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise ValueError(f"images must be a floating-point tensor scaled for the model, got {kind}")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            "images must have shape (batch, channels, height, width) with none of them 0, "
            f"got {tuple(images.shape)}"
        )
    bad = ~images.detach().isfinite()
    if bad.any():
        index = tuple(int(i) for i in bad.nonzero()[0])
        raise ValueError(f"images must be finite, got {images[index].item()} at {index}")


def _logits(model, images):
    """Logits of a few images; every complaint of the network as one ValueError."""
    try:
        with torch.no_grad():
            logits = model(images)
    except (RuntimeError, IndexError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the model refuses images of shape {tuple(images.shape)}: {reason}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(images):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"the model must return logits of shape (batch, classes), got {shape} "
            f"for a batch of {len(images)}"
        )
    return logits


def layer_name(model, layer=None) -> str:
    """The name of ``layer`` (a name, a module of the model, or None: the last Conv2d)."""
    named = dict(model.named_modules())
    usual = [name for name, module in named.items() if isinstance(module, nn.Conv2d)]
    if layer is None and not usual:
        raise ValueError("the model has no Conv2d layer")
    name = usual[-1] if layer is None else layer
    if isinstance(layer, nn.Module):
        name = next((name for name, module in named.items() if module is layer), None)
    if name not in named or name == "":
        shown = type(layer).__name__ if isinstance(layer, nn.Module) else repr(layer)
        raise ValueError(f"no layer {shown} in the model (have: {', '.join(usual)})")
    if name not in usual:
        raise ValueError(
            f"layer {name!r} is {type(named[name]).__name__}, not Conv2d (have: {', '.join(usual)})"
        )
    return name


class _Reached(Exception):
    """Ends a forward pass at the layer that was asked for."""


def until(twin, name, images, before=False):
    """Output (``before``: input) of layer ``name`` of a private copy; nothing behind it runs."""
    found = []

    def stop(module, inputs, output=None):
        found.append(inputs[0] if before else output)
        raise _Reached

    layer = twin.get_submodule(name)
    hook = layer.register_forward_pre_hook if before else layer.register_forward_hook
    handle = hook(stop)
    try:
        twin(images)
    except _Reached:
        pass
    finally:
        handle.remove()
    if not found:
        raise ValueError(f"layer {name!r} takes no part in the model's forward pass")
    return found[0]


def whole_number(**values):
    """ValueError unless every value is a whole number, 1 or more."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}")
