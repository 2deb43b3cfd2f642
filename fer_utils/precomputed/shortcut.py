"""A planted shortcut: a small bright mark that gives one class away. Is it used, do maps show it?

Two networks see the same marked faces: the run's own, which learned without a mark and is the
control, and its variant ``shortcut``, which learned with one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fer_utils import evaluation, synthetic
from fer_utils.data import EMOTIONS
from fer_utils.precomputed.networks import SHORTCUT, trained
from fer_utils.runs import Run, RunError

MOST = 30  # faces that maps are made of
SHOWN = ("gradient", "SmoothGrad", "integrated gradients (blurred)", "Grad-CAM",
         "occlusion (blurred)")  # fmt: skip


def planted_shortcut(run: Run, faces: synthetic.SyntheticFaces) -> dict[str, np.ndarray]:
    """Use of the mark, and what each method that the network allows shows of it.

    The truth needs no map: the same test faces are drawn with and without the mark. The maps
    are of the first ``MOST`` marked test faces, for the marked class.

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
