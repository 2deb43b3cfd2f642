"""Chapter 6's exercise: which of a reader's six derivatives of batch norm are right?"""

from __future__ import annotations

from collections.abc import Callable

import torch

from fer_utils.derivations.checks import relative_error
from fer_utils.derivations.normalisation import batchnorm_steps

NODES = ("x_hat", "var", "mean", "x", "gamma", "beta")
BOUND = 1e-9  # relative; the reader's sums may be in any order


def check_six(answers: dict[str, Callable]) -> dict[str, str]:
    """The verdict on each derivative, a few words: "right", or what is wrong with it.

    ``answers`` holds for any of ``NODES`` a function ``(g, x, gamma, eps)`` that returns ∂ℓ/∂node
    of one channel: g = ∂ℓ/∂z and x are float64 tensors (m,), gamma and eps numbers. ∂ℓ/∂x_hat
    and ∂ℓ/∂x are (m,), the others numbers. They are compared with ``batchnorm_steps``, m = 2 to 6.
    """
    if unknown := sorted(set(answers) - set(NODES)):
        raise ValueError(f"no derivative is called {unknown[0]!r}: name them {', '.join(NODES)}")
    verdicts = dict.fromkeys(NODES, "not given")
    return verdicts | {name: _verdict(name, answer) for name, answer in answers.items()}


def _verdict(name, answer) -> str:
    generator, ratios, points = torch.Generator().manual_seed(0), [], range(2, 7)
    for m in points:
        g, x = torch.randn(2, m, generator=generator, dtype=torch.float64)
        gamma = torch.tensor([0.5 + m], dtype=x.dtype)
        true = batchnorm_steps(g[:, None], x[:, None], gamma, 0.1 * m)[name].squeeze()
        try:
            given = answer(g.clone(), x.clone(), gamma.item(), 0.1 * m)
            given = torch.as_tensor(given, dtype=x.dtype)  # a plain number would become float32
        except Exception as error:  # a reader's function may fail in any way
            return f"fails: {type(error).__name__}: {error}"
        if given.shape != true.shape:
            return f"wrong shape: {tuple(given.shape)}, expected {tuple(true.shape)}"
        if not relative_error(given, true) <= BOUND:
            ratios.append((given / true).flatten())
    if not ratios:
        return "right"
    ratio = torch.cat(ratios)
    if len(ratios) == len(points) and (ratio - ratio[0]).abs().max() <= BOUND:
        return f"wrong by the factor {ratio[0]:.3g}"
    return f"wrong at {len(ratios)} of {len(points)} points"
