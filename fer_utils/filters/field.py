"""Where a unit looks: its receptive field, measured and by the book."""

from dataclasses import dataclass

import torch

from ..anatomy import layer_name, private_copy, until
from ..chains import calls
from ..cones import geometry


@dataclass(frozen=True)
class Field:
    """Where a layer's units look: ``rows[i]`` = (first, one past last) pixel row of unit row i."""

    rows: tuple
    columns: tuple

    @property
    def size(self) -> tuple:
        """(height, width) of the largest field found: that of the middle units."""
        return tuple(
            max(last - first for first, last in side) for side in (self.rows, self.columns)
        )

    @property
    def middle(self) -> list:
        """(row, column) of the units that see a whole field."""
        height, width = self.size
        return [
            (i, j)
            for i, (top, bottom) in enumerate(self.rows)
            if bottom - top == height
            for j, (left, right) in enumerate(self.columns)
            if right - left == width
        ]

    def box(self, unit) -> tuple:
        """The pixels that ``unit`` (row, column) sees, as two slices."""
        return slice(*self.rows[unit[0]]), slice(*self.columns[unit[1]])


def receptive_field(model, layer=None, shape=(1, 48, 48), samples=8) -> Field:
    """The pixels whose gradient is not zero, unit row by unit row and column by column.

    Summed over all channels and ``samples`` noise images, since a max pool passes the
    gradient of one input in each window only.
    """
    name = layer_name(model, layer)
    twin = private_copy(model)
    weights = next(twin.parameters())
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(samples, *shape, generator=generator).to(weights).requires_grad_()
    maps = maps_at(twin, name, noise)
    signs = torch.randn(maps.shape[1], generator=generator).to(weights)
    total = (maps * signs.view(-1, 1, 1)).sum((0, 1))
    height, width = total.shape

    def seen(unit, axis):
        g = torch.autograd.grad(total[unit], noise, retain_graph=True)[0]
        lit = (g != 0).any(0).any(0).any(1 - axis).nonzero()[:, 0]
        if len(lit) == 0:
            raise ValueError(f"layer {name!r}: no pixel moves its unit {unit}")
        return int(lit[0]), int(lit[-1]) + 1

    with torch.enable_grad():
        rows = tuple(seen((i, width // 2), 0) for i in range(height))
        columns = tuple(seen((height // 2, j), 1) for j in range(width))
    return Field(rows, columns)


def field_arithmetic(model, layer=None, shape=(1, 48, 48)) -> tuple:
    """(size, step, start) by the book: unit i sees ``size`` pixels from ``start`` + i · ``step``.

    size += (kernel − 1) · dilation · step at each layer on the way, for square kernels.
    """
    name = layer_name(model, layer)
    twin = private_copy(model)
    image = torch.zeros(1, *shape).to(next(twin.parameters()))
    size, step, start = 1, 1, 0
    for called, module, _, _ in calls(twin, image):
        if hasattr(module, "kernel_size"):
            kernel, stride, padding, dilation = geometry(module, 0)
            start -= padding * step
            size += (kernel - 1) * dilation * step
            step *= stride
        if called == name:
            return size, step, start
    raise ValueError(f"layer {name!r} takes no part in the model's forward pass")


def maps_at(twin, name, images):
    """Output (b, filters, h, w) of a layer of a private copy."""
    maps = until(twin, name, images)
    if maps.ndim != 4:
        raise ValueError(
            f"layer {name!r} has no spatial extent, its output is {tuple(maps.shape[1:])}"
        )
    return maps


def chosen(filters, number):
    """The filters asked for, as a list; ValueError for one that is not there."""
    if filters is None:
        return list(range(number))
    filters = [int(k) for k in ([filters] if isinstance(filters, int) else filters)]
    wrong = [k for k in filters if not 0 <= k < number]
    if wrong or not filters:
        raise ValueError(
            f"no filter {wrong[0] if wrong else '(none asked for)'}: "
            f"the layer has filters 0 to {number - 1}"
        )
    return filters
