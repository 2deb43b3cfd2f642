"""Aggregates of many faces, none of which shows a single one: counts, copies, votes, mean maps."""

from __future__ import annotations

import numpy as np
import torch

from fer_utils import data, evaluation, metrics
from fer_utils.data import Faces
from fer_utils.runs import Run

METHODS = ("gradient", "SmoothGrad", "Grad-CAM", "HiResCAM", "occlusion (blurred)")
MOST = 200  # faces of a class in its mean map


def dataset(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """Counts and means of a set.

    Returns:
        ``counts`` (classes, splits) · ``distinct`` images · ``copy_groups`` · ``conflicting``
        groups · ``copies_in_training`` (splits): test faces with a pixel-identical copy there ·
        ``blank`` (splits) · ``mean_face`` (classes, 48, 48) grey levels of Training ·
        ``spread_face`` (classes, 48, 48) their standard deviation.
    """
    found = data.describe(faces)
    blank = faces.split[found.blank_rows]
    train = faces.of("Training")
    pictures = [train.images[train.labels == k] for k in range(len(run.classes))]
    pictures = [p if len(p) else np.full((1, 48, 48), np.nan) for p in pictures]
    return {
        "counts": found.counts,
        "distinct": np.array(found.distinct),
        "copy_groups": np.array(found.copy_groups),
        "conflicting": np.array(found.conflicting_groups),
        "copies_in_training": np.array(
            [found.copies_across.get((split, "Training"), 0) for split in data.SPLITS]
        ),
        "blank": np.array([(blank == split).sum() for split in data.SPLITS]),
        "mean_face": np.stack([p.mean(0) for p in pictures]).astype(np.float16),
        "spread_face": np.stack([p.std(0) for p in pictures]).astype(np.float16),
    }


def copies(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """{row (m,)}: the faces outside Training whose very image lies in it too."""
    seen = {image.tobytes() for image in faces.of("Training").images}
    later = np.flatnonzero(faces.split != "Training")
    rows = [row for row in later if faces.images[row].tobytes() in seen]
    return {"row": np.array(rows, dtype=np.int64)}


def votes(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """{row (n,), votes (n, 10) uint8, notice}: the votes of the faces that the run predicted.

    Columns in FER+'s order. Where the votes are real, their licence's notice goes with them.
    """
    rows = run.predictions["row"].to_numpy()
    notice = "" if run.synthetic else metrics.FERPLUS_NOTICE
    counts = faces.votes[rows].astype(np.uint8)
    return {"row": rows, "votes": counts, "notice": np.array(notice)}


def class_maps(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """Where the network looks: each class's mean map over correctly classified test faces.

    Each face's map is divided by its own mean |map| before averaging, so every face has the
    same say, and 1 means: as much as if the map were spread evenly over the face.

    Returns:
        ``methods`` (m,) · ``count`` (classes,), ``MOST`` at most · ``maps`` (m, classes, 48, 48),
        the means, of |map| where a method's sign is a direction; to two decimals, NaN for a class
        without a face · ``upper`` (m + 1, n): the share of |map| in the upper half of the
        picture, face by face, last of all that of the edges · ``labels`` (n,).
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
