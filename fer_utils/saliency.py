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
left as it was found: no hooks, no gradients, same mode (see ``anatomy``).

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

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import cones
from .anatomy import checked, chunk_size, layer_name, whole_number
from .chains import split, thin_first


def gradient(model, images, target):
    """∂ logit / ∂ pixel."""
    twin, target = checked(model, images, target)
    thin_first(twin)
    return torch.cat([_gradient(twin, x, t) for x, t in chunks(images, target)])


def gradient_times_input(model, images, target):
    """pixel × ∂ logit / ∂ pixel: what the linearised network adds up."""
    return images.detach() * gradient(model, images, target)


def smoothgrad(model, images, target, samples=50, noise=0.15, generator=None):
    """Mean gradient over noisy copies of a face.

    The noise is normal; its standard deviation is ``noise`` times the face's own range
    (maximum − minimum). It is drawn face by face, ``samples`` at a time, from ``generator``
    (torch's own where None), so it does not depend on how the batch is cut.
    """
    whole_number(samples=samples)
    if not noise >= 0:
        raise ValueError(f"noise must be a share of the face's range, 0 or more, got {noise}")

    def paths(x, first):
        spread = noise * (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))
        kind = {"generator": generator, "dtype": x.dtype, "device": x.device}
        drawn = torch.stack([torch.randn(samples, *face.shape, **kind) for face in x], dim=1)
        noisy = drawn.mul_(spread.view(1, -1, 1, 1, 1)).add_(x)
        return lambda part: first(noisy[part].flatten(0, 1))

    weights = torch.full((samples,), 1 / samples, dtype=torch.float64)
    return _mean_gradient(model, images, target, weights, paths)


def integrated_gradients(model, images, target, steps=50, baseline=0):
    """Mean gradient on the straight line from ``baseline`` to the face, times their difference.

    ``baseline`` is a number or a tensor that broadcasts to ``images`` (a blurred face, say).
    The integral is Gauss–Legendre's with ``steps`` nodes. The maps sum to
    logit(face) − logit(baseline) up to ``completeness_error``.
    """
    whole_number(steps=steps)
    start = like(baseline, images, "baseline")
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    alphas = torch.from_numpy((nodes + 1) / 2).to(images).view(-1, 1, 1, 1, 1)

    def paths(both, first):
        x, x0 = both.chunk(2, dim=1)
        z, z0 = first(x), first(x0)
        dz = z - z0
        return lambda part: torch.addcmul(z0, dz, alphas[part]).flatten(0, 1)

    mean = _mean_gradient(model, images, target, torch.from_numpy(weights / 2), paths, start)
    return mean * (images.detach() - start)


def completeness_error(model, images, target, maps, baseline=0):
    """Sum of a map − (logit of the face − logit of the baseline): (batch,), 0 where complete."""
    twin, target = checked(model, images, target)
    start = like(baseline, images, "baseline")
    pairs = zip(chunks(images, target), chunks(start, target), strict=True)
    with torch.no_grad():
        gain = [(twin(x) - twin(x0)).gather(1, t[:, None])[:, 0] for (x, t), (x0, _) in pairs]
    return maps.flatten(1).sum(1) - torch.cat(gain)


def grad_cam(model, images, target, layer=None):
    """Maps of ``layer`` (the last Conv2d where None), each weighted with its mean gradient.

    Bilinear to the size of the face; negative values are kept (the paper's ReLU is not applied).
    """
    return _cam(model, images, target, layer, lambda g: g.mean((2, 3), keepdim=True))


def hires_cam(model, images, target, layer=None):
    """As ``grad_cam``, each *place* weighted with its own gradient: exact for a linear head."""
    return _cam(model, images, target, layer, lambda g: g)


def guided_backprop(model, images, target):
    """Gradient in which every ReLU also stops negative gradients on their way back.

    For LeakyReLU, which the paper does not define: what its derivative (1 or the slope) lets
    through is cut at zero, as for ReLU. Functional relu counts as well: the rule is hung on
    the graph, not on modules. ValueError where the network has neither.
    """
    twin, target = checked(model, images, target)
    return torch.cat([_gradient(twin, x, t, guide=True) for x, t in chunks(images, target)])


def blurred(images, sigma=4.0):
    """Gaussian blur with mirrored borders: a baseline or fill that keeps a face's shading."""
    reach = min(int(3 * sigma + 0.5), min(images.shape[-2:]) - 1)
    taps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    wide = F.pad(images, (reach,) * 4, mode="reflect")
    across = F.conv2d(wide, kernel, groups=images.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=images.shape[1])


def occlusion(model, images, target, size=8, stride=4, fill=0):
    """Mean loss of the logit over the windows that cover a pixel.

    A window of ``size`` × ``size`` moves by ``stride`` and puts ``fill`` (a number, or a
    tensor that broadcasts to ``images``) over the face; the last one is cut at the border.
    """
    whole_number(size=size, stride=stride)
    twin, target = checked(model, images, target)
    cover = like(fill, images, "fill")
    boxes = [
        (rows, columns)
        for rows in _windows(images.shape[2], size, stride)
        for columns in _windows(images.shape[3], size, stride)
    ]
    chain, rest = split(twin, images.detach(), cones.fits)
    maps, count = torch.zeros_like(images), torch.zeros_like(images[:1])
    for rows, columns in boxes:
        count[:, :, rows, columns] += 1
    step = chunk_size(images)
    with torch.no_grad():
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            x, t = images[part].detach(), target[part, None]
            full = twin(x).gather(1, t)
            hide = _hider(x, cover[part], twin, chain, rest)
            for rows, columns in boxes:
                drop = full - hide(rows, columns).gather(1, t)
                maps[part, :, rows, columns] += drop.view(-1, 1, 1, 1)
    return maps / count


def _hider(x, cover, twin, chain, rest):
    """(rows, columns) -> logits of the faces with that window covered."""
    if chain:
        cone = cones.Cones(chain, x)
        return lambda rows, columns: rest(cone(cover[:, :, rows, columns], rows, columns))

    def plain(rows, columns):
        hidden = x.clone()
        hidden[:, :, rows, columns] = cover[:, :, rows, columns]
        return twin(hidden)

    return plain


def _windows(length, size, stride):
    if size > length:
        raise ValueError(f"size {size} does not fit: the face is {length} pixels wide")
    if stride > size and size < length:
        raise ValueError(
            f"stride {stride} is above size {size}: pixels between windows stay unseen"
        )
    number = -(-(length - size) // stride) + 1
    return [slice(i * stride, min(i * stride + size, length)) for i in range(number)]


def _gradient(twin, x, target, guide=False):
    x = x.detach().clone(memory_format=torch.channels_last).requires_grad_()
    with torch.enable_grad():
        chosen = twin(x).gather(1, target[:, None]).sum()
        return _backward(chosen, x, guide).contiguous()


def _backward(chosen, x, guide=False):
    if not chosen.requires_grad:
        raise ValueError("no gradient leads from the logits to the images")
    if guide:
        _guide(chosen.grad_fn)
    return torch.autograd.grad(chosen, x)[0]


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


def _mean_gradient(model, images, target, weights, paths, start=None):
    """Σ weight × gradient over points that belong to each image.

    ``paths(x, first)`` gives rows(part of the points) -> what ``first`` makes of them. Where
    the network opens with a convolution that nothing else by-passes, ``first`` is that
    convolution: being linear, it sees the summed gradient once on the way back.
    """
    twin, target = checked(model, images, target)
    modules, rest = split(twin, images.detach(), lambda m: type(m) is nn.Conv2d, longest=1)
    first = modules[0] if modules else (lambda x: x)
    rest = rest or twin
    weights = weights.to(images)
    group = min(len(images), chunk_size(images))
    at_once = max(1, chunk_size(images) // group)
    results = []
    for i in range(0, len(images), group):
        x, t = images[i : i + group].detach(), target[i : i + group]
        with torch.no_grad():
            rows = paths(x if start is None else torch.cat([x, start[i : i + group]], dim=1), first)
        total = 0
        for j in range(0, len(weights), at_once):
            part = slice(j, j + at_once)
            with torch.no_grad():
                z = rows(part)
            z.requires_grad_()
            with torch.enable_grad():
                chosen = rest(z).gather(1, t.repeat(len(weights[part]))[:, None])
                weighted = chosen[:, 0] @ weights[part].repeat_interleave(len(x))
                g = _backward(weighted, z).unflatten(0, (-1, len(x)))
            total = total + g.sum(0) if len(g) > 1 else g[0].add_(total)
        if modules:
            with torch.enable_grad():
                x = x.requires_grad_()
                total = torch.autograd.grad(first(x), x, total)[0]
        results.append(total.contiguous())
    return torch.cat(results)


def _cam(model, images, target, layer, weigh):
    name = layer_name(model, layer)
    twin, target = checked(model, images, target, keep=name)
    kept = []

    def keep(module, inputs, output):
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    twin.get_submodule(name).register_forward_hook(keep)
    maps = []
    for x, t in chunks(images.detach(), target):
        kept.clear()
        with torch.enable_grad():
            chosen = twin(x).gather(1, t[:, None]).sum()
        if len(kept) != 1 or not chosen.requires_grad:
            raise ValueError(
                f"layer {name!r} must be used once on the way to the logits, not {len(kept)} times"
            )
        g = torch.autograd.grad(chosen, kept)[0]
        small = (weigh(g) * kept[0].detach()).sum(1, keepdim=True)
        maps.append(F.interpolate(small, images.shape[-2:], mode="bilinear").contiguous())
    return torch.cat(maps)


def chunks(images, target):
    step = chunk_size(images)
    return zip(images.split(step), target.split(step), strict=True)


def like(value, images, name):
    """A number or tensor, spread to the shape of ``images``."""
    value = torch.as_tensor(value, dtype=images.dtype, device=images.device)
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
