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
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from .faces import EMOTIONS, OFFICIAL, UNLABELLED, DataError, Faces, Row, shown
from .files import PICTURE_SUFFIXES, File

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
SPLIT_WORDS = {
    "Training": "train training trainset traindata",
    "PublicTest": "val valid validation dev eval evaluation valset publictest",
    "PrivateTest": "test testing testset testdata privatetest",
}
CLASS_OF_WORD = {word: name for name, words in SPELLINGS.items() for word in words.split()}
SPLIT_OF_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words.split()}
NO_LABEL = ("", "nan", "none", "null", "-1", "-1.0")
LEFT_OUT = -2


@dataclass(frozen=True)
class Given:
    """What the user gave: the path, as messages call it; classes; the split that its name tells."""

    name: str
    classes: tuple[str, ...] | None = None
    split: str | None = None


@lru_cache(10_000)
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


def split_of(file: File) -> str | None:
    """The split that a file's folders tell, the innermost first, else its own name."""
    by_folder = next(filter(None, map(split_named, file.name.parts[-2::-1])), None)
    by_name = split_named(file.name.stem, alone=file.name.suffix.lower() in PICTURE_SUFFIXES)
    if (by_folder, by_name) == ("PrivateTest", "PublicTest"):
        return by_name  # Kaggle's test/ holds both test splits
    return by_folder or by_name


def class_named(word: str) -> str | None:
    """The class that a word names in any spelling: ``Fearful``, ``3_happy``, ``suprise``."""
    return CLASS_OF_WORD.get(re.sub(r"^[\d\W_]+|[\d\W_]+$", "", word.lower()))


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


def number_of(word: str) -> int | None:
    """The number that a label is, ``0`` and ``0.0`` alike; None where it is a name."""
    found = re.fullmatch(r"([0-9]{1,4})(\.0+)?", word)
    return int(found[1]) if found else None


def label(images: np.ndarray, rows: list[Row], notes: list[str], given: Given) -> Faces:
    """Faces with labels: each word becomes a class; what is none of the classes is left out."""
    chosen = given.classes
    # A permutation of the seven says what numbers mean; the classes stay FER2013's.
    classes = EMOTIONS if chosen is None or set(chosen) == set(EMOTIONS) else chosen
    words = [(row.word or "").strip() for row in rows]
    totals = Counter(words)
    order, noted = meaning_of_numbers(totals, given)
    notes = [*notes, *noted]
    label_of_word = {}
    for word, total in totals.items():
        number = number_of(word)
        name = class_of(word, chosen) if number is None else order.get(number)
        if word.lower() in NO_LABEL:
            label_of_word[word] = UNLABELLED
        elif name in classes:
            label_of_word[word] = classes.index(name)
        elif name:
            label_of_word[word] = LEFT_OUT
            why = "is none of the seven" if chosen is None else "is not in CLASSES="
            notes.append(f"left out: {total} faces labelled {shown(word)}, which {why}")
        else:
            place = rows[words.index(word)].place
            raise DataError(
                f"{place}: label {shown(word)}; expected 0 to {len(classes) - 1} or one of "
                f"{', '.join(classes)}; say which classes there are, or which count: CLASSES=a,b,…"
            )
    labels = np.array([label_of_word[word] for word in words])
    kept = labels != LEFT_OUT
    if not kept.any():
        raise DataError(f"{given.name}: no face of {', '.join(classes)}; say which count: CLASSES=")
    images, labels = images[kept], labels[kept]
    rows = [row for row, keep in zip(rows, kept, strict=True) if keep]
    if labels.max() < 0:
        notes.append("no labels: every label is -1")
    split, untold = splits(rows, given, "Training" if labels.max() >= 0 else "PublicTest")
    return Faces(images, labels, split, notes=(*notes, *untold), classes=classes)


def splits(rows: list[Row], given: Given, otherwise: str) -> tuple[np.ndarray, list[str]]:
    """The split of each row, ``otherwise`` where nothing tells it, and notes of those."""
    split = np.array([row.split or given.split or otherwise for row in rows])
    untold = Counter(row.folder for row in rows if not (row.split or given.split))
    by_name = sum(not row.split for row in rows) if given.split else 0
    notes = [f"read as {given.split} by the folder's name: {by_name} faces"] if by_name else []
    for folder, count in untold.most_common(3):
        where = f"folder {shown(folder)} names no split" if folder else "nothing names a split"
        notes.append(f"{where}: {count} faces are read as {otherwise}")
    return split, notes


def class_of(word: str, chosen: tuple[str, ...] | None) -> str | None:
    """The class that a name means: one of FER2013's (or contempt), or one that the user chose."""
    own = {name.lower(): name for name in chosen or ()}
    return own.get(word.lower()) or class_named(word) or (word if chosen else None)


def meaning_of_numbers(totals: dict[str, int], given: Given) -> tuple[dict, list[str]]:
    """The class name of each number, from how often each occurs and what the user chose."""
    chosen = given.classes
    count = Counter()
    for word, total in totals.items():
        if number_of(word) is not None:
            count[number_of(word)] += total
    if not count:
        return {}, []
    official = official_order(count)
    if official and (chosen is None or set(chosen) <= set(EMOTIONS)):
        if official == dict(enumerate(EMOTIONS)):
            return official, []
        told = ", ".join(f"{number}={official[number]}" for number in sorted(official))
        return official, [f"FER2013 in another numbering, told by its counts and put right: {told}"]
    ends = min(count), max(count)
    if chosen:
        first = 1 if ends[0] > 0 and ends[1] == len(chosen) else 0
        meaning = dict(enumerate(chosen, first))
        told = ", ".join(f"{number}={name}" for number, name in meaning.items())
        unsure = ends[0] > 0 and ends[1] < len(chosen)  # they may also begin at 1
        return meaning, [f"numbers read as {told}"] if unsure else []
    if ends == (1, 7):
        raise DataError(
            f"{given.name}: labels from 1 to 7, FER2013's go from 0 to 6; say what they mean, in their "
            "order: CLASSES=surprise,fear,disgust,happy,sad,angry,neutral for instance (RAF-DB)"
        )
    told = ", ".join(f"{number}={name}" for number, name in enumerate(EMOTIONS))
    note = f"numbers read as {told}; if they mean others, say so: CLASSES=name,name,…"
    return dict(enumerate((*EMOTIONS, CONTEMPT))), [note]


def official_order(count: dict[int, int]) -> dict[int, str] | None:
    """What numbers mean in a set with FER2013's counts, of one split, two or all; else None."""
    for held in product((0, 1), repeat=3):
        name_of_total = dict(zip((OFFICIAL @ held).tolist(), EMOTIONS, strict=True))
        if sorted(name_of_total) == sorted(count.values()):
            return {number: name_of_total[total] for number, total in count.items()}
    return None
