"""A network as a chain of simple layers, found in any nn.Module or not at all.

- ``pool_first``   the same function, cheaper: pools before what is elementwise
- ``thin_first``   the same function, with a quicker way back through a one-channel convolution
- ``fold_norms``   where nothing is padded the same function, without its batch norms
- ``calls``        every leaf layer in the order of its calls
- ``split``        the leading chain of layers, and the function behind it

Nothing is taken on trust: a chain counts only where the rest, fed with the chain's output
and with NaN in every other place, gives the very same logits.
"""

import copy
import itertools

import torch
from torch import nn

RISING = (
    nn.LeakyReLU, nn.ReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ReLU6, nn.Identity,
    nn.Dropout, nn.Dropout2d,
)  # fmt: skip
ELEMENTWISE = (*RISING, nn.GELU, nn.SiLU, nn.Hardtanh, nn.BatchNorm2d)


class Sign(nn.Module):
    """+1 or −1 times each channel."""

    def __init__(self, sign):
        super().__init__()
        self.register_buffer("sign", sign.view(1, -1, 1, 1))

    def forward(self, x):
        return x * self.sign


def pool_first(twin, keep=None):
    """A private copy in which Conv → (activation, batch norm …) → MaxPool pools first.

    The maximum of a rising function is the function of the maximum, so activation and batch
    norm need not see what the pool throws away: on ``FerCNN`` a quarter of all work. A batch
    norm that falls (weight < 0) turns the channel's sign, which goes into the convolution and
    is undone behind the pool. Layer ``keep`` and its block stay as they are.
    """
    for path, module in twin.named_modules():
        if type(module) is nn.Sequential and plain(module):
            items = list(module.named_children())
            for i, (_, conv) in enumerate(items):
                last, sign = _rising_until_pool(items, i)
                names = {f"{path}.{name}".lstrip(".") for name, _ in items[i : last + 1]}
                if last and keep not in names:
                    weight = conv.weight * sign.view(-1, 1, 1, 1)
                    conv.weight = nn.Parameter(weight, requires_grad=False)
                    if conv.bias is not None:
                        conv.bias = nn.Parameter(conv.bias * sign, requires_grad=False)
                    turn = [("sign", Sign(sign))] if (sign < 0).any() else []
                    items[i + 1 : last + 1] = [items[last], *turn, *items[i + 1 : last]]
                    module._modules = dict(items)
                    break
    return twin


def _rising_until_pool(items, i):
    """(index of the MaxPool2d, sign of each channel) if only rising layers lie between."""
    conv = items[i][1]
    if type(conv) is not nn.Conv2d or not plain(conv):
        return 0, None
    sign = torch.ones(conv.out_channels, dtype=conv.weight.dtype, device=conv.weight.device)
    for j, (_, module) in enumerate(items[i + 1 :], i + 1):
        if not plain(module):
            break
        if type(module) is nn.MaxPool2d and not module.return_indices:
            return (j, sign) if j > i + 1 else (0, None)
        if type(module) is nn.BatchNorm2d and module.running_mean is not None:
            if module.weight is not None:
                sign = torch.where(module.weight < 0, -sign, sign)
        elif type(module) not in RISING or getattr(module, "negative_slope", 1) <= 0:
            break
    return 0, None


class _ThinConv(torch.autograd.Function):
    """A one-channel convolution; its input's gradient by one matrix product and shifted sums."""

    @staticmethod
    def forward(ctx, x, conv):
        ctx.conv, ctx.size = conv, x.shape[2:]
        return conv(x)

    @staticmethod
    def backward(ctx, g):
        conv, (n, _, rows, columns) = ctx.conv, g.shape
        (high, wide), (down, across) = conv.kernel_size, conv.padding
        height, width = ctx.size[0] + 2 * down, ctx.size[1] + 2 * across
        parts = conv.weight.flatten(1).T @ g.permute(0, 2, 3, 1).flatten(0, 2).T
        parts = parts.view(high, wide, n, rows, columns)
        lines, whole = g.new_zeros(high, n, rows, width), g.new_zeros(n, height, width)
        for j in range(wide):
            lines[..., _taken(conv, 1, j, columns)] += parts[:, j]
        for i in range(high):
            whole[:, _taken(conv, 0, i, rows)] += lines[i]
        return whole[:, None, down : height - down, across : width - across], None


def _taken(conv, axis, tap, number):
    """The pixels that one tap of a kernel meets along an axis, over ``number`` outputs."""
    first, step = tap * conv.dilation[axis], conv.stride[axis]
    return slice(first, first + (number - 1) * step + 1, step)


class _Thin(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return _ThinConv.apply(x, self.conv)


def thin_first(twin, keep=None):
    """A private copy whose one-channel convolutions go back in a quarter of the time; ``keep``
    stays."""
    for name, conv in list(twin.named_modules()):
        if (
            type(conv) is nn.Conv2d and plain(conv) and name not in ("", keep)
            and conv.in_channels == 1 and conv.padding_mode == "zeros"
            and not isinstance(conv.padding, str)
        ):  # fmt: skip
            twin.set_submodule(name, _Thin(conv))
    return twin


def fold_norms(twin, images):
    """A private copy whose batch norms are folded into the convolutions behind them.

    The same function once those convolutions pad no more, if nothing else reads the norms'
    outputs: the caller takes the padding away and compares.
    """
    for (name, norm, _, normed), (_, conv, given, _) in itertools.pairwise(calls(twin, images)):
        if (
            given is normed and type(norm) is nn.BatchNorm2d and norm.running_mean is not None
            and type(conv) is nn.Conv2d and conv.groups == 1 and plain(norm) and plain(conv)
        ):  # fmt: skip
            factor = (norm.running_var + norm.eps).rsqrt()
            factor = factor if norm.weight is None else factor * norm.weight
            shift = -norm.running_mean * factor + (0 if norm.bias is None else norm.bias)
            bias = (0 if conv.bias is None else conv.bias) + conv.weight.sum((2, 3)) @ shift
            conv.bias = nn.Parameter(bias, requires_grad=False)
            conv.weight = nn.Parameter(conv.weight * factor[:, None, None], requires_grad=False)
            twin.set_submodule(name, nn.Identity())
    return twin


def calls(twin, images):
    """Every leaf module in the order of its calls: [(name, module, input, output)]."""
    record, handles = [], []
    for name, module in twin.named_modules():
        if not any(module.children()):

            def note(module, inputs, output, name=name):
                record.append((name, module, inputs[0] if inputs else None, output))

            handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            twin(images)
    finally:
        for handle in handles:
            handle.remove()
    return record


class _Given(nn.Module):
    """Stands in for a layer and returns what it was given, whatever comes in."""

    def __init__(self):
        super().__init__()
        self.value = None

    def forward(self, *ignored):
        return self.value


def split(twin, images, fits, longest=None):
    """(modules, rest): the leading chain of layers that ``fits`` accepts, and the function
    from the chain's output to the logits. (None, None) where the network is no such chain.

    ``fits(module) -> bool``; ``longest`` limits the chain's length. ``twin`` stays whole.
    """
    image = images[:1]
    twin = copy.deepcopy(twin)
    with torch.no_grad():
        truth = twin(image)
    record = calls(twin, image)
    chain, previous = [], image
    for name, module, given, output in record[:longest]:
        if given is not previous or not plain(module) or not fits(module):
            break
        chain.append((name, module, output))
        previous = output
    later = {id(module) for _, module, _, _ in record[len(chain) :]}
    while chain and any(id(module) in later for _, module, _ in chain):
        later.add(id(chain.pop()[1]))
    if not chain:
        return None, None
    stands = [_Given() for _ in chain]
    for (name, _, output), stand in zip(chain, stands, strict=True):
        stand.shape = output.shape[1:]
        twin.set_submodule(name, stand)
    nan = torch.full((1,), float("nan"), dtype=image.dtype, device=image.device)

    def rest(value):
        for stand in stands[:-1]:
            stand.value = nan.expand(len(value), *stand.shape)
        stands[-1].value = value
        return twin(nan.expand(len(value), *image.shape[1:]))

    modules = [module for _, module, _ in chain]
    try:
        with torch.enable_grad():
            same = torch.equal(rest(previous.requires_grad_()).detach(), truth)
    except RuntimeError:
        same = False
    return (modules, rest) if same else (None, None)


def plain(module) -> bool:
    """No subclass of a user's, no parametrisation, no hook: the layer does what its type says."""
    known = type(module) is Sign or type(module).__module__.startswith("torch.nn.modules.")
    return known and not (module._forward_hooks or module._forward_pre_hooks)
