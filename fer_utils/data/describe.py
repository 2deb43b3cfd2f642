"""What a careful user wants to know of a set: its counts, copies, contradictions and blanks."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from .faces import EMOTIONS, FER2013_PIXELS, SPLITS, UNLABELLED, Faces, pixel_checksum

# checksum of pixels and labels -> what was published so, and with how many faces in each split
PUBLISHED = {
    "d0b882ecb5002fef20b853dd98ce4c1ee56cf271d4dcbce25a03eaf4317bd6cb": (
        "FER2013 as published (fer2013.csv, icml_face_data.csv): 35,887 faces",
        (28709, 3589, 3589),
    ),
    "c76a2d2406fea081553adf54f6fae0061a843c8e5c814fd63de0934fb5ec22e9": (
        "the challenge's train.csv as published: FER2013's 28,709 Training faces",
        (28709, 0, 0),
    ),
    "f306a85579a6af3262160c8a897c3ea1c5fab42ebf397a401925c7345c9c9a2c": (
        "the challenge's test.csv as published: FER2013's 7,178 test faces, unlabelled",
        (0, 3589, 3589),
    ),
}
FER2013_FIRST_100 = "09909b0e8703b76893caab3d141570c959d2012fbdf0ee9af5a16d18629acf77"


def published(faces: Faces) -> str | None:
    """The name of the published set that this is: same pixels, labels, splits and order."""
    name, sizes = PUBLISHED.get(faces.checksum(), (None, ()))
    if name and (faces.split == np.repeat(SPLITS, sizes)).all():
        return name
    return None


def remark(faces: Faces) -> tuple[str, ...]:
    """What is known of the set by its checksums, in a sentence; nothing of a set of one's own."""
    if name := published(faces):
        return (f"recognised by checksum: {name}",)
    if pixel_checksum(faces.images) == FER2013_PIXELS:
        return ("FER2013's images, but other labels or splits than published",)
    if len(faces) >= 100 and pixel_checksum(faces.images[:100]) == FER2013_FIRST_100:
        return (
            f"begins as FER2013 does, but has {len(faces)} of its 35,887 faces or other pixels",
        )
    return ()


@dataclass(frozen=True)
class Description:
    """What ``describe`` found; ``str()`` of it is a report of some lines."""

    faces: int
    published: str | None
    counts: np.ndarray  # (7, 3): class, split
    unlabelled: np.ndarray  # (3,): split
    distinct: int  # different images
    copy_groups: int  # images that are there more than once
    conflicting_groups: int  # of these, groups with more than one label
    copies_across: dict[tuple[str, str], int]  # (split, earlier split): its faces with a copy there
    conflicting_rows: np.ndarray  # rows of the conflicting groups
    blank_rows: np.ndarray  # rows of images of one grey value
    mean: float  # of Training (of all where there is none), on a scale of 0 to 1
    sd: float
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.faces} faces: {self.published or 'no published set'}"]
        lines += [f"{'':10}" + "".join(f"{name:>13}" for name in (*SPLITS, "all"))]
        for name, row in zip(
            (*EMOTIONS, "unlabelled"), (*self.counts, self.unlabelled), strict=True
        ):
            if name in EMOTIONS or row.any():
                lines.append(f"{name:10}" + "".join(f"{count:>13}" for count in (*row, row.sum())))
        lines.append(f"mean {self.mean:.5f}, sd {self.sd:.5f} of Training on a scale of 0 to 1")
        lines.append(
            f"{self.distinct} distinct images; {self.copy_groups} groups of exact copies, "
            f"{self.conflicting_groups} of them with conflicting labels"
        )
        for (split, earlier), count in self.copies_across.items():
            lines.append(f"{count} {split} faces have a copy in {earlier}")
        if len(self.blank_rows):
            rows = ", ".join(map(str, self.blank_rows[:20].tolist()))
            lines.append(f"{len(self.blank_rows)} blank images: rows {rows}")
        return "\n".join([*lines, *self.notes])


def describe(faces: Faces) -> Description:
    """Counts by class and split, exact copies, copies across splits, conflicts, blank images."""
    groups = defaultdict(list)
    for row, image in enumerate(faces.images):
        groups[image.tobytes()].append(row)
    copies = [np.array(rows) for rows in groups.values() if len(rows) > 1]
    labels = faces.labels
    conflicts = [rows for rows in copies if len(set(labels[rows]) - {UNLABELLED}) > 1]
    inside = [Counter(faces.split[rows].tolist()) for rows in copies]
    pairs = [(split, earlier) for i, split in enumerate(SPLITS) for earlier in SPLITS[:i]]
    across = {(s, e): sum(c[s] for c in inside if c[e]) for s, e in pairs}
    counts = np.zeros((len(EMOTIONS) + 1, len(SPLITS)), int)  # UNLABELLED, -1, is the last row
    np.add.at(counts, (labels, [SPLITS.index(split) for split in faces.split]), 1)
    flat = faces.images.reshape(len(faces), -1)
    known = faces.images[faces.split == "Training"]
    known = known if len(known) else faces.images
    mean, sd = mean_and_sd(known)
    return Description(
        faces=len(faces),
        published=published(faces),
        counts=counts[:-1],
        unlabelled=counts[-1],
        distinct=len(groups),
        copy_groups=len(copies),
        conflicting_groups=len(conflicts),
        copies_across={pair: count for pair, count in across.items() if count},
        conflicting_rows=np.sort(np.concatenate(conflicts)) if conflicts else np.array([], int),
        blank_rows=np.flatnonzero(flat.max(axis=1) == flat.min(axis=1)),
        mean=mean,
        sd=sd,
        notes=faces.notes,
    )


def mean_and_sd(images: np.ndarray) -> tuple[float, float]:
    """Of all pixels on a scale of 0 to 1; from a histogram, so no float copy of the set."""
    counts = np.bincount(images.reshape(-1), minlength=256).astype(float)
    grey = np.arange(256) / 255
    mean = float((counts * grey).sum() / counts.sum())
    return mean, float(np.sqrt((counts * (grey - mean) ** 2).sum() / counts.sum()))
