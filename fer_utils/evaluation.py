"""Can an attribution map be trusted? Scores against a known truth, and controls that know nothing.

``maps`` are (n, 1, h, w), larger = more important: hand over ``importance(map)``, or use
``METHODS``, which knows for each method whether its sign is evidence or direction. ``masks``
are (n, h, w) or (n, 1, h, w), true where the expression lies. Every score is one number a
face, so that intervals can be drawn over faces.

=================== ======================================================= ==============
score               question                                                good
=================== ======================================================= ==============
pointing_game       does the strongest pixel lie in the mask?               high
mass_in_mask        what share of the map lies in the mask?                 high
rank_accuracy       of the |mask| strongest pixels, how many lie in it?     high
deletion            class probability while the strongest go first          low
insertion           the same while they come back first                     high
random network      rank correlation with its map of the same face          low
cascading           the same, layer by layer from the output                falling
stability           rank correlation with the map of a noisy face           high
=================== ======================================================= ==============

Zhang et al. 2018 (arXiv:1608.00507), Arras et al. 2022 (arXiv:2003.07258), Petsiuk et al.
2018 (arXiv:1806.07421), Adebayo et al. 2018 (arXiv:1810.03292). No score says it all: the
three controls show what each is worth. A centre prior alone inserts well on faces.
"""

import torch
from torch import nn
from torch.nn import functional as F

from . import saliency
from .anatomy import checked, private_copy, whole_number


def centre_prior(images):
    """Control: a Gaussian blob in the middle, a quarter of the face wide."""
    height, width = images.shape[2:]
    y = torch.linspace(-2, 2, height).to(images)
    x = torch.linspace(-2, 2, width).to(images)
    blob = torch.exp(-(y[:, None] ** 2 + x**2) / 2)
    return blob.expand(len(images), 1, height, width).clone()


def edges(images):
    """Control: Sobel's edge strength, which never asks the network."""
    sobel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]]).to(images)
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return (
        F.conv2d(grey, sobel[None, None]) ** 2 + F.conv2d(grey, sobel.T[None, None]) ** 2
    ).sqrt()


def random_map(images):
    """Control: noise, the same at each call."""
    generator, shape = torch.Generator().manual_seed(0), (len(images), 1, *images.shape[2:])
    return torch.rand(shape, generator=generator, dtype=images.dtype).to(images.device)


def magnitude(maps):
    """|map|: for gradients, whose sign says 'brighter' or 'darker', not 'for' or 'against'."""
    return maps.abs().sum(1, keepdim=True)


def evidence(maps):
    """The part of a map that speaks for the class."""
    return maps.sum(1, keepdim=True).clamp(min=0)


METHODS = {  # name: (map of (model, images, target), what of it is importance)
    "gradient": (saliency.gradient, magnitude),
    "gradient × input": (saliency.gradient_times_input, evidence),
    "SmoothGrad": (saliency.smoothgrad, magnitude),
    "integrated gradients": (saliency.integrated_gradients, evidence),
    "Grad-CAM": (saliency.grad_cam, evidence),
    "HiResCAM": (saliency.hires_cam, evidence),
    "guided backprop": (saliency.guided_backprop, magnitude),
    "occlusion": (saliency.occlusion, evidence),
    "control: centre prior": (lambda model, images, target: centre_prior(images), evidence),
    "control: edges": (lambda model, images, target: edges(images), evidence),
    "control: random": (lambda model, images, target: random_map(images), evidence),
}


def importance(name, model, images, target, **options):
    """The map of ``METHODS[name]`` as importance, 0 or more: (n, 1, h, w)."""
    if name not in METHODS:
        raise ValueError(f"no method {name!r} (have: {', '.join(METHODS)})")
    method, reading = METHODS[name]
    return reading(method(model, images, target, **options))


def pointing_game(maps, masks):
    """1 where the strongest pixel lies in the mask, else 0: (n,)."""
    maps, masks = _flat(maps, masks)
    return masks.gather(1, maps.argmax(1, keepdim=True))[:, 0].to(maps)


def mass_in_mask(maps, masks):
    """Share of the map's mass within the mask: (n,), NaN for an empty map."""
    maps, masks = _flat(maps, masks)
    maps = maps.clamp(min=0)
    return (maps * masks).sum(1) / maps.sum(1)


def rank_accuracy(maps, masks):
    """Of the |mask| strongest pixels, the share within the mask: (n,), NaN for an empty mask."""
    maps, masks = _flat(maps, masks)
    rank = maps.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    size = masks.sum(1, keepdim=True)
    return ((rank < size) & masks).sum(1) / size[:, 0].to(maps)


def mass_by_part(maps, parts):
    """Share of the map's mass within each part, parts (n, p, h, w): (n, p)."""
    mass = maps.clamp(min=0).sum(1, keepdim=True)
    return (mass * parts.to(mass)).sum((2, 3)) / mass.sum((1, 2, 3))[:, None]


def deletion(model, images, target, maps, fill=None, steps=24):
    """Mean class probability while the strongest pixels go, from none to all of them: (n,).

    ``fill`` stands where pixels went: a number or tensor, or the blurred face where None.
    Let it differ from what the map's own method fills in, or the score praises itself.
    """
    return _curve(model, images, target, maps, fill, steps, removing=True).mean(1)


def insertion(model, images, target, maps, fill=None, steps=24):
    """Mean class probability while the strongest pixels come back over ``fill``: (n,)."""
    return _curve(model, images, target, maps, fill, steps, removing=False).mean(1)


def _curve(model, images, target, maps, fill, steps, removing):
    whole_number(steps=steps)
    twin, target = checked(model, images, target)
    if maps.ndim != 4 or len(maps) != len(images) or maps.shape[2:] != images.shape[2:]:
        raise ValueError(f"maps {tuple(maps.shape)} do not fit images {tuple(images.shape)}")
    cover = saliency.blurred(images) if fill is None else saliency.like(fill, images, "fill")
    rank = maps.sum(1).flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rank = rank.view(len(images), 1, *images.shape[2:])
    curve = []
    for share in torch.linspace(0, 1, steps + 1).tolist():
        first = rank < round(share * rank[0].numel())
        mixed = torch.where(first, cover, images) if removing else torch.where(first, images, cover)
        with torch.no_grad():
            p = [
                twin(x).softmax(1).gather(1, t[:, None]) for x, t in saliency.chunks(mixed, target)
            ]
        curve.append(torch.cat(p))
    return torch.cat(curve, dim=1)


def rank_correlation(a, b):
    """Spearman's ρ of two maps, face by face: (n,); ties share their mean rank, NaN if flat."""
    from scipy.stats import rankdata

    a, b = (torch.from_numpy(rankdata(m.flatten(1).cpu().numpy(), axis=1)) for m in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def randomised(model, seed=0, only=None):
    """A copy with freshly initialised layers: all, or those named in ``only``."""
    twin = private_copy(model).requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in twin.named_modules():
            if hasattr(module, "reset_parameters") and (only is None or name in only):
                module.reset_parameters()
    return twin


def cascading_randomisation(method, model, images, target, seed=0):
    """[(layer, ρ (n,))] of each Conv2d and Linear, all from the output down to it randomised."""
    before, result, gone = method(model, images, target), [], set()
    for name, module in reversed(list(model.named_modules())):
        if hasattr(module, "reset_parameters"):
            gone.add(name)
        if isinstance(module, nn.Conv2d | nn.Linear):
            after = method(randomised(model, seed, gone), images, target)
            result.append((name, rank_correlation(before, after)))
    return result


def stability(method, model, images, target, noise=0.05, samples=4, seed=0):
    """Mean rank correlation of a face's map with those of the face under slight noise: (n,).

    The noise is normal with ``noise`` times the face's own range as its standard deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    before = method(model, images, target)
    spread = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    total = 0
    for _ in range(samples):
        drawn = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
        total = total + rank_correlation(before, method(model, images + spread * drawn, target))
    return total / samples


def _flat(maps, masks):
    masks = torch.as_tensor(masks, device=maps.device)
    if masks.ndim == 3:
        masks = masks[:, None]
    if maps.ndim != 4 or maps.shape[1] != 1 or masks.shape != maps.shape:
        raise ValueError(
            f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must both be (n, 1, h, w)"
        )
    return maps.flatten(1), masks.flatten(1).bool()
