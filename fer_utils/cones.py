"""What a changed patch can change, and nothing else: the fast way to occlude a face.

A patch of 8 × 8 pixels moves 6 % of the first convolution's outputs, 11 % of the second's.
``Cones`` runs a chain of convolutions, pools and elementwise layers once on whole faces,
keeps what went into each windowed layer, and then recomputes the patch's cone only. Each
output is computed by the same formula from the same numbers as in the whole network, so
the result differs by rounding alone.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .chains import ELEMENTWISE, Sign


def fits(module) -> bool:
    """Whether a layer can be recomputed patch by patch."""
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if type(module) is nn.MaxPool2d:
        return not (module.ceil_mode or module.return_indices) and _pair(module.padding) == (0, 0)
    if type(module) is nn.AvgPool2d:
        return not module.ceil_mode and _pair(module.padding) == (0, 0)
    if type(module) is nn.BatchNorm2d:
        return module.running_mean is not None
    return type(module) in (*ELEMENTWISE, Sign)


class Cones:
    """A chain of layers on given faces, ready to be asked what a patch changes."""

    def __init__(self, modules, images):
        self.steps = []
        x = images.contiguous(memory_format=torch.channels_last)
        for module in modules:
            windowed = isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
            self.steps.append((module, x if windowed else None))
            x = module(x)
        self.output = x

    def __call__(self, patch, rows, columns):
        """The chain's output for the faces with ``patch`` (n, c, h, w) at two slices."""
        sides = ((rows.start, rows.stop), (columns.start, columns.stop))
        for module, whole in self.steps:
            if whole is None:
                patch = module(patch)
                continue
            (top, bottom), (left, right) = reach = [
                _reach(module, axis, side, whole.shape[2 + axis]) for axis, side in enumerate(sides)
            ]
            if top >= bottom or left >= right:
                return self.output
            patch = _apply(module, _around(module, whole, patch, sides, reach))
            sides = reach
        changed = self.output.clone()
        (top, bottom), (left, right) = sides
        changed[:, :, top:bottom, left:right] = patch
        return changed


def _reach(module, axis, side, length):
    """Outputs [first, last) along one axis whose window meets inputs [side[0], side[1])."""
    kernel, stride, padding, dilation = geometry(module, axis)
    span = dilation * (kernel - 1)
    number = (length + 2 * padding - span - 1) // stride + 1
    first = max(-(-(side[0] + padding - span) // stride), 0)
    last = min((side[1] - 1 + padding) // stride + 1, number)
    return first, last


def _around(module, whole, patch, sides, reach):
    """Inputs of the outputs in ``reach``: the faces' own, the patch over them, zeros outside."""
    wanted = []
    for axis, (first, last) in enumerate(reach):
        kernel, stride, padding, dilation = geometry(module, axis)
        start = first * stride - padding
        stop = (last - 1) * stride - padding + dilation * (kernel - 1) + 1
        wanted.append((start, stop, max(start, 0), min(stop, whole.shape[2 + axis])))
    (y0, y1, a, b), (x0, x1, c, d) = wanted
    block = F.pad(whole[:, :, a:b, c:d], (c - x0, x1 - d, a - y0, y1 - b))  # always a copy
    (top, bottom), (left, right) = [
        (max(s, w[0]), min(e, w[1])) for (s, e), w in zip(sides, wanted, strict=True)
    ]
    block[:, :, top - y0 : bottom - y0, left - x0 : right - x0] = patch[
        :, :, top - sides[0][0] : bottom - sides[0][0], left - sides[1][0] : right - sides[1][0]
    ]
    return block


def _apply(module, block):
    if isinstance(module, nn.Conv2d):
        return F.conv2d(
            block, module.weight, module.bias, module.stride, 0, module.dilation, module.groups
        )
    return module(block)


def geometry(module, axis):
    """kernel, stride, padding, dilation along an axis."""
    dilation = getattr(module, "dilation", 1)
    return tuple(
        _pair(v)[axis] for v in (module.kernel_size, module.stride, module.padding, dilation)
    )


def _pair(value):
    return tuple(value) if isinstance(value, tuple) else (value, value)
