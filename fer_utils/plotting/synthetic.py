"""Figures of the synthetic faces: the sheet that shows what is drawn, and the truth of one face."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting.style import MAGNITUDE, WIDTH, face_image, figure


def plot_sheet(images: np.ndarray, labels: np.ndarray, classes, columns: int = 12) -> Figure:
    """A row of faces for each class: its first ``columns`` ones.

    Args:
        images: uint8 (n, 48, 48).
        labels: (n,) index into ``classes``.
    """
    drawn, axes = figure(len(classes), 1, height=WIDTH * 0.95 * len(classes) / columns)
    for label, (name, ax) in enumerate(zip(classes, axes, strict=True)):
        row = images[labels == label][:columns]
        if len(row) < columns:
            raise ValueError(f"{name}: {len(row)} faces for a sheet of {columns} columns")
        face_image(ax, np.hstack(list(row)))
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    return drawn


def plot_truth(image: np.ndarray, rest: np.ndarray, masks: np.ndarray, parts) -> Figure:
    """One face, the same face at rest, what its expression changes, and the masks of its parts.

    Args:
        image, rest: uint8 (48, 48), the face as drawn and with its action units at rest.
        masks: bool (parts, 48, 48).
        parts: the parts' names.
    """
    drawn, axes = figure(1, 4, height=2.0)
    face_image(axes[0], image).axes.set_xlabel("face")
    face_image(axes[1], rest).axes.set_xlabel("at rest")
    change = np.abs(image.astype(int) - rest)
    face_image(axes[2], rest)
    bar = axes[2].imshow(change, cmap=MAGNITUDE)
    axes[2].set_xlabel("difference map")
    drawn.colorbar(bar, ax=axes[2], label="grey levels", shrink=0.75)
    face_image(axes[3], image)
    for mask, colour in zip(masks, ("#E69F00", "#56B4E9", "#009E73", "#CC79A7"), strict=True):
        axes[3].contour(mask, levels=[0.5], colors=[colour], linewidths=1.2)
    axes[3].set_xlabel("masks: " + ", ".join(parts))
    return drawn
