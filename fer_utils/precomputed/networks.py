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


def make(run: Run, name: str, progress=None) -> Run:
    """Train a further network, or go on with it where it was interrupted."""
    recipe, source = described(run, name)
    faces = synthetic.faces(source["n"], source["seed"], source["preset"])
    return train.make_run(
        run.path.name, runs.relabel(faces, run.classes), train.Recipe(**recipe), source,
        variant=name, device=run.config["device"], progress=progress,
        precision=run.config["precision"], network=run.network(),
    )  # fmt: skip
