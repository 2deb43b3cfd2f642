"""A set of faces, the one kind of complaint, and what a careful user wants to know of a set."""

import hashlib
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
SPLITS = ("Training", "PublicTest", "PrivateTest")
SIDE = 48
UNLABELLED = -1
# Faces of FER2013 as published: of each class (rows) in each split (columns).
OFFICIAL = np.array([
    [3995, 436, 4097, 7215, 4830, 3171, 4965],
    [467, 56, 496, 895, 653, 415, 607],
    [491, 55, 528, 879, 594, 416, 626],
]).T  # fmt: skip
# Checksums of the 35,887 published images in their order: with their labels, and alone.
FER2013 = "d0b882ecb5002fef20b853dd98ce4c1ee56cf271d4dcbce25a03eaf4317bd6cb"
FER2013_PIXELS = "c267d81af4fae7bced50ff1be0ce06f7d14fb05887ece2efe39e04c35f8558b1"


class DataError(ValueError):
    """A complaint about a file, in one line: file, row, value, what was expected, the way out."""

    def __init__(self, message: str):
        line = " ".join(message.split())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))


class Row(NamedTuple):
    """What a reader knows of one face, before anyone decided what its words mean.

    - ``place``   where it stands, for messages: ``x.csv: row 3 (line 5)``
    - ``word``    its label as the source writes it (``3``, ``angry``), None where it has none
    - ``split``   one of ``SPLITS``, None where nothing tells it
    - ``folder``  the folders that name neither class nor split
    """

    place: str
    word: str | None = None
    split: str | None = None
    folder: str = ""


@dataclass(frozen=True)
class Faces:
    """48×48 grey faces in the order of their source.

    - ``images``  uint8 (n, 48, 48)
    - ``labels``  int64 (n,), index into ``classes``, -1 where unlabelled
    - ``split``   str (n,), one of ``SPLITS``
    - ``votes``   int64 (n, 10), FER+ crowd votes in that file's column order, or None
    - ``action_units``, ``masks``  known for synthetic faces alone
    - ``notes``   what was recognised, assumed, converted or left out: a sentence each
    - ``classes`` the names of the labels
    """

    images: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    votes: np.ndarray | None = None
    action_units: np.ndarray | None = None
    masks: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = EMOTIONS

    def __post_init__(self):
        n = len(self.images)
        if self.images.dtype != np.uint8 or self.images.shape != (n, SIDE, SIDE):
            have = f"{self.images.dtype} {self.images.shape}"
            raise ValueError(f"images: {have}, expected uint8 (n, {SIDE}, {SIDE})")
        for name in ("labels", "split", "votes", "action_units", "masks"):
            values = getattr(self, name)
            if values is not None and len(values) != n:
                raise ValueError(f"{name}: {len(values)} rows for {n} images")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows) -> "Faces":
        """The faces that a mask, slice or array of rows selects (one number: a set of one)."""
        rows = np.array([rows]) if isinstance(rows, (int, np.integer)) else rows
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: v[rows] for name, v in own.items() if isinstance(v, np.ndarray)}
        return replace(self, notes=(), **arrays)

    def of(self, split: str) -> "Faces":
        """The faces of one split."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown (have: {', '.join(SPLITS)})")
        return self[self.split == split]

    def checksum(self) -> str:
        """Hex digest of pixels and labels: the same faces in the same order have the same one."""
        whole = hashlib.sha256(np.ascontiguousarray(self.images))
        whole.update(np.ascontiguousarray(self.labels, dtype="<i8"))
        if self.classes != EMOTIONS:
            whole.update("\n".join(self.classes).encode())
        return whole.hexdigest()


def hold_out(faces: Faces) -> Faces:
    """The same faces, with a tenth of each class in Training moved to PublicTest, and a note.

    For a set without validation faces. The same set always loses the same faces, at least one of
    each class that has two or more.
    """
    rng = np.random.default_rng(0)
    moved = []
    for label in range(len(faces.classes)):
        rows = np.flatnonzero((faces.split == "Training") & (faces.labels == label))
        count = max(1, round(0.1 * len(rows))) if len(rows) > 1 else 0
        moved.append(rng.permutation(rows)[:count])
    moved = np.concatenate(moved)
    split = faces.split.copy()
    split[moved] = "PublicTest"
    note = f"no validation faces: {len(moved)} of Training set aside as PublicTest (seed 0)"
    return replace(faces, split=split, notes=(*faces.notes, note))


def remarks(faces: Faces) -> tuple[str, ...]:
    """What is known of the set by checksums and counts; nothing of a set of one's own."""
    if digest(faces.images) == FER2013_PIXELS:
        splits = np.repeat(SPLITS, OFFICIAL.sum(axis=0))
        if faces.checksum() == FER2013 and (faces.split == splits).all():
            return ("recognised by checksum: FER2013 as published, 35,887 faces",)
        return ("FER2013's images, but other labels or splits than published",)
    table = counts(faces).iloc[:-1, :3].to_numpy()
    held = table.any(axis=0)
    if faces.classes == EMOTIONS and held.any() and (table == OFFICIAL * held).all():
        return (f"as many faces of each class as in FER2013's {listed(np.array(SPLITS)[held])}",)
    return ()


def counts(faces: Faces) -> pd.DataFrame:
    """Faces of each class (rows, the last one ``unlabelled``) in each split, and in ``all``."""
    names = np.array([*faces.classes, "unlabelled"])  # UNLABELLED, -1, is the last
    table = pd.crosstab(names[faces.labels], faces.split)
    table = table.reindex(index=names, columns=list(SPLITS), fill_value=0)
    table = table.rename_axis(index=None, columns=None)
    return table.assign(all=table.sum(axis=1))


def summary_lines(faces: Faces) -> list[str]:
    """Counts by class and split, and what was recognised, assumed, converted or left out."""
    table = counts(faces)
    if not table.loc["unlabelled", "all"]:
        table = table.drop(index="unlabelled")
    table.loc["all"] = table.sum()
    return [*table.to_string().splitlines(), *faces.notes]


@dataclass(frozen=True)
class Description:
    """What ``describe`` found; ``str()`` of it is a report of some lines."""

    counts: np.ndarray  # (classes, splits)
    distinct: int  # different images
    copy_groups: int  # images that are there more than once
    conflicting_groups: int  # of these, groups with more than one label
    copies_across: dict[tuple[str, str], int]  # (split, earlier split): its faces with a copy there
    blank_rows: np.ndarray  # rows of images of one grey value

    def __str__(self) -> str:
        lines = [
            f"{self.distinct} distinct images; {self.copy_groups} groups of exact copies, "
            f"{self.conflicting_groups} of them with conflicting labels"
        ]
        for (split, earlier), count in self.copies_across.items():
            lines.append(f"{count} {split} faces have a copy in {earlier}")
        if len(self.blank_rows):
            lines.append(f"{len(self.blank_rows)} blank images: rows {listed(self.blank_rows, 20)}")
        return "\n".join(lines)


def describe(faces: Faces) -> Description:
    """Count classes, exact copies, those across splits, those with two labels, blank images."""
    table = pd.DataFrame({"label": faces.labels, "split": faces.split})
    table["image"] = pd.factorize(np.array([image.tobytes() for image in faces.images], object))[0]
    copies = table[table.duplicated("image", keep=False)]
    labels_each = copies[copies.label != UNLABELLED].groupby("image").label.nunique()
    across = {}
    for earlier, split in combinations(SPLITS, 2):
        there = copies.image[copies.split == earlier]
        across[split, earlier] = int(copies.image[copies.split == split].isin(there).sum())
    return Description(
        counts=counts(faces).iloc[:-1, :3].to_numpy(),
        distinct=table.image.nunique(),
        copy_groups=copies.image.nunique(),
        conflicting_groups=int((labels_each > 1).sum()),
        copies_across={pair: count for pair, count in across.items() if count},
        blank_rows=np.flatnonzero(faces.images.max((1, 2)) == faces.images.min((1, 2))),
    )


def digest(values: np.ndarray) -> str:
    """Hex digest of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()


def shown(value: str, most: int = 40) -> str:
    """A value from a file, quoted, short and printable, for an error message."""
    return repr(value if len(value) <= most else value[:most] + "…")


def listed(values, most: int = 3) -> str:
    """The first of some values, for a note."""
    return ", ".join(map(str, values[:most])) + (", …" if len(values) > most else "")


def reason(error: Exception) -> str:
    """What a library's exception says, in one short printable line: some quote the file."""
    said = str(getattr(error, "strerror", None) or error)
    text = " ".join(said.split()) or type(error).__name__
    text = text if len(text) <= 120 else text[:120] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]
