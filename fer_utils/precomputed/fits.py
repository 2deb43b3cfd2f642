"""Further fits of a run on synthetic faces, each like the run but for one thing.

``python -m fer_utils.precomputed RUN --fits`` trains those that are missing, one after the
other; each takes as long as the run did. They lie in ``RUN/fits`` and are not tracked by git:
what the chapters show of them is in the aggregates.

- ``seed-1``, ``seed-2``  another seed of training: are the scores the network's or the method's?
- ``shortcut``            the same people, with a mark that gives one class away
"""

from __future__ import annotations

from dataclasses import replace

from fer_utils import runs, synthetic, train
from fer_utils.runs import Run, RunError

SEEDS = ("seed-1", "seed-2")
SHORTCUT = "shortcut"


def described(run: Run, fit: str) -> tuple[train.Recipe, dict]:
    """Recipe and data of a further fit: the run's own, but for its one difference."""
    if not run.synthetic:
        raise RunError(f"run {run.name!r}: only a run on synthetic faces has the fit {fit!r}")
    recipe = train.Recipe(**run.config["recipe"])
    source = {key: run.config["data"][key] for key in ("kind", "n", "seed", "preset")}
    if fit == SHORTCUT:
        return recipe, {**source, "preset": SHORTCUT}
    return replace(recipe, seed=recipe.seed + 1 + SEEDS.index(fit)), source


def trained(run: Run, fit: str) -> Run | None:
    """A further fit with its weights; None where it was not made here.

    Raises:
        RunError: it is there, but differs from the run in more than it should.
    """
    if not (run.path / "variants" / fit / "model.safetensors").is_file():
        return None
    found, (recipe, source) = run.variant(fit), described(run, fit)
    have = {key: found.config["data"].get(key) for key in source}
    if have != source or train.Recipe(**found.config["recipe"]) != recipe:
        raise RunError(
            f"fit {fit!r} of run {run.name!r} has another recipe or other faces than the run; "
            f"remove {found.path} and make it with `python -m fer_utils.precomputed {run.name} --fits`"
        )
    return found


def networks(run: Run) -> list[Run]:
    """The run, and its fits of other seeds as far as their weights are here."""
    return [run, *filter(None, (trained(run, fit) for fit in SEEDS))]


def make(run: Run, fit: str, progress=None) -> Run:
    """Train a further fit, or go on with it; as it is where its weights are here."""
    if (whole := trained(run, fit)) is not None:
        return whole
    recipe, source = described(run, fit)
    faces = synthetic.faces(source["n"], source["seed"], source["preset"])
    about = run.config
    return train.make_run(
        run.path.name, runs.relabel(faces, run.classes), recipe, source, fit, about["device"],
        progress=progress, precision=about["precision"],
    )  # fmt: skip
