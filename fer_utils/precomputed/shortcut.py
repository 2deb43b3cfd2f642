"""A planted shortcut: a small bright mark that gives one class away. Is it used, do maps find it?

Two networks see the same marked faces: the run's own, which learned without a mark, and its fit
``shortcut``, which learned with one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fer_utils import evaluation, synthetic
from fer_utils.data import EMOTIONS
from fer_utils.precomputed.fits import SHORTCUT, trained
from fer_utils.precomputed.scores import label_logits, reader
from fer_utils.runs import Run, RunError

MOST = 30  # faces a class that maps are made of
SIZES = (1, 3, 10, 30)  # faces a class that a reader averages
WINDOW = 6  # pixels a side: what a reader takes for one place; the mark has 4
DRAWS = 400
SHOWN = ("gradient", "SmoothGrad", "integrated gradients", "Grad-CAM", "occlusion")


def shortcut(run: Run, faces: synthetic.SyntheticFaces, most: int = MOST) -> dict[str, np.ndarray]:
    """Use of the mark, and what each method of ``evaluation.METHODS`` shows of it.

    The truth needs no map: the same test faces are drawn with and without the mark. The maps
    are of up to ``most`` test faces a class as the fit saw them, for their label. A *reader*
    knows neither class nor place: over some faces of each class, maps are averaged, each over
    its own mean, and the reader names the class and the window of ``WINDOW`` pixels a side with
    the largest mean of all. It is right where the class is the marked one and the window covers
    more than half of the mark.

    Returns:
        ``networks`` (2,) · ``marked`` (): the class · ``box`` (4,): rows and columns, from–to ·
        ``tested`` (2,): faces of the marked class, of the others · ``recall`` (2, 2): network ×
        (with mark, without), share of the marked class read as such · ``turned`` (2, 2): the
        same for the other classes, read as the marked one · ``fall`` (2, n): of the marked
        class's logit, in nats, when the mark goes · ``methods`` (m,) · ``mass``, ``hit``
        (2, m, f): share of a map in the mark, strongest pixel in it; faces with the mark ·
        ``sizes`` (z,) and ``right`` (2, m, z): how often the reader is, with that many faces a
        class · ``face`` uint8 (48, 48), the one whose logit falls most without its mark ·
        ``shown`` (5,) and ``maps`` uint8 (2, 5, 48, 48) of it, each up to its 99.5 % quantile.

    Raises:
        RunError: the fit ``shortcut`` is not there.
    """
    fit = trained(run, SHORTCUT)
    if fit is None:
        raise RunError(
            f"run {run.name!r} has no fit {SHORTCUT!r} with weights; "
            f"make it with `python -m fer_utils.precomputed {run.name} --fits shortcut`"
        )
    seen = fit.faces()
    test = seen[np.flatnonzero(seen.split != "Training")]
    k, pair = run.classes.index(test.preset.mark), (run, fit)
    own, others = test[test.labels == k], test[test.labels != k]
    bare, always = marked(own, ()), marked(own, (test.preset.mark,))
    away, planted = marked(others, ()), marked(others, run.classes)
    used = {
        "tested": np.array([len(own), len(others)]),
        "recall": _read_as(k, pair, (always, bare)),
        "turned": _read_as(k, pair, (planted, away)),
        "fall": np.array([label_logits(n, always) - label_logits(n, bare) for n in pair]),
    }
    few = [test[np.flatnonzero(test.labels == c)[:most]] for c in range(len(run.classes))]
    rows, columns = synthetic.MARK
    return {
        "networks": np.array(["without the mark", "with the mark"]), "marked": np.array(test.preset.mark),
        "box": np.array([rows.start, rows.stop, columns.start, columns.stop]),
        **used, **_seen(pair, few, k),
    }  # fmt: skip


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


def _read_as(k: int, pair, drawn) -> np.ndarray:
    """Share of the faces that each network reads as class k, as drawn in each way: (2, 2)."""
    return np.array([[(n.predict(d.images).argmax(1) == k).mean() for d in drawn] for n in pair])


def _seen(pair, few, k: int) -> dict[str, np.ndarray]:
    bare = marked(few[k], ())
    carries = (bare.images != few[k].images).any((1, 2))
    pick = int((label_logits(pair[1], few[k]) - label_logits(pair[1], bare)).argmax())
    names = list(evaluation.METHODS)
    found = [[_of(_maps(n, few, name), k, carries) for name in names] for n in pair]
    shown = [[_bytes(_maps(n, few[k : k + 1], name)[0][pick]) for name in SHOWN] for n in pair]
    return {
        "methods": np.array(names), "sizes": np.array(SIZES), "shown": np.array(SHOWN),
        "face": few[k].images[pick], "maps": np.array(shown),
        **{key: np.array([[of[key] for of in row] for row in found]) for key in found[0][0]},
    }  # fmt: skip


def _of(maps: list[np.ndarray], k: int, carries: np.ndarray) -> dict:
    """What one method shows of the mark, from its maps of each class's faces."""
    own = torch.from_numpy(maps[k][carries][:, None])
    box = np.zeros((len(own), 48, 48), bool)
    box[:, *synthetic.MARK] = True
    windows = [_window_means(m) for m in maps]
    return {
        "mass": evaluation.mass_in_mask(own, box).numpy().astype(np.float16),
        "hit": evaluation.pointing_game(own, box).numpy() > 0,
        "right": [_how_often(windows, size, k) for size in SIZES],
    }


def _maps(network: Run, few, name: str) -> list[np.ndarray]:
    """For each class (n, 48, 48), each map over its own mean."""
    result = []
    for faces in few:
        labels = torch.from_numpy(faces.labels)
        maps = reader(name)(network.model(), network.scale(faces.images), labels)[:, 0].numpy()
        result.append(maps / maps.mean((1, 2), keepdims=True))
    return result


def _window_means(maps: np.ndarray) -> np.ndarray:
    """Mean of each window of ``WINDOW`` pixels a side: (n, 43, 43)."""
    windows = np.lib.stride_tricks.sliding_window_view(maps, (WINDOW, WINDOW), axis=(1, 2))
    return windows.mean((3, 4))


def _how_often(windows, size: int, k: int) -> float:
    """Share of ``DRAWS`` readers, each with ``size`` faces a class, who name class and place."""
    rng = np.random.default_rng(0)
    weights = [rng.multinomial(size, np.full(len(w), 1 / len(w)), DRAWS) / size for w in windows]
    means = [w @ m.reshape(len(m), -1) for w, m in zip(weights, windows, strict=True)]
    own = np.argmax([m.max(1) for m in means], axis=0) == k
    row, column = np.divmod(means[k].argmax(1), windows[k].shape[2])
    covered = _overlap(row, synthetic.MARK[0]) * _overlap(column, synthetic.MARK[1])
    whole = np.prod([part.stop - part.start for part in synthetic.MARK])
    return float((own & (2 * covered > whole)).mean())


def _overlap(start: np.ndarray, part: slice) -> np.ndarray:
    """Pixels that windows from ``start`` on share with a range of rows or columns."""
    return (np.minimum(start + WINDOW, part.stop) - np.maximum(start, part.start)).clip(min=0)


def _bytes(map_: np.ndarray) -> np.ndarray:
    top = np.quantile(map_, 0.995)
    return (np.clip(map_ / (top or 1), 0, 1) * 255).round().astype(np.uint8)
