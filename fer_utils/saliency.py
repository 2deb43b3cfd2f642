"""Which pixels moved the logit: attribution maps for one class.

Every function here has the same contract::

    model   any nn.Module          images -> logits (batch, classes)
    images  (batch, 1, 48, 48)     floating point, scaled as the model expects
    target  (batch,) or one int    class index whose logit is explained
    return  (batch, 1, 48, 48)     signed, logit per unit of input (``gradient``,
                                   ``smoothgrad``, ``guided_backprop``) or logit (the others)

Other shapes than (1, 48, 48) work as well; a class activation map always has one channel.
Maps are not normalised: scaling for display is ``plotting``'s job, so two maps stay
comparable until drawn. The model is explained in eval mode, whatever mode it is in, and is
left as it was found: no hooks, no gradients, same mode (see ``inspection``). Bad input gives
a ValueError in one line.

- ``gradient``              Simonyan et al. 2014, arXiv:1312.6034
- ``gradient_times_input``  Shrikumar et al. 2016, arXiv:1605.01713
- ``smoothgrad``            Smilkov et al. 2017, arXiv:1706.03825
- ``integrated_gradients``  Sundararajan et al. 2017, arXiv:1703.01365
- ``grad_cam``              Selvaraju et al. 2017, arXiv:1610.02391
- ``hires_cam``             Draelos & Carin 2020, arXiv:2011.08891
- ``occlusion``             Zeiler & Fergus 2014, arXiv:1311.2901
- ``guided_backprop``       Springenberg et al. 2015, arXiv:1412.6806: the control that fails
                            (Adebayo et al. 2018, arXiv:1810.03292)
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from .inspection import (
    calls,
    check_images,
    check_target,
    chunk_size,
    conv_name,
    explained,
    own_logits,
    watched,
    whole_number,
)

BLUR = 4  # pixels: standard deviation of the blur that stands for 'no expression'


def gradient(model, images, target):
    """∂ logit / ∂ pixel."""
    with explained(model) as net:
        target = check_target(images, target)
        return torch.cat([_gradient(net, x, t) for x, t in _chunks(images, target)])


def gradient_times_input(model, images, target):
    """pixel × ∂ logit / ∂ pixel: what the linearised network adds up."""
    return gradient(model, images, target) * images.detach()


def smoothgrad(model, images, target, samples=50, noise=0.15, generator=None):
    """Mean gradient over noisy copies of a face.

    The noise is normal; its standard deviation is ``noise`` times the face's own range
    (maximum − minimum). It is drawn face by face, ``samples`` at a time, from ``generator``
    (torch's own where None), so it does not depend on how the batch is cut.
    """
    whole_number(samples=samples)
    if not noise >= 0:
        raise ValueError(f"noise must be a share of the face's range, 0 or more, got {noise}")

    def noisy(x):
        kind = {"generator": generator, "dtype": x.dtype, "device": x.device}
        drawn = torch.stack([torch.randn(samples, *face.shape, **kind) for face in x], dim=1)
        spread = noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
        points = drawn.mul_(spread).add_(x)
        return lambda some: points[some]

    weights = torch.full((samples,), 1 / samples, dtype=torch.float64)
    with explained(model) as net:
        target = check_target(images, target)
        parts = _chunks(images.detach(), target)
        return torch.cat([_mean_gradient(net, noisy(x), t, weights) for x, t in parts])


def integrated_gradients(model, images, target, steps=50, baseline=0):
    """Mean gradient on the straight line from ``baseline`` to the face, times their difference.

    ``baseline`` is a number or a tensor that broadcasts to ``images`` (a blurred face, say).
    The integral is Gauss–Legendre's with ``steps`` nodes. The maps sum to
    logit(face) − logit(baseline) up to ``completeness_error``.
    """
    whole_number(steps=steps)
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(steps))

    def line(x, x0):
        share = ((nodes + 1) / 2).to(x).view(-1, 1, 1, 1, 1)
        return lambda some: torch.lerp(x0, x, share[some])

    with explained(model) as net:
        target = check_target(images, target)
        start = like(baseline, images, "baseline")
        parts = _chunks(images.detach(), start, target)
        means = [_mean_gradient(net, line(x, x0), t, weights / 2) for x, x0, t in parts]
        return torch.cat(means) * (images.detach() - start)


def completeness_error(model, images, target, maps, baseline=0):
    """Sum of a map − (logit of the face − logit of the baseline): (batch,), 0 where complete."""
    with explained(model) as net, torch.no_grad():
        target = check_target(images, target)
        start = like(baseline, images, "baseline")
        gain = [
            own_logits(net(x), t) - own_logits(net(x0), t)
            for x, x0, t in _chunks(images, start, target)
        ]
        return maps.flatten(1).sum(1) - torch.cat(gain)


def grad_cam(model, images, target, layer=None):
    """Maps of ``layer``, each weighted with its mean gradient.

    ``layer`` is a Conv2d, by name or as a module; None is the last that the forward pass uses.
    Bilinear to the size of the face; negative values are kept (the paper's ReLU is not applied).
    """
    return _cam(model, images, target, layer, lambda g: g.mean((2, 3), keepdim=True))


def hires_cam(model, images, target, layer=None):
    """As ``grad_cam``, each *place* weighted with its own gradient: exact for a linear head."""
    return _cam(model, images, target, layer, lambda g: g)


def guided_backprop(model, images, target):
    """Gradient in which every ReLU also stops negative gradients on their way back.

    LeakyReLU, which the paper does not define, is guided too: what its derivative (1 or the
    slope) lets through is cut at zero, as for ReLU. captum guides ``nn.ReLU`` alone, so on a
    network with LeakyReLU the two maps differ. Functional relu counts as well: the rule is
    hung on the graph, not on modules. ValueError where the network has neither.
    """
    with explained(model) as net:
        target = check_target(images, target)
        return torch.cat([_gradient(net, x, t, guide=True) for x, t in _chunks(images, target)])


def blurred(images):
    """Gaussian blur with mirrored borders: a baseline or fill that keeps a face's shading."""
    check_images(images)
    reach = min(3 * BLUR, min(images.shape[-2:]) - 1)
    taps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (taps / BLUR) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    wide = F.pad(images, (reach,) * 4, mode="reflect")
    across = F.conv2d(wide, kernel, groups=images.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=images.shape[1])


def occlusion(model, images, target, size=8, stride=4, fill=0):
    """Mean fall of the logit over the windows that cover a pixel.

    A window of ``size`` × ``size`` moves by ``stride`` and puts ``fill`` (a number, or a
    tensor that broadcasts to ``images``) over the face; the last one is cut at the border.
    """
    whole_number(size=size, stride=stride)
    with explained(model) as net, torch.no_grad():
        target = check_target(images, target)
        images = images.detach()
        cover = like(fill, images, "fill")
        down, across = (_windows(length, size, stride) for length in images.shape[2:])
        boxes = [(..., rows, columns) for rows in down for columns in across]
        full = torch.cat([own_logits(net(x), t) for x, t in _chunks(images, target)])
        chain = _checked_chain(net, images[:1], cover[:1], boxes) if len(images) >= FEW else []
        step = chunk_size(images) * (4 if chain else 1)  # a cone's maps are small
        maps, count = torch.zeros_like(images), torch.zeros_like(images[:1])
        for x, over, t, before, drops in _chunks(images, cover, target, full, maps, step=step):
            for box, after in zip(boxes, _covered(net, chain, x, over, boxes), strict=True):
                drops[box] += (before - own_logits(after, t)).view(-1, 1, 1, 1)
        for box in boxes:
            count[box] += 1
    return maps / count


def _windows(length, size, stride):
    if size > length:
        raise ValueError(f"size {size} does not fit: a side of the face has {length} pixels")
    if stride > size and size < length:
        raise ValueError(f"stride {stride} is above size {size}: pixels between stay unseen")
    number = math.ceil((length - size) / stride) + 1
    return [slice(i * stride, min(i * stride + size, length)) for i in range(number)]


def _covered(net, chain, x, cover, boxes):
    """Logits (batch, classes) with one window covered, window after window."""
    if chain:
        cone = _Cone(chain, x)
        yield from (net(cone(cover[box], box[1:])) for box in boxes)
        return
    at_once = max(1, chunk_size(x) // len(x))
    for i in range(0, len(boxes), at_once):
        some = boxes[i : i + at_once]
        hidden = x.repeat(len(some), 1, 1, 1)
        for faces, box in zip(hidden.split(len(x)), some, strict=True):
            faces[box] = cover[box]
        yield from net(hidden).split(len(x))


# A patch of 8 × 8 pixels moves 6 % of the first convolution's outputs, 11 % of the second's.
# Where a network begins with simple layers, each fed by the one before, occlusion recomputes
# the patch's cone alone. The network behind is the network whose first layers pass on what
# they are given. For a few faces it is quicker to send several windows at once.

FEW = 4
ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Identity, nn.Dropout,
    nn.Dropout2d,
)  # fmt: skip


def _checked_chain(net, image, cover, boxes):
    """The longest chain whose cone gives what the plain way gives, for two windows on one face.

    From now on its layers pass on what they are given.
    """
    chain = _chain(net, image)
    some = [boxes[0], boxes[len(boxes) // 2]]
    truth = torch.cat([*_covered(net, [], image, cover, some)])
    tolerance = torch.finfo(truth.dtype).eps ** 0.5 * truth.abs().max()
    for layer in chain:
        layer.forward = nn.Identity().forward
    while chain:
        try:
            quick = torch.cat([*_covered(net, chain, image, cover, some)])
            if quick.shape == truth.shape and (quick - truth).abs().max() <= tolerance:
                break
        except ValueError:
            pass  # what stands behind wants other shapes: it looks at an earlier layer as well
        del chain.pop().forward
    return chain


def _chain(net, image):
    """The simple layers that the network begins with, each fed by the one before."""
    chain, value = [], image
    for _, layer, given, output in calls(net, image):
        fed = given is value if chain else _same(given, image)
        if not fed or not _simple(layer) or layer in chain:
            break
        chain.append(layer)
        value = output
    return chain


def _same(given, image):
    """Whether a layer is given the very image: a network may also cast it first."""
    is_tensor = isinstance(given, torch.Tensor)
    return is_tensor and given.dtype == image.dtype and torch.equal(given, image)


def _simple(layer):
    """Whether a patch's cone is known: the layer does what its type says, with plain borders."""
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        return False
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if type(layer) is nn.MaxPool2d:
        return not layer.ceil_mode and not layer.return_indices
    if type(layer) is nn.BatchNorm2d:
        return layer.running_mean is not None
    return type(layer) in ELEMENTWISE


class _Cone:
    """A chain's output for some faces, recomputed only where a patch over them changes it."""

    def __init__(self, chain, images):
        self.steps = []  # (layer, its padded input; None where it works value by value)
        for layer in chain:
            seen = None
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                down, across = _pair(layer.padding)
                outside = -math.inf if isinstance(layer, nn.MaxPool2d) else 0.0
                seen = images = F.pad(images, (across, across, down, down), value=outside)
            self.steps.append((layer, seen))
            images = _unpadded(layer, images)
        self.output = images

    def __call__(self, patch, sides):
        """The output with ``patch`` (batch, channels, h, w) at two slices of the faces."""
        for layer, seen in self.steps:
            if seen is None:
                patch = _unpadded(layer, patch)
                continue
            reach = [_reach(layer, axis, sides[axis], seen.shape[2 + axis]) for axis in (0, 1)]
            places, needed, sides = zip(*reach, strict=True)
            if any(side.start >= side.stop for side in sides):
                return self.output
            kept = seen[(..., *places)].clone()
            seen[(..., *places)] = patch
            patch = _unpadded(layer, seen[(..., *needed)])
            seen[(..., *places)] = kept
        output = self.output.clone()
        output[(..., *sides)] = patch
        return output


def _reach(layer, axis, side, length):
    """Along one axis: the patch's place in the padded map of ``length``, what must be seen, and
    which outputs that moves."""
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    kernel, stride, padding, dilation = (_pair(size)[axis] for size in sizes)
    span = dilation * (kernel - 1)
    place = slice(side.start + padding, side.stop + padding)
    first = max(-((span - place.start) // stride), 0)
    stop = min((place.stop - 1) // stride, (length - 1 - span) // stride) + 1
    return place, slice(first * stride, (stop - 1) * stride + span + 1), slice(first, stop)


def _unpadded(layer, x):
    """The layer applied to x; a convolution or pool adds no padding of its own."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    if isinstance(layer, nn.MaxPool2d):
        return F.max_pool2d(x, layer.kernel_size, layer.stride, 0, layer.dilation)
    return type(layer).forward(layer, x)


def _gradient(net, images, target, guide=False):
    images = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        chosen = own_logits(net(images), target).sum()
    if not chosen.requires_grad:
        raise ValueError("no gradient leads from the logits to the images")
    if guide:
        _guide(chosen.grad_fn)
    return torch.autograd.grad(chosen, images)[0].contiguous()


def _guide(root):
    """Hang guided backprop's rule on every ReLU of the graph."""
    seen, stack, found = set(), [root], False
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack.extend(following for following, _ in node.next_functions)
        if node.name().startswith(("ReluBackward", "LeakyReluBackward")):
            node.register_hook(lambda inward, outward: (inward[0].clamp(min=0),))
            found = True
    if not found:
        raise ValueError("guided backprop needs ReLU or LeakyReLU, the network has neither")


def _mean_gradient(net, points, target, weights):
    """Σ weight × gradient at a face's points: ``points(slice)`` makes some of them as needed.

    What it gives is (some, batch, channels, height, width); ``weights`` (all of them,).
    """
    total = 0
    at_once = max(1, chunk_size(target) // len(target))
    for i in range(0, len(weights), at_once):
        some = points(slice(i, i + at_once))
        g = _gradient(net, some.flatten(0, 1), target.repeat(len(some)))
        weight = weights[i : i + at_once].to(g)
        total = total + torch.tensordot(weight, g.unflatten(0, (len(some), -1)), 1)
    return total


def _cam(model, images, target, layer, weigh):
    with explained(model) as net:
        target = check_target(images, target)
        name = conv_name(net, images, layer)
        kept, maps = [], []

        def keep(name, module, given, output):
            kept.append(output.detach().requires_grad_())
            return kept[-1].clone()

        with watched(net, [name], keep, kept):
            for x, t in _chunks(images.detach(), target):
                kept.clear()
                with torch.enable_grad():
                    chosen = own_logits(net(x), t).sum()
                if len(kept) != 1:
                    raise ValueError(
                        f"layer {name!r} must be used once on the way to the logits, "
                        f"not {len(kept)} times"
                    )
                if not chosen.requires_grad:
                    raise ValueError(f"no gradient leads from the logits to layer {name!r}")
                (g,) = torch.autograd.grad(chosen, kept)
                small = (weigh(g) * kept[0].detach()).sum(1, keepdim=True)
                maps.append(F.interpolate(small, images.shape[-2:], mode="bilinear").contiguous())
    return torch.cat(maps)


def _chunks(*tensors, step=None):
    """The tensors, cut alike into ``step`` rows, by default as many as one pass takes."""
    step = step or chunk_size(tensors[0])
    return zip(*(tensor.split(step) for tensor in tensors), strict=True)


def like(value, images, name):
    """A number or tensor, spread to the shape of ``images``; no gradient leads through it."""
    value = torch.as_tensor(value, dtype=images.dtype, device=images.device).detach()
    try:
        value = value.expand(images.shape)
    except RuntimeError:
        raise ValueError(
            f"{name} of shape {tuple(value.shape)} does not broadcast to images "
            f"{tuple(images.shape)}"
        ) from None
    if not value.isfinite().all():
        raise ValueError(f"{name} must be finite")
    return value
