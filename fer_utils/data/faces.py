"""What every reader returns, and the one kind of complaint: ``Faces``, ``DataError``."""

import hashlib
from dataclasses import dataclass, field, fields, replace

import numpy as np

EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
SPLITS = ("Training", "PublicTest", "PrivateTest")
SIDE = 48
UNLABELLED = -1
# pixel_checksum of the 35,887 published images, in their order
FER2013_PIXELS = "c267d81af4fae7bced50ff1be0ce06f7d14fb05887ece2efe39e04c35f8558b1"


class DataError(ValueError):
    """A complaint about a file, in one line: file, row, value, what was expected, the way out."""

    def __init__(self, message: str):
        line = " ".join(message.split())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))


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
        digest = hashlib.sha256(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8"))
        if self.classes != EMOTIONS:
            digest.update("\n".join(self.classes).encode())
        return digest.hexdigest()


def hold_out(faces: Faces, seed: int = 0, share: float = 0.1) -> Faces:
    """The same faces, with a ``share`` of each class in Training moved to PublicTest.

    For a set without validation faces. The same set and seed move the same faces; at least one
    of each class that has two or more. A note says how many.
    """
    chance = np.random.default_rng(seed)
    moved = []
    for label in range(len(faces.classes)):
        rows = np.flatnonzero((faces.split == "Training") & (faces.labels == label))
        count = max(1, round(share * len(rows))) if len(rows) > 1 else 0
        moved.append(np.sort(chance.permutation(rows)[:count]))
    moved = np.concatenate(moved)
    split = faces.split.copy()
    split[moved] = "PublicTest"
    note = f"no validation faces: {len(moved)} of Training set aside as PublicTest (seed {seed})"
    return replace(faces, split=split, notes=(*faces.notes, note))


@dataclass
class RawFaces:
    """What a reader found, before anyone decided what its words mean.

    - ``images``  uint8 (n, 48, 48)
    - ``words``   a label each as the source writes it (``"3"``, ``"angry"``), None where it has none
    - ``split``   one of ``SPLITS`` each
    - ``places``  where each face stands, for messages: ``"x.csv: row 3 (line 5)"``
    """

    images: np.ndarray
    words: list[str | None]
    split: list[str]
    places: list[str]
    notes: list[str] = field(default_factory=list)


def joined(parts: list[RawFaces]) -> RawFaces:
    """The parts of a set one after the other; what is noted of several is noted once."""
    return RawFaces(
        np.concatenate([part.images for part in parts]),
        [word for part in parts for word in part.words],
        [split for part in parts for split in part.split],
        [place for part in parts for place in part.places],
        list(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def shown(value, most: int = 40) -> str:
    """A value from a file, quoted, short and printable, for an error message."""
    if isinstance(value, bytes):
        value = value[: most + 1].decode("utf-8", "backslashreplace")
    text = value if len(value) <= most else value[:most] + "…"
    return ascii(text) if not text.isprintable() else repr(text)


def listed(names: list[str], most: int = 3) -> str:
    """The first names of a list, for a note."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def reason(error: Exception, most: int = 120) -> str:
    """What a library's exception says, in one short printable line: some quote the file."""
    said = str(getattr(error, "strerror", None) or error)
    text = " ".join(said.split()) or type(error).__name__
    text = text if len(text) <= most else text[:most] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]


def pixel_checksum(images: np.ndarray) -> str:
    """Hex digest of the pixels alone."""
    return hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
