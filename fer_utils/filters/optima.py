"""The picture that drives a filter furthest, for all filters in one batch and under a prior."""

import math
from dataclasses import dataclass

import torch

from ..anatomy import (
    check_images,
    chunk_size,
    keep_memory,
    layer_name,
    private_copy,
    until,
    whole_number,
)
from ..chains import fold_norms, pool_first, thin_first
from .field import chosen, maps_at, receptive_field

MINIMUM = 2  # rows of a batch: a single one takes another path through the convolutions


@dataclass(frozen=True)
class Prior:
    """Which pictures an optimum may be.

    ``Prior(bounds)``: any pixels within ``bounds`` (darkest, brightest; in model units).
    ``Prior.natural(crops, bounds)``: mean crop plus cosine waves, each with the amplitude it
    has over the crops; all of them together no larger than in a typical crop.
    """

    bounds: tuple
    mean: torch.Tensor | None = None  # (channels, height, width)
    amplitude: torch.Tensor | None = None  # (channels, height, width): sd of each cosine wave

    def __post_init__(self):
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds must be (darkest, brightest), got {self.bounds}")

    @classmethod
    def natural(cls, crops, bounds):
        check_images(crops)
        if len(crops) < 2:
            raise ValueError(f"a spectrum needs 2 crops or more, got {len(crops)}")
        mean = crops.mean(0)
        waves = _waves(crops.shape[2], crops)
        across = _waves(crops.shape[3], crops)
        power = sum(
            (waves @ (part - mean) @ across.T).square().sum(0) for part in crops.split(1024)
        )
        return cls(bounds, mean, (power / len(crops)).sqrt())

    def start(self, rows, shape, generator, like):
        code = torch.randn(rows, *shape, generator=generator).to(like)
        low, high = self.bounds
        return code * 0.3 if self.mean is not None else (low + high) / 2 + code * (high - low) / 20

    def picture(self, code):
        if self.mean is not None:
            waves, across = _waves(code.shape[2], code), _waves(code.shape[3], code)
            code = self.mean + waves.T @ (self.amplitude * code) @ across
        return code.clamp(*self.bounds)

    def project(self, code):
        """The nearest code that is allowed."""
        if self.mean is None:
            return code.clamp(*self.bounds)
        length = code.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return code * (code[0].numel() ** 0.5 / length.clamp(min=1e-30)).clamp(max=1)

    def direction(self, momentum):
        """Where to go: every pixel by the same amount, or all waves along the gradient."""
        if self.mean is None:
            return momentum.sign()
        return _unit_length(momentum) * momentum[0].numel() ** 0.5

    @property
    def step(self):
        return 0.1 if self.mean is not None else (self.bounds[1] - self.bounds[0]) / 5


@dataclass(frozen=True)
class Optima:
    """pictures (filters, restarts, channels, height, width), activation (filters, restarts)."""

    pictures: torch.Tensor
    activation: torch.Tensor


def maximise(model, layer=None, filters=None, prior=None, shape=(1, 48, 48), **climb) -> Optima:
    """Pictures that drive each filter's activation as high (``sign=-1``: low) as they can.

    Options of the climb: ``sign`` (1), ``restarts`` (1), ``steps`` (256), ``seed`` (0).

    Gradient ascent with momentum on the crop that a middle unit sees, all filters in one
    batch; the best picture met on the way is kept. Pixels go by the momentum's sign, which on
    ``FerCNN`` takes a quarter of the steps that Adam takes to the same activation. Each filter
    and restart begins from its own noise, and no row of the batch is computed differently for
    its neighbours, so a filter's optimum does not depend on which others are asked for.
    """
    name = layer_name(model, layer)
    activation, crop = cone(model, name, shape)
    number = model.get_submodule(name).out_channels
    like = next(model.parameters())
    return _ascend(activation, chosen(filters, number), crop, prior, like, **climb)


def maximise_logits(model, classes, prior=None, shape=(1, 48, 48), **climb) -> Optima:
    """The same for whole faces and the network's outputs. They need not look like any face."""
    twin = private_copy(model)
    like = next(twin.parameters())
    number = twin(torch.zeros(1, *shape).to(like)).shape[1]
    which = chosen(classes, number)
    return _ascend(lambda x, k: _own(twin(x), k), which, shape, prior, like, **climb)


def cone(model, layer, shape=(1, 48, 48)):
    """(activation, crop): the network cut down to what one middle unit sees.

    ``activation(crops (b, *crop)) -> (b, filters)``, and with ``which`` (b,) that one filter's
    of each crop: (b,). Without padding the convolutions give a
    crop's single unit and nothing else, a third of the work, and take up the batch norms
    before them; where a random crop shows that this differs from the whole network, the
    whole network is used.
    """
    name = layer_name(model, layer)
    field = receptive_field(model, name, shape)
    unit = field.middle[0]
    box = field.box(unit)
    crop = (shape[0], *field.size)
    whole = private_copy(model)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, *crop, generator=generator).to(next(whole.parameters()))
    bare = _unpadded(model, name, noise.new_zeros(1, *shape))

    def by_whole(crops, which=None):
        face = crops.new_zeros(len(crops), *shape)
        face[(slice(None), slice(None), *box)] = crops
        return _own(maps_at(whole, name, face)[:, :, unit[0], unit[1]], which)

    def by_cone(crops, which=None):
        conv = bare.get_submodule(name)
        if which is not None and conv.groups == 1 and max(conv.dilation) == 1:
            seen = until(bare, name, crops, before=True)
            own = (seen * conv.weight[which]).sum((1, 2, 3))
            return own if conv.bias is None else own + conv.bias[which]
        return _own(maps_at(bare, name, crops).flatten(2)[:, :, 0], which)

    with torch.no_grad():
        try:
            maps = maps_at(bare, name, noise)
            wanted = by_whole(noise)
            same = maps.shape[2:] == (1, 1) and torch.allclose(
                maps[:, :, 0, 0], wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())
            )
        except RuntimeError:
            same = False
    return (by_cone if same else by_whole), crop


def _own(activation, which):
    return activation if which is None else activation.gather(1, which[:, None])[:, 0]


def _unpadded(model, name, image):
    """A private copy without padding, its batch norms folded away, its pools brought forward."""
    bare = fold_norms(pool_first(private_copy(model), keep=name), image)
    for module in bare.modules():
        if hasattr(module, "padding"):
            module.padding = (0, 0)
    return thin_first(bare, keep=name)


def _ascend(score, which, shape, prior, like, sign=1, restarts=1, steps=256, seed=0):
    prior = prior or Prior((0.0, 1.0))
    whole_number(restarts=restarts, steps=steps)
    if sign not in (1, -1):
        raise ValueError(f"sign must be 1 (highest) or -1 (lowest), got {sign!r}")
    keep_memory(like.device)
    starts = [
        prior.start(restarts, shape, torch.Generator().manual_seed(1000003 * seed + k), like)
        for k in which
    ]
    codes = torch.cat(starts)
    which = torch.tensor(which, device=like.device).repeat_interleave(restarts)
    best, pictures = [], []
    for code, k in zip(codes.split(chunk_size(like)), which.split(chunk_size(like)), strict=True):
        twice = max(1, MINIMUM // len(code))
        code, k = code.repeat(twice, 1, 1, 1), k.repeat(twice)
        value, picture = _ascend_chunk(score, code, k, prior, sign, steps)
        best.append(value[: len(value) // twice])
        pictures.append(picture[: len(value) // twice])
    return Optima(
        torch.cat(pictures).unflatten(0, (-1, restarts)),
        torch.cat(best).unflatten(0, (-1, restarts)),
    )


def _ascend_chunk(score, code, which, prior, sign, steps):
    momentum = torch.zeros_like(code)
    best = torch.full((len(code),), -torch.inf).to(code)
    kept = prior.picture(code)
    for step in range(steps + 1):
        code.requires_grad_()
        with torch.enable_grad():
            picture = prior.picture(code)
            value = sign * score(picture, which)
            g = torch.autograd.grad(value.sum(), code)[0]
        code, picture, value = code.detach(), picture.detach(), value.detach()
        better = value > best
        best[better], kept[better] = value[better], picture[better]
        momentum = 0.9 * momentum + 0.1 * _unit_length(g)
        fade = 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
        code = prior.project(code + prior.step * fade * prior.direction(momentum))
    return sign * best, kept


def _unit_length(x):
    return x / x.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)


def _waves(length, like):
    """Orthonormal cosine waves (DCT-II), one a row: (length, length)."""
    place = torch.arange(length, dtype=torch.float64)
    waves = torch.cos(torch.pi / length * (place + 0.5) * place[:, None]) * (2 / length) ** 0.5
    waves[0] /= 2**0.5
    return waves.to(like)
