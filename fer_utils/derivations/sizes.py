"""Output sizes by counting window positions; the proofs are in chapter 6.

All settings are integers for one axis, or tuples with an entry an axis (an integer beside a tuple
counts for every axis). ValueError where torch refuses, but for a transposed size of 0.
"""

from __future__ import annotations

import functools
import inspect
from numbers import Integral


def _on_each_axis(size):
    """Let a size of one axis take tuples: a tuple of sizes comes out."""

    @functools.wraps(size)
    def sizes(*args, **named):
        settings = inspect.signature(size).bind(*args, **named).arguments
        tuples = {name: v for name, v in settings.items() if isinstance(v, tuple | list)}
        if not tuples:
            return size(**settings)
        if len(set(map(len, tuples.values()))) > 1:
            raise ValueError(
                f"one entry an axis, but the settings differ in their number: {tuples}"
            )
        rows = zip(*tuples.values(), strict=True)
        return tuple(size(**{**settings, **dict(zip(tuples, row, strict=True))}) for row in rows)

    return sizes


@_on_each_axis
def conv_output_size(n, kernel, stride=1, padding=0, dilation=1):
    """How many windows fit: ⌊(n + 2p − d(k−1) − 1)/s⌋ + 1.

    ``padding`` may also be "valid" (none) or "same" (n comes out; stride 1 alone).
    """
    if padding == "same" and stride != 1:
        raise ValueError(f"stride={stride}: padding='same' is defined for stride 1 alone")
    if padding == "same":
        _whole(1, n=n, kernel=kernel, dilation=dilation)
        return n
    return _windows(n, kernel, stride, 0 if padding == "valid" else padding, dilation)


@_on_each_axis
def pool_output_size(n, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    """A convolution's size; with ceil_mode a last window may hang over the right edge.

    ⌈(n + 2p − d(k−1) − 1)/s⌉ + 1, less 1 where that window would start at or beyond n + p, in
    the padding on the right. ``stride`` is the kernel's size unless given, as in torch.
    """
    stride = kernel if stride is None else stride
    number = _windows(n, kernel, stride, padding, dilation, ceil_mode)
    if 2 * padding > kernel:
        raise ValueError(
            f"padding={padding} is more than half of kernel={kernel}: a window could lie in the "
            f"padding alone and have no maximum; at most {kernel // 2}"
        )
    return number


@_on_each_axis
def transposed_output_size(n, kernel, stride=1, padding=0, output_padding=0, dilation=1):
    """The smallest size that a convolution maps to n, plus output_padding.

    (n−1)s − 2p + d(k−1) + output_padding + 1 on each axis. 0 is an answer (torch gives it for
    some kernels and calls it too small for others), below 0 is a ValueError.
    """
    _whole(1, n=n, kernel=kernel, stride=stride, dilation=dilation)
    _whole(0, padding=padding, output_padding=output_padding)
    if output_padding >= max(stride, dilation):
        raise ValueError(
            f"output_padding={output_padding} must be below stride={stride} or "
            f"dilation={dilation}: it only chooses among the sizes that stride rounds together"
        )
    size = (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
    if size < 0:
        raise ValueError(f"padding={padding} crops too much: the output's size would be {size}")
    return size


def _windows(n, kernel, stride, padding, dilation, ceil_mode=False):
    _whole(1, n=n, kernel=kernel, stride=stride, dilation=dilation)
    _whole(0, padding=padding)
    room, span = n + 2 * padding, dilation * (kernel - 1) + 1
    steps = -(-(room - span) // stride) if ceil_mode else (room - span) // stride
    if ceil_mode and steps * stride >= n + padding:
        steps -= 1
    if steps < 0:
        raise ValueError(
            f"no window fits: kernel={kernel} with dilation={dilation} spans {span} values, but "
            f"n={n} with padding={padding} on each side holds {room}"
        )
    return steps + 1


def _whole(least: int, **settings) -> None:
    for name, value in settings.items():
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number, {least} or more")
