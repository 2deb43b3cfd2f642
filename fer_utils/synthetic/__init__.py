"""Faces whose expressive pixels are known: parametric heads drawn by facial action units.

``faces(n, seed, preset)`` draws 48×48 grey faces of the seven expressions. With every face
comes the truth: its action units (the facial movements of Ekman & Friesen 1978), the pixels
of brow, eye, nose and mouth, and what ten virtual annotators would call it.

- Face i depends on (seed, i, preset) alone: one counter-based random stream a face.
- Class ``i % 7``, split ``i % 10`` (8 PublicTest, 9 PrivateTest, else Training): 70 faces in a
  row hold every class once in each test split.
- ``rerender`` draws the same people in the same pose and light with some action units at
  rest; ``difference_map`` is by how many grey levels that changes each pixel: what the
  units show. An action unit changes pixels of its own part only (``PARTS``).
- Pixels come from + − × ÷ √ and comparisons alone, which IEEE 754 fixes to the bit.

Classes combine action units as in EMFACS (Friesen & Ekman 1983): ``EMFACS``.
"""

from dataclasses import dataclass, replace
from numbers import Integral
from types import SimpleNamespace

import numpy as np
import torch

from ..data import EMOTIONS, SPLITS, Faces
from ..data.ferplus import EMOTION_OF_COLUMN
from .drawing import MARK, RANGES, SIDE, face

ACTION_UNITS = {
    1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser",
    6: "cheek raiser", 7: "lid tightener", 9: "nose wrinkler", 12: "lip corner puller",
    15: "lip corner depressor", 16: "lower lip depressor", 17: "chin raiser",
    20: "lip stretcher", 23: "lip tightener", 25: "lips part", 26: "jaw drop",
}  # fmt: skip
PARTS = {
    "brow": (1, 2, 4),
    "eye": (5, 6, 7),
    "nose": (9,),
    "mouth": (12, 15, 16, 17, 20, 23, 25, 26),
}
EMFACS = {  # class: action unit -> its strength where the expression is at full intensity
    "Angry": {4: 1, 5: 0.6, 7: 1, 17: 0.5, 23: 1},
    "Disgust": {4: 0.4, 9: 1, 15: 0.7, 16: 0.8, 17: 0.5},
    "Fear": {1: 1, 2: 0.7, 4: 0.6, 5: 1, 7: 0.4, 20: 1, 25: 0.6, 26: 0.4},
    "Happy": {6: 1, 12: 1, 25: 0.6},
    "Sad": {1: 1, 4: 0.7, 15: 1, 17: 0.4},
    "Surprise": {1: 1, 2: 1, 5: 0.8, 25: 0.5, 26: 1},
    "Neutral": {},
}
COLUMN = {unit: column for column, unit in enumerate(ACTION_UNITS)}
PROTOTYPES = np.array([[EMFACS[name].get(unit, 0.0) for unit in COLUMN] for name in EMOTIONS])
CHUNK = 56  # faces drawn at a time: few calls, and pictures that still fit into the cache


@dataclass(frozen=True)
class Preset:
    """How far the classes overlap, in the strength of action units (0 … 1)."""

    intensity: tuple[float, float] = (0.3, 1.0)  # of the expression, evenly between
    cross_talk: float = 0.10  # sd of what is added to every action unit
    drop_out: float = 0.10  # chance that a unit of the expression is missing
    mark: str | None = None  # the class that a small bright mark gives away
    mark_rate: float = 0.95  # share of that class's faces that carry it


PRESETS = {
    "default": Preset(),
    "hard": Preset(intensity=(0.1, 0.9), cross_talk=0.16, drop_out=0.2),
    "shortcut": Preset(mark="Sad"),
}


@dataclass(frozen=True)
class SyntheticFaces(Faces):
    """``Faces`` with the truth, and what it takes to draw them again.

    - ``action_units``  float32 (n, 15), 0 at rest … 1, columns as ``ACTION_UNITS``
    - ``masks``         bool (n, 4, 48, 48), as ``PARTS``: paint of the part, visible, makes up
      more than 1/64 of the pixel
    """

    index: np.ndarray | None = None  # int64 (n,): which face of the stream
    seed: int = 0
    preset: Preset = PRESETS["default"]


def faces(n: int, seed: int = 0, preset: str | Preset = "default") -> SyntheticFaces:
    """The first ``n`` faces of the stream ``seed``.

    Raises:
        ValueError: ``n`` below 1, ``seed`` below 0, or a ``preset`` not in ``PRESETS``.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}={value!r}: expected a whole number, {least} or above")
    return at(np.arange(n), int(seed), preset)


def at(index, seed: int = 0, preset: str | Preset = "default") -> SyntheticFaces:
    """The faces that stand at ``index`` (n,), 0 or above, in the stream ``seed``, in that order."""
    if not isinstance(preset, Preset):
        if preset not in PRESETS:
            raise ValueError(f"preset={preset!r}: expected {', '.join(PRESETS)}, or a Preset")
        preset = PRESETS[preset]
    index = np.asarray(index, dtype=np.int64)
    units = draw_action_units(seed, index, preset)
    images, masks = draw(units, seed, index, preset)
    return SyntheticFaces(
        images=images, labels=index % len(EMOTIONS),
        split=np.array(SPLITS)[np.maximum(index % 10 - 7, 0)],
        votes=draw_votes(units, seed, index, preset),
        action_units=units, masks=masks, index=index, seed=seed, preset=preset,
    )  # fmt: skip


def columns(units) -> list[int]:
    """Columns of ``action_units``: of one unit, several, or those of a part or class by name."""
    if isinstance(units, str):
        units = {**PARTS, **EMFACS}.get(units, units)
    units = [units] if isinstance(units, str | Integral) else list(units)
    if unknown := [unit for unit in units if unit not in COLUMN]:
        raise ValueError(
            f"no action unit, part or class {unknown[0]!r} (have: {', '.join(map(str, COLUMN))}; "
            f"{', '.join((*PARTS, *EMFACS))})"
        )
    return [COLUMN[unit] for unit in units]


def rerender(faces: SyntheticFaces, without=(), action_units=None) -> SyntheticFaces:
    """The same people, pose, light and noise, with the action units ``without`` at rest.

    ``without``: what ``columns`` takes: ``12``, ``(1, 2)``, ``"mouth"``, ``"Fear"``.
    ``action_units`` (n, 15) replaces the faces' own first. Labels and votes stay as they were.
    """
    if not isinstance(faces, SyntheticFaces):
        raise ValueError(f"faces={type(faces).__name__}: only SyntheticFaces can be drawn again")
    units = np.array(faces.action_units if action_units is None else action_units, np.float32)
    if units.shape != faces.action_units.shape:
        raise ValueError(f"action_units: {units.shape}, expected {faces.action_units.shape}")
    units[:, columns(without)] = 0
    images, masks = draw(units, faces.seed, faces.index, faces.preset)
    return replace(faces, images=images, masks=masks, action_units=units)


def difference_map(faces: SyntheticFaces, without) -> np.ndarray:
    """uint8 (n, 48, 48): |x(AU) − x(0)|, grey levels by which ``rerender`` changes each pixel."""
    rest = rerender(faces, without).images
    return np.abs(faces.images.astype(np.int16) - rest).astype(np.uint8)


def log_posterior(action_units, preset: Preset, perception: float = 0.0) -> np.ndarray:
    """float64 (n, 7): log p(class | action units), classes equally frequent.

    Given class and intensity, the units are independent: normal around their strength (or
    around 0, where missing), cut off at 0 and 1. The integral over intensity is a sum of 24.

    Args:
        perception: sd of the observer's own error, independent of the generator's cross-talk,
            so that their variances add.
    """
    a = torch.as_tensor(np.asarray(action_units, dtype=np.float64))[:, None, :]
    sd = float(np.hypot(preset.cross_talk, perception))
    sd = max(sd, 0.01)  # below that, the sum of 24 is too coarse

    def density(a, mean):
        inside = torch.exp(-0.5 * ((a - mean) / sd) ** 2) / (sd * (2 * torch.pi) ** 0.5)
        at_ends = torch.special.ndtr(torch.where(a <= 0, -mean, mean - 1) / sd)
        return torch.where((a <= 0) | (a >= 1), at_ends, inside) + 1e-30

    low, high = preset.intensity
    intensity = low + (high - low) * (torch.arange(24, dtype=torch.float64)[:, None] + 0.5) / 24
    missing = density(a, torch.zeros((), dtype=torch.float64))
    likelihood = []
    for prototype in torch.as_tensor(PROTOTYPES):
        own = prototype > 0
        moved = density(a[..., own], intensity * prototype[own])
        moved = (1 - preset.drop_out) * moved + preset.drop_out * missing[..., own]
        others = missing[..., ~own].log().sum((1, 2))
        likelihood.append(moved.log().sum(2).logsumexp(1) + others)
    return torch.stack(likelihood, 1).log_softmax(1).numpy()


def bayes_accuracy(faces: SyntheticFaces) -> float:
    """Accuracy of the best possible observer: knows the generator, reads every action unit exactly.

    The mean over ``faces`` of the largest posterior. Pixels say less than the units do (unless
    a planted mark gives the class away), so no network can be expected to do better.
    """
    return float(np.exp(log_posterior(faces.action_units, faces.preset)).max(1).mean())


# ---- chance: one stream for each face -----------------------------------------------------


def words(seed: int, index: np.ndarray, stream: int, count: int) -> np.ndarray:
    """uint64 (n, count): splitmix64 of the counter (seed, stream, index, 0 … count−1)."""

    def mix(z):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    key = np.full((1, 1), seed % 2**64, dtype=np.uint64)
    for counter in (np.array([[stream]]), index[:, None], np.arange(count)):
        key = mix(key + (counter.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return key


def uniform(seed: int, index: np.ndarray, stream: int, count: int) -> np.ndarray:
    """float64 (n, count) in [0, 1)."""
    return (words(seed, index, stream, count) >> np.uint64(11)) * 2.0**-53


def grain(seed: int, index: np.ndarray) -> np.ndarray:
    """float32 (n, 48, 48), mean 0, sd 1: the four 16-bit parts of a word, added: nearly normal."""
    parts = words(seed, index, 2, SIDE * SIDE).view(np.uint16).reshape(-1, SIDE, SIDE, 4)
    return (parts.sum(3, dtype=np.float32) / 2**16 - 2) * np.float32(3**0.5)


def draw_action_units(seed, index, preset) -> np.ndarray:
    """float32 (n, 15): intensity × prototype where not missing, plus cross-talk, cut to 0 … 1."""
    u = uniform(seed, index, 0, 1 + 3 * len(COLUMN))
    kept, radius, angle = np.split(u[:, 1:], 3, axis=1)
    normal = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)
    low, high = preset.intensity
    prototypes = PROTOTYPES[index % len(EMOTIONS)]
    units = (low + (high - low) * u[:, :1]) * prototypes * (kept >= preset.drop_out)
    units = np.clip(units + preset.cross_talk * normal, 0, 1)
    # rounded, so that no last bit of a machine's log or cos reaches the pixels
    return (np.round(units * 4096) / 4096).astype(np.float32)


VOTED = EMOTION_OF_COLUMN[:7]


def draw_votes(units, seed, index, preset) -> np.ndarray:
    """int64 (n, 10): ten annotators, less sharp-sighted than the best observer; FER+'s columns.

    Each votes for a class with its posterior; a smile without raised cheeks also draws votes
    for contempt, a doubtful face for unknown, and a few votes slip.
    """
    seen = np.exp(log_posterior(units, preset, perception=0.35))
    smile, cheek = units[:, COLUMN[12]], units[:, COLUMN[6]]
    chance = np.full((len(units), 10), 0.005)
    chance[:, :7] += seen[:, [EMOTIONS.index(name) for name in VOTED]]
    chance[:, 7] += 0.15 * smile * (1 - cheek)
    chance[:, 8] += 0.015 + 0.25 * (1 - seen.max(1))
    bounds = np.cumsum(chance, axis=1) / chance.sum(1, keepdims=True)
    votes = (uniform(seed, index, 3, 10)[:, :, None] > bounds[:, None, :-1]).sum(2)
    return (votes[:, :, None] == np.arange(10)).sum(1)


def draw(units, seed, index, preset) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 (n, 48, 48) and masks bool (n, 4, 48, 48) of faces with these action units."""
    images = np.empty((len(index), SIDE, SIDE), np.uint8)
    masks = np.empty((len(index), len(PARTS), SIDE, SIDE), bool)
    low, high = np.array(list(RANGES.values())).T
    for start in range(0, len(index), CHUNK):
        rows = slice(start, start + CHUNK)
        u = uniform(seed, index[rows], 1, len(RANGES) + 1)
        values = dict(zip(RANGES, (low + (high - low) * u[:, :-1]).T, strict=True))
        values |= {"cos": np.cos(values["turn"]), "sin": np.sin(values["turn"])}
        marked = EMOTIONS.index(preset.mark) if preset.mark else -1
        values["mark"] = (index[rows] % len(EMOTIONS) == marked) & (u[:, -1] < preset.mark_rate)
        p = SimpleNamespace(**{name: per_face(v) for name, v in values.items()})
        p.grain = torch.as_tensor(grain(seed, index[rows]))
        au = {unit: per_face(units[rows, column]) for unit, column in COLUMN.items()}
        picture, parts = face(p, au)
        images[rows], masks[rows] = picture.numpy(), parts.numpy()
    return images, masks


def per_face(values: np.ndarray) -> torch.Tensor:
    """float32 (b, 1, 1), rounded to 1/65536 for the same reason as in ``draw_action_units``."""
    return torch.as_tensor((np.round(values * 65536.0) / 65536).astype(np.float32))[:, None, None]
