"""Further networks of a synthetic run, each like the run's own but for one thing.

- ``seed-1``, ``seed-2``  another seed: are the scores the network's or the method's?
- ``shortcut``            the same people, with a mark that gives one class away

They are variants of the run, ignored by git: the results made from them are what is shipped.
"""

from __future__ import annotations

from fer_utils import runs, synthetic, train
from fer_utils.runs import Run, RunError

SEEDS = ("seed-1", "seed-2")
SHORTCUT = "shortcut"


def described(run: Run, name: str) -> tuple[dict, dict]:
    """Recipe and data of a further network: the run's own, but for its one difference."""
    if not run.synthetic:
        raise RunError(f"run {run.name!r}: only a run on synthetic faces has the network {name!r}")
    recipe = dict(run.config["recipe"])
    source = {key: run.config["data"][key] for key in ("kind", "n", "seed", "preset")}
    if name == SHORTCUT:
        source["preset"] = SHORTCUT
    else:
        recipe["seed"] += 1 + SEEDS.index(name)
    return recipe, source


def trained(run: Run, name: str) -> Run | None:
    """A further network; None where it was not made here.

    Raises:
        RunError: it is there, but differs from the run in more than it should.
    """
    try:
        found = run.variant(name)
    except RunError:  # none there, or half-written: the next training goes on with it
        return None
    if not (found.path / "model.safetensors").is_file():
        return None
    recipe, source = described(run, name)
    own = {key: found.config["recipe"].get(key) for key in recipe}
    data = {key: found.config["data"].get(key) for key in source}
    if (own, data) != (recipe, source):
        raise RunError(
            f"network {found.name!r} has another recipe or other faces than the run; remove "
            f"{found.path} and make it with `python -m fer_utils.precomputed {run.name} --missing`"
        )
    return found


def with_seeds(run: Run) -> list[Run]:
    """The run, and its networks of other seeds as far as they are here."""
    return [run, *filter(None, (trained(run, name) for name in SEEDS))]


def minutes(run: Run) -> float:
    """How long the run itself took: what a further network will take on the same machine."""
    return float(run.history["seconds"].sum()) / 60


def make(run: Run, name: str, progress=None) -> Run:
    """Train a further network, or go on with it where it was interrupted."""
    recipe, source = described(run, name)
    faces = synthetic.faces(source["n"], source["seed"], source["preset"])
    return train.make_run(
        run.path.name, runs.relabel(faces, run.classes), train.Recipe(**recipe), source,
        variant=name, device=run.config["device"], progress=progress,
        precision=run.config["precision"],
    )  # fmt: skip
