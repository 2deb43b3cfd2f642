"""What the chapters show that is computed from many faces, or takes long: made once, kept.

``result(run, name)`` reads what a run keeps in ``precomputed/NAME.npz``, or makes and stores it
where the faces are at hand. ``missing(path)`` says what a run's folder lacks.
``python -m fer_utils.precomputed RUN`` makes them anew. Importing this imports no torch, and a
result is written whole or not at all.

- ``dataset``      counts, copies, blanks, the mean face of each class       (``aggregates``)
- ``copies``       rows of test faces that lie in Training too               (``aggregates``)
- ``votes``        what FER+'s voters said of the test faces                 (``aggregates``)
- ``class_maps``   the mean attribution map of each class                    (``aggregates``)
- ``filters``      the cards of the last layer's filters; minutes            (``cards``)
- ``scores``       methods scored against the known truth; half an hour      (``truth``)
- ``shortcut``     a planted shortcut, seen by maps; minutes                 (``truth``)

The last two need synthetic faces and further networks. They are made only by name or where the
run has them already; without them the chapters show those of the run ``synthetic``.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from fer_utils.runs import Run


@dataclass(frozen=True)
class Result:
    """How a result is made.

    Attributes:
        function: ``module.function`` of this package, called with (run, faces), giving arrays.
        votes: only a run whose faces have votes can have it.
        networks: further networks of a synthetic run that it compares. A run is whole without it.
    """

    function: str
    votes: bool = False
    networks: tuple[str, ...] = ()

    def compute(self, run: Run, faces) -> dict[str, np.ndarray]:
        module, name = self.function.split(".")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(run, faces)


RESULTS: dict[str, Result] = {
    "dataset": Result("aggregates.dataset"),
    "copies": Result("aggregates.copies"),
    "votes": Result("aggregates.votes", votes=True),
    "class_maps": Result("aggregates.class_maps"),
    "filters": Result("cards.filter_cards"),
    "scores": Result("truth.method_scores", networks=("seed-1", "seed-2")),
    "shortcut": Result("truth.planted_shortcut", networks=("shortcut",)),
}


def missing(path: Path, further: bool = False) -> list[str]:
    """Results that the run in this folder lacks and could have; no image is looked at.

    ``further``: also those that compare further networks, which a synthetic run alone has.
    Votes count for a synthetic run, or where ``FER_VOTES`` says where a real set's lie.
    """
    config = json.loads((path / "config.json").read_text("utf-8"))
    synthetic = config["data"]["kind"] == "synthetic"
    votes = synthetic or bool(os.environ.get("FER_VOTES"))
    return [
        name
        for name, how in RESULTS.items()
        if not (path / "precomputed" / f"{name}.npz").is_file()
        and (votes or not how.votes)
        and (not how.networks or (further and synthetic))
    ]


def result(run: Run, name: str) -> dict[str, np.ndarray] | None:
    """A result by name: read, or made and stored where the run lacks it.

    None for votes that are neither stored nor at hand; RunError for another result that the run
    lacks while its faces are not at hand.
    """
    if name not in RESULTS:
        raise ValueError(f"no result {name!r} (have: {', '.join(RESULTS)})")
    if not run.has(name):
        faces = run.faces()
        if applies(run, faces, name):
            run.store(name, RESULTS[name].compute(run, faces))
        elif RESULTS[name].votes:
            return None
    return run.read(name)


def applies(run: Run, faces, name: str) -> bool:
    """Whether this result can be made of a run from these faces (None where not at hand)."""
    how = RESULTS[name]
    votes = getattr(faces, "votes", None) is not None
    return faces is not None and (votes or not how.votes) and (run.synthetic or not how.networks)


def elsewhere(run: Run) -> str:
    """One line for a synthetic run that lacks ``scores`` or ``shortcut``, and how to make them."""
    lacking = [name for name, how in RESULTS.items() if how.networks and not run.has(name)]
    if not run.synthetic or not lacking:
        return ""
    names = " ".join(lacking)
    return (
        f"Run {run.name!r} has no results {names}, so those of the run `synthetic` are shown; "
        f"`python -m fer_utils.precomputed {run.name} {names} --missing` makes its own."
    )
