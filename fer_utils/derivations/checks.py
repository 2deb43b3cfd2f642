"""Gradient checks that share no code with the gradient, and how often each sees a planted error.

A gradient by hand is a function ``backward(dy, *inputs)`` that returns one gradient or a tuple,
one an input; ``forward(*inputs)`` is the layer. A check of ``CHECKS`` says whether the gradient
holds at one case of ``cases``; ``catch_rates(seeds)`` asks them on many, right and wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from fer_utils.derivations.cases import Case, cases

STEPS = torch.logspace(-1, -10, 28, dtype=torch.float64)
SLOPE_STEPS = (1e-3, 1e-4)  # small enough for Taylor's first term, far above rounding
SLOPE_BOUND = 0.05
EXACT = 1e-12  # float64 keeps 16 digits; the sums here lose two or three of them


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


def difference_errors(case: Case, backward, steps=STEPS, central=True) -> Tensor:
    """|finite difference − slope by hand| over |slope by hand|, for each step h.

    The loss is Σ sin of the output, curved where the layer itself is linear; it moves along
    ``case.direction``. Taylor's theorem: the error falls as h² for central differences and as h
    for forward ones, until rounding (about 1e-16/h) takes over. Where the gradient is wrong, it
    does not fall.
    """

    def loss(h):
        moved = [x + h * v for x, v in zip(case.inputs, case.direction, strict=True)]
        return torch.sin(case.forward(*moved)).sum()

    dy = torch.cos(case.forward(*case.inputs))
    gradients = _tuple(backward(dy, *case.inputs))
    by_hand = sum((g * v).sum() for g, v in zip(gradients, case.direction, strict=True))
    if central:
        measured = [(loss(h) - loss(-h)) / (2 * h) for h in steps]
    else:
        measured = [(loss(h) - loss(0.0)) / h for h in steps]
    return torch.stack([(m - by_hand).abs() / by_hand.abs() for m in measured])


def slope(case, backward, central=True) -> float:
    """How fast the error of finite differences falls: its slope on log-log axes."""
    errors = difference_errors(case, backward, SLOPE_STEPS, central)
    return float((errors[0] / errors[1]).log() / math.log(SLOPE_STEPS[0] / SLOPE_STEPS[1]))


def passes_gradcheck(case, backward, second=False) -> bool:
    """torch's ``gradcheck``, or with ``second`` its ``gradgradcheck``.

    The second alone cannot see a wrong sign: it asks whether the backward pass is differentiated
    rightly, not whether it is right.
    """

    class HandWritten(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*inputs)  # these alone, so that it can be differentiated again
            return case.forward(*inputs)

        @staticmethod
        def backward(ctx, dy):
            return backward(dy, *ctx.saved_tensors)

    inputs = [x.clone().requires_grad_() for x in case.inputs]
    check = gradgradcheck if second else gradcheck
    return check(HandWritten.apply, inputs, raise_exception=False)


def equals_torch(case, backward) -> bool:
    theirs = gradients_by_torch(case.forward, case.inputs, case.dy)
    return relative_error(backward(case.dy, *case.inputs), theirs) <= EXACT


CHECKS = {  # (case, backward) -> whether it holds; what is not a number never does
    "gradcheck": passes_gradcheck,
    "torch": equals_torch,
    "forward slope": lambda *of: abs(slope(*of, central=False) - 1) <= SLOPE_BOUND,
    "central slope": lambda *of: abs(slope(*of) - 2) <= SLOPE_BOUND,
}


def catch_rates(seeds: Iterable[int], checks: Iterable[str] = CHECKS) -> pd.DataFrame:
    """The share of many seeds' cases to which each check, a column, objects: 0 … 1.

    A row for each layer and each error planted in it; "none" is the right gradient, where
    objecting is a false alarm.
    """
    rows = []
    for seed in seeds:
        for layer, case in cases(seed).items():
            for error, backward in {"none": case.backward, **case.wrong}.items():
                objects = {name: not CHECKS[name](case, backward) for name in checks}
                rows.append({"layer": layer, "error": error, **objects})
    return pd.DataFrame(rows).groupby(["layer", "error"], sort=False).mean()


def _tuple(value):
    return value if isinstance(value, tuple | list) else (value,)
