"""Reader of image folders. The layout is told by what is there:

- ``train|test/CLASS/*.jpg``, ``images/{train,validation}/CLASS/…``, or plain ``CLASS/*.png``
- pictures with a ``.cls`` file of the same name beside each: WebDataset shards, unpacked
- a csv with ``id,label`` beside a folder of numbered images: a homework's training set
- images alone: unlabelled

The names of folders and Kaggle's file names (``PublicTest_N.jpg``) tell the split. Where they
don't, it is Training, and a note says so.
"""

import csv
import filecmp
import re
from collections import Counter

import numpy as np

from .archives import File
from .faces import EMOTIONS, MOST_FACES, SIDE, SPLITS, DataError, RawFaces, listed, shown
from .images import converted_note, read_bytes, read_picture
from .names import Given, class_named, named, split_named


def read_pictures(pictures: list[File], words: list, splits: list[str], given: Given) -> RawFaces:
    """The faces of some picture files with a label and a split each, sorted by split."""
    if len(pictures) > MOST_FACES:
        raise DataError(
            f"{given.name}: {len(pictures)} images; expected at most {MOST_FACES}; split the set"
        )
    order = sorted(range(len(pictures)), key=lambda i: SPLITS.index(splits[i]))
    places = [f"{given.name}/{pictures[i].name}" for i in order]
    images, converted, bad = np.empty((len(pictures), SIDE, SIDE), np.uint8), 0, []
    for row, (i, place) in enumerate(zip(order, places, strict=True)):
        try:
            images[row], changed = read_picture(read_bytes(pictures[i].path, place), place)
            converted += changed
        except DataError as error:
            bad.append(str(error))
    if bad:
        more = f" ({len(bad) - 1} more are bad)" if len(bad) > 1 else ""
        raise DataError(f"{bad[0]}{more}")
    notes = [converted_note(converted, len(images))] if converted else []
    return RawFaces(images, [words[i] for i in order], [splits[i] for i in order], places, notes)


def read_unlabelled(pictures: list[File], given: Given) -> RawFaces:
    splits, notes = splits_of(pictures, given, "PublicTest")
    raw = read_pictures(pictures, [None] * len(pictures), splits, given)
    raw.notes += ["no folder is named after a class", *notes]
    return raw


def read_labelled(files: list[File], pictures: list[File], given: Given) -> RawFaces | None:
    """The faces of a tree of files, or None where nothing in it tells a label."""
    pictures, notes = without_second_copy(pictures)
    beside = {file.name.removesuffix(".cls"): file for file in files if file.name.endswith(".cls")}
    if beside:
        names = names_beside(files, given)
        words = [named(word_beside(picture, beside, given), names) for picture in pictures]
    else:
        words = [class_folder(picture.folders, given) for picture in pictures]
    if not any(words):
        table = next((file for file in files if is_id_table(file)), None)
        return read_numbered(pictures, table, given) if table else None
    if not beside:
        pictures, words, left = within_class_folders(pictures, words, given)
        notes += left
    splits, assumed = splits_of(pictures, given, "Training", set(words))
    raw = read_pictures(pictures, words, splits, given)
    raw.notes += [*notes, *assumed]
    return raw


def class_folder(folders: tuple[str, ...], given: Given) -> str | None:
    """The folder that names a picture's class: the innermost name, else its own number."""
    own = {name.lower() for name in given.classes or ()}
    named = [name for name in folders if name.lower() in own or class_named(name)]
    if named:
        return named[-1]
    return folders[-1] if folders and re.fullmatch("[0-9]", folders[-1]) else None


def word_beside(picture: File, beside: dict[str, File], given: Given) -> str | None:
    """What the ``.cls`` file of a picture says, as WebDataset writes it."""
    file = beside.get(picture.name.rpartition(".")[0])
    if file is None:
        return None
    return read_bytes(file.path, f"{given.name}/{file.name}").decode("utf-8", "replace")


def names_beside(files: list[File], given: Given) -> list[str] | None:
    """What the numbers mean, where a file says it: a name a line, in their order."""
    file = next((file for file in files if file.name.endswith("classnames.txt")), None)
    if file is None:
        return None
    return read_bytes(file.path, f"{given.name}/{file.name}").decode("utf-8", "replace").split("\n")


def within_class_folders(
    pictures: list[File], words: list[str | None], given: Given
) -> tuple[list[File], list[str], list[str]]:
    """The pictures that lie in class folders, their words, and a note of what was left out."""
    outside = Counter("/".join(p.folders) for p, w in zip(pictures, words, strict=True) if not w)
    if not outside:
        return pictures, words, []
    told = listed([f"{shown(folder or '.')} ({count})" for folder, count in outside.items()])
    if not given.classes:
        raise DataError(
            f"{given.name}: images in folders that name no class: {told}; expected one of "
            f"{', '.join(EMOTIONS)} (or another spelling); rename or remove them, or say which "
            "folders count: CLASSES=name,name,…"
        )
    inside = [picture for picture, word in zip(pictures, words, strict=True) if word]
    note = f"left out: images in folders that are not in CLASSES=: {told}"
    return inside, [word for word in words if word], [note]


def splits_of(
    pictures: list[File], given: Given, otherwise: str, classes: set[str] = frozenset()
) -> tuple[list[str], list[str]]:
    """The split of each picture, told by its folders or its name, and notes of what was assumed.

    Args:
        otherwise: the split where nothing tells it.
        classes: the folders' names that tell a class.
    """
    splits, unnamed, against = [], Counter(), 0
    for picture in pictures:
        levels = [name for name in picture.folders if name not in classes]
        by_folder = next(filter(None, map(split_named, reversed(levels))), None)
        by_name = split_named(re.match("[A-Za-z]*", picture.stem)[0])
        split = by_folder or by_name or given.split
        if (by_folder, by_name) == ("PrivateTest", "PublicTest"):
            split = by_name  # Kaggle's test/ holds both test splits
        elif by_folder and by_name and by_name != by_folder:
            against += 1
        if split is None:
            unnamed["/".join(levels)] += 1
        splits.append(split or otherwise)
    notes = []
    if against:
        notes.append(
            f"{against} file names tell another split than their folder: the folder counts"
        )
    for folder, count in unnamed.most_common(3):
        where = f"folder {shown(folder)} names no split" if folder else "nothing names a split"
        notes.append(f"{where}: {count} faces are read as {otherwise}")
    return splits, notes


def without_second_copy(pictures: list[File]) -> tuple[list[File], list[str]]:
    """Some archives hold their tree twice, ``images/…`` and ``images/images/…``: keep one."""
    named = {file.name: file for file in pictures}
    copies = {}
    for file in pictures:
        for level, folder in enumerate(file.folders):
            outer = "/".join([*file.folders[:level], *file.name.split("/")[level + 1 :]])
            if folder_means_nothing(folder) and same_content(named.get(outer), file):
                copies[file.name] = "/".join(file.folders[: level + 1])
    kept = [file for file in pictures if file.name not in copies]
    count = Counter(copies.values()).most_common(1)
    return kept, [f"{count[0][0]} holds {len(copies)} files again: read once"] if count else []


def folder_means_nothing(name: str) -> bool:
    return not (split_named(name) or class_named(name) or name.isdigit())


def same_content(a: File | None, b: File) -> bool:
    return a is not None and filecmp.cmp(a.path, b.path, shallow=False)


def is_id_table(file: File) -> bool:
    header = file.head().removeprefix(b"\xef\xbb\xbf").splitlines()[:1]
    return b"".join(header).replace(b" ", b"").lower() == b"id,label"


def read_numbered(pictures: list[File], file: File, given: Given) -> RawFaces:
    """The images that a table of ``id,label`` numbers: those of the one folder that has them all."""
    name = f"{given.name}/{file.name}"
    words = {}
    text = read_bytes(file.path, name).decode("utf-8-sig", "replace")
    for i, row in enumerate(csv.reader(text.splitlines()[1:])):
        if not any(row):
            continue
        number = row[0].strip()
        if len(row) < 2 or not re.fullmatch("[0-9]{1,9}", number) or int(number) in words:
            raise DataError(
                f"{name}: row {i} (line {i + 2}): {shown(','.join(row))}; expected id,label, each "
                "id once"
            )
        words[int(number)] = row[1]
    folders = {}
    for picture in pictures:
        if number := re.search(r"([0-9]{1,9})\.\w+$", picture.name):
            folders.setdefault("/".join(picture.folders), {})[int(number[1])] = picture
    whole = [
        folder for folder, images in folders.items() if words and words.keys() <= images.keys()
    ]
    whole = [f for f in whole if split_named(f) == "Training"] if len(whole) > 1 else whole
    if len(whole) != 1:
        best = max(folders, key=lambda f: len(words.keys() & folders[f].keys()), default="")
        missing = sorted(words.keys() - folders.get(best, {}).keys())
        lack = f"no image for id {missing[0]} in {best or '.'}/" if missing else "two folders fit"
        raise DataError(f"{name}: {lack}; expected one folder with an image for each of its ids")
    found = folders[whole[0]]
    ids = sorted(words)
    splits = ["Training"] * len(ids)
    raw = read_pictures([found[i] for i in ids], [words[i] for i in ids], splits, given)
    left = Counter("/".join(p.folders) for p in pictures) - Counter({whole[0]: len(ids)})
    for folder, count in left.items():
        raw.notes.append(f"left out: {count} images in {folder or '.'}/, which have no label")
    return raw
