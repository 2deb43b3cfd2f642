"""A sheet of faces, a row a class."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting.style import WIDTH, face_image, figure


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
