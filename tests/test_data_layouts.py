"""The real set in every layout of the README's table, written anew from ``FER_DATA``.

The tables have the very bytes that torchvision's checksums name.
"""

import hashlib
import os
from dataclasses import replace

import numpy as np
import pytest
from test_data import NUMBERS, class_folders, csv_text, pack_zip, parquet, write_tree

from fer_utils import data
from fer_utils.data.faces import OFFICIAL

REAL = os.environ.get("FER_DATA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL, reason="FER_DATA does not say where FER2013 lies"),
]
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
    icml, train_text, test_text = list(written.values())[1:]
    archive = {"icml_face_data.csv": icml, "train.csv": train_text, "test.csv": test_text}
    for content in (csv_text(faces), icml, pack_zip(archive)):
        (tmp_path / "x").write_bytes(content)
        assert data.load(tmp_path / "x").notes[0].startswith(PUBLISHED)
    for text, expected, known in (
        (train_text, train, True),
        (csv_text(train, "label,feature"), train, True),
        (test_text, test, False),
        (csv_text(test, "id,feature"), test, False),
    ):
        (tmp_path / "x").write_bytes(text)
        found = data.load(tmp_path / "x")
        assert (found.images == expected.images).all() and (found.split == expected.split).all()
        assert (found.labels == expected.labels).all() == known
        told = "as many faces of each class as in FER2013's Training"
        assert (told in found.notes) == known


def test_a_table_numbered_alphabetically_in_the_order_of_folders(tmp_path, faces):
    order = np.lexsort((NUMBERS[faces.labels], faces.split))
    shuffled = replace(faces, labels=NUMBERS[faces.labels])[order]
    (tmp_path / "x").write_bytes(csv_text(shuffled))
    found = data.load(tmp_path / "x")
    assert_counts(found)
    assert any("put right" in note for note in found.notes)
    assert (found.labels == faces.labels[order]).all()


def test_kaggles_image_folders_whose_file_names_tell_the_split(tmp_path, faces):
    write_tree(tmp_path, class_folders(faces, splits=("train", "test", "test")))
    assert_counts(data.load(tmp_path))


def test_parquet_of_the_readmes_command(tmp_path, faces):
    test = faces[faces.split != "Training"]
    for name, part in (("train", faces.of("Training")), ("test", test)):
        write_tree(tmp_path, {f"default/{name}/0000.parquet": parquet(part, "jpg", "cls", False)})
    found = data.load(tmp_path)
    assert [(found.split == split).sum() for split in data.SPLITS] == [28709, 0, 7178]
    assert (found.labels == faces.labels).all() and "FER2013's images" in found.notes[0]
