"""Chapter 6's formulas as identities of symbols, at one size each; SymPy differentiates by rule.

Square roots stall a computer algebra system, so σ_ε is a symbol of its own: from σ_ε² = σ² + ε
follows ∂σ_ε/∂σ² = 1/(2σ_ε), and everything else is a polynomial in the x's and 1/σ_ε.
"""

from __future__ import annotations

from typing import NamedTuple

import sympy
import torch

from fer_utils import derivations as by_hand
from fer_utils.derivations.cases import EPS


class Identity(NamedTuple):
    symbols: list
    derivatives: list  # by SymPy's rules
    formulas: list  # the chapter's
    numbers: list  # tensors: a value for each symbol
    coded: list  # tensors: what the code makes of them

    def differing(self) -> int:
        """In how many entries formula and derivative are not the same expression."""
        pairs = zip(self.derivatives, self.formulas, strict=True)
        return sum(sympy.expand(a - b) != 0 for a, b in pairs)

    def code_error(self) -> float:
        """Relative error of the code against the derivatives, at one random point."""
        value = sympy.lambdify(self.symbols, self.derivatives, "math")(
            *_flat(self.numbers).tolist()
        )
        return by_hand.relative_error(_flat(self.coded), torch.tensor(value, dtype=torch.float64))


def identities() -> dict[str, Identity]:
    return {
        "batch norm": batchnorm(),
        "cross-entropy": cross_entropy(),
        "linear": linear(),
        "convolution": convolution(),
    }


def batchnorm(m: int = 4) -> Identity:
    """All six: ∂ℓ/∂x̂, ∂ℓ/∂σ², ∂ℓ/∂μ, ∂ℓ/∂x, ∂ℓ/∂γ, ∂ℓ/∂β of one channel with m values."""
    x, g, x_hat = _symbols("x", m), _symbols("g", m), _symbols("h", m)
    gamma, beta, mu, std = sympy.symbols("gamma beta mu std", positive=True)
    mean, var = sum(x) / m, sum((v - mu) ** 2 for v in x) / m
    centred = [v - mu for v in x]

    # by SymPy: the loss as a function of x̂; of μ and σ_ε; of x, with μ put in
    of_x_hat = sum(a * (gamma * h + beta) for a, h in zip(g, x_hat, strict=True))
    of_mu = of_x_hat.subs({h: v / std for h, v in zip(x_hat, centred, strict=True)})
    of_x, var_of_x = of_mu.subs(mu, mean), var.subs(mu, mean)
    by_var = sympy.diff(of_mu, std) / (2 * std)
    by_var_of_x = by_var.subs(mu, mean)
    derivatives = [
        *(sympy.diff(of_x_hat, h) for h in x_hat),
        by_var,
        sympy.diff(of_mu, mu) + by_var * sympy.diff(var, mu),
        *(sympy.diff(of_x, v) + by_var_of_x * sympy.diff(var_of_x, v) for v in x),
        sympy.diff(of_mu, gamma),
        sympy.diff(of_mu, beta),
    ]

    # by the chapter's six steps
    step1 = [gamma * a for a in g]
    step2 = sum(a * v / (-2 * std**3) for a, v in zip(step1, centred, strict=True))
    step3 = sum(-a / std for a in step1) + step2 * sum(-2 * v for v in centred) / m
    step4 = [a / std + step2 * 2 * v / m + step3 / m for a, v in zip(step1, centred, strict=True)]
    step5 = sum(a * v / std for a, v in zip(g, centred, strict=True))
    formulas = [*step1, step2, step3, *step4, step5, sum(g)]

    derivatives, formulas = ([e.subs(mu, mean) for e in side] for side in (derivatives, formulas))
    dy, values, scale = _drawn((m, 1), (m, 1), (1,))
    numbers = [values, dy, scale, (values.var(correction=0) + EPS).sqrt()]
    coded = list(by_hand.batchnorm_steps(dy, values, scale, EPS).values())
    return Identity([*x, *g, gamma, std], derivatives, formulas, numbers, coded)


def cross_entropy(classes: int = 7) -> Identity:
    """∂ℓ/∂z for targets of any sum."""
    z, y = _symbols("z", classes), _symbols("y", classes)
    total = sum(sympy.exp(v) for v in z)
    loss = -sum(a * (v - sympy.log(total)) for a, v in zip(y, z, strict=True))
    formulas = [sympy.exp(v) / total * sum(y) - a for a, v in zip(y, z, strict=True)]
    numbers = _drawn((1, classes), (1, classes))
    coded = [by_hand.softmax_cross_entropy_grad(*numbers)]
    return Identity([*z, *y], [sympy.diff(loss, v) for v in z], formulas, numbers, coded)


def linear(inputs: int = 3, outputs: int = 2) -> Identity:
    """∂ℓ/∂x, ∂ℓ/∂w, ∂ℓ/∂c of one sample."""
    x, g = sympy.Matrix(_symbols("x", inputs)), sympy.Matrix(_symbols("g", outputs))
    w, c = sympy.Matrix(_symbols("w", inputs * outputs)), sympy.Matrix(_symbols("c", outputs))
    weight = w.reshape(outputs, inputs)
    loss = (g.T * (weight * x + c))[0]
    derivatives = [sympy.diff(loss, v) for v in (*x, *w, *c)]
    formulas = [*(weight.T * g), *(g * x.T), *g]
    numbers = _drawn((1, inputs), (outputs, inputs), (outputs,), (1, outputs))
    coded = by_hand.linear_backward(numbers[3], *numbers[:2])
    return Identity([*x, *w, *c, *g], derivatives, formulas, numbers, coded)


def convolution(n: int = 6, kernel: int = 3, stride: int = 2, padding: int = 1) -> Identity:
    """∂ℓ/∂x, ∂ℓ/∂w, ∂ℓ/∂c along one axis, for one channel."""
    windows = by_hand.conv_output_size(n, kernel, stride, padding)
    x, w, (c,), g = (_symbols(*s) for s in (("x", n), ("w", kernel), ("c", 1), ("g", windows)))
    met = [(j, i, stride * j + i - padding) for j in range(windows) for i in range(kernel)]
    met = [(j, i, q) for j, i, q in met if 0 <= q < n]  # window j's tap i meets pixel q
    loss = sum(g[j] * w[i] * x[q] for j, i, q in met) + sum(a * c for a in g)
    derivatives = [sympy.diff(loss, v) for v in (*x, *w, c)]
    by_x = [sum(g[j] * w[i] for j, i, q in met if q == here) for here in range(n)]
    by_w = [sum(g[j] * x[q] for j, i, q in met if i == tap) for tap in range(kernel)]
    numbers = _drawn((1, 1, 1, n), (1, 1, 1, kernel), (1,), (1, 1, 1, windows))
    coded = by_hand.conv2d_backward(numbers[3], *numbers[:2], (1, stride), (0, padding))
    return Identity([*x, *w, c, *g], derivatives, [*by_x, *by_w, sum(g)], numbers, coded)


def _symbols(name, n):
    return sympy.symbols(f"{name}1:{n + 1}", real=True)


def _drawn(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def _flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])
