"""Where the network looks: the mean map of each class.

It shows no single face, so a run on real faces may ship it.
"""

from __future__ import annotations

import numpy as np
import torch

from fer_utils import evaluation, saliency
from fer_utils.data import Faces
from fer_utils.runs import Run

CLASS_METHODS = {
    "gradient": saliency.gradient,
    "SmoothGrad": lambda m, x, t: saliency.smoothgrad(
        m, x, t, samples=20, generator=torch.Generator().manual_seed(0)
    ),
    "integrated gradients": lambda m, x, t: saliency.integrated_gradients(m, x, t, steps=20),
    "Grad-CAM": saliency.grad_cam,
    "occlusion": saliency.occlusion,
    "control: random network": lambda m, x, t: saliency.gradient(evaluation.randomised(m), x, t),
    "control: edges": lambda m, x, t: evaluation.edges(x),
}
BANDS = {  # rows of the 48: where brows, eyes, nose and mouth lie on the mean face of either set
    "forehead": (0, 10), "brow": (10, 16), "eye": (16, 22), "nose": (22, 33),
    "mouth": (33, 43), "chin": (43, 48),
}  # fmt: skip
MOST = 200  # faces a class


def class_maps(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """The mean map of each class over its correctly classified test faces, ``MOST`` at most.

    Each face's map is divided by its own mean |map| before averaging, so every face has the
    same say, and 1 means: as much as if the map were spread evenly over the face.

    Returns:
        ``methods`` (m,), the controls last · ``count`` (classes,) · ``signed`` and ``magnitude``
        (m − controls, classes, 48, 48), the means of map and |map| to two decimals, NaN for a
        class without a face · ``bands`` (b,) · ``band_rows`` (b, 2) · ``band_share``
        (m, classes, b): mean share of |map| in each band's rows · ``band_error``: its standard
        error.
    """
    model, table = run.model(), run.predictions
    answers = table[list(run.classes)].to_numpy().argmax(1)
    right = table[answers == table["label"].to_numpy()]
    shape = (len(CLASS_METHODS), len(run.classes))
    drawn = [name for name in CLASS_METHODS if not name.startswith("control")]
    signed, magnitude = np.full((2, *shape, 48, 48), np.nan)
    share, error = np.full((2, *shape, len(BANDS)), np.nan)
    count = np.zeros(len(run.classes), int)
    for k in range(len(run.classes)):
        rows = right["row"].to_numpy()[right["label"].to_numpy() == k][:MOST]
        count[k] = len(rows)
        if not len(rows):
            continue
        images = run.scale(faces.images[rows])
        for j, method in enumerate(CLASS_METHODS.values()):
            maps = _evened(method(model, images, k)[:, 0].numpy())
            signed[j, k], magnitude[j, k] = maps.mean(0), abs(maps).mean(0)
            mass = band_shares(abs(maps))
            share[j, k] = mass.mean(0)
            error[j, k] = mass.std(0) / np.sqrt(len(rows))
    return {
        "methods": np.array(list(CLASS_METHODS)),
        "count": count,
        "signed": signed[: len(drawn)].round(2).astype(np.float16),
        "magnitude": magnitude[: len(drawn)].round(2).astype(np.float16),
        "bands": np.array(list(BANDS)),
        "band_rows": np.array(list(BANDS.values())),
        "band_share": share.astype(np.float32),
        "band_error": error.astype(np.float32),
    }


def band_shares(maps: np.ndarray) -> np.ndarray:
    """Share of each map's mass in the rows of ``BANDS``: (n, 48, 48), 0 or more -> (n, bands)."""
    rows = maps.sum(2, dtype=np.float64)
    whole = rows.sum(1)
    return np.stack([rows[:, a:b].sum(1) / whole for a, b in BANDS.values()], axis=1)


def _evened(maps: np.ndarray) -> np.ndarray:
    """Each map over its own mean |map|; a map of zeros becomes an even one."""
    mean = abs(maps).mean((1, 2), keepdims=True)
    return np.where(mean > 0, maps / np.where(mean > 0, mean, 1), 1.0)
