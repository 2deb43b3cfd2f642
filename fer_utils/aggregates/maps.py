"""Where the network looks: the mean map of each class, and maps scored against a known truth.

``class_maps`` shows no single face, so a run on real faces may ship it. ``scores`` needs faces
that can be drawn again with action units at rest, so only synthetic runs have it.
"""

from __future__ import annotations

import numpy as np
import torch

from fer_utils import faithfulness, saliency, synthetic
from fer_utils.data import Faces
from fer_utils.runs import Run

CLASS_METHODS = {
    "gradient": saliency.gradient,
    "integrated gradients": lambda m, x, t: saliency.integrated_gradients(m, x, t, steps=20),
    "Grad-CAM": saliency.grad_cam,
    "occlusion": saliency.occlusion,
    "control: random network": lambda m, x, t: saliency.gradient(faithfulness.randomised(m), x, t),
    "control: edges": lambda m, x, t: faithfulness.edges(x),
}
BANDS = {  # rows of the 48: where brows, eyes, nose and mouth lie on the mean face of either set
    "forehead": (0, 10), "brow": (10, 16), "eye": (16, 22), "nose": (22, 33),
    "mouth": (33, 43), "chin": (43, 48),
}  # fmt: skip
MOST = 60  # faces a class
SCORES = (
    "pointing game", "mass in mask", "rank accuracy", "deletion", "insertion",
    "random network", "part agreement", "top part",
)  # fmt: skip
TRUTH = SCORES[:3]  # against the mask
VISIBLE = 8  # grey levels of 255: a pixel that changes by more carries the expression
RESAMPLES = 2000


def class_maps(run: Run, faces: Faces) -> dict[str, np.ndarray]:
    """The mean map of each class over its correctly classified test faces, ``MOST`` at most.

    Each face's map is divided by its own mean |map| before averaging, so every face has the
    same say, and 1 means: as much as if the map were spread evenly over the face.

    Returns:
        ``methods`` (m,) · ``count`` (classes,) · ``signed`` and ``magnitude``
        (m, classes, 48, 48), the means of map and |map| to two decimals, NaN for a class
        without a face · ``bands`` (b,) · ``band_rows`` (b, 2) · ``band_share`` (m, classes, b):
        mean share of |map| in each band's rows · ``band_error``: its standard error.
    """
    model, table = run.model(), run.predictions
    answers = table[list(run.classes)].to_numpy().argmax(1)
    right = table[answers == table["label"].to_numpy()]
    shape = (len(CLASS_METHODS), len(run.classes))
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
        "signed": signed.round(2).astype(np.float16),
        "magnitude": magnitude.round(2).astype(np.float16),
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


def expressive_mask(faces: synthetic.SyntheticFaces, classes) -> np.ndarray:
    """bool (n, 48, 48): pixels that change visibly when the label's action units go to rest."""
    mask = np.zeros(faces.images.shape, bool)
    for k, name in enumerate(classes):
        rows = np.flatnonzero(faces.labels == k)
        if len(rows) and synthetic.EMFACS[name]:
            mask[rows] = synthetic.difference_map(faces[rows], name) > VISIBLE
    return mask


def part_drops(run: Run, faces: synthetic.SyntheticFaces) -> np.ndarray:
    """Fall of the label's logit when the action units of a part are put at rest: (n, parts)."""
    target = torch.from_numpy(faces.labels)[:, None]
    with torch.no_grad():
        before, *after = (
            run.model()(run.scale(drawn.images)).gather(1, target)[:, 0].numpy()
            for drawn in (faces, *(synthetic.rerender(faces, part) for part in synthetic.PARTS))
        )
    return np.stack([before - rest for rest in after], axis=1)


def scores(run: Run, faces: synthetic.SyntheticFaces, n: int = 105) -> dict[str, np.ndarray]:
    """Every method of ``faithfulness.METHODS`` on the first ``n`` test faces with an expression.

    The logit explained is the label's, whether or not the network is right. The mask is
    ``expressive_mask``; deletion and insertion fill with the blurred face, which no method does.
    ``part agreement`` is the rank correlation, face by face, of a method's mass by part with
    ``part_drops``, both less their mean over faces: a large part draws mass on every face.
    ``top part``: do the two agree on the first? A map without mass scores as an even one does.

    Returns:
        ``methods`` (m,) · ``scores`` (s,) = ``SCORES`` · ``values`` (m, s, n) a face each ·
        ``mean``, ``lo``, ``hi`` (m, s): 95 % bootstrap intervals over faces · ``untrained``
        (m, 3, n): ``TRUTH`` for a randomly initialised network · ``rows``, ``labels`` (n,) ·
        ``parts`` (p,) · ``part_drop`` (classes, p): mean over test faces, in nats ·
        ``part_mass`` (m, p): mean share of mass · ``mask_share``: mean share of the pixels.
    """
    expressive = [k for k, name in enumerate(run.classes) if synthetic.EMFACS[name]]
    test = faces[np.flatnonzero(faces.split != "Training")[: n + n // 4]]
    every = part_drops(run, test)
    part_drop = np.stack([every[test.labels == k].mean(0) for k in range(len(run.classes))])
    masks = expressive_mask(test, run.classes)
    usable = np.flatnonzero(np.isin(test.labels, expressive) & masks.any((1, 2)))[:n]
    chosen, masks, drops = test[usable], masks[usable], every[usable]

    model, images = run.model(), run.scale(chosen.images)
    labels, other = torch.from_numpy(chosen.labels), faithfulness.randomised(run.model()).eval()
    parts, mask = torch.from_numpy(chosen.masks), torch.from_numpy(masks)
    unusual = torch.from_numpy(drops - drops.mean(0))
    names = list(faithfulness.METHODS)
    values, untrained, mass = [], [], []
    for name in names:
        options = {"generator": torch.Generator().manual_seed(0)} if name == "SmoothGrad" else {}
        maps = _importance(name, model, images, labels, **options)
        options = {key: value.manual_seed(0) for key, value in options.items()}
        plain = _importance(name, other, images, labels, **options)
        by_part = faithfulness.mass_by_part(maps, parts)
        mass.append(by_part.mean(0).numpy())
        untrained.append([_number(s) for s in _against(plain, mask)])
        correlation = faithfulness.rank_correlation(maps, plain)
        row = [
            *_against(maps, mask),
            faithfulness.deletion(model, images, labels, maps),
            faithfulness.insertion(model, images, labels, maps),
            correlation.nan_to_num(0),
            faithfulness.rank_correlation(by_part - by_part.mean(0), unusual).nan_to_num(0),
            by_part.argmax(1) == torch.from_numpy(drops.argmax(1)),
        ]
        values.append([_number(score) for score in row])
    values = np.array(values)
    mean, lo, hi = bootstrap(values)
    return {
        "methods": np.array(names), "scores": np.array(SCORES),
        "values": values.astype(np.float32), "mean": mean, "lo": lo, "hi": hi,
        "untrained": np.array(untrained).astype(np.float32),
        "rows": chosen.index, "labels": chosen.labels, "parts": np.array(list(synthetic.PARTS)),
        "part_drop": part_drop.astype(np.float32), "part_mass": np.array(mass, np.float32),
        "mask_share": masks.mean(),
    }  # fmt: skip


def _importance(name, model, images, labels, **options):
    maps = faithfulness.importance(name, model, images, labels, **options)
    return torch.where(maps.sum((1, 2, 3), keepdim=True) > 0, maps, 1.0)


def _against(maps, masks):
    yield faithfulness.pointing_game(maps, masks)
    yield faithfulness.mass_in_mask(maps, masks)
    yield faithfulness.rank_accuracy(maps, masks)


def _number(score) -> np.ndarray:
    return score.double().numpy()


def bootstrap(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the last axis, and the bounds of its 95 % bootstrap interval."""
    n = values.shape[-1]
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    means = values.astype(np.float64) @ drawn.T
    lo, hi = np.quantile(means, (0.025, 0.975), axis=-1)
    return values.mean(-1, dtype=np.float64), lo, hi
