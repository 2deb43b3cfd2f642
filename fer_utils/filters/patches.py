"""The crops of real faces behind a filter's strongest, median and weakest activations."""

from dataclasses import dataclass

import torch

from ..anatomy import check_images, chunk_size, layer_name, quick_copy
from .field import Field, chosen, maps_at, receptive_field


@dataclass(frozen=True)
class Responses:
    """Activations of all filters to all faces, at each face's strongest middle unit.

    activation (n, filters); unit (n, filters): index into ``field.middle``.
    """

    activation: torch.Tensor
    unit: torch.Tensor
    field: Field


def responses(model, layer, faces) -> Responses:
    """The strongest activation of each filter over each face's middle units."""
    check_images(faces)
    name = layer_name(model, layer)
    field = receptive_field(model, name, tuple(faces.shape[1:]))
    rows, columns = zip(*field.middle, strict=True)
    twin, _ = quick_copy(model, faces, keep=name)
    with torch.no_grad():
        parts = [
            maps_at(twin, name, x)[:, :, list(rows), list(columns)].max(2)
            for x in faces.split(chunk_size(faces))
        ]
    return Responses(
        torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts]), field
    )


@dataclass(frozen=True)
class Patches:
    """Crops of faces at the exact receptive field, one row a filter.

    pixels (filters, count, channels, height, width); face, activation (filters, count).
    """

    pixels: torch.Tensor
    face: torch.Tensor
    activation: torch.Tensor


def top_patches(
    model, layer, faces, filters=None, count=9, which="strongest", found=None
) -> Patches:
    """The ``count`` crops whose activation is ``which`` ('strongest', 'median', 'weakest').

    One crop a face, from its strongest middle unit. ``found``: ``responses`` of the same
    faces, where they are at hand already.
    """
    found = found or responses(model, layer, faces)
    number = len(faces)
    if not 1 <= count <= number:
        raise ValueError(f"count must be 1 to {number} (the faces given), got {count}")
    starts = {"strongest": 0, "median": (number - count) // 2, "weakest": number - count}
    if which not in starts:
        raise ValueError(f"which must be one of {', '.join(starts)}, got {which!r}")
    filters = chosen(filters, found.activation.shape[1])
    order = found.activation[:, filters].argsort(dim=0, descending=True, stable=True)
    face = order[starts[which] : starts[which] + count].T
    boxes = [found.field.box(unit) for unit in found.field.middle]
    which = torch.tensor(filters)[:, None]
    places = torch.stack([face, found.unit[face, which]], dim=2).flatten(0, 1).tolist()
    pixels = torch.stack([faces[i, :, *boxes[unit]] for i, unit in places])
    return Patches(pixels.unflatten(0, face.shape), face, found.activation[face, which])


def mean_patch(model, layer, faces, filters=None, count=100, found=None):
    """Mean of the ``count`` strongest crops, each of another face: (filters, channels, h, w)."""
    found = found or responses(model, layer, faces)
    return torch.cat(
        [
            top_patches(model, layer, faces, [k], count, found=found).pixels.mean(1)
            for k in chosen(filters, found.activation.shape[1])
        ]
    )
