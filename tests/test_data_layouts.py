"""The real set in every layout of the README's table, written anew from ``FER_DATA``.

The tables have the very bytes that torchvision's checksums name.
"""

import hashlib
import os

import numpy as np
import pytest
from test_data import class_folders, csv_text, pack_tar, pack_zip, parquet, png, write_tree

from fer_utils import data
from fer_utils.data.names import OFFICIAL

REAL = os.environ.get("FER_DATA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL, reason="FER_DATA does not say where FER2013 lies"),
]
ALPHABETICAL = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
PUBLISHED = "recognised by checksum"


@pytest.fixture(scope="module")
def faces():
    return data.load(REAL)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("FER_CACHE", "")


def assert_counts(found, expected=OFFICIAL):
    assert data.describe(found).counts.tolist() == expected.tolist()


def test_tables(tmp_path, faces):
    train, test = faces.of("Training"), faces[faces.split != "Training"]
    written = {
        "f8428a1edbd21e88f42c73edd2a14f95": csv_text(faces),
        "b114b9e04e6949e5fe8b6a98b3892b1d": csv_text(faces, "emotion, Usage, pixels"),
        "3f0dfb3d3fd99c811a1299cb947e3131": csv_text(train, "emotion,pixels", '"', "\r\n"),
        "b02c2298636a634e8c2faabbf3ea9a23": csv_text(test, "pixels", '"', "\r\n"),
    }
    for md5, text in written.items():
        assert hashlib.md5(text).hexdigest() == md5
        (tmp_path / "x").write_bytes(text)
        assert data.load(tmp_path / "x").notes[0].startswith(PUBLISHED)
    (tmp_path / "x").write_bytes(pack_zip({f"{md5}.csv": text for md5, text in written.items()}))
    assert data.load(tmp_path / "x").notes[0].startswith(PUBLISHED)
    for header, rows in (("label,feature", train), ("id,feature", test)):
        (tmp_path / "x").write_bytes(csv_text(rows, header))
        assert data.load(tmp_path / "x").notes[0].startswith(PUBLISHED)


def test_a_table_numbered_alphabetically_in_the_order_of_folders(tmp_path, faces):
    numbers = np.array([ALPHABETICAL.index(name.lower()) for name in data.EMOTIONS])
    order = np.lexsort((numbers[faces.labels], faces.split))
    shuffled = data.Faces(faces.images, numbers[faces.labels], faces.split)[order]
    (tmp_path / "x").write_bytes(csv_text(shuffled))
    found = data.load(tmp_path / "x")
    assert_counts(found)
    assert any("put right" in note for note in found.notes)
    assert (found.labels == faces.labels[order]).all()


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (ALPHABETICAL, ("train", "test", "test")),
        (
            ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral"),
            ("train", "valid", "test"),
        ),
    ],
)
def test_image_folders(tmp_path, faces, names, splits):
    ordered = [next(n for n in names if n[:3] == name[:3].lower()) for name in data.EMOTIONS]
    write_tree(tmp_path, class_folders(faces, ordered, splits))
    expected = OFFICIAL.copy()
    if splits[1] == "test":
        expected = np.stack([OFFICIAL[:, 0], 0 * OFFICIAL[:, 0], OFFICIAL[:, 1:].sum(1)], axis=1)
    assert_counts(data.load(tmp_path), expected)


def test_kaggles_file_names(tmp_path, faces):
    at = {"Training": "train", "PublicTest": "test", "PrivateTest": "test"}
    rows = zip(faces.images, faces.labels, faces.split, strict=True)
    files = {
        f"{at[split]}/{data.EMOTIONS[label].lower()}/{split}_{i}.jpg": png(image)
        for i, (image, label, split) in enumerate(rows)
    }
    write_tree(tmp_path, files)
    assert_counts(data.load(tmp_path))


def test_parquet(tmp_path, faces):
    for split, name in zip(data.SPLITS, ("train", "valid", "test"), strict=True):
        shard = parquet(faces.of(split), "image", "label", True)
        write_tree(tmp_path, {f"default/{name}/0000.parquet": shard})
    assert data.load(tmp_path).notes[0].startswith(PUBLISHED)


def test_webdataset_shards(tmp_path, faces):
    for name, part in (("train", faces.split == "Training"), ("test", faces.split != "Training")):
        shard = {}
        for i, row in enumerate(np.flatnonzero(part)):
            shard[f"s{i:07}.jpg"] = png(faces.images[row])
            shard[f"s{i:07}.cls"] = str(faces.labels[row]).encode()
        write_tree(tmp_path, {f"{name}/0.tar": pack_tar(shard)})
    found = data.load(tmp_path)
    assert (found.labels == faces.labels).all()
    assert [(found.split == split).sum() for split in data.SPLITS] == [28709, 0, 7178]


def test_numbered_images_beside_ids_and_labels(tmp_path, faces):
    train = faces.of("Training")
    files = {f"train_img/{i:05}.jpg": png(image) for i, image in enumerate(train.images)}
    files |= {f"test_img/{i:04}.jpg": png(image) for i, image in enumerate(faces.images[-7000:])}
    table = "id,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(train.labels))
    write_tree(tmp_path, files | {"train.csv": table.encode()})
    found = data.load(tmp_path)
    assert found.checksum() == train.checksum()
    assert "left out: 7000 images in test_img/, which have no label" in found.notes
