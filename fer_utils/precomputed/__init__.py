"""What the chapters show that is computed from many faces, or takes long: made once, kept.

``aggregate(run, name)`` is what a chapter calls. Where the real images are at hand it computes
anew; else it reads what the run ships. ``python -m fer_utils.precomputed RUN`` computes and
stores them all, and ``--verify`` holds the shipped figures against a new computation.

- ``dataset``      counts, copies, blanks, the mean face of each class      (``faces``)
- ``copies``       rows of test faces that lie in Training too           (``metrics``)
- ``votes``        the votes of the test faces                              (``faces``)
- ``class_maps``   the mean attribution map of each class                   (``maps``)
- ``scores``       methods scored against the known truth; iterative      (``scores``)
- ``shortcut``     a network with a planted shortcut, seen by maps; iterative (``shortcut``)
- ``filters``      the cards of the last layer's filters; iterative         (``cards``)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fer_utils import metrics
from fer_utils.precomputed import cards, fits, maps, scores, shortcut
from fer_utils.precomputed import faces as of_faces
from fer_utils.runs import Run

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Aggregate:
    """How one aggregate is made: ``compute(run, faces) -> arrays``.

    Attributes:
        iterative: it comes out of an optimisation or takes minutes, so chapters always read it.
        synthetic: only a run on synthetic faces has it.
        needs_votes: only a run whose faces have votes has it.
        fits: the further fits that it compares (``aggregates.fits``).
        needs_fits: it is not computed without them.
    """

    compute: Callable[[Run, object], Arrays]
    iterative: bool = False
    synthetic: bool = False
    needs_votes: bool = False
    fits: tuple[str, ...] = ()
    needs_fits: bool = False

    def applies(self, run: Run, faces) -> bool:
        has_votes = getattr(faces, "votes", None) is not None
        return (run.synthetic or not self.synthetic) and (has_votes or not self.needs_votes)

    def missing(self, run: Run) -> list[str]:
        """Fits that it would compare, whose weights are not here."""
        return [fit for fit in self.variants if fits.trained(run, fit) is None]


AGGREGATES: dict[str, Aggregate] = {
    "dataset": Aggregate(of_faces.dataset),
    "copies": Aggregate(lambda run, faces: metrics.copies(faces.images, faces.split)),
    "votes": Aggregate(of_faces.votes, needs_votes=True),
    "class_maps": Aggregate(maps.class_maps),
    "scores": Aggregate(scores.scores, iterative=True, synthetic=True, fits=fits.SEEDS),
    "shortcut": Aggregate(
        shortcut.shortcut, iterative=True, synthetic=True, fits=(fits.SHORTCUT,), needs_fits=True
    ),
    "filters": Aggregate(cards.filter_cards, iterative=True),
}


def aggregate(run: Run, name: str) -> Arrays | None:
    """An aggregate by name: computed from the real images where they are at hand, else read.

    Returns:
        its arrays; None where this run can't have it (votes that were never given, a fit that
        was never made).

    Raises:
        ValueError: no aggregate of that name.  RunError: it applies, but was never made.
    """
    if name not in AGGREGATES:
        raise ValueError(f"no aggregate {name!r} (have: {', '.join(AGGREGATES)})")
    how = AGGREGATES[name]
    if how.synthetic and not run.synthetic:
        return None
    if not (run.synthetic or how.iterative):
        faces = run.faces()
        if faces is not None and how.applies(run, faces):
            return how.compute(run, faces)
    if (how.needs_votes or how.needs_fits) and not run.has(name):
        return None
    return run.read(name)
