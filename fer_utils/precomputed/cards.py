"""The cards of the last convolution's filters: what excites each, what it tells, who misses it.

Making them takes minutes, so chapters read what a run ships. Everything is measured on held-out
faces (PublicTest). Pictures are grey levels, uint8, in steps of 4 so that they pack well; the
activation beside a picture is that of the picture *as stored*, so anyone can hold it against
the network.

``filter_cards`` makes them, ``check`` holds them against the network; the functions after it read
them: decision rules, tables, and choices for the figures.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from fer_utils import evaluation, filters
from fer_utils.data import Faces
from fer_utils.runs import Run, RunError

SEEN = 4000  # held-out faces, at most
STRONGEST = 100  # patches in a mean patch
SHOWN = 12  # filters of an earlier layer
UNTRAINED = (20190, 20191, 20192, 20193, 20194)  # seeds of the control networks
TONE = 4  # grey levels between neighbouring tones of a stored picture
KINDS = {  # the pictures of a card, and what a figure calls them
    "free": "optimum,\nfree pixels",
    "spectrum": "optimum,\npower spectrum",
    "negative": "negative\noptimum",
    "mean_patch": "mean of\nstrongest",
}
QUANTILE = 0.95  # of the untrained filters: above it, a filter is selective
ACTION_UNIT = 0.5  # |r| from which on a filter follows an action unit
DUPLICATE = 0.95  # r from which on two filters are duplicates


def filter_cards(run: Run, faces: Faces, steps: int = 128) -> dict[str, np.ndarray]:
    """Everything that chapter 5 shows of a network's filters; f filters, c classes, u untrained.

    Returns:
        - ``free``, ``spectrum`` (f, h, w): the optimum under free pixels and under the faces'
          power spectrum; ``negative``: the lowest, same spectrum; ``mean_patch`` of the
          ``averaged`` () strongest patches; each with ``…_activation`` (f,)
        - ``weakest``, ``median``, ``quantile99``, ``strongest`` (f,) over the faces
        - ``tuning`` (f, c): class means in standard deviations; ``eta_squared`` (f,) and
          ``eta_squared_untrained`` (u, f)
        - ``logit_fall``, ``recall_fall`` (f, c): what zeroing a filter costs
        - ``inactive`` (k,), ``duplicates`` (k, 2)
        - ``early`` (l,): the convolutions shown between first and last, such as ``conv2``; of
          each its ``conv2_filters`` (12,), their optima ``conv2`` (12, s, s) under the spectrum,
          and ``conv2_reached`` (2, 12): normalised activations, free pixels and spectrum, NaN for
          a filter that responds to all faces alike
        - ``outputs`` (c, 48, 48) spectrum optima of the logits, ``outputs_logit``,
          ``outputs_strongest`` (c,): their logits and the highest of a face
        - ``faces`` (c,): how many faces of each class were looked at; ``steps`` () of a climb
        - synthetic faces alone: ``action_units`` (f, 15) correlations, and the largest |r| of
          each untrained filter, ``action_units_untrained`` (u, f)
    """
    model, classes = run.model(), len(run.classes)
    seen = held_out(faces)
    pixels = run.scale(seen.images)
    found = filters.responses(model, None, pixels)
    cost = filters.ablation(model, None, pixels, seen.labels)
    arrays = {
        "tuning": filters.class_tuning(found.activation, seen.labels, classes).numpy(),
        "eta_squared": filters.eta_squared(found.activation, seen.labels, classes).numpy(),
        "logit_fall": cost.logit.numpy(),
        "recall_fall": cost.recall.numpy(),
        "faces": np.bincount(seen.labels, minlength=classes),
        "steps": np.array(steps),
    }
    arrays |= _distribution(found.activation.numpy())
    arrays |= _pictures(run, pixels, found, steps)
    arrays |= _untrained(model, seen, pixels, classes)
    if seen.action_units is not None:
        arrays["action_units"] = correlations(found.activation, seen.action_units)
    arrays |= _early(run, pixels, steps)
    arrays |= _outputs(run, pixels, steps)
    return {
        key: value.astype(np.float32) if value.dtype.kind == "f" else value
        for key, value in arrays.items()
    }


def held_out(faces: Faces) -> Faces:
    """PublicTest's labelled faces, 4,000 of them at most and always the same, no blank image.

    FER2013 holds twelve images that are all black.
    """
    faces = faces.of("PublicTest")
    faces = faces[(faces.labels >= 0) & (faces.images.std((1, 2)) > 0)]
    if len(faces) <= SEEN:
        return faces
    return faces[np.sort(np.random.default_rng(0).choice(len(faces), SEEN, replace=False))]


def grey(pictures: torch.Tensor, scale: dict) -> np.ndarray:
    """Model units (n, 1, h, w) to stored grey levels, uint8 (n, h, w)."""
    levels = (pictures[:, 0] * scale["sd"] + scale["mean"]) * 255 / TONE
    return (levels.round() * TONE).clamp(0, 255).byte().numpy()


def _own_activation(run: Run, layer, which, pictures: np.ndarray) -> np.ndarray:
    """What each filter of ``which`` makes of its own stored picture: (len(which),)."""
    every = filters.activation(run.model(), layer, run.scale(pictures))
    return every[range(len(which)), which].numpy()


def _distribution(activation: np.ndarray) -> dict:
    sd = activation.std(0, dtype=float)
    r = np.triu(correlations(activation, activation), 1)
    return {
        "weakest": activation.min(0),
        "median": np.median(activation, 0),
        "quantile99": np.quantile(activation, 0.99, axis=0),
        "strongest": activation.max(0),
        # A LeakyReLU never gives an exact zero, so 'always zero' would find no inactive filter.
        "inactive": np.flatnonzero(sd <= 0.01 * np.median(sd)),
        "duplicates": np.argwhere(r > DUPLICATE),
    }


def correlations(activation, values) -> np.ndarray:
    """Pearson's r of each filter (n, filters) with each column of values (n, k): (filters, k).

    It is 0 for a filter that responds to all faces alike.
    """
    with np.errstate(invalid="ignore"):
        r = np.corrcoef(np.asarray(activation, float).T, np.asarray(values, float).T)
    return np.nan_to_num(r[: activation.shape[1], activation.shape[1] :])


def bounds(run: Run) -> tuple[float, float]:
    """Black and white in the network's units."""
    scale = run.config["scale"]
    return (0 - scale["mean"]) / scale["sd"], (1 - scale["mean"]) / scale["sd"]


def priors(run: Run, pixels, box) -> dict:
    """What optima may look like: anything (``free``), or with the ``spectrum`` of faces' crops.

    pixels (n, 1, 48, 48) in the network's units; box: two slices, the rows and columns to crop.
    """
    spectrum = filters.PowerSpectrum.of(pixels[:, :, *box], bounds(run))
    return {"free": filters.FreePixels(bounds(run)), "spectrum": spectrum}


def _pictures(run: Run, pixels, found, steps: int) -> dict:
    model, scale, arrays = run.model(), run.config["scale"], {}
    allowed = priors(run, pixels, found.field.box(found.field.middle[0]))
    for kind, prior in allowed.items():
        arrays[kind] = filters.maximise(model, prior=prior, steps=steps).pictures
    lowest = filters.maximise(model, prior=allowed["spectrum"], sign=-1, steps=steps)
    arrays["negative"] = lowest.pictures
    count = min(STRONGEST, max(1, len(pixels) // 10))
    strongest = filters.top_patches(model, None, pixels, count=count, found=found)
    arrays["mean_patch"] = strongest.pixels.mean(1)
    arrays = {kind: grey(pictures, scale) for kind, pictures in arrays.items()}
    every = range(len(arrays["free"]))
    for kind in KINDS:
        arrays[f"{kind}_activation"] = _own_activation(run, None, every, arrays[kind])
    return arrays | {"averaged": np.array(count)}


def _untrained(model, seen: Faces, pixels, classes: int) -> dict:
    """What the same network tells before any training, once a seed."""
    eta_squared, action_units = [], []
    for seed in UNTRAINED:
        activation = filters.responses(untrained(model, seed), None, pixels).activation
        eta_squared.append(filters.eta_squared(activation, seen.labels, classes).numpy())
        if seen.action_units is not None:
            r = correlations(activation, seen.action_units)
            action_units.append(np.abs(r).max(1))
    arrays = {"eta_squared_untrained": np.stack(eta_squared)}
    return arrays | ({"action_units_untrained": np.stack(action_units)} if action_units else {})


def untrained(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy of a network, its weights drawn anew as its layers draw them at first."""
    drawn = [name for name, of in model.named_modules() if hasattr(of, "reset_parameters")]
    return evaluation.randomised(model, seed, drawn)


def _early(run: Run, pixels, steps: int) -> dict:
    """Optima of some filters, evenly picked, of the convolutions between first and last."""
    model, early = run.model(), filters.stages(run.model())[1:-1]
    arrays = {"early": np.array([label for label, _ in early], dtype=str)}
    for label, layer in early:
        found = filters.responses(model, layer, pixels)
        number = found.activation.shape[1]
        which = np.linspace(0, number - 1, min(SHOWN, number)).astype(int)
        real = found.activation[:, which].numpy()
        median, strongest = np.median(real, 0), real.max(0)
        reached = []
        for prior in priors(run, pixels, found.field.box(found.field.middle[0])).values():
            optima = filters.maximise(model, layer, which, prior=prior, steps=steps)
            arrays[label] = grey(optima.pictures, run.config["scale"])
            own = _own_activation(run, layer, which, arrays[label])
            reached.append(_between(own, median, strongest))
        arrays[f"{label}_filters"], arrays[f"{label}_reached"] = which, np.stack(reached)
    return arrays


def _outputs(run: Run, pixels, steps: int) -> dict:
    """The faces that drive each output furthest, and how far."""
    model = run.model()
    prior = priors(run, pixels, (slice(None), slice(None)))["spectrum"]
    optima = filters.maximise_logits(model, prior=prior, steps=steps)
    pictures = grey(optima.pictures, run.config["scale"])
    with torch.no_grad():
        logits = model(run.scale(pictures)).diagonal()
        strongest = torch.cat([model(part) for part in pixels.split(128)]).amax(0)
    return {
        "outputs": pictures,
        "outputs_logit": logits.numpy(),
        "outputs_strongest": strongest.numpy(),
    }


def check(run: Run, card: dict) -> None:
    """RunError unless the stored optima excite the network as the cards say, within 1 %."""
    stored = card["free_activation"]
    gap = _own_activation(run, None, range(len(stored)), card["free"]) - stored
    if np.abs(gap).max() > 0.01 * np.median(np.abs(stored)):
        raise RunError(
            f"run {run.name!r}: its filter cards belong to other weights; make them anew "
            f"with `python -m fer_utils.precomputed {run.name} filters`"
        )


def normalised(card: dict, kind: str) -> np.ndarray:
    """How far each filter's picture goes: 0 is the median face, 1 the strongest: (f,).

    NaN for a filter that responds to all faces alike. ``kind`` is a picture of the card, or one
    of the quantiles that it holds.
    """
    value = card.get(f"{kind}_activation", card.get(kind))
    return _between(value, card["median"], card["strongest"])


def _between(value, median, strongest) -> np.ndarray:
    span = strongest - median
    return (value - median) / np.where(span > 0, span, np.nan)


def selective(card: dict) -> np.ndarray:
    """Filters whose η² is above 95 % of an untrained network's, by each seed: bool (u, f)."""
    return card["eta_squared"] > by_chance(card)[:, None]


def by_chance(card: dict) -> np.ndarray:
    """The η² that 95 % of the filters of each untrained network stay below: (u,)."""
    return np.quantile(card["eta_squared_untrained"], QUANTILE, axis=1)


def verdict(card: dict) -> str:
    """Have the filters learnt to tell the classes: 'most', 'some' or 'none'.

    'most' where more than half are selective, whichever untrained network is the control;
    'none' where no more than three times as many are as would be by chance.
    """
    shares = selective(card).mean(1)
    if shares.min() > 0.5:
        return "most"
    return "some" if shares.mean() > 3 * (1 - QUANTILE) else "none"


def reached_by_layer(card: dict, last: str) -> pd.DataFrame:
    """Median normalised activation of optima: a row a prior, a column a layer, ``last`` last."""
    medians = {label: np.nanmedian(card[f"{label}_reached"], axis=1) for label in card["early"]}
    medians[last] = [np.nanmedian(normalised(card, kind)) for kind in ("free", "spectrum")]
    return pd.DataFrame(medians, index=["free pixels", "power spectrum"], dtype=float)


def held_back(reached: pd.DataFrame) -> list[str]:
    """Of ``reached_by_layer``: layers whose median optimum stays below the strongest real patch."""
    return list(reached.columns[reached.loc["power spectrum"] < 1])


def _ranked(table: np.ndarray) -> np.ndarray:
    """A copy in which what is undefined comes last."""
    return np.nan_to_num(table, nan=-np.inf)


def by_filter(card: dict, classes: tuple[str, ...]) -> pd.DataFrame:
    """A row a filter: the class it responds to most, η², how far it goes, who misses it."""
    names = np.array(classes)
    tuning, fall = _ranked(card["tuning"]), _ranked(card["logit_fall"])
    return pd.DataFrame({
        "responds to": names[tuning.argmax(1)],
        "tuning": tuning.max(1),
        "eta_squared": card["eta_squared"],
        "selective": selective(card).mean(0) > 0.5,
        "free": normalised(card, "free"),
        "spectrum": normalised(card, "spectrum"),
        "missed by": names[fall.argmax(1)],
        "logit_fall": fall.max(1),
    }).rename_axis("filter")  # fmt: skip


def by_class(card: dict, classes: tuple[str, ...], most: int = 3) -> pd.DataFrame:
    """A row a class: the filters most tuned to it, and those whose zeroing costs it most."""
    tuned = np.argsort(-_ranked(card["tuning"]), axis=0, kind="stable")[:most]
    missed = np.argsort(-_ranked(card["logit_fall"]), axis=0, kind="stable")[:most]
    every = np.arange(len(classes))
    return pd.DataFrame({
        "most tuned": [", ".join(map(str, column)) for column in tuned.T],
        "tuning, sd": card["tuning"][tuned[0], every],
        "most missed": [", ".join(map(str, column)) for column in missed.T],
        "logit lost, nats": card["logit_fall"][missed[0], every],
        "recall lost, points": 100 * card["recall_fall"][missed[0], every],
        "faces": card["faces"],
    }, index=pd.Index(classes, name="class"))  # fmt: skip


def sheet_order(card: dict) -> np.ndarray:
    """All filters by the class that they respond to most, the most tuned first: (f,)."""
    tuning = _ranked(card["tuning"])
    return np.lexsort((-tuning.max(1), tuning.argmax(1)))


def closer(card: dict) -> list[int]:
    """For each class the filter most tuned to it, none twice before all have had their turn."""
    picked = []
    for k in range(card["tuning"].shape[1]):
        if k % len(card["tuning"]) == 0:
            tuning = _ranked(card["tuning"])
        picked.append(int(tuning[:, k].argmax()))
        tuning[picked[-1]] = -np.inf
    return picked


def patches(run: Run, faces: Faces, which: list[int], count: int = 4) -> dict[int, dict]:
    """Crops of single faces, never stored: filter -> strongest, median, weakest (count, h, w)."""
    model, pixels, rows = run.model(), run.scale(faces.images), {}
    found = filters.responses(model, None, pixels)
    for k in which:
        rows[k] = {}
        for block in ("strongest", "median", "weakest"):
            cut = filters.top_patches(model, None, pixels, [k], count, block, found)
            rows[k][block] = grey(cut.pixels[0], run.config["scale"])
    return rows
