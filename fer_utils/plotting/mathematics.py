"""Figures of chapter 6: what a batch norm cannot pass back, and how errors fall with the step."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting import style

PLANTED = {"color": "#000000", "ls": "--", "lw": 2}
LEAST = 1e-17  # where an error of exactly 0 is drawn on a logarithmic axis


def jacobian(matrix: np.ndarray, eigenvalues: np.ndarray, expected: np.ndarray) -> Figure:
    """One channel's ∂y/∂x (m, m) and its eigenvalues in rising order, measured and derived.

    Both are pure numbers: output per unit of input.
    """
    drawn, (left, right) = style.figure(1, 2, height=2.6, width_ratios=[1, 1.5])
    image = style.signed_image(left, matrix, float(np.abs(matrix).max()))
    left.set_xlabel("input value $x_j$")
    left.set_ylabel("output value $y_i$")
    drawn.colorbar(image, ax=left, label="$∂y_i/∂x_j$", shrink=0.9)
    order = np.arange(1, len(eigenvalues) + 1)
    right.plot(order, expected, "o", ms=8, mfc="none", color=style.MUTED, label="derived")
    right.plot(order, eigenvalues, ".", color=style.ACCENT, label="measured")
    right.set_xlabel("number, in rising order")
    right.set_ylabel("eigenvalue of ∂y/∂x")
    right.set_xticks(order)
    right.grid(axis="y")
    right.legend(loc="lower right")
    return drawn


def slopes(steps: np.ndarray, central: dict, forward: dict, wrong: str) -> Figure:
    """Relative error against the step, log-log: one line a layer, guides of slope 2 and 1.

    ``central`` and ``forward`` map a layer's name to its errors; the entry ``wrong`` is the
    planted error, drawn in black dashes.
    """
    drawn, axes = style.figure(1, 2, height=3.0, sharey=True)
    panels = zip(axes, ("central", "forward"), (central, forward), (2, 1), strict=True)
    for ax, kind, errors, order in panels:
        guide = 0.2 * (steps / steps.max()) ** order
        ax.loglog(steps, guide, color=style.MUTED, lw=5, alpha=0.35, label=f"slope {order}")
        palette = iter(style.CLASS_COLOURS.values())
        for name, values in errors.items():
            line = PLANTED if name == wrong else {"color": next(palette), "lw": 1.2}
            ax.loglog(steps, np.maximum(values, LEAST), label=name, **line)
        ax.set_xlabel(f"step h of the {kind} difference")
        ax.grid()
        ax.set_ylim(1e-14, 10)
    axes[0].set_ylabel("error over the slope")
    lines, names = axes[0].get_legend_handles_labels()
    extra = axes[1].lines[0]
    extra.set_linestyle(":")
    axes[1].legend([*lines, extra], [*names, "slope 1"], loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn
