"""What is in a set: counts, copies, the mean face of each class, what the voters said."""

from __future__ import annotations

import numpy as np

from fer_utils import data, metrics
from fer_utils.data import Faces
from fer_utils.runs import Run


def dataset(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """Counts and means of a set, showing no single face.

    Returns:
        ``counts`` (classes, splits) · ``distinct`` images · ``copy_groups`` · ``conflicting``
        groups · ``copies_in_training`` (splits): test faces with a pixel-identical copy there ·
        ``blank`` (splits) · ``mean_face`` (classes, 48, 48) grey levels of Training ·
        ``spread_face`` (classes, 48, 48) their standard deviation.
    """
    found = data.describe(faces)
    blank = np.zeros(len(faces), bool)
    blank[found.blank_rows] = True
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
        "blank": np.array([(blank & (faces.split == split)).sum() for split in data.SPLITS]),
        "mean_face": np.stack([p.mean(0) for p in pictures]).astype(np.float16),
        "spread_face": np.stack([p.std(0) for p in pictures]).astype(np.float16),
    }


def votes(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """{row (n,), votes (n, 10) uint8, notice}: the votes of the faces that the run predicted.

    Columns in FER+'s order. Where the votes are real, their licence's notice goes with them.
    """
    rows = run.predictions["row"].to_numpy()
    notice = "" if run.synthetic else metrics.FERPLUS_NOTICE
    counts = faces.votes[rows].astype(np.uint8)
    return {"row": rows, "votes": counts, "notice": np.array(notice)}


def copies(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """{row (m,)}: the faces outside Training whose very image lies in it too."""
    seen = {image.tobytes() for image in faces.of("Training").images}
    later = np.flatnonzero(faces.split != "Training")
    rows = [row for row in later if faces.images[row].tobytes() in seen]
    return {"row": np.array(rows, dtype=np.int64)}
