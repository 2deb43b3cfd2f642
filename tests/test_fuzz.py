"""Every reader meets files that nobody wrote: it returns what it promises or refuses in one line.

The same few cases each time; by chance, and more, with ``FUZZ=10000 python -m pytest
tests/test_fuzz.py``: as many a reader, ten times as many for the csv reader.
"""

import base64
import gzip
import io
import os
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_data import class_folders, csv_text, pack_tar, pack_zip, parquet, some_faces
from test_report import FIGURE, TABLE, code, markdown, png, write

from fer_utils import data, runs, train
from fer_utils.data import DataError, Faces, read_faces
from fer_utils.data.ferplus import COLUMNS, read_votes
from fer_utils.data.readers import read_path
from fer_utils.model import FerCNN
from fer_utils.report import ReportError, fingerprint
from fer_utils.runs import Run, RunError
from fer_utils.train.loop import load_checkpoint, save_checkpoint
from fer_utils.train.recipe import make_optimiser

CASES = int(os.environ.get("FUZZ", "25"))
SECONDS = 60  # a single case may take so long, on a busy machine too
TOKENS = [
    b"", b"\n", b"\r\n", b'"', b",", b" ", b"\0", b"-1", b"256", b"7", b"9" * 400, b"nan", b"1e9",
    b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"PK\x03\x04", b"../", b"<script>", b"Training",
    b"{", b"]", b"null", b"NaN", b"emotion,pixels\n", struct.pack("<I", 2**31), b"\xff" * 8,
]  # fmt: skip
FACES = some_faces(sizes=(1, 1, 1))
IMAGES = FACES.images


def picture(kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(stream, kind)
    return stream.getvalue()


HEADERS = [
    "emotion,pixels,Usage", "emotion, Usage, pixels", "emotion,pixels", "pixels",
    "label,feature", "id,feature",
]  # fmt: skip


def votes():
    return "\n".join(
        [",".join(("Usage", "Image name", *COLUMNS)), *["Training,a.png,4,0,0,1,3,2,0,0,0,0"] * 4]
    ).encode()


@st.composite
def meddled(draw, *whole):
    """One of some good files with up to four changes."""
    content = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 1, 4, 60, 4000]))
        new = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8)))
        content = draw(st.sampled_from([
            content[:at] + new + content[at + length :],  # put over
            content[:at] + new + content[at:],  # put between
            content[:at],  # cut
            content[:at] + content[at : at + length] * 2 + content[at + length :],  # doubled
        ]))  # fmt: skip
    return content


def one_line(error):
    text = str(error)
    assert text and "\n" not in text and len(text) < 2000, text


def on_disk(folder, name, read):
    def reader(content):
        (folder / name).write_bytes(content)
        return read(folder / name)

    return reader


def fuzz(strategy, reader, errors, times=1):
    @settings(
        max_examples=CASES * times,
        deadline=SECONDS * 1000,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def cases(content):
        try:
            reader(content)
        except errors as error:
            one_line(error)

    cases()


def sets(path):
    """As ``data.load`` meets it, but for the cache."""
    faces = read_path(path)
    assert isinstance(faces, Faces) and len(faces) and faces.labels.min() >= -1
    assert faces.labels.max() < 7 and set(faces.split) <= set(data.SPLITS)


def test_tables(tmp_path):
    reader = on_disk(tmp_path, "x", sets)
    whole = [csv_text(FACES, header) for header in HEADERS]
    fuzz(meddled(*whole), reader, DataError, times=10)


def test_tables_of_any_cells(tmp_path):
    cell = st.one_of(
        st.sampled_from(["emotion", "pixels", "Usage", "label", "feature", "id", "Training", "0", "7",
                         " ".join(["0"] * 2304), " ".join(["0"] * 2305), "-1", "<script>", '"']),
        st.text(max_size=6),
    )  # fmt: skip
    rows = st.lists(st.lists(cell, min_size=1, max_size=4).map(",".join), min_size=1, max_size=4)
    text = rows.map(lambda r: "\n".join(r).encode("utf-8", "surrogatepass"))
    fuzz(text, on_disk(tmp_path, "x", sets), DataError)


@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
def test_archives(pack, tmp_path):
    whole = [pack({"fer2013.csv": csv_text(FACES)}), pack(class_folders(FACES))]
    packed = [gzip.compress(content, mtime=0) for content in whole]
    fuzz(meddled(*whole, *packed), on_disk(tmp_path, "x", sets), DataError)


def test_archives_of_any_names(tmp_path):
    name = st.one_of(
        st.sampled_from(["../x.png", "/etc/a.png", "train/angry/a.png", "test/fear/b.png", "a\\b.png",
                         "train.csv", "C:/x.png", "a.cls", "a.png", "a.zip", "<script>.png"]),
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=9),
    )  # fmt: skip
    content = st.sampled_from([picture(), csv_text(FACES), b"", votes()])
    files = st.dictionaries(name, content, min_size=1, max_size=5)
    before = {p for p in tmp_path.parent.rglob("*") if p.parent != tmp_path}
    fuzz(files.map(lambda f: pack_zip(f)), on_disk(tmp_path, "x", sets), DataError)
    assert {p for p in tmp_path.parent.rglob("*") if p.parent != tmp_path} == before


def test_parquet(tmp_path):
    whole = parquet(FACES)
    fuzz(meddled(whole), on_disk(tmp_path, "x", sets), DataError)


def test_pictures():
    def reader(content):
        ((face, how),) = read_faces(content, detect=False)
        assert face.shape == (48, 48) and face.dtype == np.uint8 and how

    kinds = [picture(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")]
    fuzz(meddled(*kinds), reader, DataError)


def test_votes(tmp_path):
    fuzz(meddled(votes()), on_disk(tmp_path, "votes.csv", read_votes), DataError)


@pytest.fixture(scope="module")
def run(tmp_path_factory, few_faces):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS", str(tmp_path_factory.mktemp("runs")))
        source = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
        recipe = train.Recipe(epochs=1, batch=32)
        made = train.make_run("tiny", few_faces, recipe, source, precision="float32")
        made.store("dataset", {"a": np.arange(6.0), "names": np.array(["x", "<i>"])})
        yield made


@pytest.mark.whole
def test_weights(run, tmp_path):
    def read(path):
        model = runs.load_weights(path)
        assert isinstance(model, FerCNN)

    whole = (run.path / "model.safetensors").read_bytes()
    head = whole[: 8 + struct.unpack("<Q", whole[:8])[0]]  # most of what can break is in here

    def reader(content):
        (tmp_path / "w").write_bytes(content + whole[len(head) :])
        read(tmp_path / "w")

    fuzz(meddled(head), reader, RunError)


def test_checkpoints(tmp_path):
    recipe, model = train.Recipe(), torch.nn.Sequential(torch.nn.Linear(3, 2))
    optimiser = make_optimiser(model, recipe)
    model(torch.zeros(2, 3)).sum().backward()
    optimiser.step()
    parts = {"model": model, "optimiser": optimiser}
    save_checkpoint(tmp_path / "c", {"seed": 0}, parts, [{"epoch": 1}])
    whole = (tmp_path / "c").read_bytes()
    read = lambda path: load_checkpoint(path, {"seed": 0}, parts)  # noqa: E731
    fuzz(meddled(whole), on_disk(tmp_path, "c", read), train.TrainingError)


@pytest.mark.whole
@pytest.mark.parametrize("name", ["config.json", "metrics.json", "history.csv", "predictions.npz"])
def test_files_of_a_run(run, name):
    whole = (run.path / name).read_bytes()

    def reader(content):
        (run.path / name).write_bytes(content)
        found = Run.load("tiny")
        assert isinstance(found.classes, tuple) and isinstance(found.metrics, dict)
        assert len(found.predictions) and len(found.history)

    try:
        fuzz(meddled(whole), reader, RunError)
    finally:
        (run.path / name).write_bytes(whole)


@pytest.mark.whole
def test_aggregates(run):
    path = run.path / "precomputed" / "dataset.npz"
    whole = path.read_bytes()
    read = lambda _: [np.asarray(array) for array in run.read("dataset").values()]  # noqa: E731
    fuzz(meddled(whole), on_disk(path.parent, path.name, read), RunError)


def test_notebooks(tmp_path):
    shown = {"image/png": base64.b64encode(png()).decode(), "text/plain": "x"}
    cells = (
        markdown("# 0 · What?"), code("RUN = ''", "parameters"),
        code(FIGURE, data=shown, metadata={"image/png": {"alt": "a box", "name": "x", "width": 300}}),
        code(TABLE, data={"text/html": "<table><tr><th rowspan=2>a</th><td>1</td></tr></table>"}),
        code("1", "answer", data={"text/markdown": "It stands."}),
    )  # fmt: skip
    whole = write(tmp_path / "00_a.ipynb", *cells).read_bytes()
    fingerprint.notebook(tmp_path / "00_a.ipynb")
    fuzz(meddled(whole), on_disk(tmp_path, "00_a.ipynb", fingerprint.notebook), ReportError)
