"""Looking into a network without changing it: the ground that saliency and filters stand on.

``with explained(model) as net`` lends the model itself: in eval mode, its weights without
gradients and in the memory layout that is quickest. What it holds is put back on the way out,
also after an exception. Ask it, hang hooks on it and take them off again.

- ``blank``         an image of zeros to ask it about
- ``check_images``  ValueError for images that no network can be asked about
- ``check_target``  the classes asked for, one for each image;  ``own_logits``: their logits
- ``conv_name``     the name of a convolution, checked, or found
- ``activations``   what one layer gives; nothing behind it runs
- ``watched``       a function called whenever one of some layers has run
- ``calls``         every layer in the order of its calls, with input and output

Every complaint is a ValueError in one line. Whatever the network itself says when it refuses
images is quoted.
"""

import contextlib
import functools
import textwrap
import threading
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import nn

FACE = (1, 48, 48)  # channels, height, width
ONE_AT_A_TIME = threading.RLock()  # two threads must not put back what the other has lent


@contextmanager
def explained(model):
    """The network to ask: ``model`` itself, put back as it was on exit.

    Inside, its modules hold frozen copies or views of their weights and copies of their
    buffers, so that the caller's tensors are never touched. The network is shown copies of its
    inputs, since a layer may write to them.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {type(model).__name__}")
    if torch.is_inference_mode_enabled():
        raise ValueError("no gradient can be asked for here: leave torch.inference_mode first")
    with ONE_AT_A_TIME:
        net = getattr(model, "_orig_mod", model)  # what torch.compile was given
        if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
            raise ValueError("TorchScript hides its layers: give the nn.Module behind it")
        lent = [(vars(module), dict(vars(module))) for module in net.modules()]
        try:
            for state, kept in lent:
                weights, buffers = kept["_parameters"].items(), kept["_buffers"].items()
                state["_parameters"] = {name: _frozen(weight) for name, weight in weights}
                state["_buffers"] = {k: v if v is None else v.clone() for k, v in buffers}
                state["training"] = False
                if state.get("inplace"):
                    state["inplace"] = False
            net._channels_last, net._records = True, []
            net.forward = functools.partial(_careful_forward, net, net.forward)
            yield net
        finally:
            for state, kept in lent:
                state.clear()
                state.update(kept)


def _frozen(weight):
    if weight is None:
        return None
    memory = torch.channels_last if weight.ndim == 4 else torch.preserve_format
    return nn.Parameter(weight.detach().to(memory_format=memory), False)


def _careful_forward(net, forward, images):
    """The network's own forward pass on a copy of the images; its refusal as one ValueError.

    A network that flattens by ``view`` refuses channels-last maps: it is tried once more in
    contiguous memory, and stays there.
    """
    try:
        return forward(images.clone(memory_format=torch.contiguous_format))
    except _Reached:
        raise
    except Exception as error:
        if net._channels_last:
            net._channels_last = False
            for weight in net.parameters():
                weight.data = weight.data.clone(memory_format=torch.contiguous_format)
            for record in net._records:
                record.clear()
            return _careful_forward(net, forward, images)
        said = textwrap.shorten(str(error), 300, placeholder=" …") or type(error).__name__
        raise ValueError(
            f"the model refuses images of shape {tuple(images.shape)}: {said}"
        ) from error


def blank(net, shape=FACE):
    """One image of zeros, (1, channels, height, width), in the network's precision and place."""
    weight = next(net.parameters(), None)
    if weight is None:
        raise ValueError("the model has no weights, so no layer to look into")
    return weight.new_zeros(1, *shape)


def check_images(images):
    """ValueError unless ``images`` is (batch ≥ 1, channels, height, width), floating and finite."""
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(f"images must be a floating-point tensor scaled for the model, got {kind}")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            "images must have shape (batch, channels, height, width) with none of them 0, "
            f"got {tuple(images.shape)}"
        )
    if not images.detach().isfinite().all():
        raise ValueError("images must be finite, got nan or infinity")


def check_target(images, target):
    """``target``, one class or one for each of the images, as int64 (batch,); checks both.

    Whether the network has such a class is for ``own_logits`` to say.
    """
    check_images(images)
    try:
        target = torch.as_tensor(target, device=images.device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"target must be a class index, or one for each image, got {target!r}"
        ) from None
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target must hold class indices (integers), got {target.dtype}")
    if target.ndim and target.shape != images.shape[:1]:
        raise ValueError(
            f"target must have one class per image: shape ({len(images)},), "
            f"got {tuple(target.shape)}"
        )
    return target.long().expand(len(images))


def own_logits(logits, target):
    """Each image's logit of its class, (batch, classes) -> (batch,); ValueError if it has none."""
    shape = getattr(logits, "shape", type(logits).__name__)
    if not isinstance(logits, torch.Tensor) or shape[:-1] != target.shape:
        raise ValueError(
            f"the model must return logits of shape (batch, classes), got {shape} "
            f"for a batch of {len(target)}"
        )
    wrong = target[(target < 0) | (target >= logits.shape[1])]
    if len(wrong):
        raise ValueError(
            f"target {int(wrong[0])} is out of range: "
            f"the model has classes 0 to {logits.shape[1] - 1}"
        )
    return logits.gather(1, target[:, None])[:, 0]


def conv_name(net, images, layer=None) -> str:
    """The name of ``layer``: a name, a module of the model, or None for the last Conv2d used.

    Used is what the forward pass of the first image calls.
    """
    named = dict(net.named_modules())
    convolutions = [name for name, module in named.items() if isinstance(module, nn.Conv2d)]
    have = f"(have: {', '.join(convolutions)})"
    if not convolutions:
        raise ValueError("the model has no Conv2d layer")
    if layer is None:
        called = [name for name, *_ in calls(net, images[:1]) if name in convolutions]
        if not called:
            raise ValueError(f"no Conv2d takes part in the model's forward pass {have}")
        return called[-1]
    name, shown = layer, repr(layer)
    if isinstance(layer, nn.Module):
        name = next((name for name, module in named.items() if module is layer), None)
        shown = type(layer).__name__
    if name not in named or name == "":
        raise ValueError(f"no layer {shown} in the model {have}")
    if name not in convolutions:
        raise ValueError(f"layer {name!r} is {type(named[name]).__name__}, not Conv2d {have}")
    return name


@contextmanager
def watched(net, names, note, record):
    """``note(name, module, given, output)`` is called whenever one of these layers has run.

    ``given`` is the layer's first input; what ``note`` returns, if anything, is passed on in
    place of the output. ``record`` is the list where it keeps what it saw: emptied if the
    forward pass starts again in other memory.
    """
    handles = [
        net.get_submodule(name).register_forward_hook(
            functools.partial(_noted, note, name), with_kwargs=True
        )
        for name in names
    ]
    net._records.append(record)
    try:
        yield
    finally:
        net._records.remove(record)
        for handle in handles:
            handle.remove()


def _noted(note, name, module, inputs, named_inputs, output):
    given = next(iter((*inputs, *named_inputs.values())), None)
    return note(name, module, given, output)


class _Reached(Exception):
    """Ends a forward pass at the layer that was asked for."""


def activations(net, layer, images):
    """Output of the layer of that name; nothing behind it runs."""
    if layer not in dict(net.named_modules()):
        raise ValueError(f"no layer {layer!r} in the model")
    found = []

    def stop(name, module, given, output):
        found.append(output)
        raise _Reached

    with watched(net, [layer], stop, found), contextlib.suppress(_Reached):
        net(images)
    if not found:
        raise ValueError(f"layer {layer!r} takes no part in the model's forward pass")
    return found[0]


def calls(net, images) -> list[tuple]:
    """Every layer without layers of its own, as often as called: (name, module, input, output).

    A layer whose weight is computed (``torch.nn.utils.parametrizations``) counts as one.
    """
    record, names = [], []
    for name, module in net.named_modules():
        own = [child for child, _ in module.named_children() if child != "parametrizations"]
        if not own and "parametrizations" not in name:
            names.append(name)

    def note(name, module, given, output):
        record.append((name, module, given, output))

    with torch.no_grad(), watched(net, names, note, record):
        net(images)
    return record


def chunk_size(images) -> int:
    """Rows per pass: 16 faces keep the first layers' maps within a CPU's last cache."""
    return 16 if images.device.type == "cpu" else 512


def whole_number(**values):
    """ValueError unless every value is a whole number, 1 or more."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}")
