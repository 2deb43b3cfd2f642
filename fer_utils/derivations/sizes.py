"""Output sizes by counting window positions; the proofs are in chapter 6."""

from __future__ import annotations

from operator import index


def conv_output_size(n, kernel, stride=1, padding=0, dilation=1):
    """How many windows fit: ⌊(n + 2p − d(k−1) − 1)/s⌋ + 1.

    Integers for one axis, or a tuple of them for several (integers beside a tuple count for
    every axis); ``padding`` may be "valid" (none) or "same" (n comes out; stride 1 alone).
    ValueError exactly where torch's convolution refuses.
    """
    settings = {"n": n, "kernel": kernel, "stride": stride, "dilation": dilation}
    if padding == "same":
        return _each_axis(_same_size, **settings)
    return _each_axis(_size, padding=0 if padding == "valid" else padding, **settings)


def pool_output_size(n, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    """A convolution's size; with ceil_mode a last window may hang over the right edge.

    ⌈(n + 2p − d(k−1) − 1)/s⌉ + 1, less 1 where that window would start at or beyond n + p, in
    the padding on the right. ``stride`` is the kernel's size unless given, as in torch.
    """
    stride = kernel if stride is None else stride
    return _each_axis(
        _pool_size, n=n, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
        ceil_mode=ceil_mode,
    )  # fmt: skip


def transposed_output_size(n, kernel, stride=1, padding=0, output_padding=0, dilation=1):
    """The smallest size that a convolution maps to n, plus output_padding.

    (n−1)s − 2p + d(k−1) + output_padding + 1 on each axis. 0 is an answer (torch gives it for
    some kernels and calls it too small for others), below 0 is a ValueError.
    """
    return _each_axis(
        _transposed_size, n=n, kernel=kernel, stride=stride, padding=padding,
        output_padding=output_padding, dilation=dilation,
    )  # fmt: skip


def _same_size(n, kernel, stride, dilation):
    _at_least(1, n=n, kernel=kernel, stride=stride, dilation=dilation)
    if stride != 1:
        raise ValueError(f"stride={stride}: padding='same' is defined for stride 1 alone")
    return n


def _size(n, kernel, stride, padding, dilation, ceil_mode=False):
    _at_least(1, n=n, kernel=kernel, stride=stride, dilation=dilation)
    _at_least(0, padding=padding)
    room, span = n + 2 * padding, dilation * (kernel - 1) + 1
    steps = -(-(room - span) // stride) if ceil_mode else (room - span) // stride
    if ceil_mode and steps * stride >= n + padding:
        steps -= 1
    if steps < 0:
        raise ValueError(
            f"kernel={kernel} with dilation={dilation} spans {span} values, but n={n} with "
            f"padding={padding} on each side holds {room}: no window fits; a smaller kernel or "
            f"padding >= {-(-(span - n) // 2)} would do"
        )
    return steps + 1


def _pool_size(padding, kernel, **settings):
    if 2 * padding > kernel > 0:
        raise ValueError(
            f"padding={padding} is more than half of kernel={kernel}: a window could lie in the "
            f"padding alone and have no maximum; at most {kernel // 2}"
        )
    return _size(padding=padding, kernel=kernel, **settings)


def _transposed_size(n, kernel, stride, padding, output_padding, dilation):
    _at_least(1, n=n, kernel=kernel, stride=stride, dilation=dilation)
    _at_least(0, padding=padding, output_padding=output_padding)
    if output_padding >= max(stride, dilation):
        raise ValueError(
            f"output_padding={output_padding} must be below stride={stride} or "
            f"dilation={dilation}: it only chooses among the sizes that stride rounds together"
        )
    size = (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
    if size < 0:
        raise ValueError(f"padding={padding} crops too much: the output's size would be {size}")
    return size


def _at_least(least: int, **settings) -> None:
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")


def _each_axis(size, **settings):
    for name, value in settings.items():
        many = value if isinstance(value, tuple | list) else [value]
        try:
            settings[name] = [index(v) for v in many]
        except TypeError:
            raise ValueError(f"{name}={value!r} must be an integer, or one for each axis") from None
    axes = max(map(len, settings.values()))
    for name, value in settings.items():
        if len(value) not in (1, axes):
            raise ValueError(f"{name} has {len(value)} entries, other settings {axes}: one an axis")
    rows = [v * axes if len(v) == 1 else v for v in settings.values()]
    sizes = tuple(size(**dict(zip(settings, row, strict=True))) for row in zip(*rows, strict=True))
    return sizes if axes > 1 else sizes[0]
