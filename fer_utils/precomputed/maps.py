"""Where the network looks: the mean map of each class. It shows no single face."""

from __future__ import annotations

import numpy as np
import torch

from fer_utils import evaluation
from fer_utils.data import Faces
from fer_utils.runs import Run

METHODS = ("gradient", "SmoothGrad", "Grad-CAM", "HiResCAM", "occlusion (blurred)")
MOST = 200  # faces a class


def class_maps(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """The mean map of each class over its correctly classified test faces, ``MOST`` at most.

    Each face's map is divided by its own mean |map| before averaging, so every face has the
    same say, and 1 means: as much as if the map were spread evenly over the face.

    Returns:
        ``methods`` (m,) · ``count`` (classes,) · ``maps`` (m, classes, 48, 48), the means, of
        |map| where a method's sign is a direction; to two decimals, NaN for a class without a
        face · ``upper`` (m + 1, n): the share of |map| in the upper half of the picture, face
        by face, last of all that of the edges · ``labels`` (n,).
    """
    model, table = run.model(), run.predictions
    answers = table[list(run.classes)].to_numpy().argmax(1)
    right = table[answers == table["label"].to_numpy()]
    mean = np.full((len(METHODS), len(run.classes), 48, 48), np.nan)
    upper, labels = [np.zeros((len(METHODS) + 1, 0))], []
    for k in range(len(run.classes)):
        rows = right["row"].to_numpy()[right["label"].to_numpy() == k][:MOST]
        labels += [k] * len(rows)
        if not len(rows):
            continue
        images, target = run.scale(faces.images[rows]), torch.full((len(rows),), k)
        maps = [_evened(evaluation.importance(name, model, images, target)) for name in METHODS]
        mean[:, k] = [of_method.mean(0) for of_method in maps]
        maps.append(_evened(evaluation.edges(images)))
        upper.append([upper_share(of_method) for of_method in maps])
    return {
        "methods": np.array(METHODS),
        "count": np.bincount(labels, minlength=len(run.classes)),
        "maps": mean.round(2).astype(np.float16),
        "upper": np.concatenate(upper, axis=1).astype(np.float16),
        "labels": np.array(labels, int),
    }


def upper_share(maps: np.ndarray) -> np.ndarray:
    """Share of |map| in the upper half of the picture, (n, h, w) -> (n,)."""
    rows = abs(maps).sum(2, dtype=np.float64)
    return rows[:, : rows.shape[1] // 2].sum(1) / rows.sum(1)


def _evened(maps: torch.Tensor) -> np.ndarray:
    """(n, 1, h, w) -> (n, h, w), each over its mean |map|; a map of zeros becomes an even one."""
    maps = maps[:, 0].numpy()
    mean = abs(maps).mean((1, 2), keepdims=True)
    return np.where(mean > 0, maps / np.where(mean > 0, mean, 1), 1.0)
