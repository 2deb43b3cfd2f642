"""What a word means: the names of classes, the numbers that stand for them, the words for splits.

Nobody numbers the seven expressions alike: FER2013 counts from Angry, image folders count in
alphabetical order. Which number is which is told by

1. the names that stand beside the numbers, where the source has them;
2. FER2013's own counts: each class of it has another number of faces, so that its pictures are
   known under any numbering;
3. ``classes`` (``CLASSES=`` of make), where the user says so;
4. else it is FER2013's order, and a note says that this was assumed.
"""

import re
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from .faces import EMOTIONS, UNLABELLED, DataError, Faces, RawFaces, shown

CONTEMPT = "Contempt"  # FER+, CK+ and AffectNet have it as an eighth class, FER2013 has not
SPELLINGS = {
    "Angry": "angry anger",
    "Disgust": "disgust disgusted disgusting",
    "Fear": "fear fearful afraid scared",
    "Happy": "happy happiness joy joyful",
    "Sad": "sad sadness",
    "Surprise": "surprise surprised suprise suprised surprize surprized",
    "Neutral": "neutral neutrality",
    CONTEMPT: "contempt contemptuous",
}
CLASS_OF_WORD = {word: name for name, words in SPELLINGS.items() for word in words.split()}
NO_LABEL = ("", "nan", "none", "null", "-1", "-1.0")
LEFT_OUT = -2
SPLIT_WORDS = {
    "Training": "train training trainset traindata",
    "PublicTest": "val valid validation dev eval evaluation valset publictest",
    "PrivateTest": "test testing testset testdata privatetest",
}
SPLIT_OF_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words.split()}
# Faces of each class (rows) in each split (columns) of FER2013 as published.
OFFICIAL = np.array(
    [
        [3995, 467, 491],
        [436, 56, 55],
        [4097, 496, 528],
        [7215, 895, 879],
        [4830, 653, 594],
        [3171, 415, 416],
        [4965, 607, 626],
    ]
)


@dataclass(frozen=True)
class Given:
    """What the user gave: the path, as messages call it; classes; the split that its name tells."""

    name: str
    classes: tuple[str, ...] | None = None
    split: str | None = None


def class_named(word: str) -> str | None:
    """The class that a word names in any spelling: ``Fearful``, ``3_happy``, ``suprise``."""
    return CLASS_OF_WORD.get(re.sub(r"^[\d\W_]+|[\d\W_]+$", "", word.lower()))


def number_of(word: str) -> int | None:
    """The number that a label is, ``0`` and ``0.0`` alike; None where it is a name."""
    found = re.fullmatch(r"([0-9]{1,4})(\.0+)?", word.strip())
    return int(found[1]) if found else None


def named(word, names: list[str] | None) -> str | None:
    """A label as a word; a number by its name, where the source itself has names for them."""
    if word is None:
        return None
    number = number_of(str(word)) if names else None
    return str(word) if number is None or number >= len(names) else names[number]


def split_named(name: str, alone: bool = False) -> str | None:
    """The split that the name of a file or folder tells: ``train_afew``, ``Private_Test (1)``.

    None where it has no word for a split, or words for two; ``alone``: or any other word.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # PublicTest: Public Test
    words = re.findall("[a-z]+", apart.lower())
    if alone and set(words) - SPLIT_OF_WORD.keys() - {"public", "private", "set"}:
        return None
    found = {SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD}
    if found == {"PrivateTest"} and "public" in words:
        return "PublicTest"
    return found.pop() if len(found) == 1 else None


def class_names(given) -> tuple[str, ...] | None:
    """The classes that a user names, in FER2013's spelling where they are its own."""
    given = given.split(",") if isinstance(given, str) else list(given or ())
    names = [name.strip() for name in given]
    if not any(names):
        return None
    names = [class_named(name) or name for name in names]
    if "" in names or len(set(names)) < len(names) or len(names) < 2:
        raise DataError(
            f"CLASSES={shown(','.join(given), 80)}: expected two names or more, each once"
        )
    return tuple(names)


def label(raw: RawFaces, given: Given) -> Faces:
    """Faces with labels: each word becomes a class; what is none of the classes is left out."""
    chosen = given.classes
    # A permutation of the seven says what numbers mean; the classes stay FER2013's.
    classes = EMOTIONS if chosen is None or set(chosen) == set(EMOTIONS) else chosen
    words = pd.Series(raw.words, dtype=object).fillna("").str.strip()
    numbers = {word: number_of(word) for word in words.unique()}
    totals = words.map(numbers).value_counts()
    order, notes = meaning_of_numbers({int(k): int(n) for k, n in totals.items()}, given)

    label_of_word = {}
    for word, number in numbers.items():
        if word.lower() in NO_LABEL:
            label_of_word[word] = UNLABELLED
            continue
        name = class_of(word, chosen) if number is None else order.get(number)
        if name is None:
            place = raw.places[int(np.argmax(words == word))]
            raise DataError(f"{place}: label {shown(word)}; {what_counts(chosen)}")
        label_of_word[word] = classes.index(name) if name in classes else LEFT_OUT

    labels = words.map(label_of_word).to_numpy(dtype=np.int64)
    kept = labels != LEFT_OUT
    if not kept.any():
        raise DataError(f"{given.name}: no face of {', '.join(classes)}; say which count: CLASSES=")
    for word, count in words[~kept].value_counts().items():
        why = "is none of the seven" if chosen is None else "is not in CLASSES="
        notes.append(f"left out: {count} faces labelled {shown(word)}, which {why}")
    return Faces(
        raw.images if kept.all() else raw.images[kept],
        labels[kept],
        np.array(raw.split)[kept],
        notes=(*raw.notes, *notes, *remarks_on_labels(labels[kept], classes)),
        classes=classes,
    )


def class_of(word: str, chosen: tuple[str, ...] | None) -> str | None:
    """The class that a name means: one of FER2013's (or contempt), or one that the user chose."""
    if chosen is None:
        return class_named(word)
    own = {name.lower(): name for name in chosen}
    return own.get(word.lower()) or class_named(word) or word


def what_counts(chosen: tuple[str, ...] | None) -> str:
    if chosen:
        return f"expected 0 to {len(chosen) - 1} or one of {', '.join(chosen)}, as CLASSES= says"
    return f"expected 0 to 6 or one of {', '.join(EMOTIONS)}; if it is a class, say so: CLASSES="


def meaning_of_numbers(totals: dict[int, int], given: Given) -> tuple[dict, list[str]]:
    """The class name of each number, from how often each occurs and what the user chose."""
    chosen = given.classes
    if not totals:
        return {}, []
    official = official_order(totals)
    if official and (chosen is None or set(chosen) <= set(EMOTIONS)):
        if all(EMOTIONS.index(name) == number for number, name in official.items()):
            return official, []
        told = ", ".join(f"{number}={official[number]}" for number in sorted(official))
        return official, [f"FER2013 in another numbering, told by its counts and put right: {told}"]
    lowest, highest = min(totals), max(totals)
    if chosen:
        first = 1 if (lowest, highest) == (1, len(chosen)) else 0
        return {k + first: name for k, name in enumerate(chosen)}, []
    if (lowest, highest) == (1, 7):
        raise DataError(
            f"{given.name}: labels from 1 to 7, FER2013's go from 0 to 6; say what they mean, in their "
            "order: CLASSES=surprise,fear,disgust,happy,sad,angry,neutral for instance (RAF-DB)"
        )
    told = ", ".join(f"{k}={name}" for k, name in enumerate(EMOTIONS))
    note = f"numbers read as {told}; if they mean others, say so: CLASSES=name,name,…"
    return dict(enumerate((*EMOTIONS, CONTEMPT))), [note]


def official_order(totals: dict[int, int]) -> dict[int, str] | None:
    """What numbers mean in a set with FER2013's counts, of one split, two or all; else None."""
    if len(totals) != len(EMOTIONS):
        return None
    for splits in product((0, 1), repeat=3):
        name_of_total = dict(zip((OFFICIAL @ splits).tolist(), EMOTIONS, strict=True))
        if name_of_total.keys() == set(totals.values()):
            return {number: name_of_total[total] for number, total in totals.items()}
    return None


def remarks_on_labels(labels: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    unlabelled = int((labels == UNLABELLED).sum())
    if unlabelled == len(labels):
        return ["no labels: every label is -1"]
    lacking = [name for k, name in enumerate(classes) if not (labels == k).any()]
    notes = [f"{unlabelled} faces have no label"] if unlabelled else []
    return notes + ([f"no face of {', '.join(lacking)}"] if lacking else [])
