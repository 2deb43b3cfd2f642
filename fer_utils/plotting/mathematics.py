"""Figures of chapter 6: batch norm as a graph, its Jacobian, and how errors fall with the step."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting import style

NODES = {  # text -> (x, y) in the drawing
    "$x_i$": (0, 0), "$\\mu$": (1.1, 0.9), "$\\sigma^2$": (2.2, 0.9), "$\\hat{x}_i$": (3.3, 0),
    "$z_i$": (4.6, 0), "$\\gamma$": (3.9, 0.9), "$\\beta$": (4.6, 0.9), "$\\ell$": (5.7, 0),
}  # fmt: skip
ARROWS = (  # from, to, how far the arrow is bent
    ("$x_i$", "$\\mu$", 0), ("$x_i$", "$\\sigma^2$", 0), ("$x_i$", "$\\hat{x}_i$", 0.12),
    ("$\\mu$", "$\\sigma^2$", 0), ("$\\mu$", "$\\hat{x}_i$", 0),
    ("$\\sigma^2$", "$\\hat{x}_i$", 0), ("$\\hat{x}_i$", "$z_i$", 0), ("$\\gamma$", "$z_i$", 0),
    ("$\\beta$", "$z_i$", 0), ("$z_i$", "$\\ell$", 0),
)  # fmt: skip


def batchnorm_graph() -> Figure:
    """What feeds what in a batch norm: an arrow from each quantity to those computed from it."""
    drawn, ax = style.figure(height=1.7, width=5.2)
    circle = {"boxstyle": "circle", "fc": "#EAF2F8", "ec": style.ACCENT}
    for text, place in NODES.items():
        ax.text(*place, text, ha="center", va="center", fontsize=11, bbox=circle)
    for start, end, bend in ARROWS:
        arrow = {
            "arrowstyle": "-|>", "color": "#444444", "shrinkA": 14, "shrinkB": 14,
            "connectionstyle": f"arc3,rad={bend}",
        }  # fmt: skip
        ax.annotate("", NODES[end], NODES[start], arrowprops=arrow)
    ax.set(xlim=(-0.4, 6.1), ylim=(-0.45, 1.3), aspect="equal")
    style.bare(ax)
    return drawn


def jacobian(matrix: np.ndarray, eigenvalues: np.ndarray, expected: np.ndarray) -> Figure:
    """One channel's ∂z/∂x (m, m) and its eigenvalues in rising order, measured and derived.

    Both are pure numbers: output per unit of input.
    """
    drawn, (left, right) = style.figure(1, 2, height=2.6, width_ratios=[1, 1.5])
    image = style.signed_image(left, matrix, float(np.abs(matrix).max()))
    left.set_xlabel("input value $x_j$")
    left.set_ylabel("output value $z_i$")
    drawn.colorbar(image, ax=left, label="$∂z_i/∂x_j$", shrink=0.9)
    order = np.arange(1, len(eigenvalues) + 1)
    right.plot(order, expected, "o", ms=8, mfc="none", color=style.MUTED, label="derived")
    right.plot(order, eigenvalues, ".", color=style.ACCENT, label="measured")
    right.set_xlabel("number, in rising order")
    right.set_ylabel("eigenvalue of ∂z/∂x")
    right.set_xticks(order)
    right.grid(axis="y")
    right.legend(loc="lower right")
    return drawn


def slopes(steps: np.ndarray, central: dict, forward: dict, wrong: str) -> Figure:
    """Relative error against the step, log-log: one line a layer, guides of slope 2 and 1.

    ``central`` and ``forward`` map a layer's name to its errors; the entry ``wrong`` is the
    planted error, drawn in black dashes. The legend names the lines from top to bottom.
    """
    drawn, (left, right) = style.figure(1, 2, height=3.0, sharey=True)
    middle = len(steps) // 4  # where no line has reached rounding yet
    names = sorted(central, key=lambda name: -central[name][middle])
    for ax, kind, errors, order in ((left, "central", central, 2), (right, "forward", forward, 1)):
        palette = iter(style.PALETTE)
        for name in names:
            line = {"color": "black", "ls": "--", "lw": 2}
            if name != wrong:
                line = {"color": next(palette), "lw": 1.2}
            shown = np.maximum(errors[name], 1e-17)  # an error may be exactly 0
            ax.loglog(steps, shown, label=name, **line)
        guide = {"color": style.MUTED, "lw": 5, "alpha": 0.35, "zorder": 1}
        ax.loglog(steps, 0.2 * (steps / steps.max()) ** order, **guide)
        told = f"grey: slope {order}"
        ax.text(0.04, 0.05, told, transform=ax.transAxes, fontsize=8, color="#444444")
        ax.set_xlabel(f"step h of the {kind} difference")
        ax.grid()
        ax.set_ylim(1e-14, 10)
    left.set_ylabel("relative error")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn
