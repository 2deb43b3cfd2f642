"""Looking into a network without touching it: the ground that saliency and filters stand on.

``with explained(model) as net`` gives a network to ask: in eval mode, its weights without
gradients, free to be hooked. It is a private copy, so that the model stays as it was by
construction, or the model itself, put back in order, where a copy is impossible: so ask it,
hang hooks on it and take them off again, but write no weight.

- ``check_images``  ValueError for images that no network can be asked about
- ``check_target``  the classes asked for, checked against images and network; in two steps,
                    where the logits are known anyway: ``class_indices``, ``own_logits``
- ``conv_name``     the name of a convolution, checked, or found
- ``activations``   what one layer gives; nothing behind it runs
- ``watched``       a function called whenever one of some layers has run
- ``calls``         every layer in the order of its calls, with input and output

Every complaint is a ValueError in one line. Whatever the network itself says when it refuses
images is quoted.
"""

import contextlib
import copy
import functools
import textwrap
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

PLAIN = {type(None), bool, int, float, str}


@contextmanager
def explained(model):
    """The network to ask: a copy in channels-last memory, or ``model`` itself, restored on exit.

    It is shown copies of its inputs, since a layer may write to them.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("the model is TorchScript, whose layers are hidden: give the nn.Module")
    if torch.is_inference_mode_enabled():
        raise ValueError("no gradient can be asked for here: leave torch.inference_mode first")
    net = _copy(model)
    lent = [(module, dict(vars(module))) for module in model.modules()] if net is model else []
    outer = vars(net).get("_explained") or _Explained(weakref.ref(model), net.forward)
    try:
        for module in net.modules():
            state = vars(module)
            if lent:
                state["_parameters"] = _copied(state["_parameters"], {})
                state["_buffers"] = _copied(state["_buffers"], {})
            state["training"] = False
            if state.get("inplace"):
                state["inplace"] = False
        net._explained = _Explained(outer.original, outer.forward)
        net.forward = types.MethodType(_careful_forward, net)
        yield net
    finally:
        vars(net).pop("forward", None)  # a reference to itself would keep a copy in memory
        vars(net).pop("_explained", None)
        for module, state in lent:
            vars(module).clear()
            vars(module).update(state)


@dataclass
class _Explained:
    original: weakref.ref
    forward: Callable
    channels_last: bool = True
    records: list = field(default_factory=list)  # begun anew when a forward pass is


def _copy(model):
    """A deep copy in channels-last memory; the model itself where it holds what has no copy.

    Modules are copied here: ``copy.deepcopy`` alone takes half as long as a face takes on its
    way through the network and back.
    """
    modules = list(model.modules())
    if any(hasattr(type(module), "__deepcopy__") for module in modules):
        return model  # it has a way of its own
    memo = {id(module): object.__new__(type(module)) for module in modules}
    try:
        for module in modules:
            vars(memo[id(module)]).update(_copied(vars(module), memo))
    except Exception:  # it may hold anything: a lock, an open file, a tensor of a graph in a list
        return model
    return memo[id(model)]


def _copied(value, memo):
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind in (dict, OrderedDict):
        copies = kind(value)
        for key, entry in value.items():
            if type(entry) is OrderedDict and not entry:  # a module has a dozen
                copies[key] = OrderedDict()
            elif type(entry) not in PLAIN:
                copies[key] = _copied(entry, memo)
        return copies
    if kind in (tuple, set):
        return kind([_copied(entry, memo) for entry in value])
    if kind is nn.Parameter:
        memory = torch.channels_last if value.ndim == 4 else torch.preserve_format
        return nn.Parameter(value.detach().to(memory_format=memory, copy=True), False)
    if kind is torch.Tensor:
        return value.detach().clone()  # a buffer, or a map that the network keeps
    return memo[id(value)] if id(value) in memo else copy.deepcopy(value, memo)


def _careful_forward(net, images):
    """The network's own forward pass on a copy of the images; its refusal as one ValueError.

    A network that flattens by ``view`` refuses channels-last maps: it is tried once more in
    contiguous memory, and stays there.
    """
    how = net._explained
    try:
        return how.forward(images.clone(memory_format=torch.contiguous_format))
    except _Reached:
        raise
    except Exception as error:
        if how.channels_last:
            how.channels_last = False
            for weight in net.parameters():
                weight.data = weight.data.to(memory_format=torch.contiguous_format)
            for record in how.records:
                record.clear()
            return _careful_forward(net, images)
        said = textwrap.shorten(str(error), 300, placeholder=" …") or type(error).__name__
        raise ValueError(
            f"the model refuses images of shape {tuple(images.shape)}: {said}"
        ) from error


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
    finite = images.detach().isfinite()
    if not finite.all():
        index = tuple(int(i) for i in (~finite).nonzero()[0])
        raise ValueError(f"images must be finite, got {images[index].item()} at {index}")


def check_target(net, images, target):
    """``target``, one class or one for each of the images, as int64 (batch,); checks both.

    The first image goes through the network once, to see how many classes it knows.
    """
    target = class_indices(images, target)
    with torch.no_grad():
        _check_classes(net(images[:1]), 1, target)
    return target


def class_indices(images, target):
    """As ``check_target``, without asking the network: ``own_logits`` does the rest."""
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
    """Each image's logit of its class: (batch,)."""
    _check_classes(logits, len(target), target)
    return logits.gather(1, target[:, None])[:, 0]


def _check_classes(logits, batch, target):
    if not isinstance(logits, torch.Tensor) or logits.shape[:-1] != (batch,):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"the model must return logits of shape (batch, classes), got {shape} "
            f"for a batch of {batch}"
        )
    wrong = target[(target < 0) | (target >= logits.shape[1])]
    if len(wrong):
        raise ValueError(
            f"target {int(wrong[0])} is out of range: "
            f"the model has classes 0 to {logits.shape[1] - 1}"
        )


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
        places = [*net._explained.original().named_modules(), *named.items()]
        name = next((name for name, module in places if module is layer), None)
        shown = type(layer).__name__
    if name not in named or name == "":
        raise ValueError(f"no layer {shown} in the model {have}")
    if name not in convolutions:
        raise ValueError(f"layer {name!r} is {type(named[name]).__name__}, not Conv2d {have}")
    return name


@contextmanager
def watched(net, names, note, record):
    """``note(name, module, inputs, output)`` is called whenever one of these layers has run.

    ``record`` is the list where it keeps what it saw: emptied if the forward pass starts again
    in other memory.
    """
    handles = [
        net.get_submodule(name).register_forward_hook(functools.partial(note, name))
        for name in names
    ]
    net._explained.records.append(record)
    try:
        yield
    finally:
        net._explained.records.remove(record)
        for handle in handles:
            handle.remove()


class _Reached(Exception):
    """Ends a forward pass at the layer that was asked for."""


def activations(net, layer, images):
    """Output of the layer of that name; nothing behind it runs."""
    found = []

    def stop(name, module, inputs, output):
        found.append(output)
        raise _Reached

    with watched(net, [layer], stop, found), contextlib.suppress(_Reached):
        net(images)
    if not found:
        raise ValueError(f"layer {layer!r} takes no part in the model's forward pass")
    return found[0]


def calls(net, images) -> list[tuple]:
    """Every layer without layers of its own, as often as called: (name, module, input, output)."""
    record = []
    names = [name for name, module in net.named_modules() if not any(module.children())]

    def note(name, module, inputs, output):
        record.append((name, module, inputs[0] if inputs else None, output))

    with torch.no_grad(), watched(net, names, note, record):
        net(images)
    return record


def chunk_size(images) -> int:
    """Rows per pass: 16 faces keep the first layers' maps within a CPU's last cache."""
    return 16 if images.device.type == "cpu" else 512


def whole_number(**values):
    """ValueError unless every value is a whole number, 1 or more."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}")
