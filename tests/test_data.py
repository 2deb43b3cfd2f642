"""Every layout in which people hold FER2013 gives the same faces; the cache never lies."""

import gzip
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fer_utils import data
from fer_utils.data import EMOTIONS, SPLITS, DataError, Faces, ferplus, load, names, tables
from fer_utils.data.faces import OFFICIAL, digest
from fer_utils.data.names import Given, class_named, meaning_of_numbers, split_named

REAL, VOTES = os.environ.get("FER_DATA"), os.environ.get("FER_VOTES")
SIZES = (8, 4, 3)
ALPHABETICAL = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
NUMBERS = np.array([ALPHABETICAL.index(name.lower()) for name in EMOTIONS])


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("FER_CACHE", "")


def some_faces(seed=0, sizes=SIZES) -> Faces:
    generator = np.random.default_rng(seed)
    n = sum(sizes)
    images = generator.integers(0, 256, (n, 48, 48), dtype=np.uint8)
    return Faces(images, generator.integers(0, 7, n), np.repeat(SPLITS, sizes))


def csv_text(faces, header="emotion,pixels,Usage", quote="", end="\n") -> bytes:
    columns = {"emotion": faces.labels, "label": faces.labels, "Usage": faces.split}
    columns["id"] = range(len(faces))
    columns["pixels"] = [
        quote + " ".join(map(str, image.ravel().tolist())) + quote for image in faces.images
    ]
    columns["feature"] = columns["pixels"]
    names = [name.strip() for name in header.split(",")]
    rows = [",".join(str(columns[name][i]) for name in names) for i in range(len(faces))]
    return end.join([header, *rows, ""]).encode()


def png(image) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def write_tree(folder, files: dict) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def class_folders(faces, names=EMOTIONS, splits=("train", "valid", "test"), root="") -> dict:
    at = dict(zip(SPLITS, splits, strict=True))
    rows = zip(faces.images, faces.labels, faces.split, strict=True)
    return {
        f"{root}{at[split]}/{names[label]}/{split}_{i:05}.png": png(image)
        for i, (image, label, split) in enumerate(rows)
    }


def in_folder_order(faces, names=EMOTIONS) -> Faces:
    """By split, then by the name of the class's folder."""
    rank = [SPLITS.index(split) for split in faces.split]
    folder = np.argsort(np.argsort(list(names)))[faces.labels]
    return faces[np.lexsort((np.arange(len(faces)), folder, rank))]


def pack_tar(files: dict) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def pack_zip(files: dict) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return stream.getvalue()


def parquet(faces, picture="image", label="label", struct=True, names=None) -> bytes:
    pictures = [png(image) for image in faces.images]
    if struct:
        pictures = [{"bytes": content, "path": None} for content in pictures]
    table = pa.table({picture: pictures, label: faces.labels})
    if names:
        about = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def assert_same(found: Faces, expected: Faces, labels=True, split=True) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.labels.dtype == np.int64
    if labels:
        np.testing.assert_array_equal(found.labels, expected.labels)
    if split:
        assert found.split.tolist() == expected.split.tolist()


# --- tables


@pytest.mark.parametrize("header", ["emotion,pixels", "label,feature", "pixels", "id,feature"])
def test_a_table_without_usage_takes_its_split_from_its_name(tmp_path, header):
    faces = some_faces()
    for name, split in (("train", "Training"), ("my_test", "PrivateTest"), ("x", None)):
        (tmp_path / f"{name}.csv").write_bytes(csv_text(faces, header, '"', "\r\n"))
        found = load(tmp_path / f"{name}.csv")
        unlabelled = header in ("pixels", "id,feature")
        assert_same(found, faces, labels=not unlabelled, split=False)
        assert set(found.split) == {split or ("PublicTest" if unlabelled else "Training")}
        assert any("nothing names a split: 15 faces" in note for note in found.notes) == (not split)
        assert (set(found.labels) == {-1}) == unlabelled
        assert ("no labels: every label is -1" in found.notes) == unlabelled


def test_the_challenges_test_table_holds_both_test_splits(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "TEST_SPLIT", 2)
    for n, splits in ((4, ["PublicTest"] * 2 + ["PrivateTest"] * 2), (5, ["PrivateTest"] * 5)):
        (tmp_path / "test.csv").write_bytes(csv_text(some_faces(sizes=(n, 0, 0)), "pixels"))
        assert load(tmp_path / "test.csv").split.tolist() == splits


@pytest.mark.parametrize(
    "kind", ["csv.gz", "zip", "tar", "tar.gz", "tar.gz in zip", "csv.gz in zip"]
)
def test_an_archive_gives_what_is_packed_in_it(tmp_path, kind):
    faces = some_faces()
    table = csv_text(faces)
    tree = {"fer2013/README": b"read me", "fer2013/fer2013.csv": table, "__MACOSX/._x": b"\0"}
    packed = {"csv.gz": gzip.compress(table), "zip": pack_zip(tree), "tar": pack_tar(tree)}
    packed["tar.gz"] = gzip.compress(packed["tar"])
    packed["tar.gz in zip"] = pack_zip({"challenge/fer2013.tar.gz": packed["tar.gz"]})
    packed["csv.gz in zip"] = pack_zip({"fer2013.csv.gz": packed["csv.gz"]})
    (tmp_path / "set").write_bytes(packed[kind])
    found = load(tmp_path / "set")
    assert_same(found, faces)
    noted = any("1 no ending (fer2013/README)" in note for note in found.notes)
    assert noted == ("csv" not in kind)


def test_of_several_tables_the_one_with_labels_and_splits_counts(tmp_path):
    faces = some_faces()
    files = {
        "a_test.csv": csv_text(faces, "pixels"),
        "b_train.csv": csv_text(faces, "emotion,pixels"),
        "c.csv": csv_text(faces),
        "sample.png": png(faces.images[0]),
    }
    write_tree(tmp_path / "set", files)
    (tmp_path / "set.zip").write_bytes(pack_zip(files))
    for name in ("set", "set.zip"):
        found = load(tmp_path / name)
        assert_same(found, faces)
        assert "left out: 2 .csv (a_test.csv), 1 .png (sample.png)" in found.notes


def test_tables_of_one_split_each_are_joined(tmp_path):
    faces = some_faces()
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        write_tree(tmp_path, {f"{name}.csv": csv_text(faces.of(split), "emotion,pixels")})
    assert_same(load(tmp_path), faces)


def with_names(text: bytes) -> bytes:
    """A column of names beside numbers that count in alphabetical order."""
    rows = text.decode().splitlines()
    named = [f"{NUMBERS[int(row[0])]},{EMOTIONS[int(row[0])]}{row[1:]}" for row in rows[1:]]
    return "\n".join([rows[0].replace("emotion,", "emotion,emotion_name,"), *named, ""]).encode()


def as_names(text: bytes) -> bytes:
    return re.sub(rb"(?m)^\d", lambda match: EMOTIONS[int(match[0])].lower().encode(), text)


def in_brackets(text: bytes) -> bytes:
    return re.sub(rb"(\d+( \d+)+)", lambda m: b'"[' + m[1].replace(b" ", b", ") + b']"', text)


SPREADSHEETS = {
    "as published": lambda text: text,
    "a mark of UTF-8": lambda text: b"\xef\xbb\xbf" + text,
    "spaces in the header": lambda text: text.replace(b",", b", ", 2),
    "commas at line ends": lambda text: text.replace(b"\n", b",,\n"),
    "commas at the rows' ends": lambda text: re.sub(rb"(?<=[a-z])\n", b",,\n", text),
    "a row of commas": lambda text: text + b",,\n,,\n",
    "sep=;": lambda text: b"sep=;\n" + text.replace(b",", b";"),
    "semicolons": lambda text: text.replace(b",", b";"),
    "labels as fractions": lambda text: re.sub(rb"(?m)^(\d),", rb"\1.0,", text),
    "labels as names": as_names,
    "a column of names": with_names,
    "lists in brackets": in_brackets,
    "pixels as fractions": lambda text: re.sub(rb"(?<=\d) ", b".0 ", text),
    "old Macintosh line ends": lambda text: text.replace(b"\n", b"\r"),
    "empty lines": lambda text: text.replace(b"\n", b"\n\n") + b"\r\n\n",
    "no last line end": lambda text: text[:-1],
    "an index": lambda text: re.sub(rb"(?m)^(?=.)", b"1,", text).replace(b"1,emo", b",emo", 1),
    "splits by other names": lambda text: text.replace(b"PublicTest", b"val"),
    "another column": lambda text: re.sub(rb"(?m)$", b",x", text.strip()) + b"\n",
}


@pytest.mark.parametrize("name", SPREADSHEETS)
def test_what_spreadsheets_make_of_a_table_is_read_where_nothing_is_lost(tmp_path, name):
    faces = some_faces()
    (tmp_path / "x.csv").write_bytes(SPREADSHEETS[name](csv_text(faces)))
    found = load(tmp_path / "x.csv")
    assert_same(found, faces)
    left_out = {"another column": ["x"], "a column of names": ["emotion"]}.get(name, [])
    noted = [note for note in found.notes if "columns left out" in note]
    assert noted == [f"columns left out: {column}" for column in left_out]


# --- image folders


@pytest.mark.parametrize(
    "names",
    [
        ("angry", "disgust", "fear", "happy", "sad", "suprise", "neutral"),
        ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral"),
        ("ANGER", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutrality"),
        tuple("0123456"),
        ("0_angry", "1_disgust", "2-fear", "3 happy", "4.sad", "5_surprise", "6_neutral"),
    ],
)
def test_class_folders_in_every_spelling(tmp_path, names):
    faces = some_faces()
    write_tree(tmp_path / "tree", class_folders(faces, names))
    (tmp_path / "set").write_bytes(pack_zip(class_folders(faces, names)))
    for path in (tmp_path / "tree", tmp_path / "set"):
        assert_same(load(path), in_folder_order(faces, names))
    for name in ("7", "unhappy", "", "images", "٣"):
        assert class_named(name) is None


def test_images_train_and_validation_even_if_the_archive_holds_its_tree_twice(tmp_path):
    faces = some_faces(sizes=(6, 5, 0))
    splits = ("train", "validation", "-")
    once = class_folders(faces, splits=splits, root="images/")
    write_tree(tmp_path, once | class_folders(faces, splits=splits, root="images/images/"))
    found = load(tmp_path)
    assert_same(found, in_folder_order(faces))
    assert "a folder holds 11 files again: read once" in found.notes
    again = next(tmp_path.glob("images/images/train/*/*"))
    another = Image.fromarray(np.full((48, 48), 7, np.uint8))
    another.save(again, "PNG")
    assert len(load(tmp_path)) == 12


def test_kaggles_file_names_tell_the_two_splits_in_its_test_folder_and_no_more(tmp_path):
    faces = some_faces()
    write_tree(tmp_path / "kaggle", class_folders(faces, splits=("train", "test", "test")))
    assert_same(load(tmp_path / "kaggle"), in_folder_order(faces))
    image = png(faces.images[0])
    moved = {"val/happy/Training_1.jpg": image, "train/happy/Training_2.jpg": image}
    write_tree(tmp_path / "moved", moved)
    assert load(tmp_path / "moved").split.tolist() == ["Training", "PublicTest"]


def test_pictures_of_any_size_and_colour_become_48_by_48_grey_and_it_is_said(tmp_path):
    (tmp_path / "happy").mkdir()
    colours = {"1": 1, "I;16": 77 * 256 + 200, "L": 77, "LA": (0, 0), "RGB": (77, 77, 77)}
    for mode, colour in (colours | {"RGBA": (0, 0, 0, 0)}).items():
        Image.new(mode, (200, 100), colour).save(tmp_path / "happy" / f"{mode}.png")
    Image.new("L", (200, 100), 77).convert("P").save(tmp_path / "happy" / "P.png")
    Image.new("CMYK", (64, 48)).save(tmp_path / "happy" / "Z.jpg")
    found = load(tmp_path)
    grey = [np.unique(image).tolist() for image in found.images]
    # 1, I;16, L, LA, P, RGB, RGBA, CMYK: what is clear is white
    assert grey == [[255], [77], [77], [255], [77], [77], [255], [255]]
    assert "8 of 8 images converted to 48×48 grey" in found.notes


def test_a_picture_of_16_bits_keeps_its_light_where_only_12_are_used(tmp_path):
    light = np.linspace(0, 1, 48 * 48).reshape(48, 48)
    for highest in (255, 4095, 65535):
        Image.fromarray((light * highest).astype(np.uint16)).save(tmp_path / "a.png")
        found = load(tmp_path / "a.png").images[0]
        assert np.abs(found.astype(float) - 255 * light).max() < 2


def test_images_without_class_folders_are_unlabelled(tmp_path):
    faces = some_faces()
    write_tree(tmp_path, {f"{i:04}.png": png(image) for i, image in enumerate(faces.images)})
    for path, expected in ((tmp_path, faces), (tmp_path / "0003.png", faces[3])):
        found = load(path)
        assert_same(found, expected, labels=False, split=False)
        assert set(found.labels) == {-1} and "no folder is named after a class" in found.notes


def test_pictures_in_class_folders_are_known_by_content_and_what_is_skipped_is_said(tmp_path):
    image = Image.fromarray(some_faces().images[0])
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "avif": "AVIF", "webp": "WEBP", "xyz": "PNG"}
    for i, (ending, kind) in enumerate(kinds.items()):
        write_tree(tmp_path, {f"train/{EMOTIONS[i]}/{i}.heic": HEIC})
        image.save(tmp_path / "train" / EMOTIONS[i] / f"a.{ending}", kind)
    (tmp_path / "readme.txt").write_text("pictures")
    found = load(tmp_path)
    assert sorted(found.labels) == [0, 1, 2, 3, 4]
    left = "left out: 5 .heic (HEIC, as telephones store it; save it as JPEG), 1 .txt (readme.txt)"
    assert left in found.notes


# --- parquet


@pytest.mark.parametrize(
    "columns", [("image", "label", True), ("img_bytes", "labels", False), ("jpg", "cls", False)]
)
@pytest.mark.parametrize("place", ["data/{}-00000-of-00001.parquet", "default/{}/0000.parquet"])
def test_parquet_shards_as_hugging_face_exports_them(tmp_path, columns, place):
    faces = some_faces()
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        write_tree(tmp_path, {place.format(name): parquet(faces.of(split), *columns)})
    assert_same(load(tmp_path), faces)
    test = tmp_path / place.format("test")
    assert_same(load(test), faces.of("PrivateTest"))
    if test.parent.name == "test":
        assert_same(load(test.parent), faces.of("PrivateTest"))


def test_parquet_class_names_of_the_file_count_not_their_order(tmp_path):
    faces = some_faces()
    renumbered = replace(faces, labels=NUMBERS[faces.labels])
    (tmp_path / "x").write_bytes(parquet(renumbered, names=list(ALPHABETICAL)))
    assert_same(load(tmp_path / "x"), faces, split=False)


@pytest.mark.parametrize("names", [5, [1, 2, 3, 4, 5, 6, 7], [None] * 7, {"0": "happy"}, "angry"])
def test_parquet_class_names_that_are_none_are_no_class_names(tmp_path, names):
    faces = some_faces()
    (tmp_path / "x").write_bytes(parquet(faces, names=names))
    assert_same(load(tmp_path / "x"), faces, split=False)


def test_webdataset_shards_are_named_with_the_way_out(tmp_path):
    shard = {"s0.png": png(some_faces().images[0]), "s0.cls": b"3"}
    write_tree(tmp_path, {"train/0.tar": pack_tar(shard), "test/0.tar": pack_tar(shard)})
    for path in (tmp_path, tmp_path / "train" / "0.tar"):
        with pytest.raises(DataError, match=r"WebDataset shards .* parquet files: hf download"):
            load(path)


# --- splits


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("train_afew", "val_afew", "test_afew"),
        ("Training Set", "Validation_Set", "private_test"),
        ("train (1)", "valid (1)", "test (1)"),
        ("FER2013Train", "FER2013Valid", "FER2013Test"),
        ("training", "PublicTest", "PrivateTest"),
        ("trainset", "dev", "test_set"),
        ("fer/TRAIN/x", "fer/VAL/x", "fer/TEST/x"),
    ],
)
def test_splits_are_read_in_every_spelling(tmp_path, train, valid, test):
    faces = some_faces()
    write_tree(tmp_path, class_folders(faces, splits=(train, valid, test)))
    found = load(tmp_path)
    assert_same(found, in_folder_order(faces))
    assert not any("names no split" in note for note in found.notes)


def test_a_name_tells_one_split_or_none():
    told = {"pretrained": None, "train_test_split": None, "contest": None, "latest": None}
    told |= {"0000": None, "": None, "publictest": "PublicTest", "eval": "PublicTest"}
    for name, split in told.items():
        assert split_named(name) == split, name
    assert split_named("Test (1)", alone=True) == "PrivateTest"
    assert split_named("test_some_faces0", alone=True) is None


def test_a_level_that_names_no_split_is_said(tmp_path):
    image = png(some_faces().images[0])
    names = ("train/sad/a", "holdout/sad/a", "holdout/happy/b", "test/sad/a")
    write_tree(tmp_path, {f"{name}.png": image for name in names})
    found = load(tmp_path)
    assert "folder 'holdout' names no split: 2 faces are read as Training" in found.notes
    assert (found.split == "Training").sum() == 3
    found = load(tmp_path, classes="sad,calm")  # happy is left out, and not counted
    assert "folder 'holdout' names no split: 1 faces are read as Training" in found.notes


def test_hold_out_sets_the_same_tenth_of_each_class_aside():
    faces = some_faces(sizes=(200, 0, 20))
    first, again = data.hold_out(faces), data.hold_out(faces)
    assert first.split.tolist() == again.split.tolist()
    assert first.of("PrivateTest").checksum() == faces.of("PrivateTest").checksum()
    assert first.checksum() == faces.checksum()
    for label in range(7):
        before = ((faces.labels == label) & (faces.split == "Training")).sum()
        moved = ((first.labels == label) & (first.split == "PublicTest")).sum()
        assert moved == max(1, round(before / 10))
    count = (first.split == "PublicTest").sum()
    note = f"no validation faces: {count} of Training set aside as PublicTest (seed 0)"
    assert first.notes == (note,)
    pair, single = np.flatnonzero(faces.labels == 0)[:2], np.flatnonzero(faces.labels == 1)[:1]
    few = data.hold_out(faces[np.r_[pair, single]])
    assert sorted(few.split[few.labels == 0]) == ["PublicTest", "Training"]
    assert few.split[few.labels == 1].tolist() == ["Training"]


# --- classes


@pytest.mark.parametrize("splits", [SPLITS, SPLITS[:1], SPLITS[1:], SPLITS[2:]])
def test_fer2013_numbered_alphabetically_is_told_by_its_counts(tmp_path, monkeypatch, splits):
    counts = np.arange(10, 24, 2) * 3  # as in FER2013, no two classes have as many faces
    official = np.stack([counts, counts // 2, counts // 3], axis=1)
    monkeypatch.setattr(names, "OFFICIAL", official)
    labels = np.concatenate([np.repeat(np.arange(7), official[:, k]) for k in range(3)])
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48), dtype=np.uint8)
    faces = Faces(images, labels, np.repeat(SPLITS, official.sum(axis=0)))
    faces = faces[np.random.default_rng(1).permutation(len(faces))]
    faces = faces[np.isin(faces.split, splits)]
    (tmp_path / "x.csv").write_bytes(csv_text(replace(faces, labels=NUMBERS[faces.labels])))
    found = load(tmp_path / "x.csv")
    assert_same(found, faces)
    assert "put right: 0=Angry, 1=Disgust, 2=Fear, 3=Happy, 4=Neutral, 5=Sad" in found.notes[0]
    (tmp_path / "x.csv").write_bytes(csv_text(faces))
    assert load(tmp_path / "x.csv").notes == ()


def test_numbers_of_another_set_are_read_in_fer2013s_order_and_it_is_said(tmp_path):
    (tmp_path / "x.csv").write_bytes(csv_text(some_faces()))
    (note,) = load(tmp_path / "x.csv").notes
    assert note.startswith("numbers read as 0=Angry, 1=Disgust, 2=Fear, 3=Happy, 4=Sad, 5=Surprise")
    assert "CLASSES=" in note


@pytest.mark.parametrize("first", [0, 1])
def test_classes_say_what_the_numbers_mean(tmp_path, monkeypatch, first):
    faces = some_faces(sizes=(20, 4, 4))
    renumbered = replace(faces, labels=NUMBERS[faces.labels] + first)
    (tmp_path / "x.csv").write_bytes(csv_text(renumbered))
    for classes in (ALPHABETICAL, ",".join(ALPHABETICAL)):
        found = load(tmp_path / "x.csv", classes=classes)
        assert_same(found, faces)
        assert found.classes == EMOTIONS and found.notes == ()
    monkeypatch.setenv("FER_CLASSES", ",".join(ALPHABETICAL))
    assert_same(load(tmp_path / "x.csv"), faces)


def test_numbers_from_1_to_7_are_refused_until_it_is_said_what_they_mean(tmp_path):
    faces = some_faces(sizes=(30, 0, 0))
    (tmp_path / "x.csv").write_bytes(csv_text(replace(faces, labels=faces.labels + 1)))
    with pytest.raises(DataError, match=r"labels from 1 to 7, .* CLASSES=surprise,fear"):
        load(tmp_path / "x.csv")


def test_other_classes_are_the_users_own(tmp_path):
    faces = some_faces(sizes=(9, 3, 3))
    own = replace(faces, labels=np.arange(len(faces)) % 3)
    classes = ("smile", "frown", "happy")
    write_tree(tmp_path / "set", class_folders(own, classes))
    with pytest.raises(DataError, match=r"label '(smile|frown)'; .* which count: CLASSES=a,b"):
        load(tmp_path / "set")
    found = load(tmp_path / "set", classes=classes)
    assert found.classes == ("smile", "frown", "Happy")
    assert_same(found, in_folder_order(own, classes))
    found = load(tmp_path / "set", classes="frown,smile")
    assert found.classes == ("frown", "smile") and len(found) == 10
    assert "left out: 5 faces labelled 'happy', which is not in CLASSES=" in found.notes
    (tmp_path / "x.csv").write_bytes(csv_text(own))
    assert_same(load(tmp_path / "x.csv", classes=classes), own)
    with pytest.raises(DataError, match=r"label '2'; expected 0 to 1 or one of frown, smile"):
        load(tmp_path / "x.csv", classes="frown,smile")
    for bad in ("smile", "anger,angry", "a,,b"):
        with pytest.raises(DataError, match="expected two names or more"):
            load(tmp_path / "x.csv", classes=bad)


def test_contempt_is_left_out_and_said_unless_it_is_asked_for(tmp_path):
    eight = (*EMOTIONS, "contempt")
    faces = replace(some_faces(sizes=(16, 0, 0)), labels=np.arange(16) % 8)
    (tmp_path / "ckextended.csv").write_bytes(csv_text(faces))
    write_tree(tmp_path / "set", class_folders(faces, eight))
    for name, word in (("ckextended.csv", "7"), ("set", "contempt")):
        found = load(tmp_path / name)
        assert sorted(found.labels) == sorted(range(7)) * 2 or len(found) == 14
        assert f"left out: 2 faces labelled '{word}', which is none of the seven" in found.notes
        found = load(tmp_path / name, classes=eight)
        assert found.classes == (*EMOTIONS, "Contempt") and (found.labels == 7).sum() == 2


# --- formats that are not read

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100
FOREIGN_FILES = {
    "HDF5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
    "a numpy array": b"\x93NUMPY\x01\0" + b"\0" * 100,
    "2 .npy (a numpy array": pack_zip({"images.npy": b"\x93NUMPY", "labels.npy": b"\x93NUMPY"}),
    "a pickle, not opened since it could run code": pickle.dumps({"images": [1, 2]}),
    "a pickle": pack_zip({"train/data.pkl": b"\x80\2", "train/version": b"3"}),
    "an Office file (.xlsx)": pack_zip({"[Content_Types].xml": b"<?xml version='1.0'?>"}),
    "HEIC": HEIC,
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "web page": b"\n<!DOCTYPE html><html></html>",
    "UTF-16": "emotion,pixels\n".encode("utf-16"),
    "7-Zip": b"7z\xbc\xaf\x27\x1c",
}


@pytest.mark.parametrize("kind", FOREIGN_FILES)
def test_a_format_that_is_not_read_is_named_with_the_way_out(tmp_path, kind):
    (tmp_path / "data.bin").write_bytes(FOREIGN_FILES[kind])
    for path in (tmp_path / "data.bin", tmp_path):
        with pytest.raises(DataError, match=re.escape(kind)) as caught:
            load(path)
        assert re.search("save|unpack|fetch|sign in", str(caught.value))


# --- votes


def vote_table(faces, votes) -> bytes:
    rows = [
        f"{split},{'' if i == 2 else f'fer{i:07}.png'},{','.join(map(str, vote))}"
        for i, (split, vote) in enumerate(zip(faces.split, votes, strict=True))
    ]
    header = ",".join(("Usage", "Image name", *ferplus.COLUMNS))
    return "\r\n".join([header, *rows, ""]).encode()


def test_votes_join_the_published_set_by_row_and_no_other(tmp_path, monkeypatch):
    faces = some_faces()
    columns = [ferplus.EMOTION_OF_COLUMN.index(EMOTIONS[label]) for label in faces.labels]
    votes = 10 * np.eye(10, dtype=int)[columns]
    monkeypatch.setattr(ferplus, "FER2013_PIXELS", digest(faces.images))
    monkeypatch.setattr(ferplus, "FERPLUS_VOTES", digest(votes))

    def join(faces, votes):
        (tmp_path / "faces.csv").write_bytes(csv_text(faces))
        (tmp_path / "votes.csv").write_bytes(vote_table(faces, votes))
        return load(tmp_path / "faces.csv", votes=tmp_path / "votes.csv")

    found = join(faces, votes)
    assert_same(found, faces)
    np.testing.assert_array_equal(found.votes, votes)
    np.testing.assert_array_equal(data.plurality(found.votes), faces.labels)
    np.testing.assert_array_equal(found.of("PublicTest").votes, votes[faces.split == "PublicTest"])
    with pytest.raises(DataError, match=r"votes.csv: 15 rows, not the votes of FER\+ as published"):
        join(faces, votes[::-1])
    with pytest.raises(DataError, match=r"faces.csv \(15 faces\) .* in their published order"):
        join(replace(faces, images=faces.images[::-1]), votes)


def test_plurality_on_paper():
    votes = np.array(
        [
            [6, 0, 2, 1, 1, 0, 0, 0, 0, 0],  # neutral
            [0, 0, 0, 0, 5, 5, 0, 0, 0, 0],  # a tie
            [0, 0, 0, 0, 0, 0, 3, 7, 0, 0],  # contempt: none of the seven
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 10],  # no face
            [0] * 10,
        ]
    )
    assert data.plurality(votes).tolist() == [6, -1, -1, -1, -1]


# --- the description


def test_describe_finds_copies_leaks_conflicts_and_blanks():
    faces = some_faces(sizes=(4, 2, 2))
    images, labels = faces.images.copy(), np.array([0, 1, 2, 3, 0, 5, 3, 5])
    images[4] = images[0]  # Training 0 again in PublicTest, same label
    images[6] = images[5]  # PublicTest 5 again in PrivateTest, other label
    images[2] = 9
    found = data.describe(Faces(images, labels, faces.split))
    assert (found.distinct, found.copy_groups, found.conflicting_groups) == (6, 2, 1)
    assert found.copies_across == {("PublicTest", "Training"): 1, ("PrivateTest", "PublicTest"): 1}
    assert found.blank_rows.tolist() == [2]
    assert found.counts.sum() == 8 and found.counts[3].tolist() == [1, 0, 1]
    assert "6 distinct images" in str(found) and "1 blank images: rows 2" in str(found)


@pytest.mark.skipif(not REAL or not VOTES, reason="FER_DATA, FER_VOTES don't name the real set")
def test_the_published_set_and_its_votes_have_their_known_figures():
    faces = load(REAL, votes=VOTES)
    assert faces.notes[0].startswith("recognised by checksum: FER2013 as published")
    found = data.describe(faces)
    assert found.counts.tolist() == OFFICIAL.tolist()
    assert (found.distinct, found.copy_groups, found.conflicting_groups) == (34034, 1516, 57)
    assert list(found.copies_across.values()) == [280, 288, 44]
    blank = [6458, 7629, 10423, 11286, 13148, 13402, 13988, 15894, 22198, 22927, 28601, 30002]
    assert found.blank_rows.tolist() == blank
    assert (faces.votes.sum(axis=1) != 10).sum() == 1
    assert (2 * faces.votes[:, 9] > 10).sum() == 176  # no face to most; 173 of them unnamed


def test_the_summary_has_counts_by_split_and_class_and_every_note():
    faces = replace(some_faces(sizes=(2, 1, 1)), labels=np.array([0, 0, 3, -1]), notes=("a note",))
    lines = [line.split() for line in data.summary_lines(faces)]
    assert lines[0] == [*SPLITS, "all"]
    assert ["Angry", "2", "0", "0", "2"] in lines and ["Happy", "0", "1", "0", "1"] in lines
    unlabelled, total = ["unlabelled", "0", "0", "1", "1"], ["all", "2", "1", "1", "4"]
    assert lines[-3:] == [unlabelled, total, ["a", "note"]]
    own = replace(faces, classes=("yes", "no", "perhaps", "never"))
    assert ["never", "0", "1", "0", "1"] in [line.split() for line in data.summary_lines(own)]


def test_the_command_says_what_a_path_holds_or_one_line(tmp_path):
    (tmp_path / "faces.csv").write_bytes(csv_text(some_faces()))
    command = [sys.executable, "-m", "fer_utils.data"]
    good = subprocess.run([*command, tmp_path / "faces.csv"], capture_output=True, text=True)
    assert good.returncode == 0 and "15 distinct images" in good.stdout
    bad = subprocess.run([*command, tmp_path / "nosuch"], capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stdout == "" and bad.stderr.count("\n") == 1
    script = "import sys, fer_utils.data; print({'torch', 'cv2', 'matplotlib'} & {*sys.modules})"
    heavy = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert heavy.stdout.strip() == "set()"


# --- the cache


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A table, a cache folder, and a count of how often the table is really read."""
    path, folder, reads = tmp_path / "faces.csv", tmp_path / "cache", []
    path.write_bytes(csv_text(some_faces()))
    monkeypatch.setenv("FER_CACHE", str(folder))
    monkeypatch.setattr(data, "WORTH_IT", 1)
    read = data.read_path
    monkeypatch.setattr(data, "read_path", lambda *given: reads.append(given) or read(*given))
    return path, folder, reads


def test_a_second_load_comes_from_the_cache_as_long_as_the_classes_are_the_same(cached):
    path, folder, reads = cached
    first, second = load(path), load(path)
    assert_same(second, first)
    assert len(reads) == 1 and second.notes == first.notes and second.classes == EMOTIONS
    assert [file.suffix for file in folder.iterdir()] == [".npz"]
    for _ in range(2):
        assert load(path, classes="a,b,c,d,e,f,g").classes == tuple("abcdefg")
    assert len(reads) == 2


def test_a_changed_source_is_read_again_even_if_size_and_time_were_put_back(cached):
    path, _, reads = cached
    load(path)
    before = path.stat()
    text = path.read_bytes()
    time.sleep(0.02)  # ticks of the clock that stamps files are up to 10 ms
    path.write_bytes(text[:-12] + b"x" * 12)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    with pytest.raises(DataError):
        load(path)
    assert len(reads) == 2


def test_a_damaged_cache_is_rebuilt(cached):
    path, folder, reads = cached
    expected = load(path)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    damaged = [b"", b"no zip", whole[: len(whole) // 2], whole[:-1]]
    for at in range(40, len(whole), len(whole) // 10):
        damaged.append(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
    for content in damaged:
        file.write_bytes(content)
        assert_same(load(path), expected)
    load(path)
    assert file.stat().st_size == len(whole)
    assert len(reads) > 10


def test_a_folder_is_cached_until_one_of_its_files_changes(cached, tmp_path):
    _, _, reads = cached
    faces, folder = some_faces(), tmp_path / "images"
    files = class_folders(faces)
    write_tree(folder, files)
    for _ in range(2):
        assert_same(load(folder), in_folder_order(faces))
    assert len(reads) == 1
    (folder / next(iter(files))).unlink()
    assert len(load(folder)) == len(faces) - 1


def test_without_a_writable_cache_folder_everything_works(cached, monkeypatch, tmp_path):
    path, _, reads = cached
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "deeper", "/proc/nowhere"):
        monkeypatch.setenv("FER_CACHE", str(place))
        assert len(load(path)) == len(load(path)) == sum(SIZES)
    assert len(reads) == 4


def test_a_split_or_numbering_that_is_assumed_is_noted(tmp_path):
    (tmp_path / "dev").mkdir()
    path = tmp_path / "dev" / "faces.csv"
    path.write_bytes(csv_text(some_faces(), "emotion,pixels"))
    found = load(path)
    assert set(found.split) == {"PublicTest"}
    assert f"read as PublicTest by the folder's name: {len(found)} faces" in found.notes
    assert not meaning_of_numbers({"0": 1, "2": 1}, Given("x", tuple("abc")))[1]
    for numbers, first, notes in ((("1", "2"), 0, ["numbers read as 0=a, 1=b, 2=c"]),
                                  (("2", "3"), 1, [])):  # fmt: skip
        meaning, told = meaning_of_numbers(dict.fromkeys(numbers, 1), Given("x", tuple("abc")))
        assert (meaning[first], told) == ("a", notes)


def test_the_cache_keeps_the_sets_read_last_and_nothing_else_is_removed(cached, monkeypatch):
    path, folder, reads = cached
    monkeypatch.setattr(data, "KEPT", 2)
    folder.mkdir()
    (folder / "mine.npz").write_bytes(b"no face")
    for k, name in enumerate("abc"):
        (path.parent / name).write_bytes(csv_text(some_faces(k)))
        load(path.parent / name)
        time.sleep(0.02)
        load(path.parent / "a")  # read again it stays
        time.sleep(0.02)
    assert len(list(folder.glob("faces-*.npz"))) == 2 and (folder / "mine.npz").exists()
    for name, times in (("a", 3), ("c", 3), ("b", 4)):
        load(path.parent / name)
        assert len(reads) == times
