"""Methods scored against a known truth, for a run and its networks of other seeds.

It takes faces that can be drawn again with action units at rest, so only synthetic runs have it.
"""

from __future__ import annotations

import numpy as np
import torch

from fer_utils import evaluation, synthetic
from fer_utils.precomputed.networks import with_seeds
from fer_utils.runs import Run

FACES = 105
FEW = 16  # faces on which the two scores that take many maps a face are measured


def method_scores(
    run: Run, faces: synthetic.SyntheticFaces, n: int = FACES, few: int = FEW
) -> dict[str, np.ndarray]:
    """Every method that the network allows, on the first ``n`` test faces with an expression.

    Each network, the run's own and those of other seeds as far as they are here (k in all), is
    scored on the same faces. The logit explained is the label's, right or wrong. ``cascading``
    is the mean correlation over the layers of ``cascade``; it and ``stability`` are on the first
    ``few`` faces, NaN on the others. A map without a positive part has the relevance mass of an
    even one; a flat map correlates 0.

    Returns:
        ``methods`` (m,) · ``scores`` (s,) as ``evaluation.ALL_SCORES`` · ``seeds`` (k,) ·
        ``values`` (k, m, s, n) · ``untrained`` (k, m, 3, n): ``MASK_SCORES`` for as many
        randomly initialised networks · ``layers`` (l,) from the output down, ``cascade``
        (k, m, l): correlation once all down to there are random · ``mask_share``: mean share of
        the pixels.
    """
    test = faces[np.flatnonzero(faces.split != "Training")[: n + n // 4]]
    masks = evaluation.expressive_mask(test, run.classes)
    usable = np.flatnonzero(masks.any((1, 2)))[:n]
    chosen, masks = test[usable], masks[usable]
    trained = with_seeds(run)
    methods = evaluation.applicable(evaluation.METHODS, run.model(), run.scale(chosen.images[:1]))
    found = [
        [_scored(name, network, seed, chosen, masks, few) for name in methods]
        for seed, network in enumerate(trained)
    ]
    arrays = {
        key: np.array([[of[key] for of in row] for row in found])
        for key in ("values", "untrained", "cascade")
    }
    return arrays | {
        "methods": np.array(methods),
        "scores": np.array(evaluation.ALL_SCORES),
        "seeds": np.array([network.config["recipe"]["seed"] for network in trained]),
        "layers": np.array(found[0][0]["layers"]),
        "mask_share": masks.mean(),
    }


def _scored(name, network: Run, seed: int, chosen, masks, few: int) -> dict:
    """One method on one network: values (s, n), untrained (3, n), cascade (l,), layers (l,)."""
    model, images = network.model(), network.scale(chosen.images)
    labels, mask = torch.from_numpy(chosen.labels), torch.from_numpy(masks)

    def method(*of):
        return evaluation.importance(name, *of)

    maps = method(model, images, labels)
    untrained = method(evaluation.randomised(model, seed), images, labels)
    some = model, images[:few], labels[:few]
    steps = evaluation.cascading_randomisation(method, *some, seed)
    before = steps.pop("trained")
    cascade = torch.stack([evaluation.rank_correlation(before, m) for m in steps.values()])
    cascade = cascade.nan_to_num(0)
    # float16: three digits, and the verdicts are made from what is stored
    values = np.full((len(evaluation.ALL_SCORES), len(images)), np.nan, np.float16)
    row = evaluation.ALL_SCORES.index
    values[: len(evaluation.MASK_SCORES)] = _on_mask(maps, mask)
    values[row("deletion")] = evaluation.deletion(model, images, labels, maps)
    values[row("insertion")] = evaluation.insertion(model, images, labels, maps)
    values[row("random network")] = evaluation.rank_correlation(maps, untrained).nan_to_num(0)
    values[row("cascading"), :few] = cascade.mean(0)
    values[row("stability"), :few] = evaluation.stability(method, *some).nan_to_num(0)
    return {
        "values": values,
        "untrained": _on_mask(untrained, mask).numpy().astype(np.float16),
        "cascade": cascade.mean(1).numpy().astype(np.float32),
        "layers": list(steps),
    }


def _on_mask(maps, mask):
    """``MASK_SCORES`` (3, n)."""
    mass = evaluation.relevance_mass(maps, mask)
    even = mask.double().mean((1, 2)).to(mass)
    pointing, rank = evaluation.pointing_game(maps, mask), evaluation.rank_accuracy(maps, mask)
    return torch.stack([pointing, torch.where(mass.isnan(), even, mass), rank])
