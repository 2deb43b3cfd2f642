"""What a filter responds to: where it looks, what excites it, what it tells, who misses it.

One definition holds throughout. A filter's *activation* is the output of its convolution
(``layer``, before anything behind it) at a *middle unit*: one whose receptive field lies
whole within the face, so that no zero padding takes part. ``FerCNN``'s last convolution has
four middle units of its 6 × 6, each seeing 40 × 40 pixels. In a deeper network every unit may see
the whole face; then the central one is taken, and padding takes part. Optima and patches are
exactly that crop, so their activations compare like with like.

``layer`` is a Conv2d's name, the module itself, or None for the last one that the network
uses; ``images`` are (n, channels, height, width), scaled as the model expects. Any
``nn.Module`` will do, and is left as it was found.

- ``stages``             the convolutions, first to last
- ``receptive_field``    measured from the gradient
- ``responses``          every filter's activation to every face;  ``activation``: to crops
- ``top_patches``        the crops behind the strongest, median or weakest
- ``maximise``           activation maximisation (Erhan et al. 2009, technical report 1341,
                         Université de Montréal) under a prior: ``FreePixels`` or
                         ``PowerSpectrum``;  ``maximise_logits``: the same for the outputs
- ``class_tuning``, ``eta_squared``    what a filter tells of the class
- ``ablation``           what each class loses when a filter is set to zero
"""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from fer_utils.inspection import (
    FACE,
    activations,
    blank,
    calls,
    check_images,
    check_target,
    chunk_size,
    conv_name,
    explained,
    own_logits,
    whole_number,
)

SAMPLES = 8  # noise images by which a receptive field is measured
STAGES = 4  # convolutions that stand for the layers of a network


@dataclass(frozen=True)
class Field:
    """Where a layer's units look: ``rows[i]`` = (first, one past last) pixel row of unit row i."""

    rows: tuple
    columns: tuple

    @property
    def size(self) -> tuple:
        """(height, width) of the largest field found: that of the middle units."""
        sides = self.rows, self.columns
        return tuple(max(last - first for first, last in side) for side in sides)

    @property
    def middle(self) -> list:
        """(row, column) of units that see a whole field; of several with one field, the central."""
        return [(i, j) for i in _whole(self.rows) for j in _whole(self.columns)]

    def box(self, unit) -> tuple:
        """The pixels that ``unit`` (row, column) sees, as two slices."""
        return slice(*self.rows[unit[0]]), slice(*self.columns[unit[1]])


def _whole(side):
    """Places along an axis whose field is the largest; the central one of those that share it."""
    largest = max(last - first for first, last in side)
    same = {}
    for place, (first, last) in enumerate(side):
        if last - first == largest:
            same.setdefault((first, last), []).append(place)
    return [places[len(places) // 2] for places in same.values()]


def receptive_field(model, layer=None, shape=FACE) -> Field:
    """The pixels whose gradient is not zero, unit row by unit row and column by column.

    Summed over all channels and ``SAMPLES`` noise images, since a max pool passes the
    gradient of one input in each window only.
    """
    generator = torch.Generator().manual_seed(0)
    with explained(model) as net, torch.enable_grad():
        noise = _noise(blank(net, shape), SAMPLES, generator)
        maps = activations(net, conv_name(net, noise[:1], layer), noise.requires_grad_())
        if not maps.requires_grad:
            raise ValueError("no pixel moves a unit of this layer: no gradient leads to the images")
        signs = torch.randn(maps.shape[1], generator=generator).to(maps)
        total = (maps * signs.view(-1, 1, 1)).sum((0, 1))
        height, width = total.shape
        rows = tuple(_extent(total[i, width // 2], noise, 2) for i in range(height))
        columns = tuple(_extent(total[height // 2, j], noise, 3) for j in range(width))
    return Field(rows, columns)


def stages(model, shape=FACE) -> list:
    """[(label, layer name)]: up to four convolutions, evenly picked, the first and last among them.

    ``FerCNN``'s are its four: ("conv1", "layer1.0") to ("conv4", "layer4.0").
    """
    with explained(model) as net:
        called = calls(net, blank(net, shape))
    used = [name for name, layer, *_ in called if isinstance(layer, nn.Conv2d)]
    used = list(dict.fromkeys(used))
    number = min(STAGES, len(used))
    places = [round(k * (len(used) - 1) / max(number - 1, 1)) for k in range(number)]
    return [(f"conv{place + 1}", used[place]) for place in places]


def _noise(like, number, generator):
    return torch.randn(number, *like.shape[1:], generator=generator).to(like)


def _extent(unit, images, axis):
    """(first, one past last) place along ``axis`` at which a pixel moves the unit."""
    gradient = torch.autograd.grad(unit, images, retain_graph=True)[0]
    lit = (gradient != 0).movedim(axis, 0).flatten(1).any(1).nonzero()
    if len(lit) == 0:
        raise ValueError("no pixel moves a unit of this layer: are its weights zero?")
    return int(lit[0]), int(lit[-1]) + 1


class Responses(NamedTuple):
    """Activations of all filters to all faces, at each face's strongest middle unit.

    activation (n, filters); unit (n, filters): index into ``field.middle``.
    """

    activation: torch.Tensor
    unit: torch.Tensor
    field: Field


def responses(model, layer, images) -> Responses:
    """The strongest activation of each filter over each face's middle units."""
    check_images(images)
    field = receptive_field(model, layer, tuple(images.shape[1:]))
    rows, columns = (list(places) for places in zip(*field.middle, strict=True))
    with explained(model) as net, torch.no_grad():
        name = conv_name(net, images[:1], layer)
        strongest = [
            activations(net, name, part)[:, :, rows, columns].max(2)
            for part in images.split(chunk_size(images))
        ]
    activation = torch.cat([part.values for part in strongest])
    return Responses(activation, torch.cat([part.indices for part in strongest]), field)


def activation(model, layer, crops, shape=FACE) -> torch.Tensor:
    """What each filter's middle unit makes of crops of its field: (n, filters)."""
    check_images(crops)
    field = receptive_field(model, layer, shape)
    seen = (shape[0], *field.size)
    if crops.shape[1:] != seen:
        raise ValueError(f"middle units see {seen}, the crops are {tuple(crops.shape[1:])}")
    with explained(model) as net, torch.no_grad():
        name = conv_name(net, crops.new_zeros(1, *shape), layer)
        parts = crops.split(chunk_size(crops))
        return torch.cat([_within_a_face(net, name, field, shape, part) for part in parts])


def _within_a_face(net, name, field, shape, crops):
    unit = field.middle[0]
    rows, columns = field.box(unit)
    face = crops.new_zeros(len(crops), *shape)
    face[:, :, rows, columns] = crops
    return activations(net, name, face)[:, :, unit[0], unit[1]]


class Patches(NamedTuple):
    """Crops of faces at the exact receptive field, one row a filter.

    pixels (filters, count, channels, height, width); face, activation (filters, count).
    """

    pixels: torch.Tensor
    face: torch.Tensor
    activation: torch.Tensor


def top_patches(model, layer, images, filters=None, count=9, which="strongest", found=None):
    """``Patches``: the ``count`` crops whose activation is ``which``, the strongest first.

    One crop a face, from its strongest middle unit. ``which``: 'strongest', 'median' or 'weakest'.
    ``found``: ``responses`` of the same faces, where they are at hand already.
    """
    found = found or responses(model, layer, images)
    number = len(images)
    if not 1 <= count <= number:
        raise ValueError(f"count must be 1 to {number} (the faces given), got {count}")
    starts = {"strongest": 0, "median": (number - count) // 2, "weakest": number - count}
    if which not in starts:
        raise ValueError(f"which must be one of {', '.join(starts)}, got {which!r}")
    filters = _chosen(filters, found.activation.shape[1])
    order = found.activation[:, filters].argsort(dim=0, descending=True, stable=True)
    face = order[starts[which] : starts[which] + count].T
    column = torch.tensor(filters)[:, None]
    boxes = [found.field.box(unit) for unit in found.field.middle]
    units = found.unit[face, column].flatten()
    cut = [images[i, :, *boxes[unit]] for i, unit in zip(face.flatten(), units, strict=True)]
    pixels = torch.stack(cut).unflatten(0, face.shape)
    return Patches(pixels, face, found.activation[face, column])


def _chosen(wanted, number):
    """The filters (or classes) asked for, as a list; ValueError for one that is not there."""
    if wanted is None:
        return list(range(number))
    wanted = [int(k) for k in ([wanted] if isinstance(wanted, Integral) else wanted)]
    wrong = [k for k in wanted if not 0 <= k < number]
    if wrong or not wanted:
        raise ValueError(f"no filter {wrong[0] if wrong else wanted}: there are 0 to {number - 1}")
    return wanted


@dataclass(frozen=True)
class FreePixels:
    """The prior that allows any picture within ``bounds`` (darkest, brightest; model units).

    Its code is the picture itself; every pixel goes by the same amount.
    """

    bounds: tuple

    def __post_init__(self):
        _check_bounds(self.bounds)

    def start(self, noise):
        darkest, brightest = self.bounds
        return (darkest + brightest) / 2 + noise * (brightest - darkest) / 20

    def picture(self, code):
        return code

    def step(self, code, direction, share):
        darkest, brightest = self.bounds
        code = code + share * (brightest - darkest) / 5 * direction.sign()
        return code.clamp(darkest, brightest)


@dataclass(frozen=True)
class PowerSpectrum:
    """The prior that a picture has the power spectrum of the ``crops`` it was made from.

    A picture is the mean crop plus cosine waves (DCT-II), each with its standard deviation over
    the crops, times a code; the code is no longer than a typical crop's. So strong waves cost
    little and faint ones, such as a pixel's flicker, much.
    """

    mean: torch.Tensor  # (channels, height, width)
    amplitude: torch.Tensor  # (channels, height, width): standard deviation of each wave
    bounds: tuple  # darkest, brightest

    def __post_init__(self):
        _check_bounds(self.bounds)

    @classmethod
    def of(cls, crops, bounds):
        check_images(crops)
        if len(crops) < 2:
            raise ValueError(f"a spectrum needs 2 crops or more, got {len(crops)}")
        mean = crops.mean(0)
        down, across = (_cosines(length, crops) for length in crops.shape[2:])
        parts = crops.split(1024)
        power = sum((down @ (part - mean) @ across.T).square().sum(0) for part in parts)
        return cls(mean, (power / len(crops)).sqrt(), bounds)

    def start(self, noise):
        if noise.shape[1:] != self.mean.shape:
            raise ValueError(
                f"the spectrum is of crops of {tuple(self.mean.shape)}, the picture asked for is "
                f"{tuple(noise.shape[1:])}"
            )
        return 0.3 * noise

    def picture(self, code):
        down, across = (_cosines(length, code) for length in code.shape[2:])
        return (self.mean + down.T @ (self.amplitude * code) @ across).clamp(*self.bounds)

    def step(self, code, direction, share):
        typical = code[0].numel() ** 0.5
        code = code + share * 0.1 * typical * (direction / _length(direction))
        return code * (typical / _length(code)).clamp(max=1)


def _check_bounds(bounds):
    if not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (darkest, brightest), got {bounds}")


def _cosines(length, like):
    """Orthonormal cosine waves (DCT-II), one a row: (length, length)."""
    place = torch.arange(length, dtype=torch.float64)
    waves = torch.cos(torch.pi / length * (place + 0.5) * place[:, None]) * (2 / length) ** 0.5
    waves[0] /= 2**0.5
    return waves.to(like)


def _length(x):
    return x.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)


class Optima(NamedTuple):
    """pictures (filters, channels, height, width), activation (filters,)."""

    pictures: torch.Tensor
    activation: torch.Tensor


def maximise(model, layer=None, filters=None, *, prior, shape=FACE, **climb) -> Optima:
    """Pictures that drive each filter's activation as high (``sign=-1``: low) as they can.

    ``prior``: which pictures are allowed, ``FreePixels`` or ``PowerSpectrum``, in the units that
    the model expects. Options of the climb: ``sign`` (1), ``steps`` (128), ``seed`` (0).

    Gradient ascent with momentum on the crop that a middle unit sees; the best picture met on the
    way is kept. ``FreePixels`` goes by the momentum's sign, which on ``FerCNN`` takes a quarter of
    the steps that Adam takes to the same activation. Each filter begins from its own noise,
    whichever others are asked for.
    """
    field = receptive_field(model, layer, shape)
    with explained(model) as net:
        face = blank(net, shape)
        name = conv_name(net, face, layer)
        which = _chosen(filters, net.get_submodule(name).out_channels)
        crop = face.new_zeros(1, shape[0], *field.size)

        def in_a_face(crops):
            return _within_a_face(net, name, field, shape, crops)

        noise = _noise(crop, 2, torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted = in_a_face(noise)
        with explained(model):  # the same network once more, its padding put back on exit
            for module in net.modules():
                if hasattr(module, "padding"):
                    module.padding = (0, 0)

            def alone(crops):
                return activations(net, name, crops).flatten(1)

            # without padding a crop gives this one unit, for a third of the work
            if _gives(alone, noise, wanted):
                return _climb(alone, which, crop, prior, **climb)
        return _climb(in_a_face, which, crop, prior, **climb)


def maximise_logits(model, classes=None, *, prior, shape=FACE, **climb) -> Optima:
    """The same for whole faces and the network's outputs. They need not look like any face."""
    with explained(model) as net:
        face = blank(net, shape)
        which = _chosen(classes, net(face).shape[1])
        return _climb(net, which, face, prior, **climb)


def _gives(score, crops, wanted):
    try:
        with torch.no_grad():
            found = score(crops)
    except ValueError:  # the network refuses so small a picture
        return False
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def _climb(score, which, blank, prior, sign=1, steps=128, seed=0):
    if sign not in (1, -1):
        raise ValueError(f"sign must be 1 (highest) or -1 (lowest), got {sign!r}")
    whole_number(steps=steps)
    noise = []
    for k in which:
        generator = torch.Generator().manual_seed(1_000_003 * seed + k)
        noise.append(torch.randn(blank.shape[1:], generator=generator))
    codes = prior.start(torch.stack(noise).to(blank))
    columns = torch.tensor(which, device=blank.device)
    size = chunk_size(blank)
    best = [
        _climb_chunk(score, code, column, prior, sign, steps)
        for code, column in zip(codes.split(size), columns.split(size), strict=True)
    ]
    pictures, values = zip(*best, strict=True)
    return Optima(torch.cat(pictures), sign * torch.cat(values))


def _climb_chunk(score, code, column, prior, sign, steps):
    momentum = torch.zeros_like(code)
    best = code.new_full((len(code),), -torch.inf)
    pictures = prior.picture(code)
    for step in range(steps + 1):
        code.requires_grad_()
        with torch.enable_grad():
            picture = prior.picture(code)
            value = sign * score(picture).gather(1, column[:, None])[:, 0]
            gradient = torch.autograd.grad(value.sum(), code)[0]
        code, value = code.detach(), value.detach()
        better = value > best
        best = torch.where(better, value, best)
        pictures = torch.where(better.view(-1, 1, 1, 1), picture.detach(), pictures)
        momentum = 0.9 * momentum + 0.1 * (gradient / _length(gradient))
        share = 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))  # of the first step's length
        code = prior.step(code, momentum, share)
    return pictures, best


def class_tuning(activation, labels, classes=7):
    """(mean within the class − mean) / sd over all faces: (filters, classes), NaN where undefined.

    ``activation`` (n, filters) as in ``responses``; unlabelled faces (−1) are left out.
    """
    activation, member = _by_class(activation, labels, classes)
    mean = (member.T @ activation / member.sum(0)[:, None]).T
    sd = activation.std(0, correction=0)[:, None]
    return (mean - activation.mean(0)[:, None]) / torch.where(sd > 0, sd, torch.nan)


def eta_squared(activation, labels, classes=7):
    """η², the share of each filter's variance that the class explains: (filters,), 0 to 1.

    It is 0 for a filter that responds to all faces alike.
    """
    _, member = _by_class(activation, labels, classes)
    return class_tuning(activation, labels, classes).nan_to_num().square() @ member.mean(0)


def _by_class(activation, labels, classes):
    """Activations of the labelled faces, and which class each is of (n, classes), in float64."""
    labels = torch.as_tensor(labels)
    known = labels >= 0
    return activation[known].double(), F.one_hot(labels[known], classes).double()


class Ablation(NamedTuple):
    """What zeroing each filter costs: two tables (filters, classes), NaN for an absent class.

    logit: mean fall of the true class's logit, over the faces of that class.
    recall: fall of that class's recall.
    """

    logit: torch.Tensor
    recall: torch.Tensor


def ablation(model, layer, images, labels) -> Ablation:
    """Set each filter's map to zero in turn, and see what each class loses."""
    labels = check_target(images, labels)
    with explained(model) as net, torch.no_grad():
        name = conv_name(net, images[:1], layer)
        logits = _without_each(net, name, images)
    true = torch.stack([own_logits(of, labels) for of in logits])
    member = F.one_hot(labels, logits.shape[-1]).to(logits)
    share = member / member.sum(0)
    right = (logits.argmax(2) == labels).to(logits)
    return Ablation((true[0] - true[1:]) @ share, (right[0] - right[1:]) @ share)


def _without_each(net, name, images):
    """Logits as they are, then with each filter at zero: (1 + filters, n, classes).

    The layers before the filter run once a face: the layer hands on 1 + filters versions of
    its one map. Where the rest of the network cannot take more rows than came in, it runs once
    a filter.
    """
    layer = net.get_submodule(name)
    every = torch.ones(1, layer.out_channels)
    kept = torch.cat([every, 1 - torch.eye(layer.out_channels)]).to(images)[..., None, None]

    def logits(faces, kept):
        handle = layer.register_forward_hook(lambda module, inputs, maps: maps * kept)
        try:
            return net(faces)
        finally:
            handle.remove()

    try:
        versions = torch.stack([logits(face[None], kept) for face in images], dim=1)
        if len(versions) == len(kept):
            return versions
    except ValueError:  # the network refuses them
        pass
    parts = images.split(chunk_size(images))
    return torch.stack([torch.cat([logits(part, row) for part in parts]) for row in kept])
