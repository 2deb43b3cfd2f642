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
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_utils import data
from fer_utils.data import EMOTIONS, SPLITS, DataError, Faces, load
from fer_utils.data import cache as cache_module
from fer_utils.data import names as names_module
from fer_utils.data.names import class_named, split_named

REAL, VOTES = os.environ.get("FER_DATA"), os.environ.get("FER_VOTES")
real = pytest.mark.skipif(not REAL, reason="FER_DATA does not say where FER2013 lies")
SIZES = (8, 4, 3)


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
    return {
        f"{root}{at[split]}/{names[label]}/im{i}.png": png(image)
        for i, (image, label, split) in enumerate(
            zip(faces.images, faces.labels, faces.split, strict=True)
        )
    }


def in_folder_order(faces, names=EMOTIONS) -> Faces:
    """By split, then by the name of the class's folder."""
    rank = [SPLITS.index(split) for split in faces.split]
    folder = np.argsort(np.argsort(list(names)))[faces.labels]
    return faces[np.lexsort((np.arange(len(faces)), folder, rank))]


def assert_same(found: Faces, expected: Faces, labels=True, split=True) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.labels.dtype == np.int64
    if labels:
        np.testing.assert_array_equal(found.labels, expected.labels)
    if split:
        assert found.split.tolist() == expected.split.tolist()


# --- tables


def test_a_table_without_usage_is_training(tmp_path):
    faces = some_faces()
    for header in ("emotion,pixels", "label,feature"):
        (tmp_path / "train.csv").write_bytes(csv_text(faces, header, '"', "\r\n"))
        found = load(tmp_path / "train.csv")
        assert_same(found, faces, split=False)
        assert set(found.split) == {"Training"}


def test_a_table_without_labels_loads_with_label_minus_one(tmp_path):
    faces = some_faces()
    for header in ("pixels", "id,feature"):
        (tmp_path / "test.csv").write_bytes(csv_text(faces, header))
        found = load(tmp_path / "test.csv")
        assert_same(found, faces, labels=False, split=False)
        assert set(found.labels) == {-1} and "no labels" in found.notes[0]


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


def test_archives_give_what_is_packed_in_them(tmp_path):
    faces = some_faces()
    table = csv_text(faces)
    tree = {"fer2013/README": b"read me", "fer2013/fer2013.csv": table, "__MACOSX/._x": b"\0"}
    tar = gzip.compress(pack_tar(tree))
    packed = {
        "csv.gz": gzip.compress(table),
        "zip": pack_zip(tree),
        "tar": pack_tar(tree),
        "tar.gz": tar,
        "tar.gz in zip": pack_zip({"challenge/fer2013.tar.gz": tar}),
        "csv.gz in zip": pack_zip({"fer2013.csv.gz": gzip.compress(table)}),
    }
    for name, content in packed.items():
        (tmp_path / "set").write_bytes(content)
        assert_same(load(tmp_path / "set"), faces), name


def test_a_folder_or_archive_with_several_tables_gives_the_most_complete(tmp_path):
    faces = some_faces()
    files = {
        "a_test.csv": csv_text(faces, "pixels"),
        "b_train.csv": csv_text(faces, "emotion,pixels"),
        "c.csv": csv_text(faces),
        "sample.png": png(faces.images[0]),
    }
    write_tree(tmp_path, files)
    (tmp_path.parent / "set.zip").write_bytes(pack_zip(files))
    for path in (tmp_path, tmp_path.parent / "set.zip"):
        found = load(path)
        assert_same(found, faces)
        assert found.notes[0] == "left out: 2 .csv (a_test.csv), 1 .png (sample.png)"


@settings(max_examples=60)
@given(st.data())
def test_a_table_written_in_any_allowed_way_reads_back(tmp_path_factory, data):
    faces = some_faces(data.draw(st.integers(0, 9)), (2, 1, 1))
    names = data.draw(st.permutations(["emotion", "pixels", "Usage"]))
    text = csv_text(
        faces,
        data.draw(st.sampled_from([",", ", "])).join(names),
        data.draw(st.sampled_from(["", '"'])),
        data.draw(st.sampled_from(["\n", "\r\n"])),
    )
    path = tmp_path_factory.getbasetemp() / "drawn.csv"
    mark = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    path.write_bytes(mark + text + b"\n" * data.draw(st.integers(0, 3)))
    assert_same(load(path), faces)


# --- image folders

SPELLINGS = [
    ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
    ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral"),
    ("ANGER", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutrality"),
    tuple("0123456"),
    ("0_angry", "1_disgust", "2-fear", "3 happy", "4.sad", "5_surprise", "6_neutral"),
]


@pytest.mark.parametrize("names", SPELLINGS, ids=lambda names: names[2])
def test_class_folders_in_every_spelling(tmp_path, names):
    faces = some_faces()
    write_tree(tmp_path / "tree", class_folders(faces, names))
    (tmp_path / "set").write_bytes(pack_zip(class_folders(faces, names)))
    for path in (tmp_path / "tree", tmp_path / "set"):
        assert_same(load(path), in_folder_order(faces, names))


def test_images_train_and_validation_even_if_the_archive_holds_its_tree_twice(tmp_path):
    faces = some_faces(sizes=(6, 5, 0))
    splits = ("train", "validation", "-")
    once = class_folders(faces, splits=splits, root="images/")
    write_tree(tmp_path, once | class_folders(faces, splits=splits, root="images/images/"))
    found = load(tmp_path)
    assert_same(found, in_folder_order(faces))
    assert "read once" in found.notes[0]


def test_kaggles_file_names_tell_the_split(tmp_path):
    faces = some_faces()
    files = {
        f"{'train' if s == 'Training' else 'test'}/{EMOTIONS[k].lower()}/{s}_{i}.jpg": png(image)
        for i, (image, k, s) in enumerate(zip(faces.images, faces.labels, faces.split, strict=True))
    }
    write_tree(tmp_path, files)
    assert_same(load(tmp_path), in_folder_order(faces))


def test_ones_own_pictures_of_any_size_and_colour_become_48_by_48_grey_and_it_is_said(tmp_path):
    for i, mode in enumerate(("RGB", "RGBA", "P", "LA", "CMYK", "1", "I;16", "L")):
        (tmp_path / EMOTIONS[i % 7]).mkdir(exist_ok=True)
        suffix = "jpg" if mode == "CMYK" else "png"
        Image.new(mode, (90 + i, 64)).save(tmp_path / EMOTIONS[i % 7] / f"{i}.{suffix}")
    found = load(tmp_path)
    assert found.images.shape == (8, 48, 48)
    assert "8 of 8 images converted to 48×48 grey" in found.notes


def test_a_constant_colour_stays_its_grey_value(tmp_path):
    (tmp_path / "happy").mkdir()
    Image.new("RGB", (200, 100), (77, 77, 77)).save(tmp_path / "happy" / "a.png")
    Image.new("RGBA", (60, 60), (0, 0, 0, 0)).save(tmp_path / "happy" / "b.png")
    Image.new("I;16", (60, 60), 77 * 256 + 200).save(tmp_path / "happy" / "c.png")
    assert [set(np.unique(image)) for image in load(tmp_path).images] == [{77}, {255}, {77}]


def test_images_without_class_folders_are_unlabelled(tmp_path):
    faces = some_faces()
    write_tree(tmp_path, {f"{i:04}.png": png(image) for i, image in enumerate(faces.images)})
    found = load(tmp_path)
    assert_same(found, faces, labels=False, split=False)
    assert set(found.labels) == {-1}
    assert_same(load(tmp_path / "0003.png"), faces[3], labels=False, split=False)


def test_numbered_images_beside_a_table_of_ids_and_labels(tmp_path):
    faces = some_faces()
    table = "id,label\n" + "".join(f"{i},{k}\n" for i, k in enumerate(faces.labels))
    files = {f"train_img/{i:05}.jpg": png(image) for i, image in enumerate(faces.images)}
    files |= {f"test_img/{i:04}.jpg": png(faces.images[i]) for i in range(3)}
    write_tree(tmp_path, files | {"train.csv": table.encode()})
    found = load(tmp_path)
    assert_same(found, faces, split=False)
    assert "left out: 3 images in test_img/, which have no label" in found.notes
    with pytest.raises(DataError, match="give the folder"):
        load(tmp_path / "train.csv")
    (tmp_path / "train_img" / "00002.jpg").unlink()
    without_0 = "".join(line for line in table.splitlines(True) if not line.startswith("0,"))
    (tmp_path / "train.csv").write_text(without_0)
    with pytest.raises(DataError, match="no image for id 2 in train_img/"):
        load(tmp_path)


def test_words_that_name_no_class():
    for name in ("7", "unhappy", "", "images", "٣"):
        assert class_named(name) is None


def parquet(faces, picture, label, struct, names=None) -> bytes:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pictures = [png(image) for image in faces.images]
    if struct:
        pictures = [{"bytes": content, "path": None} for content in pictures]
    table = pa.table({picture: pictures, label: faces.labels})
    if names:
        labels = [names.index(EMOTIONS[k].lower()) for k in faces.labels]
        about = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = pa.table({picture: pictures, label: labels})
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("picture", "label", "struct"),
    [("image", "label", True), ("img_bytes", "labels", False), ("jpg", "cls", False)],
)
def test_parquet_in_its_column_forms(tmp_path, picture, label, struct):
    faces = some_faces()
    for split, name in zip(SPLITS, ("train", "valid", "test"), strict=True):
        content = parquet(faces.of(split), picture, label, struct)
        write_tree(tmp_path, {f"data/{name}-00000-of-00001.parquet": content})
    assert_same(load(tmp_path), faces)


def test_parquet_class_names_of_the_file_count_not_their_order(tmp_path):
    faces = some_faces()
    names = sorted(name.lower() for name in EMOTIONS)
    (tmp_path / "x").write_bytes(parquet(faces, "image", "label", True, names))
    assert_same(load(tmp_path / "x"), faces, split=False)


# --- what people hold: splits


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


def test_shards_in_folders_of_splits_as_hugging_face_exports_them(tmp_path):
    faces = some_faces(sizes=(8, 0, 4))
    for split, name in (("Training", "train"), ("PrivateTest", "test")):
        content = parquet(faces.of(split), "jpg", "cls", False)
        write_tree(tmp_path, {f"default/{name}/0000.parquet": content})
    assert_same(load(tmp_path), faces)
    assert_same(load(tmp_path / "default" / "test" / "0000.parquet"), faces.of("PrivateTest"))
    assert_same(load(tmp_path / "default" / "test"), faces.of("PrivateTest"))


def test_webdataset_shards_are_read_with_their_labels(tmp_path):
    faces = some_faces(sizes=(8, 0, 4))
    names = sorted(EMOTIONS)
    for split, name in (("Training", "train"), ("PrivateTest", "test")):
        part, shard = faces.of(split), {}
        for i, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            shard |= {
                f"s{i}.png": png(image),
                f"s{i}.cls": str(names.index(EMOTIONS[label])).encode(),
            }
        write_tree(tmp_path, {f"{name}/0.tar": pack_tar(shard)})
    write_tree(tmp_path, {"classnames.txt": "\n".join(names).lower().encode()})
    assert_same(load(tmp_path), faces)
    (tmp_path / "classnames.txt").unlink()
    shard = load(tmp_path / "test" / "0.tar")
    assert set(shard.split) == {"PrivateTest"} and shard.labels.min() >= 0
    assert any("numbers read as 0=Angry" in note for note in shard.notes)


def test_a_level_that_names_no_split_is_said(tmp_path):
    faces = some_faces(sizes=(3, 2, 2))
    write_tree(tmp_path, class_folders(faces, splits=("train", "holdout", "test")))
    found = load(tmp_path)
    assert "folder 'holdout' names no split: 2 faces are read as Training" in found.notes
    assert (found.split == "Training").sum() == 5
    (tmp_path / "own" / "happy").mkdir(parents=True)
    (tmp_path / "own" / "happy" / "a.png").write_bytes(png(faces.images[0]))
    assert "nothing names a split: 1 faces are read as Training" in load(tmp_path / "own").notes


def test_where_file_and_folder_name_other_splits_the_folder_counts(tmp_path):
    image = png(some_faces().images[0])
    write_tree(tmp_path, {"val/happy/Training_1.jpg": image, "train/happy/Training_2.jpg": image})
    found = load(tmp_path)
    assert found.split.tolist() == ["Training", "PublicTest"]


def test_tables_of_one_split_each_are_joined(tmp_path):
    faces = some_faces()
    for split, name in zip(SPLITS, ("train", "val", "test"), strict=True):
        write_tree(tmp_path, {f"{name}.csv": csv_text(faces.of(split), "emotion,pixels")})
    assert_same(load(tmp_path), faces)
    assert set(load(tmp_path / "test.csv").split) == {"PrivateTest"}


def test_hold_out_sets_the_same_tenth_of_each_class_aside():
    faces = some_faces(sizes=(200, 0, 20))
    first, again, other = (data.hold_out(faces, seed) for seed in (0, 0, 1))
    assert first.split.tolist() == again.split.tolist() != other.split.tolist()
    assert first.of("PrivateTest").checksum() == faces.of("PrivateTest").checksum()
    assert first.checksum() == faces.checksum()
    for label in range(7):
        before = ((faces.labels == label) & (faces.split == "Training")).sum()
        moved = ((first.labels == label) & (first.split == "PublicTest")).sum()
        assert moved == max(1, round(before / 10))
    count = (first.split == "PublicTest").sum()
    assert first.notes == (
        f"no validation faces: {count} of Training set aside as PublicTest (seed 0)",
    )


# --- what people hold: classes

ALPHABETICAL = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
SMALL = np.arange(10, 24, 2) * 3  # seven counts, none twice


def counted(monkeypatch, numbering=ALPHABETICAL) -> tuple[Faces, Faces]:
    """A set with FER2013's counts, were it smaller, and the same with another numbering."""
    official = np.stack([SMALL, SMALL // 2, SMALL // 3], axis=1)
    monkeypatch.setattr(names_module, "OFFICIAL", official)
    labels = np.concatenate([np.repeat(np.arange(7), official[:, k]) for k in range(3)])
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48), dtype=np.uint8)
    faces = Faces(images, labels, np.repeat(SPLITS, official.sum(axis=0)))
    faces = faces[np.random.default_rng(1).permutation(len(faces))]
    numbers = np.array([numbering.index(name.lower()) for name in EMOTIONS])
    return faces, replace(faces, labels=numbers[faces.labels])


@pytest.mark.parametrize("splits", [SPLITS, SPLITS[:1], SPLITS[1:], SPLITS[2:]])
def test_fer2013_numbered_alphabetically_is_told_by_its_counts(tmp_path, monkeypatch, splits):
    faces, renumbered = counted(monkeypatch)
    kept = np.isin(faces.split, splits)
    (tmp_path / "x.csv").write_bytes(csv_text(renumbered[kept]))
    found = load(tmp_path / "x.csv")
    assert_same(found, faces[kept])
    assert "put right: 0=Angry, 1=Disgust, 2=Fear, 3=Happy, 4=Neutral, 5=Sad" in found.notes[0]
    (tmp_path / "x.csv").write_bytes(csv_text(faces[kept]))
    assert load(tmp_path / "x.csv").notes == ()


def test_numbers_of_another_set_are_read_in_fer2013s_order_and_it_is_said(tmp_path):
    faces = some_faces()
    (tmp_path / "x.csv").write_bytes(csv_text(faces))
    found = load(tmp_path / "x.csv").notes[0]
    assert found.startswith(
        "numbers read as 0=Angry, 1=Disgust, 2=Fear, 3=Happy, 4=Sad, 5=Surprise"
    )
    assert "CLASSES=" in found


@pytest.mark.parametrize("first", [0, 1])
def test_classes_say_what_the_numbers_mean(tmp_path, monkeypatch, first):
    faces = some_faces(sizes=(20, 4, 4))
    numbers = np.array([ALPHABETICAL.index(name.lower()) for name in EMOTIONS]) + first
    (tmp_path / "x.csv").write_bytes(csv_text(replace(faces, labels=numbers[faces.labels])))
    for names in (ALPHABETICAL, ",".join(ALPHABETICAL)):
        found = load(tmp_path / "x.csv", classes=names)
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
    names = ("smile", "frown", "happy")
    own = replace(faces, labels=np.arange(len(faces)) % 3)
    write_tree(tmp_path / "set", class_folders(own, names))
    with pytest.raises(DataError, match=r"name no class: '\w+/(smile|frown)' .* CLASSES=name"):
        load(tmp_path / "set")
    found = load(tmp_path / "set", classes=names)
    assert found.classes == ("smile", "frown", "Happy")
    assert_same(found, in_folder_order(own, names))
    found = load(tmp_path / "set", classes="frown,smile")
    assert found.classes == ("frown", "smile") and len(found) == 10
    assert any(note.startswith("left out: 5 faces labelled 'happy'") for note in found.notes)
    (tmp_path / "x.csv").write_bytes(csv_text(own))
    assert_same(load(tmp_path / "x.csv", classes=names), own)
    with pytest.raises(DataError, match=r"label '2'; expected 0 to 1 or one of frown, smile"):
        load(tmp_path / "x.csv", classes="frown,smile")
    for bad in ("smile", "anger,angry", "a,,b"):
        with pytest.raises(DataError, match="expected two names or more"):
            load(tmp_path / "x.csv", classes=bad)


def test_contempt_is_left_out_and_said_and_suprise_is_surprise(tmp_path):
    faces = some_faces(sizes=(16, 0, 0))
    labels = np.arange(16) % 8
    table = csv_text(replace(faces, labels=labels))
    (tmp_path / "ckextended.csv").write_bytes(table)
    found = load(tmp_path / "ckextended.csv")
    assert_same(found, replace(faces, labels=labels)[labels < 7])
    assert "left out: 2 faces labelled '7', which is none of the seven" in found.notes
    eight = [*EMOTIONS, "contempt"]
    found = load(tmp_path / "ckextended.csv", classes=eight)
    assert found.classes == (*EMOTIONS, "Contempt") and found.labels.tolist() == labels.tolist()
    names = [name.lower().replace("surprise", "suprise") for name in eight]
    write_tree(tmp_path / "set", class_folders(replace(faces, labels=labels), names))
    found = load(tmp_path / "set")
    assert len(found) == 14 and (found.labels == 5).sum() == 2
    assert "left out: 2 faces labelled 'contempt', which is none of the seven" in found.notes


def test_a_class_without_a_face_is_said(tmp_path):
    faces = some_faces(sizes=(9, 0, 0))
    (tmp_path / "x.csv").write_bytes(csv_text(replace(faces, labels=np.arange(9) % 5)))
    assert "no face of Surprise, Neutral" in load(tmp_path / "x.csv").notes


# --- what people hold: tables from spreadsheets, pictures of all kinds, other formats


def as_names(text: bytes) -> bytes:
    rows = text.decode().splitlines()
    named = [EMOTIONS[int(row[0])].lower() + row[1:] for row in rows[1:]]
    return "\n".join([rows[0], *named, ""]).encode()


def with_names(text: bytes) -> bytes:
    """A column of names beside numbers that count in alphabetical order."""
    rows = text.decode().splitlines()
    order = sorted(EMOTIONS)
    named = [f"{order.index(EMOTIONS[int(r[0])])},{EMOTIONS[int(r[0])]}{r[1:]}" for r in rows[1:]]
    return "\n".join([rows[0].replace("emotion,", "emotion,emotion_name,"), *named, ""]).encode()


def in_brackets(text: bytes) -> bytes:
    return re.sub(rb"(\d+( \d+)+)", lambda m: b'"[' + m[1].replace(b" ", b", ") + b']"', text)


SPREADSHEETS = {
    "commas at line ends": lambda text: text.replace(b"\n", b",,\n"),
    "commas at the rows' ends": lambda text: text.replace(b"\n", b",,\n").replace(
        b",,\n", b"\n", 1
    ),
    "a row of commas": lambda text: text + b",,\n,,\n",
    "sep=;": lambda text: b"sep=;\n" + text.replace(b",", b";"),
    "semicolons": lambda text: text.replace(b",", b";"),
    "labels as fractions": lambda text: re.sub(rb"(?m)^(\d),", rb"\1.0,", text),
    "labels as names": as_names,
    "a column of names": with_names,
    "lists in brackets": in_brackets,
    "commas between": lambda text: in_brackets(text).replace(b"[", b"").replace(b"]", b""),
    "pixels as fractions": lambda text: re.sub(rb"(?<=\d) ", b".0 ", text),
    "old Macintosh line ends": lambda text: text.replace(b"\n", b"\r"),
    "empty lines": lambda text: text.replace(b"\n", b"\n\n") + b"\r\n\n",
    "leading zeros": lambda text: text.replace(b" ", b" 00"),
    "no last line end": lambda text: text[:-1],
    "an index": lambda text: re.sub(rb"(?m)^(?=.)", b"1,", text).replace(b"1,emo", b",emo", 1),
    "splits by other names": lambda text: text.replace(b"PublicTest", b"val").replace(
        b"Training", b"train"
    ),
    "another column": lambda text: re.sub(rb"(?m)$", b",x", text.strip()) + b"\n",
}


@pytest.mark.parametrize("name", SPREADSHEETS)
def test_what_spreadsheets_make_of_a_table_is_read_where_nothing_is_lost(tmp_path, name):
    faces = some_faces()
    (tmp_path / "x.csv").write_bytes(SPREADSHEETS[name](csv_text(faces)))
    found = load(tmp_path / "x.csv")
    assert_same(found, faces)
    assert ("columns left out: x" in found.notes) == (name == "another column")


def test_parquet_of_pixels_is_read_as_a_table_is(tmp_path):
    import pandas as pd

    faces = some_faces()
    (tmp_path / "x.csv").write_bytes(csv_text(faces))
    pd.read_csv(tmp_path / "x.csv").to_parquet(tmp_path / "x.parquet")
    assert_same(load(tmp_path / "x.parquet"), faces)


def test_pictures_in_class_folders_are_known_by_content_and_what_is_skipped_is_said(tmp_path):
    image = Image.fromarray(some_faces().images[0])
    for i, (ending, kind) in enumerate(
        {"jfif": "JPEG", "jpe": "JPEG", "avif": "AVIF", "webp": "WEBP", "xyz": "PNG"}.items()
    ):
        (tmp_path / "train" / EMOTIONS[i]).mkdir(parents=True)
        image.save(tmp_path / "train" / EMOTIONS[i] / f"a.{ending}", kind)
        (tmp_path / "train" / EMOTIONS[i] / f"{i}.heic").write_bytes(HEIC)
    (tmp_path / "readme.txt").write_text("pictures")
    found = load(tmp_path)
    assert len(found) == 5 and set(found.labels) == set(range(5))
    left = "left out: 5 .heic (HEIC, as telephones store it; save it as JPEG), 1 .txt (readme.txt)"
    assert left in found.notes


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100
FOREIGN_FILES = {
    "HDF5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
    "numpy array": b"\x93NUMPY\x01\0" + b"\0" * 100,
    "numpy arrays": pack_zip({"images.npy": b"\x93NUMPY", "labels.npy": b"\x93NUMPY"}),
    "a pickle, not opened since it could run code": pickle.dumps({"images": [1, 2]}),
    "a pickle": pack_zip({"train/data.pkl": b"\x80\2", "train/version": b"3"}),
    "Office file": pack_zip({"[Content_Types].xml": b"<", "xl/workbook.xml": b"<"}),
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
        with pytest.raises(DataError, match=kind) as caught:
            load(path)
        assert re.search("save|unpack|fetch|sign in", str(caught.value))


def test_a_picture_of_16_bits_keeps_its_light_where_only_12_are_used(tmp_path):
    light = np.linspace(0, 1, 48 * 48).reshape(48, 48)
    for highest in (255, 4095, 65535):
        Image.fromarray((light * highest).astype(np.uint16)).save(tmp_path / "a.png")
        found = load(tmp_path / "a.png").images[0]
        assert np.abs(found.astype(float) - 255 * light).max() < 2


# --- votes


def vote_table(faces, votes) -> bytes:
    rows = [
        f"{split},{'' if i == 2 else f'fer{i:07}.png'},{','.join(map(str, vote))}"
        for i, (split, vote) in enumerate(zip(faces.split, votes, strict=True))
    ]
    header = ",".join(("Usage", "Image name", *data.VOTE_COLUMNS))
    return "\r\n".join([header, *rows, ""]).encode()


@pytest.fixture
def voted(tmp_path, monkeypatch):
    """A set that passes for FER2013, with votes that follow its labels."""
    from fer_utils.data import ferplus as module

    faces = some_faces()
    votes = np.zeros((len(faces), 10), int)
    votes[
        np.arange(len(faces)), [module.EMOTION_OF_COLUMN.index(EMOTIONS[k]) for k in faces.labels]
    ] = 10
    (tmp_path / "faces.csv").write_bytes(csv_text(faces))
    (tmp_path / "votes.csv").write_bytes(vote_table(faces, votes))
    monkeypatch.setattr(module, "FER2013_PIXELS", data.faces.pixel_checksum(faces.images))
    return tmp_path, faces, votes


def test_votes_join_by_row_and_keep_all_ten_columns(voted):
    folder, faces, votes = voted
    found = load(folder / "faces.csv", votes=folder / "votes.csv")
    assert_same(found, faces)
    np.testing.assert_array_equal(found.votes, votes)
    np.testing.assert_array_equal(data.plurality(found.votes), faces.labels)
    np.testing.assert_array_equal(found.of("PublicTest").votes, votes[faces.split == "PublicTest"])


def test_votes_refuse_every_set_but_the_same_in_the_same_order(voted):
    folder, faces, votes = voted

    def join(faces, votes=votes, names=faces, match=""):
        (folder / "other.csv").write_bytes(csv_text(faces))
        (folder / "votes.csv").write_bytes(vote_table(names, votes))
        with pytest.raises(DataError, match=match):
            load(folder / "other.csv", votes=folder / "votes.csv")

    swapped = np.arange(len(faces))
    swapped[:2] = [1, 0]
    join(faces[:-1], match="votes for 15 faces, .* has 14")
    join(faces[::-1], match="row 0 .line 2.: Training, but PrivateTest")
    join(faces[swapped], match="images in their published order")
    join(faces, np.roll(votes, 3, axis=1), match="another order")
    votes = votes.astype(object)
    votes[4, 3] = "x"
    join(faces, votes, match="row 4 .line 6.: sadness 'x'")


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
    pixels = images[:4] / 255
    assert found.mean == pytest.approx(pixels.mean()) and found.sd == pytest.approx(pixels.std())
    assert "6 distinct images" in str(found)


@real
def test_the_published_set_has_its_known_figures():
    found = data.describe(load(REAL))
    assert found.published.startswith("FER2013 as published")
    assert found.counts.tolist() == names_module.OFFICIAL.tolist()
    assert (found.distinct, found.copy_groups, found.conflicting_groups) == (34034, 1516, 57)
    assert list(found.copies_across.values()) == [280, 288, 44]
    blank = [6458, 7629, 10423, 11286, 13148, 13402, 13988, 15894, 22198, 22927, 28601, 30002]
    assert found.blank_rows.tolist() == blank
    assert (round(found.mean, 5), round(found.sd, 5)) == (0.50774, 0.25501)


@real
@pytest.mark.skipif(not VOTES, reason="FER_VOTES does not say where fer2013new.csv lies")
def test_the_published_votes_join_and_have_their_known_figures():
    faces = load(REAL, votes=VOTES)
    assert (faces.votes.sum(axis=1) != 10).sum() == 1
    assert (2 * faces.votes[:, 9] > 10).sum() == 176  # no face to most; 173 of them unnamed


# --- the cache


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A table, a cache folder, and a count of how often the table is really read."""
    path, folder, reads = tmp_path / "faces.csv", tmp_path / "cache", []
    path.write_bytes(csv_text(some_faces()))
    monkeypatch.setenv("FER_CACHE", str(folder))
    monkeypatch.setattr(cache_module, "WORTH_IT", 0)
    read = data.read_and_recognise
    monkeypatch.setattr(
        data, "read_and_recognise", lambda *given: reads.append(given) or read(*given)
    )
    return path, folder, reads


def test_a_second_load_comes_from_the_cache(cached):
    path, folder, reads = cached
    first, second = load(path), load(path)
    assert_same(second, first)
    assert len(reads) == 1 and second.notes == first.notes
    assert [file.suffix for file in folder.iterdir()] == [".npz"]


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
    other = some_faces(1)
    path.write_bytes(csv_text(other))
    assert_same(load(path), other)
    assert len(reads) == 3


def test_a_damaged_cache_is_rebuilt(cached):
    path, folder, reads = cached
    expected = load(path)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    damaged = [b"", b"no zip", whole[: len(whole) // 2], whole[:-1]]
    for at in range(40, len(whole), len(whole) // 10):
        damaged.append(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
    for i, content in enumerate(damaged):
        file.write_bytes(content)
        assert_same(load(path), expected), i
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


def test_the_cache_keeps_the_sets_used_last_and_nothing_else_is_removed(cached, monkeypatch):
    path, folder, reads = cached
    monkeypatch.setattr(cache_module, "KEPT", 2)
    folder.mkdir()
    (folder / "mine.npz").write_bytes(b"no face")
    names = ["a", "b", "c"]
    for k, name in enumerate(names):
        (path.parent / name).write_bytes(csv_text(some_faces(k)))
        load(path.parent / name)
        time.sleep(0.02)
        load(path.parent / "a")  # used again and again
    assert len(list(folder.glob("faces-*.npz"))) == 2 and (folder / "mine.npz").exists()
    before = len(reads)
    load(path.parent / "a")
    assert len(reads) == before
    load(path.parent / "b")
    assert len(reads) == before + 1


def test_other_classes_are_read_anew(cached):
    path, _, reads = cached
    assert load(path).classes == EMOTIONS
    other = "a,b,c,d,e,f,g"
    assert (
        load(path, classes=other).classes == tuple("abcdefg") == load(path, classes=other).classes
    )
    assert len(reads) == 2


def test_the_module_imports_nothing_heavy():
    script = (
        "import sys, fer_utils.data\n"
        "print([m for m in ('torch', 'cv2', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_summary_has_counts_by_split_and_class_and_every_note():
    faces = replace(some_faces(sizes=(2, 1, 1)), labels=np.array([0, 0, 3, -1]), notes=("a note",))
    lines = [line.split() for line in data.summary_lines(faces)]
    assert lines[0] == [*SPLITS, "all"]
    assert ["Angry", "2", "0", "0", "2"] in lines and ["Happy", "0", "1", "0", "1"] in lines
    assert lines[-3:] == [
        ["unlabelled", "0", "0", "1", "1"],
        ["all", "2", "1", "1", "4"],
        ["a", "note"],
    ]
    own = replace(faces, classes=("yes", "no", "perhaps", "never"))
    assert ["never", "0", "1", "0", "1"] in [line.split() for line in data.summary_lines(own)]


def test_the_command_says_what_a_path_holds_or_one_line(tmp_path):
    (tmp_path / "faces.csv").write_bytes(csv_text(some_faces()))
    command = [sys.executable, "-m", "fer_utils.data"]
    good = subprocess.run([*command, tmp_path / "faces.csv"], capture_output=True, text=True)
    assert good.returncode == 0 and good.stdout.startswith("15 faces: no published set")
    bad = subprocess.run([*command, tmp_path / "nosuch"], capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stdout == "" and bad.stderr.count("\n") == 1
