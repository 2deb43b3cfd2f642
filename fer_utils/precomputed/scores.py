"""Maps scored against a known truth, for a run and its fits of other seeds.

It takes faces that can be drawn again with action units at rest, so only synthetic runs have it.
"""

from __future__ import annotations

import numpy as np
import torch

from fer_utils import evaluation, metrics, synthetic
from fer_utils.precomputed.fits import networks
from fer_utils.runs import Run

SCORES = (
    "pointing game", "mass in mask", "rank accuracy", "deletion", "insertion",
    "part agreement", "top part", "random network", "cascading", "stability",
)  # fmt: skip
TRUTH = SCORES[:3]  # against the mask
VISIBLE = 8  # grey levels of 255: a pixel that changes by more carries the expression
FEW = 24  # faces on which the two scores that take many maps a face are measured
SAMPLES = 2  # noisy copies of a face, for its map's stability


def scores(
    run: Run, faces: synthetic.SyntheticFaces, n: int = 105, few: int = FEW
) -> dict[str, np.ndarray]:
    """Every method of ``evaluation.METHODS`` on the first ``n`` test faces with an expression.

    Each network, the run's own and those of other seeds as far as they are here (k in all), is
    scored on the same faces. The logit explained is the label's, right or wrong. The mask is
    ``expressive_mask``; deletion and insertion fill with the blurred face, which no method does.
    ``part agreement`` is the rank correlation, face by face, of a method's mass by part with
    ``part_drops``, both less their mean over faces: a large part draws mass on every face.
    ``top part``: do the two agree on the first? ``cascading`` is the mean correlation over the
    layers of ``cascade``; it and ``stability`` are on the first ``few`` faces, NaN on the others.
    A map without mass scores as an even one does; a flat map correlates 0.

    Returns:
        ``methods`` (m,) · ``scores`` (s,) = ``SCORES`` · ``seeds``, ``accuracy`` (k,) ·
        ``values`` (k, m, s, n) · ``mean``, ``lo``, ``hi`` (m, s): 95 % intervals over faces and
        networks, see ``metrics.crossed`` · ``untrained`` (k, m, 3, n): ``TRUTH`` for as many
        randomly initialised networks · ``layers`` (l,) from the output down, ``cascade``
        (k, m, l): correlation once all down to there are random · ``rows``, ``labels`` (n,) ·
        ``parts`` (p,) · ``part_drop`` (k, classes, p): mean over test faces, in nats ·
        ``part_mass`` (k, m, p): mean share of mass · ``mask_share``: mean share of the pixels.
    """
    expressive = [k for k, name in enumerate(run.classes) if synthetic.EMFACS[name]]
    test = faces[np.flatnonzero(faces.split != "Training")[: n + n // 4]]
    masks = expressive_mask(test, run.classes)
    usable = np.flatnonzero(np.isin(test.labels, expressive) & masks.any((1, 2)))[:n]
    chosen, masks = test[usable], masks[usable]
    trained = networks(run)
    found = []
    for seed, network in enumerate(trained):
        every = part_drops(network, test)
        of_class = [every[test.labels == k].mean(0) for k in range(len(run.classes))]
        rows = [
            _scored(name, network, chosen, masks, every[usable], seed, slice(0, few))
            for name in evaluation.METHODS
        ]
        found.append({
            **{key: np.array([row[key] for row in rows]) for key in rows[0]},
            "part_drop": np.array(of_class, np.float32),
            "accuracy": network.metrics["PrivateTest"]["accuracy"],
            "seeds": network.config["recipe"]["seed"],
        })  # fmt: skip
    arrays = {key: np.array([of[key] for of in found]) for key in found[0]}
    mean, lo, hi = metrics.crossed_interval(arrays["values"])
    return {
        "methods": np.array(list(evaluation.METHODS)), "scores": np.array(SCORES),
        **arrays, "mean": mean, "lo": lo, "hi": hi, "layers": arrays["layers"][0, 0],
        "rows": chosen.index, "labels": chosen.labels, "parts": np.array(list(synthetic.PARTS)),
        "mask_share": masks.mean(),
    }  # fmt: skip


def _scored(name, network: Run, chosen, masks, drops, seed: int, few: slice) -> dict:
    """One method on one network: values (s, n), untrained (3, n), cascade (l,), part_mass (p,)."""
    model, images = network.model(), network.scale(chosen.images)
    labels, mask = torch.from_numpy(chosen.labels), torch.from_numpy(masks)
    method = reader(name)
    maps, plain = (
        method(of, images, labels) for of in (model, evaluation.randomised(model, seed).eval())
    )
    by_part = evaluation.mass_by_part(maps, torch.from_numpy(chosen.masks))
    unusual = torch.from_numpy(drops - drops.mean(0))
    steps = evaluation.cascading_randomisation(method, model, images[few], labels[few], seed)
    cascade = torch.stack([rho.nan_to_num(0) for _, rho in steps])
    steady = evaluation.stability(method, model, images[few], labels[few], samples=SAMPLES)
    scored = [
        *_against(maps, mask),
        evaluation.deletion(model, images, labels, maps),
        evaluation.insertion(model, images, labels, maps),
        evaluation.rank_correlation(by_part - by_part.mean(0), unusual).nan_to_num(0),
        by_part.argmax(1) == torch.from_numpy(drops.argmax(1)),
        evaluation.rank_correlation(maps, plain).nan_to_num(0),
        _padded(cascade.mean(0), len(images)),
        _padded(steady.nan_to_num(0), len(images)),
    ]
    return {
        "values": _rows(scored),
        "untrained": _rows(_against(plain, mask)),
        "cascade": cascade.mean(1).numpy().astype(np.float32),
        "layers": [layer for layer, _ in steps],
        "part_mass": by_part.mean(0).numpy(),
    }


def reader(name: str):
    """(model, images, target) -> importance by that method, with the same chance at each call."""

    def method(model, images, target):
        chance = {"generator": torch.Generator().manual_seed(0)} if name == "SmoothGrad" else {}
        maps = evaluation.importance(name, model, images, target, **chance)
        return torch.where(maps.sum((1, 2, 3), keepdim=True) > 0, maps, 1.0)

    return method


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
    before, *after = (
        label_logits(run, drawn)
        for drawn in (faces, *(synthetic.rerender(faces, part) for part in synthetic.PARTS))
    )
    return np.stack([before - rest for rest in after], axis=1)


def label_logits(run: Run, faces: synthetic.SyntheticFaces) -> np.ndarray:
    target = torch.from_numpy(faces.labels)[:, None]
    with torch.no_grad():
        return run.model()(run.scale(faces.images)).gather(1, target)[:, 0].numpy()


def _against(maps, masks):
    yield evaluation.pointing_game(maps, masks)
    yield evaluation.mass_in_mask(maps, masks)
    yield evaluation.rank_accuracy(maps, masks)


def _padded(score, n: int):
    return torch.cat([score.double(), torch.full((n - len(score),), torch.nan).double()])


def _rows(scores) -> np.ndarray:
    """Scores as rows; to three digits, which is what the words are made from."""
    return np.stack([score.double().numpy() for score in scores]).astype(np.float16)
