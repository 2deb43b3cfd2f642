"""Methods where the truth is known: scores on drawn faces, and a planted shortcut.

Both need faces that can be drawn again, so only synthetic runs have them, and further networks,
each like the run's own but for one thing:

- ``seed-1``, ``seed-2``  another seed: are the scores the network's or the method's?
- ``shortcut``            the same people, with a small bright mark that gives one class away

These are variants of the run, ignored by git: the results made from them are what is shipped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fer_utils import evaluation, runs, synthetic, train
from fer_utils.data import EMOTIONS
from fer_utils.precomputed import RESULTS
from fer_utils.runs import Run, RunError

SEEDS = RESULTS["scores"].networks
SHORTCUT = "shortcut"
FACES = 105  # that are scored
FEW = 16  # of these, faces for the score that takes many maps a face
MOST = 30  # marked faces that maps are made of
SHOWN = ("gradient", "SmoothGrad", "integrated gradients (blurred)", "Grad-CAM",
         "occlusion (blurred)")  # fmt: skip


# -- further networks ---------------------------------------------------------------------------


def described(run: Run, name: str) -> tuple[dict, dict]:
    """Recipe and data of a further network: the run's own, but for its one difference."""
    if not run.synthetic:
        raise RunError(f"run {run.name!r}: only a run on synthetic faces has the network {name!r}")
    recipe = train.recorded(run.config["recipe"])
    source = {key: run.config["data"][key] for key in ("kind", "n", "seed", "preset")}
    if name == SHORTCUT:
        source["preset"] = SHORTCUT
    else:
        recipe["seed"] += 1 + SEEDS.index(name)
    return recipe, source


def trained(run: Run, name: str) -> Run | None:
    """A further network; None where it was not made here, RunError where it is another one."""
    try:
        found = run.variant(name)
    except RunError:  # none there, or half-written: the next training goes on with it
        return None
    if not (found.path / "model.safetensors").is_file():
        return None
    recipe, source = described(run, name)
    own, data = train.recorded(found.config["recipe"]), found.config["data"]
    if not (recipe.items() <= own.items() and source.items() <= data.items()):
        raise RunError(
            f"network {found.name!r} has another recipe or other faces than the run; remove "
            f"{found.path} and make it with `python -m fer_utils.precomputed {run.name} --missing`"
        )
    return found


def with_seeds(run: Run) -> list[Run]:
    """The run, and its networks of other seeds as far as they are here."""
    return [run, *filter(None, (trained(run, name) for name in SEEDS))]


def make(run: Run, name: str) -> Run:
    """Train a further network, or go on with it where it was interrupted."""
    settings, source = described(run, name)
    recipe = train.Recipe(**settings)
    faces = synthetic.faces(source["n"], source["seed"], source["preset"])
    with train.exclusive_lock(runs.run_path(run.path.name, name)):
        return train.make_run(
            run.path.name, runs.relabel(faces, run.classes), recipe, source, variant=name,
            device=run.config["device"], precision=run.config["precision"],
            network=run.network(), progress=train.progress_line(recipe),
        )  # fmt: skip


# -- scores -------------------------------------------------------------------------------------


def method_scores(
    run: Run, faces: synthetic.SyntheticFaces, n: int = FACES, few: int = FEW
) -> dict[str, np.ndarray]:
    """Every method that the network allows, on the first ``n`` test faces with an expression.

    Each network, the run's own and those of other seeds as far as they are here (k in all), is
    scored on the same faces. The logit explained is the label's, right or wrong. ``cascading``
    is the mean correlation over the layers of ``cascade``, on the first ``few`` faces, NaN on the
    others. A map without a positive part has the relevance mass of an even one; a flat map
    correlates 0.

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
    networks = with_seeds(run)
    methods = evaluation.applicable(evaluation.METHODS, run.model(), run.scale(chosen.images[:1]))
    found = [
        [_scored(name, network, seed, chosen, masks, few) for name in methods]
        for seed, network in enumerate(networks)
    ]
    arrays = {
        key: np.array([[of[key] for of in row] for row in found])
        for key in ("values", "untrained", "cascade")
    }
    return arrays | {
        "methods": np.array(methods),
        "scores": np.array(evaluation.ALL_SCORES),
        "seeds": np.array([network.config["recipe"]["seed"] for network in networks]),
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


# -- the planted shortcut -----------------------------------------------------------------------


def planted_shortcut(run: Run, faces: synthetic.SyntheticFaces) -> dict[str, np.ndarray]:
    """Is the mark used, and what does each method that the network allows show of it?

    Two networks see the same marked faces: the run's own, which learned without a mark and is
    the control, and its variant ``shortcut``. The truth needs no map: the same test faces are
    drawn with and without the mark. The maps are of the first ``MOST`` marked test faces, for
    the marked class.

    Returns:
        Of the two networks, the control first: ``recall`` (2, 2): network × (with mark,
        without), share of the marked class's faces read as it · ``mistaken`` (2, 2): the same
        for the other classes' · ``fall`` (2, n): of the marked class's logit, in nats, when the
        mark goes · ``pointing`` (2, m, f): strongest pixel of a map in the mark; ``methods``
        (m,).
        ``marked`` (): the class · ``box`` (4,): the mark's rows and columns, from–to ·
        ``tested`` (2,): faces of the marked class, of the others · ``face`` uint8 (48, 48), the
        one whose logit falls most without its mark · ``shown`` (5,) and ``maps`` float16
        (2, 5, 48, 48) of it.
    """
    other = trained(run, SHORTCUT)
    if other is None:
        raise RunError(
            f"run {run.name!r} has no network {SHORTCUT!r} with weights; "
            f"make it with `python -m fer_utils.precomputed {run.name} shortcut --missing`"
        )
    pair, seen = (run, other), other.faces()
    test = seen[np.flatnonzero(seen.split != "Training")]
    k = run.classes.index(test.preset.mark)
    own, others = test[test.labels == k], test[test.labels != k]
    bare, always = marked(own, ()), marked(own, (test.preset.mark,))
    away, planted = marked(others, ()), marked(others, run.classes)
    rows, columns = synthetic.MARK
    fall = np.array([_label_logits(n, always) - _label_logits(n, bare) for n in pair])
    return {
        "marked": np.array(test.preset.mark),
        "box": np.array([rows.start, rows.stop, columns.start, columns.stop]),
        "tested": np.array([len(own), len(others)]),
        "recall": _read_as(k, pair, (always, bare)),
        "mistaken": _read_as(k, pair, (planted, away)),
        "fall": fall,
        **_maps_of_mark(pair, always[:MOST], int(fall[1, :MOST].argmax())),
    }


def marked(faces: synthetic.SyntheticFaces, classes) -> synthetic.SyntheticFaces:
    """The same faces, with the mark on each face of ``classes`` (names) and on no other."""
    images = faces.images.copy()
    for k, name in enumerate(EMOTIONS):
        rows = np.flatnonzero(faces.index % len(EMOTIONS) == k)
        mark = name if name in classes else None
        kind = replace(faces.preset, mark=mark, mark_rate=1.0)
        if len(rows):
            images[rows] = synthetic.rerender(replace(faces[rows], preset=kind)).images
    return replace(faces, images=images)


def _label_logits(run: Run, faces: synthetic.SyntheticFaces) -> np.ndarray:
    target = torch.from_numpy(faces.labels)[:, None]
    with torch.no_grad():
        return run.model()(run.scale(faces.images)).gather(1, target)[:, 0].numpy()


def _read_as(k: int, pair, drawn) -> np.ndarray:
    """Share of the faces that each network reads as class k, as drawn in each way: (2, 2)."""
    return np.array([[(n.predict(d.images).argmax(1) == k).mean() for d in drawn] for n in pair])


def _maps_of_mark(pair, faces, pick: int) -> dict[str, np.ndarray]:
    """What the methods show of faces that all carry the mark; ``pick``: the one to keep."""
    box = np.zeros((len(faces), 48, 48), bool)
    box[:, *synthetic.MARK] = True
    labels = torch.from_numpy(faces.labels)
    of = pair[0].model(), pair[0].scale(faces.images)
    methods = evaluation.applicable(evaluation.METHODS, *of)
    pointing, shown = [], []
    for network in pair:
        of = network.model(), network.scale(faces.images), labels
        maps = {name: evaluation.importance(name, *of) for name in methods}
        pointing.append([evaluation.pointing_game(m, box).numpy() for m in maps.values()])
        shown.append([maps[name][pick, 0].numpy() for name in SHOWN])
    return {
        "methods": np.array(methods),
        "shown": np.array(SHOWN),
        "face": faces.images[pick],
        "pointing": np.array(pointing, np.float16),
        "maps": np.array(shown, np.float16),
    }
