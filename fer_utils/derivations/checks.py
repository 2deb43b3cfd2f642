"""Ways to check a hand-written gradient that share no code with it.

Each takes ``forward(*inputs)``, which returns a tensor, and ``backward(dy, *inputs)``, which
returns one gradient or a tuple of them, one an input. The loss is Σ sin of the output: curved,
so that finite differences have an error to measure where the layer itself is linear.
"""

from __future__ import annotations

import torch
from torch import Tensor


def as_function(forward, backward):
    """A ``torch.autograd.Function`` that differentiates ``forward`` by ``backward``.

    For ``torch.autograd.gradcheck`` and, since it saves the inputs alone, ``gradgradcheck``.
    """

    class HandWritten(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx, dy):
            return backward(dy, *ctx.saved_tensors)

    return HandWritten.apply


def gradients_by_torch(forward, inputs, dy) -> tuple[Tensor, ...]:
    """What autograd makes of ``forward``, one gradient an input."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(forward(*inputs), inputs, dy)


def relative_error(hand, reference) -> float:
    """Largest |hand − reference| of any entry, over that tensor's largest |reference|.

    NaN where either holds one, so that no comparison with a bound can pass.
    """
    errors = []
    for h, r in zip(_tuple(hand), _tuple(reference), strict=True):
        if h.shape != r.shape:
            raise ValueError(f"gradient is {tuple(h.shape)}, the reference {tuple(r.shape)}")
        errors.append((h - r).abs().max() / r.abs().max().clamp_min(1e-300))
    return float(torch.stack(errors).max())


def difference_errors(forward, backward, inputs, direction, steps, central=True) -> Tensor:
    """|finite difference − slope by hand| for each step h along ``direction``, over the slope.

    Taylor's theorem: the error falls as h² for central differences and as h for forward ones,
    until rounding (about 1e-16/h) takes over; where the gradient is wrong, it does not fall.
    """
    slope = _slope_by_hand(forward, backward, inputs, direction)

    def loss(h):
        return torch.sin(forward(*_moved(inputs, direction, h))).sum()

    if central:
        measured = [(loss(h) - loss(-h)) / (2 * h) for h in steps]
    else:
        measured = [(loss(h) - loss(0.0)) / h for h in steps]
    return torch.stack([(m - slope).abs() / slope.abs() for m in measured])


def complex_step_error(forward, backward, inputs, direction, h=1e-20) -> float:
    """|Im loss(x + ihv)/h − slope by hand| over the slope: nothing cancels, so h may be tiny."""
    slope = _slope_by_hand(forward, backward, inputs, direction)
    loss = torch.sin(forward(*_moved(inputs, direction, 1j * h))).sum()
    return float((loss.imag / h - slope).abs() / slope.abs())


def _slope_by_hand(forward, backward, inputs, direction):
    gradients = _tuple(backward(torch.cos(forward(*inputs)), *inputs))
    return sum((g * v).sum() for g, v in zip(gradients, direction, strict=True))


def _moved(inputs, direction, h):
    return [x + h * v for x, v in zip(inputs, direction, strict=True)]


def _tuple(value):
    return value if isinstance(value, tuple | list) else (value,)
