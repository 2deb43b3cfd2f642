"""The prologue: what is in the set."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fer_utils.plotting.style import (
    MUTED,
    WIDTH,
    colours,
    face_image,
    figure,
    signed_image,
    signed_limit,
)


def class_balance(counts: np.ndarray, classes, splits) -> Figure:
    """Faces of each class, stacked by split; ``counts`` (classes, splits)."""
    drawn, ax = figure(height=2.4, width=6.0)
    left = np.zeros(len(classes))
    y = np.arange(len(classes))[::-1]
    for split, name, shade in zip(counts.T, splits, (1.0, 0.6, 0.3), strict=True):
        ax.barh(y, split, left=left, color=colours(classes), alpha=shade, height=0.7)
        ax.barh(y, 0, color=MUTED, alpha=shade, label=name)
        left += split
    for where, total in zip(y, left, strict=True):
        ax.text(total, where, f" {total:,.0f}", va="center", fontsize=7.5)
    ax.set_yticks(y, classes)
    ax.set_xlabel("faces")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    ax.set_xlim(0, left.max() * 1.1)
    return drawn


def mean_faces(means: np.ndarray, classes) -> Figure:
    """Above: the mean face of each class. Below: how it differs from the mean of all classes.

    ``means`` (classes, 48, 48), grey levels 0–255.
    """
    apart = means - np.nanmean(means, axis=0)
    limit = signed_limit(np.nan_to_num(apart))
    drawn, axes = figure(2, len(classes), height=2.3)
    for k, (name, colour) in enumerate(zip(classes, colours(classes), strict=True)):
        face_image(axes[0, k], means[k])
        axes[0, k].set_title(name, color=colour)
        artist = signed_image(axes[1, k], apart[k], limit)
    bar = drawn.colorbar(artist, ax=axes[1, :].tolist(), shrink=0.9, pad=0.01)
    bar.set_label("grey levels")
    axes[0, 0].set_ylabel("mean")
    axes[1, 0].set_ylabel("less the mean\nof all")
    return drawn


def plot_sheet(images: np.ndarray, labels: np.ndarray, classes, columns: int = 12) -> Figure:
    """A row of faces for each class: its first ``columns`` ones, grey where it has fewer."""
    drawn, axes = figure(len(classes), 1, height=WIDTH * 0.95 * len(classes) / columns)
    for label, (name, ax) in enumerate(zip(classes, axes, strict=True)):
        row = np.full((columns, *images.shape[1:]), 128, np.uint8)
        own = images[labels == label][:columns]
        row[: len(own)] = own
        face_image(ax, np.hstack(list(row)))
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
    return drawn
