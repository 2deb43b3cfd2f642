"""What a filter means: what it answers to, who misses it, and how far it could ever go."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ..anatomy import checked, chunk_size, layer_name, private_copy, quick_copy, until
from ..chains import RISING, calls, split
from .field import maps_at, receptive_field


def class_tuning(activation, labels, classes=7):
    """(mean within the class − mean) / sd over all faces: (filters, classes), NaN where undefined.

    ``activation`` (n, filters) as in ``responses``; unlabelled faces (−1) are left out.
    """
    labels = torch.as_tensor(labels)
    known = labels >= 0
    activation, labels = activation[known].double(), labels[known]
    member = F.one_hot(labels, classes).double()
    mean = (member.T @ activation / member.sum(0)[:, None]).T
    spread = activation.std(0, correction=0)[:, None]
    return (mean - activation.mean(0)[:, None]) / torch.where(spread > 0, spread, torch.nan)


def correlations(activation, values):
    """Pearson's r of each filter (n, filters) with each column of values (n, k): (filters, k)."""
    both = torch.cat([torch.as_tensor(x).double() for x in (activation, values)], dim=1)
    filters = activation.shape[1]
    return torch.corrcoef(both.T)[:filters, filters:]


def part_overlap(model, layer, faces, parts, share=0.05):
    """Overlap (IoU) of a filter's strongest places with parts of the face: (filters, parts).

    Network dissection (Bau et al. 2017, arXiv:1704.05796): maps are brought to the face's
    size, bilinear; a filter's places are the ``share`` of all pixels of all faces above its
    own threshold. ``parts`` is (n, parts, h, w), boolean.
    """
    name = layer_name(model, layer)
    twin, _ = quick_copy(model, faces, keep=name)
    parts = torch.as_tensor(parts, device=faces.device)
    with torch.no_grad():
        maps = torch.cat([maps_at(twin, name, x) for x in faces.split(chunk_size(faces))])
        overlap = []
        for k in range(maps.shape[1]):
            wide = F.interpolate(maps[:, k : k + 1], faces.shape[2:], mode="bilinear")[:, 0]
            rank = max(1, round(share * wide.numel()))
            lit = (wide >= wide.flatten().kthvalue(wide.numel() - rank + 1).values)[:, None]
            both = (lit & parts).sum((0, 2, 3))
            overlap.append(both / ((lit | parts).sum((0, 2, 3))).clamp(min=1))
    return torch.stack(overlap)


@dataclass(frozen=True)
class Ablation:
    """Effect of silencing each filter: two tables (filters, classes), NaN for an absent class.

    logit: mean fall of the true class's logit, over the faces of that class.
    recall: fall of that class's recall.
    """

    logit: torch.Tensor
    recall: torch.Tensor


def ablation(model, layer, faces, labels) -> Ablation:
    """Silence each filter in turn (its map set to 0 everywhere) and see what each class loses."""
    name = layer_name(model, layer)
    labels = torch.as_tensor(labels)
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError(
            f"labels must be class indices, got {int(labels.min())}: drop unlabelled faces"
        )
    twin, labels = checked(model, faces, labels, keep=name)
    names = [called for called, *_ in calls(twin, faces[:1])]
    if name not in names:
        raise ValueError(f"layer {name!r} takes no part in the model's forward pass")
    chain, rest = split(twin, faces.detach(), lambda module: True, longest=names.index(name) + 1)
    if chain is None or len(chain) != names.index(name) + 1:
        rest = None
    with torch.no_grad():
        before, after = [], []
        for x in faces.split(chunk_size(faces)):
            before.append(twin(x))
            after.append(torch.stack(_silenced(twin, name, x, rest)))
    before, after = torch.cat(before)[None], torch.cat(after, dim=1)
    classes = before.shape[-1]
    member = F.one_hot(labels, classes).to(before)
    truth = labels.expand(len(after), -1)[..., None]
    fall = before.gather(2, labels[None, :, None]) - after.gather(2, truth)
    lost = (before.argmax(2) == labels).to(before) - (after.argmax(2) == labels).to(before)
    count = member.sum(0)
    return Ablation(fall[..., 0] @ member / count, lost @ member / count)


def _silenced(twin, name, x, rest):
    """Logits with each filter of the layer at 0, by ``rest`` of the network where it is known."""
    layer, result = twin.get_submodule(name), []
    maps = until(twin, name, x) if rest else None
    for k in torch.arange(layer.out_channels, device=x.device).split(1):
        if rest:
            result.append(rest(maps.index_fill(1, k, 0)))
            continue
        handle = layer.register_forward_hook(lambda m, given, out, k=k: out.index_fill(1, k, 0))
        result.append(twin(x))
        handle.remove()
    return result


def inactive(activation, share=0.01) -> list:
    """Filters whose spread over the faces is below ``share`` of the layer's median spread.

    A LeakyReLU never gives an exact zero, so 'always zero' would find none.
    """
    spread = activation.double().std(0, correction=0)
    return (spread <= share * spread.median()).nonzero()[:, 0].tolist()


def duplicates(activation, above=0.95) -> list:
    """[(i, j, r)]: pairs of filters that correlate by more than ``above``, strongest first."""
    r = correlations(activation, activation).triu(1)
    pairs = (r > above).nonzero().tolist()
    return sorted(((i, j, float(r[i, j])) for i, j in pairs), key=lambda pair: -pair[2])


def upper_bound(model, layer=None, bounds=(0.0, 1.0), shape=(1, 48, 48)):
    """No picture within ``bounds`` drives a middle unit higher: (filters,), certified, float64.

    Interval arithmetic through the chain of layers up to ``layer``: a convolution takes the
    middle of its interval and |weights| times its radius, rising layers and batch norm take
    the ends. It forgets that pixels feed many units at once, so it is loose: compare it with
    the best optimum found.
    """
    name = layer_name(model, layer)
    field = receptive_field(model, name, shape)
    twin = private_copy(model).double()
    if not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (darkest, brightest), got {bounds}")
    low, high = (next(twin.parameters()).new_full((1, *shape), b) for b in bounds)
    given = low
    for called, module, came, output in calls(twin, low):
        if came is not given:
            raise ValueError(f"layer {called!r} does not follow the one before it: no bound")
        low, high = _interval(module, called, low, high)
        given = output
        if called == name:
            row, column = field.middle[0]
            return high[0, :, row, column]
    raise ValueError(f"layer {name!r} takes no part in the model's forward pass")


def _interval(module, name, low, high):
    with torch.no_grad():
        if type(module) is nn.Conv2d:
            middle, radius = module((low + high) / 2), (high - low) / 2
            sure = private_copy(module)
            sure.weight = nn.Parameter(module.weight.abs(), requires_grad=False)
            sure.bias = None
            reach = sure(radius)
            return middle - reach, middle + reach
        if type(module) in (*RISING, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d):
            ends = module(low), module(high)
            return torch.minimum(*ends), torch.maximum(*ends)
    raise ValueError(f"no interval rule for layer {name!r} ({type(module).__name__})")
