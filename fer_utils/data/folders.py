"""Reader of image folders. The layout is told by what is there:

- ``train|test/CLASS/*.jpg``, ``images/{train,validation}/CLASS/…``, or plain ``CLASS/*.png``
- pictures with a ``.cls`` file of the same name beside each: WebDataset shards, unpacked
- a csv with ``id,label`` beside a folder of numbered images: a homework's training set
- images alone: unlabelled

The names of folders and Kaggle's file names (``PublicTest_N.jpg``) tell the split. Where they
don't, it is Training, and a note says so.
"""

import filecmp
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from .archives import File
from .faces import EMOTIONS, SPLITS, DataError, RawFaces, listed, shown
from .images import read_pictures
from .names import Given, class_named, named, split_named


def read_files(pictures: list[File], words: list, splits: list[str], given: Given) -> RawFaces:
    """The faces of some picture files with a label and a split each, sorted by split."""
    order = sorted(range(len(pictures)), key=lambda i: SPLITS.index(splits[i]))
    places = [f"{given.name}/{pictures[i].name}" for i in order]
    contents = (Path(pictures[i].path).read_bytes() for i in order)
    images, notes = read_pictures(contents, places)
    return RawFaces(images, [words[i] for i in order], [splits[i] for i in order], places, notes)


def read_unlabelled(pictures: list[File], given: Given) -> RawFaces:
    splits, notes = splits_of(pictures, given, "PublicTest")
    raw = read_files(pictures, [None] * len(pictures), splits, given)
    raw.notes += ["no folder is named after a class", *notes]
    return raw


def read_labelled(files: list[File], pictures: list[File], given: Given) -> RawFaces | None:
    """The faces of a tree of files, or None where nothing in it tells a label."""
    pictures, notes = without_second_copy(pictures)
    if any(file.name.endswith(".cls") for file in files):
        words = words_beside(files, pictures)
    else:
        words = [class_folder(picture.folders, given) for picture in pictures]
        if any(words):
            notes += note_outside(pictures, words, given)
            pictures = [picture for picture, word in zip(pictures, words, strict=True) if word]
            words = [word for word in words if word]
    if not any(words):
        table = next((file for file in files if is_id_table(file)), None)
        return read_numbered(pictures, table, given) if table else None
    splits, assumed = splits_of(pictures, given, "Training", set(words))
    raw = read_files(pictures, words, splits, given)
    raw.notes += [*notes, *assumed]
    return raw


def class_folder(folders: tuple[str, ...], given: Given) -> str | None:
    """The folder that names a picture's class: the innermost name, else its own number."""
    own = {name.lower() for name in given.classes or ()}
    named = [name for name in folders if name.lower() in own or class_named(name)]
    if named:
        return named[-1]
    return folders[-1] if folders and re.fullmatch("[0-9]", folders[-1]) else None


def words_beside(files: list[File], pictures: list[File]) -> list[str | None]:
    """What the ``.cls`` file beside each picture says, as WebDataset writes it.

    ``classnames.txt`` says what the numbers mean, where it is there: a name a line.
    """
    text = {
        file.name: Path(file.path).read_text("utf-8", "replace")
        for file in files
        if file.name.endswith((".cls", "classnames.txt"))
    }
    names = [text[name].split("\n") for name in text if name.endswith("classnames.txt")]
    beside = [text.get(picture.name.rpartition(".")[0] + ".cls") for picture in pictures]
    return [named(word, names[0] if names else None) for word in beside]


def note_outside(pictures: list[File], words: list, given: Given) -> list[str]:
    """A note of pictures outside the class folders; refused unless the user said which count."""
    outside = [p.folders for p, word in zip(pictures, words, strict=True) if not word]
    if not outside:
        return []
    folders = Counter("/".join(parts) or "." for parts in outside)
    told = listed([f"{shown(folder)} ({count})" for folder, count in folders.items()])
    if not given.classes:
        raise DataError(
            f"{given.name}: images in folders that name no class: {told}; expected one of "
            f"{', '.join(EMOTIONS)} (or another spelling); rename or remove them, or say which "
            "folders count: CLASSES=name,name,…"
        )
    return [f"left out: images in folders that are not in CLASSES=: {told}"]


def splits_of(
    pictures: list[File], given: Given, otherwise: str, classes: set[str] = frozenset()
) -> tuple[list[str], list[str]]:
    """The split of each picture, told by its folders or its name, and notes of what was assumed.

    Args:
        otherwise: the split where nothing tells it.
        classes: the folders' names that tell a class.
    """
    splits, unnamed = [], Counter()
    for picture in pictures:
        levels = [name for name in picture.folders if name not in classes]
        by_folder = next(filter(None, map(split_named, reversed(levels))), None)
        by_name = split_named(re.match("[A-Za-z]*", picture.stem)[0])
        split = by_folder or by_name or given.split
        if (by_folder, by_name) == ("PrivateTest", "PublicTest"):
            split = by_name  # Kaggle's test/ holds both test splits
        if split is None:
            unnamed["/".join(levels)] += 1
        splits.append(split or otherwise)
    notes = []
    for folder, count in unnamed.most_common(3):
        where = f"folder {shown(folder)} names no split" if folder else "nothing names a split"
        notes.append(f"{where}: {count} faces are read as {otherwise}")
    return splits, notes


def without_second_copy(pictures: list[File]) -> tuple[list[File], list[str]]:
    """Some archives hold their tree twice, ``images/…`` and ``images/images/…``: keep one."""
    path_of = {file.name: file.path for file in pictures}
    kept = []
    for file in pictures:
        outer = path_of.get(re.sub(r"(^|/)([^/]+/)\2", r"\1\2", file.name, count=1), file.path)
        if outer == file.path or not filecmp.cmp(outer, file.path, shallow=False):
            kept.append(file)
    copies = len(pictures) - len(kept)
    return kept, [f"a folder holds {copies} files again: read once"] if copies else []


def is_id_table(file: File) -> bool:
    header = file.head().removeprefix(b"\xef\xbb\xbf").splitlines()[:1]
    return b"".join(header).replace(b" ", b"").lower() == b"id,label"


def read_numbered(pictures: list[File], file: File, given: Given) -> RawFaces:
    """The images that a table of ``id,label`` numbers: those of the one folder that has them all."""
    name = f"{given.name}/{file.name}"
    table = pd.read_csv(file.path, dtype=str, na_filter=False, encoding_errors="replace")
    table.columns = ["id", "label"]
    ids = pd.to_numeric(table["id"], errors="coerce")
    bad = np.flatnonzero(ids.isna() | ids.duplicated())
    if len(bad):
        told = shown(",".join(table.iloc[bad[0]]))
        raise DataError(
            f"{name}: row {bad[0]} (line {bad[0] + 2}): {told}; expected id,label, each id once"
        )
    folders = defaultdict(dict)
    for picture in pictures:
        if number := re.search(r"([0-9]+)\.\w+$", picture.name):
            folders["/".join(picture.folders)][int(number[1])] = picture
    whole = [folder for folder, images in folders.items() if set(ids) <= images.keys()]
    whole = [f for f in whole if split_named(f) == "Training"] if len(whole) > 1 else whole
    if len(whole) != 1:
        most = max(folders, key=lambda f: len(folders[f].keys() & set(ids)), default="")
        missing = sorted(set(ids) - folders[most].keys())
        lack = f"no image for id {missing[0]:.0f} in {most}/" if missing else "two folders fit"
        raise DataError(f"{name}: {lack}; expected one folder with an image for each of its ids")
    table = table.iloc[ids.argsort()]
    found = [folders[whole[0]][number] for number in ids.sort_values()]
    raw = read_files(found, table["label"].tolist(), ["Training"] * len(table), given)
    left = Counter("/".join(p.folders) for p in pictures) - Counter({whole[0]: len(table)})
    for folder, count in left.items():
        raw.notes.append(f"left out: {count} images in {folder or '.'}/, which have no label")
    return raw
