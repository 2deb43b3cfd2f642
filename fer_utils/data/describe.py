"""What a careful user wants to know of a set: its counts, copies, contradictions and blanks."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .faces import EMOTIONS, FER2013_PIXELS, SPLITS, UNLABELLED, Faces, listed, pixel_checksum
from .names import OFFICIAL

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


def published(faces: Faces) -> str | None:
    """The name of the published set that this is: same pixels, labels, splits and order."""
    name, sizes = PUBLISHED.get(faces.checksum(), (None, ()))
    if name and (faces.split == np.repeat(SPLITS, sizes)).all():
        return name
    return None


def remarks(faces: Faces) -> tuple[str, ...]:
    """What is known of the set by checksums and counts; nothing of a set of one's own."""
    if name := published(faces):
        return (f"recognised by checksum: {name}",)
    if pixel_checksum(faces.images) == FER2013_PIXELS:
        return ("FER2013's images, but other labels or splits than published",)
    if faces.classes == EMOTIONS and (counts(faces).iloc[:7, :3].to_numpy() == OFFICIAL).all():
        return ("as many faces of each class in each split as in FER2013",)
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

    summary: list[str]
    faces: int
    published: str | None
    counts: np.ndarray  # (classes, splits)
    distinct: int  # different images
    copy_groups: int  # images that are there more than once
    conflicting_groups: int  # of these, groups with more than one label
    copies_across: dict[tuple[str, str], int]  # (split, earlier split): its faces with a copy there
    blank_rows: np.ndarray  # rows of images of one grey value
    mean: float  # of Training (of all where there is none), on a scale of 0 to 1
    sd: float

    def __str__(self) -> str:
        lines = [f"{self.faces} faces: {self.published or 'no published set'}", *self.summary]
        lines.append(f"mean {self.mean:.5f}, sd {self.sd:.5f} of Training on a scale of 0 to 1")
        lines.append(
            f"{self.distinct} distinct images; {self.copy_groups} groups of exact copies, "
            f"{self.conflicting_groups} of them with conflicting labels"
        )
        for (split, earlier), count in self.copies_across.items():
            lines.append(f"{count} {split} faces have a copy in {earlier}")
        if len(self.blank_rows):
            rows = listed([str(row) for row in self.blank_rows], 20)
            lines.append(f"{len(self.blank_rows)} blank images: rows {rows}")
        return "\n".join(lines)


def describe(faces: Faces) -> Description:
    """Counts by class and split, exact copies, copies across splits, conflicts, blank images."""
    table = pd.DataFrame({"label": faces.labels, "split": faces.split})
    table["image"] = pd.factorize(np.array([image.tobytes() for image in faces.images], object))[0]
    copies = table[table.duplicated("image", keep=False)]
    labels_each = copies[copies.label != UNLABELLED].groupby("image").label.nunique()
    across = {}
    for i, split in enumerate(SPLITS):
        for earlier in SPLITS[:i]:
            there = copies.image[copies.split == earlier]
            across[split, earlier] = int(copies.image[copies.split == split].isin(there).sum())
    known = faces.images[faces.split == "Training"]
    known = known if len(known) else faces.images
    return Description(
        summary=summary_lines(faces),
        faces=len(faces),
        published=published(faces),
        counts=counts(faces).iloc[:-1, :3].to_numpy(),
        distinct=table.image.nunique(),
        copy_groups=copies.image.nunique(),
        conflicting_groups=int((labels_each > 1).sum()),
        copies_across={pair: count for pair, count in across.items() if count},
        blank_rows=np.flatnonzero(faces.images.max((1, 2)) == faces.images.min((1, 2))),
        mean=known.mean() / 255,
        sd=known.std() / 255,
    )
