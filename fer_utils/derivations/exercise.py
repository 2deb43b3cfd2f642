"""Chapter 6's exercise: which of a reader's six derivatives of batch norm are right?"""

from __future__ import annotations

from collections.abc import Callable

import torch

from fer_utils.derivations.checks import relative_error

NODES = ("x_hat", "var", "mean", "x", "gamma", "beta")
BOUND = 1e-9  # relative; the reader's sums may be in any order


def check_six(answers: dict[str, Callable], seed: int = 0) -> dict[str, str]:
    """The verdict on each derivative, a few words: "right", or what is wrong with it.

    ``answers`` holds for any of ``NODES`` a function ``(g, x, gamma, eps)`` that returns ∂ℓ/∂node
    of one channel: g = ∂ℓ/∂y and x are float64 tensors (m,), gamma and eps numbers. ∂ℓ/∂x_hat
    and ∂ℓ/∂x are (m,), the others numbers. They are compared with autograd at m = 2 to 6.
    """
    if unknown := sorted(set(answers) - set(NODES)):
        raise ValueError(f"no derivative is called {unknown[0]!r}: name them {', '.join(NODES)}")
    generator = torch.Generator().manual_seed(seed)
    points = []
    for m in range(2, 7):
        g, x, (gamma,) = (
            torch.randn(n, generator=generator, dtype=torch.float64) for n in (m, m, 1)
        )
        points.append((g, x, float(gamma), 0.1 * m))
    verdicts = {name: _verdict(name, answer, points) for name, answer in answers.items()}
    return {name: verdicts.get(name, "not given") for name in NODES}


def _verdict(name, answer, points) -> str:
    ratios = []
    for g, x, gamma, eps in points:
        true = autograd_at_nodes(g, x, gamma, eps)[name]
        try:
            given = torch.as_tensor(answer(g.clone(), x.clone(), gamma, eps), dtype=true.dtype)
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


def autograd_at_nodes(g, x, gamma, eps):
    """{node: ∂ℓ/∂node by autograd} of one channel, for ℓ = Σ g y."""
    node = {"x": x.clone().requires_grad_()}
    node["mean"] = node["x"].mean()
    node["var"] = ((node["x"] - node["mean"]) ** 2).mean()
    node["x_hat"] = (node["x"] - node["mean"]) / (node["var"] + eps).sqrt()
    node["gamma"] = torch.tensor(gamma, dtype=x.dtype, requires_grad=True)
    node["beta"] = torch.zeros((), dtype=x.dtype, requires_grad=True)
    y = node["gamma"] * node["x_hat"] + node["beta"]
    return dict(zip(node, torch.autograd.grad(y, node.values(), g), strict=True))
