"""The cards of the last convolution's filters: what each wants to see, tells, and is needed for.

Making them takes minutes, so chapters read what a run ships. Pictures are grey levels, uint8,
in steps of 4 so that they pack well; the activation beside a picture is that of the picture
*as stored*, so anyone can hold it against the network.
"""

from __future__ import annotations

import numpy as np
import torch

from fer_utils import filters
from fer_utils.data import Faces
from fer_utils.model import NETWORKS
from fer_utils.runs import Run

SAMPLE = 6000  # training faces that activations are measured on, at most
TESTED = 140  # test faces a class, at most, that a filter's silence is tried on
STRONGEST = 100  # patches in a mean patch
SHOWN = 12  # filters of an earlier layer
CONTROL_SEED = 20190  # of the randomly initialised network
LEVEL = 4  # grey levels between neighbouring tones of a stored picture
KINDS = ("plain", "natural", "negative", "mean_patch")
GUESSES = ("mean_patch", "natural", "plain", "another filter's mean_patch")


def filter_cards(run: Run, faces: Faces, steps: int = 256) -> dict[str, np.ndarray]:
    """Everything that chapter 5 shows of a network's filters; f filters, c classes.

    Returns:
        - ``plain``, ``natural`` (f, 40, 40) the optimum under free pixels and under the spectrum
          of the training faces; ``negative``: what silences most, same spectrum;
          ``mean_patch`` of the ``averaged`` () strongest patches; each with
          ``…_activation`` (f,)
        - ``steps`` () of every climb; ``restarts`` (2, f) correlation of two optima from
          different noise, plain and natural
        - ``weakest``, ``median``, ``quantile99``, ``strongest``, ``spread`` (f,) over the patches
        - ``tuning`` (f, c), ``explained`` (f,): class means in spreads, share of the variance
          that the class explains; the same with ``_random`` for an untrained network
        - ``logit_fall``, ``recall_fall`` (f, c): what silencing a filter costs; ``tested`` (c,)
        - ``inactive`` (k,), ``duplicates`` (k, 2), ``duplicates_r`` (k,)
        - ``layer2``, ``layer3`` (12, s, s) natural optima, ``…_filters``, ``…_ratio`` (12,)
        - ``outputs_plain``, ``outputs_natural`` (c, 48, 48); ``outputs`` (3, c): their logits and
          the strongest of a training face
        - ``usefulness`` (4,) as ``GUESSES``: share of pairs of unseen patches told right
        - ``faces`` () how many faces were looked at
        - synthetic faces alone: ``action_units`` (f, 15) correlations, ``parts`` (f, 4) overlaps,
          and the same with ``_random``
    """
    model = run.model()
    scale = run.config["scale"]
    bounds = tuple((v - scale["mean"]) / scale["sd"] for v in (0.0, 1.0))
    seen = sample(usable(faces.of("Training")), SAMPLE)
    pixels = run.scale(seen.images)
    found = filters.responses(model, None, pixels)
    box = found.field.box(found.field.middle[0])

    arrays = _pictures(run, model, pixels, found, box, bounds, steps)
    arrays |= _distribution(found)
    arrays |= _meaning(run, model, seen, pixels, found)
    arrays |= _earlier(run, model, pixels, bounds, steps)
    arrays |= _outputs(run, model, pixels, bounds, steps)
    unseen = usable(faces.of("PublicTest"))
    tested = balanced(unseen, TESTED, len(run.classes))
    silent = filters.ablation(model, None, run.scale(tested.images), tested.labels)
    arrays["logit_fall"], arrays["recall_fall"] = silent.logit.numpy(), silent.recall.numpy()
    arrays["tested"] = np.bincount(tested.labels, minlength=len(run.classes))
    crops = run.scale(sample(unseen, 1000).images)[(slice(None), slice(None), *box)]
    arrays["usefulness"] = usefulness(model, arrays, crops)
    arrays["faces"] = np.array(len(seen))
    return {
        key: value.astype(np.float32) if value.dtype.kind == "f" else value
        for key, value in arrays.items()
    }


def usable(faces: Faces) -> Faces:
    """The labelled faces that are no blank image (FER2013 holds twelve all-black ones)."""
    return faces[(faces.labels >= 0) & (faces.images.reshape(len(faces), -1).std(1) > 0)]


def sample(faces: Faces, most: int) -> Faces:
    """``most`` of the faces, always the same ones, in their order; all where there are fewer."""
    if len(faces) <= most:
        return faces
    return faces[np.sort(np.random.default_rng(0).choice(len(faces), most, replace=False))]


def balanced(faces: Faces, each: int, classes: int) -> Faces:
    """The first ``each`` faces of every class, or all that a class has."""
    rows = [np.flatnonzero(faces.labels == k)[:each] for k in range(classes)]
    return faces[np.sort(np.concatenate(rows))]


def grey(pictures: torch.Tensor, scale: dict) -> np.ndarray:
    """Model units (n, 1, h, w) to stored grey levels, uint8 (n, h, w)."""
    levels = (pictures[:, 0] * scale["sd"] + scale["mean"]) * 255 / LEVEL
    return (levels.round() * LEVEL).clamp(0, 255).byte().numpy()


def scored(run: Run, model, pictures: np.ndarray, layer=None) -> np.ndarray:
    """The activation of filter k to picture k, uint8 (f, h, w) -> float32 (f,)."""
    activation, _ = filters.cone(model, layer)
    with torch.no_grad():
        return activation(run.scale(pictures)).diagonal().numpy()


def optimum(run: Run, model, prior, which, steps: int):
    """The better of two optima of each filter, as stored, and how alike the two are.

    Returns:
        pictures uint8 (f, h, w) and the correlation of the two (f,).
    """
    found = filters.maximise(model, None, which, prior, restarts=2, steps=steps)
    best = found.activation.argmax(1)
    flat = found.pictures.flatten(2)
    flat = torch.nn.functional.normalize(flat - flat.mean(2, keepdim=True), dim=2)
    alike = (flat[:, 0] * flat[:, 1]).sum(1).numpy()
    return grey(found.pictures[torch.arange(len(best)), best], run.config["scale"]), alike


def sought_anew(run: Run, model, cards: dict, which: list[int]) -> np.ndarray:
    """How far optima under free pixels, found live as the card's were, miss its activation: (k,).

    As a share of the card's activation. It is 0 where the gradients are the card's to the last
    bit; a processor that rounds otherwise may turn a pixel, and that climb goes its own way.
    """
    scale = run.config["scale"]
    prior = filters.Prior(tuple((v - scale["mean"]) / scale["sd"] for v in (0.0, 1.0)))
    pictures, _ = optimum(run, model, prior, which, int(cards["steps"]))
    activation, _ = filters.cone(model, None)
    with torch.no_grad():
        live = activation(run.scale(pictures), torch.tensor(which)).numpy()
    stored = cards["plain_activation"][which]
    return np.abs(live - stored) / np.maximum(np.abs(stored), 1e-6)


def _pictures(run, model, pixels, found, box, bounds, steps):
    crops = pixels[(slice(None), slice(None), *box)]
    priors = {"plain": filters.Prior(bounds), "natural": filters.Prior.natural(crops, bounds)}
    arrays, restarts = {"steps": np.array(steps)}, []
    for name, prior in priors.items():
        arrays[name], alike = optimum(run, model, prior, None, steps)
        restarts.append(alike)
    low = filters.maximise(model, None, prior=priors["natural"], sign=-1, steps=steps)
    arrays["negative"] = grey(low.pictures[:, 0], run.config["scale"])
    count = min(STRONGEST, max(1, len(pixels) // 10))
    arrays["averaged"] = np.array(count)
    mean = filters.mean_patch(model, None, pixels, count=count, found=found)
    arrays["mean_patch"] = grey(mean, run.config["scale"])
    arrays |= {f"{name}_activation": scored(run, model, arrays[name]) for name in KINDS}
    return arrays | {"restarts": np.stack(restarts)}


def _distribution(found):
    a = found.activation.numpy()
    return {
        "weakest": a.min(0), "median": np.median(a, 0), "quantile99": np.quantile(a, 0.99, axis=0),
        "strongest": a.max(0), "spread": a.std(0, dtype=float),
    }  # fmt: skip


def _meaning(run, model, seen, pixels, found):
    """Tuning of the network's filters and of an untrained network's, and what adds nothing."""
    classes = len(run.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(CONTROL_SEED)
        control = NETWORKS[run.config["network"]](classes).eval()
    share = np.bincount(seen.labels, minlength=classes) / len(seen)
    answers = {"": (model, found), "_random": (control, filters.responses(control, None, pixels))}
    arrays = {}
    for suffix, (network, response) in answers.items():
        tuning = filters.class_tuning(response.activation, seen.labels, classes).numpy()
        arrays[f"tuning{suffix}"] = tuning
        arrays[f"explained{suffix}"] = np.nan_to_num(tuning**2) @ share
        if seen.action_units is not None:
            arrays[f"action_units{suffix}"] = filters.correlations(
                response.activation, seen.action_units
            ).numpy()
            arrays[f"parts{suffix}"] = filters.part_overlap(
                network, None, pixels[:300], seen.masks[:300]
            ).numpy()
    pairs = filters.duplicates(found.activation)
    return arrays | {
        "inactive": np.array(filters.inactive(found.activation), int),
        "duplicates": np.array([(i, j) for i, j, _ in pairs], int).reshape(-1, 2),
        "duplicates_r": np.array([r for *_, r in pairs], float),
    }


def _earlier(run, model, pixels, bounds, steps):
    """Natural optima of some filters of the second and third convolution, evenly picked."""
    arrays = {}
    for block in ("layer2", "layer3"):
        layer = f"{block}.0"
        found = filters.responses(model, layer, pixels[:500])
        box = found.field.box(found.field.middle[0])
        prior = filters.Prior.natural(pixels[:2000][(slice(None), slice(None), *box)], bounds)
        number = found.activation.shape[1]
        which = list(range(0, number, number // SHOWN))[:SHOWN]
        optima = filters.maximise(model, layer, which, prior, steps=steps)
        arrays[block] = grey(optima.pictures[:, 0], run.config["scale"])
        arrays[f"{block}_filters"] = np.array(which)
        strongest = found.activation.amax(0)[which]
        arrays[f"{block}_ratio"] = (optima.activation[:, 0] / strongest).numpy()
    return arrays


def _outputs(run, model, pixels, bounds, steps):
    """The faces that drive each output furthest, and how far."""
    arrays = {}
    classes = range(len(run.classes))
    priors = {"plain": filters.Prior(bounds), "natural": filters.Prior.natural(pixels, bounds)}
    for name, prior in priors.items():
        optima = filters.maximise_logits(model, classes, prior, steps=steps)
        arrays[f"outputs_{name}"] = grey(optima.pictures[:, 0], run.config["scale"])
    with torch.no_grad():
        logits = [model(run.scale(arrays[f"outputs_{name}"])).diagonal() for name in priors]
        real = torch.cat([model(x) for x in pixels.split(128)]).amax(0)
    return arrays | {"outputs": torch.stack([*logits, real]).numpy()}


def usefulness(model, arrays, crops, pairs=2000) -> np.ndarray:
    """Can a card tell which of two unseen patches excites its filter more? Shares, as ``GUESSES``.

    The guess is the patch that correlates more with the card's picture. With another filter's
    card the same guess shows what all cards share.
    """
    activation, _ = filters.cone(model, None)
    with torch.no_grad():
        true = torch.cat([activation(x) for x in crops.split(128)])  # (n, f)
    first, second = np.random.default_rng(0).integers(len(crops), size=(2, pairs))
    right = true[first] > true[second]
    differ = (true[first] != true[second]).double()
    flat = crops.flatten(1).double()
    flat = torch.nn.functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)
    shares = []
    for name in GUESSES:
        card = torch.from_numpy(arrays[name.split()[-1]]).flatten(1).double()
        card = torch.nn.functional.normalize(card - card.mean(1, keepdim=True), dim=1)
        like = flat @ (card.roll(1, 0) if "another" in name else card).T
        told = ((like[first] > like[second]) == right).double()
        shares.append(float((told * differ).sum() / differ.sum().clamp(min=1)))
    return np.array(shares)


def single_patches(run: Run, faces: Faces, which: list[int], count: int = 4):
    """Single faces' crops, never stored: (filter -> block -> pictures, filter -> captions).

    Blocks are the strongest, median and weakest ``count``; a caption is the strongest's label
    and what the network says of its face.
    """
    model, pixels = run.model(), run.scale(faces.images)
    found = filters.responses(model, None, pixels)
    said, scale = run.predict(faces.images).argmax(1), run.config["scale"]
    rows, captions = {}, {}
    for k in which:
        blocks = {}
        for block in ("strongest", "median", "weakest"):
            patches = filters.top_patches(model, None, pixels, [k], count, block, found)
            blocks[block] = grey(patches.pixels[0], scale)
            if block == "strongest":
                captions[f"filter {k}"] = [
                    f"{run.classes[faces.labels[i]]}\n→ {run.classes[said[i]]}"
                    for i in patches.face[0].tolist()
                ]
        rows[f"filter {k}"] = blocks
    return rows, captions
