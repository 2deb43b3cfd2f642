"""The prologue: what is in the set."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting import style


def class_balance(counts: np.ndarray, classes, splits) -> Figure:
    """Faces of each class, stacked by split; ``counts`` (classes, splits)."""
    drawn, ax = style.figure(height=2.4, width=6.0)
    left = np.zeros(len(classes))
    y = np.arange(len(classes))[::-1]
    for split, name, shade in zip(counts.T, splits, (1.0, 0.6, 0.3), strict=True):
        ax.barh(y, split, left=left, color=style.colours(classes), alpha=shade, height=0.7)
        ax.barh(y, 0, color=style.MUTED, alpha=shade, label=name)
        left += split
    for where, total in zip(y, left, strict=True):
        ax.text(total, where, f" {total:,.0f}", va="center", fontsize=7.5)
    ax.set_yticks(y, classes)
    ax.set(xlabel="faces", xlim=(0, left.max() * 1.1))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return drawn


def mean_faces(means: np.ndarray, classes) -> Figure:
    """Above: the mean face of each class. Below: how it differs from the mean of all classes.

    ``means`` (classes, 48, 48), grey levels 0–255.
    """
    apart = means - np.nanmean(means, axis=0)
    limit = style.signed_limit(apart)
    drawn, axes = style.figure(2, len(classes), height=2.3)
    for k, (name, colour) in enumerate(zip(classes, style.colours(classes), strict=True)):
        style.face_image(axes[0, k], means[k])
        axes[0, k].set_title(name, color=colour)
        artist = style.signed_image(axes[1, k], apart[k], limit)
    drawn.colorbar(artist, ax=axes[1, :].tolist(), label="grey levels", shrink=0.9, pad=0.01)
    style.heads(axes, beside=("mean", "minus the mean\nof all"), size=8.5)
    return drawn


def plot_sheet(images: np.ndarray, labels: np.ndarray, classes, columns: int = 12) -> Figure:
    """A row of faces for each class: its first ``columns`` ones, grey where it has fewer."""
    height = style.WIDTH * 0.95 * len(classes) / columns
    drawn, axes = style.figure(len(classes), 1, height=height)
    for label, (name, ax) in enumerate(zip(classes, axes, strict=True)):
        row = np.full((columns, *images.shape[1:]), 128, np.uint8)
        own = images[labels == label][:columns]
        row[: len(own)] = own
        style.face_image(ax, np.hstack(list(row)))
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    return drawn
