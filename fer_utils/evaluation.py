"""Can an attribution map be trusted? Settings, scores on known truth, controls, and verdicts.

``METHODS`` is the one table of how maps are made, for chapters, scores, panels and predict.
``importance(name, …)`` gives maps (n, 1, h, w), larger = more important: the magnitude where a
map's sign is a direction ('brighter helps'), else the signed map. ``masks`` are (n, h, w) or
(n, 1, h, w), true where the expression lies. Every score is one number a face.

=================== ======================================================= ==============
score               question                                                good
=================== ======================================================= ==============
pointing game       does the strongest pixel lie in the mask?               high
relevance mass      what share of the positive part lies in the mask?       high
rank accuracy       of the |mask| strongest pixels, how many lie in it?     high
deletion            class probability while the strongest go first          low
insertion           the same while they come back first                     high
random network      rank correlation with its map of the same face          low
cascading           the same, layer by layer from the output                low
=================== ======================================================= ==============

Pixels of equal importance share: the pointing game and rank accuracy are means over every order
of them, deletion and insertion take them in one random order. The verdicts at the end read the
stored results ``scores`` and ``shortcut`` of ``fer_utils.precomputed``.

Zhang et al. 2018 (arXiv:1608.00507), Arras et al. 2022 (arXiv:2003.07258), Petsiuk et al. 2018
(arXiv:1806.07421), Adebayo et al. 2018 (arXiv:1810.03292). A low rank correlation is no merit of
its own, noise has it too: Binder et al. 2023 (arXiv:2211.12486).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from fer_utils import metrics, saliency, synthetic
from fer_utils.inspection import (
    calls,
    check_target,
    chunk_size,
    explained,
    own_logits,
    whole_number,
)

MASK_SCORES = ("pointing game", "relevance mass", "rank accuracy")
FILL_SCORES = ("deletion", "insertion")
RANK_SCORES = ("random network", "cascading")
LOWER_IS_BETTER = ("deletion",)
ALL_SCORES = MASK_SCORES + FILL_SCORES + RANK_SCORES

VISIBLE = 8  # grey levels of 255: a pixel that changes by more carries the expression
COMPLETE = 0.01  # of the logits' difference: what integrated gradients may miss
POINTS = (50, 100, 200, 400, 800, 1600)  # of integrated gradients, tried in turn
BLANK = 5  # grey levels of standard deviation: fourteen black pictures of FER2013 have less
IGNORES = 0.5  # rank correlation above which a map hardly depends on the weights
MATTERS = 0.02  # a lead below this is not spoken of, however significant
LEVEL = 0.05  # of a family of tests, shared out evenly among them
RESAMPLES = 5000


# ---- how a map is made ------------------------------------------------------------------------


def converged_gradients(model, images, target, baseline=0):
    """Integrated gradients, each face with as many points as it needs to be complete.

    The points are doubled, from the first to the last of ``POINTS``, for the faces whose map
    misses the difference of the logits by more than ``COMPLETE`` of it, or of 1 nat where that
    is more. A face that still misses it with the last keeps that map.
    """
    target = check_target(images, target)
    baseline = saliency.like(baseline, images, "baseline")
    maps, rest = torch.empty_like(images), torch.arange(len(images), device=images.device)
    for steps in POINTS:
        of = model, images[rest], target[rest]
        maps[rest] = saliency.integrated_gradients(*of, steps=steps, baseline=baseline[rest])
        missed = saliency.completeness_error(*of, maps[rest], baseline=baseline[rest])
        gain = maps[rest].sum((1, 2, 3)) - missed
        rest = rest[missed.abs() > COMPLETE * gain.abs().clamp(min=1)]
        if not len(rest):
            break
    return maps


def _smoothgrad(model, images, target):
    chance = torch.Generator(images.device).manual_seed(0)
    return saliency.smoothgrad(model, images, target, generator=chance)


def _from_blur(model, images, target):
    return converged_gradients(model, images, target, saliency.blurred(images))


def _hide_by_blur(model, images, target):
    return saliency.occlusion(model, images, target, fill=saliency.blurred(images))


def centre_prior(images):
    """Control: a Gaussian blob in the middle, its standard deviation a quarter of the face."""
    height, width = images.shape[2:]
    y = torch.linspace(-2, 2, height).to(images)
    x = torch.linspace(-2, 2, width).to(images)
    blob = torch.exp(-(y[:, None] ** 2 + x**2) / 2)
    return blob.expand(len(images), 1, height, width).clone()


def edges(images):
    """Control: Sobel's edge strength, which never asks the network."""
    sobel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]]).to(images)
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    down, across = (F.conv2d(grey, kernel[None, None]) for kernel in (sobel, sobel.T))
    return (down**2 + across**2).sqrt()


def random_map(images):
    """Control: noise, the same at each call."""
    chance = torch.Generator().manual_seed(0)
    shape = len(images), 1, *images.shape[2:]
    return torch.rand(shape, generator=chance, dtype=images.dtype).to(images.device)


@dataclass(frozen=True)
class Method:
    """``maps(model, images, target)``, and how to read what it gives.

    Attributes:
        direction: its sign says 'brighter' or 'darker', not 'for' or 'against'.
        blurred: it fills with the blurred face, as deletion and insertion do.
    """

    maps: Callable
    direction: bool = False
    blurred: bool = False

    @property
    def unit(self) -> str:
        return "logit per s.d." if self.direction else "logit (nats)"


METHODS = {
    "gradient": Method(saliency.gradient, direction=True),
    "gradient × input": Method(saliency.gradient_times_input),
    "SmoothGrad": Method(_smoothgrad, direction=True),
    "integrated gradients": Method(converged_gradients),
    "integrated gradients (blurred)": Method(_from_blur, blurred=True),
    "Grad-CAM": Method(saliency.grad_cam),
    "HiResCAM": Method(saliency.hires_cam),
    "guided backprop": Method(saliency.guided_backprop, direction=True),
    "occlusion": Method(saliency.occlusion),
    "occlusion (blurred)": Method(_hide_by_blur, blurred=True),
    "control: centre prior": Method(lambda model, x, target: centre_prior(x)),
    "control: edges": Method(lambda model, x, target: edges(x)),
    "control: random": Method(lambda model, x, target: random_map(x)),
}


def importance(name, model, images, target):
    """The maps of ``METHODS[name]``, larger = more important: (n, 1, h, w)."""
    if name not in METHODS:
        raise ValueError(f"no method {name!r} (have: {', '.join(METHODS)})")
    method = METHODS[name]
    maps = method.maps(model, images, target)
    return (maps.abs() if method.direction else maps).sum(1, keepdim=True)


def applicable(names, model, images) -> list[str]:
    """Those of the methods ``names`` that can explain this network; guided backprop needs a ReLU.

    Each is tried on the first of ``images`` (b, 1, 48, 48), for class 0.
    """
    found, target = [], check_target(images[:1], 0)
    with explained(model) as net:
        own_logits(net(images[:1]), target)  # ValueError for what no method could explain
    for name in names:
        with contextlib.suppress(ValueError):
            importance(name, model, images[:1], 0)
            found.append(name)
    return found


# ---- scores against a mask --------------------------------------------------------------------


def expressive_mask(faces: synthetic.SyntheticFaces, classes) -> np.ndarray:
    """bool (n, 48, 48): pixels that change visibly when the label's action units go to rest."""
    mask = np.zeros(faces.images.shape, bool)
    for k, name in enumerate(classes):
        rows = np.flatnonzero(faces.labels == k)
        if len(rows) and synthetic.EMFACS[name]:
            mask[rows] = synthetic.difference_map(faces[rows], name) > VISIBLE
    return mask


def pointing_game(maps, masks):
    """1 where the strongest pixel lies in the mask, else 0; of several strongest, the mean: (n,)."""
    maps, masks = _flat(maps, masks)
    strongest = maps == maps.amax(1, keepdim=True)
    return (strongest & masks).sum(1) / strongest.sum(1)


def relevance_mass(maps, masks):
    """Share of the map's positive part within the mask: (n,), NaN where nothing is positive."""
    maps, masks = _flat(maps, masks)
    positive = maps.clamp(min=0)
    return (positive * masks).sum(1) / positive.sum(1)


def rank_accuracy(maps, masks):
    """Of the |mask| strongest pixels, the share within the mask: (n,), NaN for an empty mask."""
    maps, masks = _flat(maps, masks)
    size = masks.sum(1)
    level = maps.sort(dim=1, descending=True).values.gather(1, (size - 1).clamp(min=0)[:, None])
    above, tied = maps > level, maps == level
    share_of_tied = (tied & masks).sum(1) / tied.sum(1)
    return ((above & masks).sum(1) + (size - above.sum(1)) * share_of_tied) / size


def _flat(maps, masks):
    masks = torch.as_tensor(masks, device=maps.device)
    if masks.ndim == 3:
        masks = masks[:, None]
    if maps.ndim != 4 or maps.shape[1] != 1 or masks.shape != maps.shape:
        raise ValueError(
            f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} must both be (n, 1, h, w)"
        )
    return maps.flatten(1), masks.flatten(1).bool()


# ---- scores against the network ---------------------------------------------------------------


def deletion(model, images, target, maps, fill=None, steps=24):
    """Mean class probability while the strongest pixels go, from none to all of them: (n,).

    ``fill`` stands where pixels went: a number or tensor, or the blurred face where None.
    Let it differ from what the map's own method fills in, or the score praises itself.
    """
    return _curve(model, images, target, maps, fill, steps, removing=True).mean(1)


def insertion(model, images, target, maps, fill=None, steps=24):
    """Mean class probability while the strongest pixels come back over ``fill``: (n,)."""
    return _curve(model, images, target, maps, fill, steps, removing=False).mean(1)


def _curve(model, images, target, maps, fill, steps, removing):
    whole_number(steps=steps)
    target = check_target(images, target)
    if maps.ndim != 4 or len(maps) != len(images) or maps.shape[2:] != images.shape[2:]:
        raise ValueError(f"maps {tuple(maps.shape)} do not fit images {tuple(images.shape)}")
    cover = saliency.blurred(images) if fill is None else saliency.like(fill, images, "fill")
    rank = _ranks(maps.sum(1).flatten(1)).view(len(images), 1, *images.shape[2:])
    pixels = rank[0].numel()
    curve = []
    with explained(model) as net, torch.no_grad():
        for share in torch.linspace(0, 1, steps + 1).tolist():
            first = rank < round(share * pixels)
            mixed = torch.where(first == removing, cover, images)
            parts = mixed.split(chunk_size(images))
            logits = torch.cat([net(part) for part in parts])
            curve.append((own_logits(logits, target) - logits.logsumexp(1)).exp())
    return torch.stack(curve, dim=1)


def _ranks(flat):
    """Place of each pixel of (n, pixels), 0 the strongest; equal ones in a fixed random order."""
    n, pixels = flat.shape
    shuffled = torch.randperm(pixels, generator=torch.Generator().manual_seed(0)).to(flat.device)
    order = shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(pixels, device=flat.device).expand(n, -1)
    return torch.empty_like(order).scatter_(1, order, places)


# ---- sanity checks ----------------------------------------------------------------------------


def rank_correlation(a, b):
    """Spearman's ρ of two maps, face by face: (n,); ties share their mean rank, NaN if flat."""
    from scipy.stats import rankdata

    return _correlation(
        *(torch.from_numpy(rankdata(maps.flatten(1).cpu().numpy(), axis=1)) for maps in (a, b))
    )


def _correlation(a, b):
    """Pearson's r of two tensors (n, pixels), row by row; NaN where a row is flat."""
    flat = (a == a[:, :1]).all(1) | (b == b[:, :1]).all(1)  # their mean may miss them by a bit
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    r = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return r.masked_fill(flat, torch.nan)


def randomised(model, seed=0, only=None):
    """A copy in eval mode with freshly initialised layers: all, or those named in ``only``.

    They draw one after the other, from the last that the model holds to the first, or in the
    order of ``only``: with one seed a longer list begins with the same weights. A weight that is
    computed (weight norm) is set to what the plain layer would begin with. ValueError for a
    network that cannot be copied.
    """
    kept = [value for module in model.modules() for value in vars(module).values()]
    tensors = [value for value in kept if isinstance(value, torch.Tensor)]
    known = {id(value): value.detach() for value in tensors}  # deepcopy refuses a tensor of a graph
    try:
        net = copy.deepcopy(model, known).eval()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"the network cannot be copied, to randomise it: {error}") from error
    if only is None:
        layers = [name for name, of in net.named_modules() if hasattr(of, "reset_parameters")]
        only = reversed(layers)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in only:
            layer = net.get_submodule(name)
            with contextlib.suppress(ValueError):  # of the old kind, it has none
                nn.utils.remove_weight_norm(layer)
            with parametrize.cached(), torch.no_grad():
                layer.reset_parameters()
                for computed in getattr(layer, "parametrizations", ()):
                    setattr(layer, computed, getattr(layer, computed))
    return net


def cascading_randomisation(method, model, images, target, seed=0):
    """{layer: maps} with all layers from the output down to that Conv2d or Linear randomised.

    The first are of the ``"trained"`` network. Layers are in the order of their calls and keep
    the random weights that they once got, so that each step differs from the one before in one
    layer alone.
    """
    with explained(model) as net:
        called = {name: module for name, module, *_ in calls(net, images[:1])}
    result, gone = {"trained": method(model, images, target)}, []
    for name, module in reversed(called.items()):
        if hasattr(module, "reset_parameters"):
            gone.append(name)
        if isinstance(module, nn.Conv2d | nn.Linear):
            result[name] = method(randomised(model, seed, gone), images, target)
    return result


# ---- which faces to show ----------------------------------------------------------------------


def _answered(run) -> pd.DataFrame:
    """``run.predictions`` as row, label, answer, and the probabilities of answer and label."""
    table, probability = run.predictions, run.predictions[list(run.classes)].to_numpy()
    of_label = probability[np.arange(len(table)), table["label"]]
    return table[["row", "label"]].assign(
        answer=probability.argmax(1), of_answer=probability.max(1), of_label=of_label
    )


def surest_faces(run, rows=None) -> np.ndarray:
    """For each class the row that is right with the highest probability.

    Where none is right: the one that gives its class most. Only ``rows`` are looked at, all
    where None; a class without a face there is left out.
    """
    table = _answered(run)
    if rows is not None:
        table = table[table["row"].isin(rows)]
    table = table.assign(right=table["answer"] == table["label"])
    return table.sort_values(["right", "of_label"]).groupby("label")["row"].last().to_numpy()


def surest_mistakes(run, faces) -> pd.DataFrame:
    """The two mistakes of the highest probability, of two answers: columns row, answer, label.

    ``faces``: the run's, the first rows of its set or all. A blank image is no face, and so no
    mistake of the network's.
    """
    table = _answered(run)
    table = table[(table["row"] < len(faces)) & (table["answer"] != table["label"])]
    table = table[faces.images[table["row"]].std((1, 2)) >= BLANK]
    table = table.sort_values("of_answer", ascending=False, kind="stable")
    return table.drop_duplicates("answer").head(2).reset_index(drop=True)


# ---- verdicts on the stored scores ------------------------------------------------------------


def score_table(s: dict) -> pd.DataFrame:
    """Rows (method, score): mean over faces and networks with its 95 % interval, lo to hi.

    ``untrained``: the mean of the same method on networks of random weights, NaN where that was
    not scored.
    """
    mean, lo, hi = metrics.crossed_interval(s["values"].astype(np.float64))
    untrained = np.full_like(mean, np.nan)
    untrained[:, : len(MASK_SCORES)] = s["untrained"].astype(np.float64).mean((0, 3))
    index = pd.MultiIndex.from_product(
        [s["methods"].tolist(), s["scores"].tolist()], names=["method", "score"]
    )
    columns = {"mean": mean, "lo": lo, "hi": hi, "untrained": untrained}
    return pd.DataFrame({name: column.ravel() for name, column in columns.items()}, index=index)


def mean_scores(s: dict) -> pd.DataFrame:
    """Method × score: mean over faces and networks."""
    mean = np.nanmean(s["values"].astype(np.float64), axis=(0, 3))
    return pd.DataFrame(mean, index=s["methods"].tolist(), columns=s["scores"].tolist())


def without_controls(methods) -> list[str]:
    """Those of the methods that ask the network: all but the controls."""
    return [str(name) for name in methods if not str(name).startswith("control")]


def best_control(s: dict, score: str) -> str:
    """The control with the best mean on a score."""
    means = mean_scores(s)[score].drop(without_controls(s["methods"]))
    return means.idxmin() if score in LOWER_IS_BETTER else means.idxmax()


def leads(s: dict, score: str) -> dict[str, tuple[float, float]]:
    """Method -> (mean lead over the best control, the smallest lower bound of any network).

    On the scores against the mask the method's own map of a network with random weights is one
    of the controls. The bounds are of a bootstrap over the same faces (paired), network by
    network, with ``LEVEL`` shared out over all methods and scores that have controls.
    """
    methods, j = s["methods"].tolist(), s["scores"].tolist().index(score)
    sign = -1 if score in LOWER_IS_BETTER else 1
    values = sign * s["values"][:, :, j].swapaxes(0, 1).astype(float)  # (methods, networks, faces)
    asked = without_controls(methods)
    controls = [of for of, name in zip(values, methods, strict=True) if name not in asked]
    tests, found = len(asked) * len(MASK_SCORES + FILL_SCORES), {}
    for name in asked:
        i, rivals = methods.index(name), list(controls)
        if score in MASK_SCORES:
            rivals.append(s["untrained"][:, i, j].astype(float))
        lead = values[i] - max(rivals, key=np.mean)
        drawn = [metrics.crossed_means(of_network[None], RESAMPLES) for of_network in lead]
        found[name] = float(lead.mean()), float(np.quantile(drawn, LEVEL / tests, axis=1).min())
    return found


def better_than_controls(s: dict, score: str) -> list[str]:
    """Methods significantly better than every control on a score, in every network; best first.

    A lead has to be ``MATTERS`` at least. Rank correlations have no control to beat; on deletion
    and insertion, which fill with the blurred face, a method that does so too is left out.
    """
    if score in RANK_SCORES:
        return []
    lead = leads(s, score)
    if score in FILL_SCORES:
        lead = {name: found for name, found in lead.items() if not METHODS[name].blurred}
    won = [name for name, (mean, bound) in lead.items() if bound > 0 and mean >= MATTERS]
    return sorted(won, key=lambda name: -lead[name][0])


def mask_wins(s: dict) -> dict[str, int]:
    """Method -> on how many of the ``MASK_SCORES`` it is significantly better than the controls."""
    won = [better_than_controls(s, score) for score in MASK_SCORES]
    return {name: sum(name in names for names in won) for name in without_controls(s["methods"])}


def ignoring_weights(s: dict) -> list[str]:
    """Methods whose maps keep more than ``IGNORES`` of their order under random weights.

    All at once, or on average layer by layer. They may find the expression and still show the
    picture rather than what was learned, so they are not trusted. (The opposite is no merit:
    noise keeps nothing.)
    """
    kept = mean_scores(s)[["random network", "cascading"]].max(axis=1)
    return [name for name in without_controls(s["methods"]) if kept[name] > IGNORES]


def most_trusted(s: dict) -> str | None:
    """The method that depends on the weights and wins most ``MASK_SCORES``; None where none does.

    Of several, the one of the highest rank accuracy.
    """
    wins, rank, out = mask_wins(s), mean_scores(s)["rank accuracy"], ignoring_weights(s)
    names = [name for name in wins if wins[name] and name not in out]
    return max(names, key=lambda name: (wins[name], rank[name]), default=None)


# ---- verdicts on the planted mark -------------------------------------------------------------


def mark_is_used(found: dict) -> bool:
    """Whether the network trained with the mark recalls its class less without it.

    Told cautiously: only where the two recalls' 95 % intervals don't meet.
    """
    n = int(found["tested"][0])
    with_mark, without = (metrics.wilson(round(r * n), n) for r in found["recall"][1])
    return bool(with_mark[0] > without[1])


def pointing_at_mark(found: dict) -> pd.DataFrame:
    """A row a method: how often it points at the mark, by a network that uses it and by a control.

    Columns ``used`` and ``control`` (the network that never saw the mark; the same faces), their
    paired ``difference`` with lo and hi, at ``LEVEL`` shared out over the methods.
    """
    control, used = found["pointing"].astype(np.float64)
    outside = LEVEL / len(found["methods"]) / 2
    drawn = metrics.crossed_means((used - control)[None], RESAMPLES)
    lo, hi = np.quantile(drawn, (outside, 1 - outside), axis=-1)
    return pd.DataFrame({
        "used": used.mean(1), "control": control.mean(1),
        "difference": (used - control).mean(1), "lo": lo, "hi": hi,
    }, index=pd.Index(found["methods"].tolist(), name="method"))  # fmt: skip


def showing_mark(found: dict) -> list[str]:
    """Methods that point at the mark significantly more often where it is used; the most first.

    By ``MATTERS`` at least.
    """
    table = pointing_at_mark(found).sort_values("difference", ascending=False, kind="stable")
    return table.index[(table["lo"] > 0) & (table["difference"] >= MATTERS)].tolist()


# ---- verdicts on mean maps --------------------------------------------------------------------


def paired_difference(a, b) -> tuple[float, float]:
    """Mean of a − b over the same faces, and its standard error."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)


def class_against_others(values, labels, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Each class's mean less the mean of the other classes' means, and its standard error: (classes,).

    Faces of different classes are independent: the error of a mean over c classes is √(Σ e²) / c.
    A class with fewer than two faces is NaN and is not among the others.
    """
    grouped = pd.Series(np.asarray(values, np.float64)).groupby(np.asarray(labels))
    table = grouped.agg(["mean", "sem"]).dropna().reindex(range(classes))
    apart, errors = np.empty(classes), np.empty(classes)
    for k, (mean, error) in enumerate(table.to_numpy()):
        others = table.drop(index=k).dropna()
        apart[k] = mean - others["mean"].mean()
        errors[k] = np.hypot(error, np.sqrt((others["sem"] ** 2).sum()) / max(len(others), 1))
    return apart, errors


def map_agreement(maps, others) -> np.ndarray:
    """Pearson's r of two stacks of maps (n, h, w), map by map: (n,); NaN where one is flat or NaN."""
    stacks = (torch.as_tensor(np.asarray(of, np.float64)).flatten(1) for of in (maps, others))
    return _correlation(*stacks).numpy()
