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
FER2013_FIRST_100 = "09909b0e8703b76893caab3d141570c959d2012fbdf0ee9af5a16d18629acf77"


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
    if len(faces) >= 100 and pixel_checksum(faces.images[:100]) == FER2013_FIRST_100:
        return (
            f"begins as FER2013 does, but has {len(faces)} of its 35,887 faces or other pixels",
        )
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
    unlabelled: np.ndarray  # (splits,)
    distinct: int  # different images
    copy_groups: int  # images that are there more than once
    conflicting_groups: int  # of these, groups with more than one label
    copies_across: dict[tuple[str, str], int]  # (split, earlier split): its faces with a copy there
    conflicting_rows: np.ndarray  # rows of the conflicting groups
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
    conflicting = copies[copies.image.isin(labels_each.index[labels_each > 1])]
    across = {}
    for i, split in enumerate(SPLITS):
        for earlier in SPLITS[:i]:
            there = copies.image[copies.split == earlier]
            across[split, earlier] = int(copies.image[copies.split == split].isin(there).sum())
    known = faces.images[faces.split == "Training"]
    mean, sd = mean_and_sd(known if len(known) else faces.images)
    by_split = counts(faces)[list(SPLITS)].to_numpy()
    return Description(
        summary=summary_lines(faces),
        faces=len(faces),
        published=published(faces),
        counts=by_split[:-1],
        unlabelled=by_split[-1],
        distinct=table.image.nunique(),
        copy_groups=copies.image.nunique(),
        conflicting_groups=conflicting.image.nunique(),
        copies_across={pair: count for pair, count in across.items() if count},
        conflicting_rows=conflicting.index.to_numpy(),
        blank_rows=np.flatnonzero(faces.images.max((1, 2)) == faces.images.min((1, 2))),
        mean=mean,
        sd=sd,
    )


def mean_and_sd(images: np.ndarray) -> tuple[float, float]:
    """Of all pixels on a scale of 0 to 1; from a histogram, so no float copy of the set."""
    shares = np.bincount(images.reshape(-1), minlength=256) / images.size
    grey = np.arange(256) / 255
    mean = float(shares @ grey)
    return mean, float(np.sqrt(shares @ (grey - mean) ** 2))
