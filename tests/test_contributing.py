"""What CONTRIBUTING shows works as it stands: a chapter, a reader, a method, a network."""

import io
import os
import re
from pathlib import PurePosixPath

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT
from nbclient import NotebookClient

from fer_utils import evaluation, model, runs, saliency
from fer_utils.data import DataError
from fer_utils.data.files import File, is_archive, is_picture
from fer_utils.report.render import FerHTMLExporter
from fer_utils.train.__main__ import main as train_main

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def run(heading, blocks=None):
    """The names that the Python blocks under a heading leave, in one namespace."""
    section = re.split(r"^## ", TEXT.split(f"\n## {heading}\n")[1], flags=re.M)[0]
    names = {"__name__": heading}
    for code in re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S):
        exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    return names


@pytest.mark.whole
def test_its_chapter_becomes_a_page_of_the_report(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("FER_RUNS", os.environ.get("FER_RUNS") or str(ROOT / "runs"))
    run("A chapter")
    path = tmp_path / "notebooks" / "07_sure.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=120).execute()
    nbformat.write(notebook, path)
    page, found = FerHTMLExporter().from_filename(str(path))
    assert found["chapter"]["title"] == "How sure is it?"
    assert list(found["chapter"]["files"]) == ["7.1.png"] and "Figure 7.1." in page
    assert re.search(r"right in \d\d%", found["chapter"]["answer"])


def test_its_reader_reads_what_numpy_writes_and_refuses_the_rest(tmp_path):
    reader = run("A reader")
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8)
    stream = io.BytesIO()
    np.save(stream, images)
    head = stream.getvalue()
    assert head.startswith(reader["MAGIC"]) and not is_picture(head) and not is_archive(head)
    path = tmp_path / "x.npy"
    path.write_bytes(head)
    found, rows, notes = reader["read_npy"](File(path, PurePosixPath("x.npy"), "x"))
    assert np.array_equal(found, images) and len(rows) == 3 and notes == []
    for bad in (images.astype(float), images[:, 1:], np.array(3), np.array([{}])):
        np.save(path, bad, allow_pickle=True)
        with pytest.raises(DataError, match=r"^x: .*expected an array"):
            reader["read_npy"](File(path, PurePosixPath("x.npy"), "x"))


def test_its_method_is_symmetric_and_enters_the_table(monkeypatch):
    monkeypatch.setattr(evaluation, "METHODS", dict(evaluation.METHODS))
    method = run("A method")["mirrored_gradient"]
    network = model.FerCNN().eval()
    x = torch.randn(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    symmetric = (x + x.flip(-1)) / 2
    maps = method(network, symmetric, 3)
    torch.testing.assert_close(maps, maps.flip(-1))
    plain = saliency.gradient(network, symmetric, 3)
    assert not torch.allclose(plain, plain.flip(-1))
    weight = evaluation.importance("mirrored gradient", network, x, 3)
    assert weight.shape == x.shape and weight.min() >= 0


@pytest.mark.whole
def test_readmes_network_is_found_and_trained(tmp_path, monkeypatch, runs_folder):
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("\n## Your own network\n")[1]
    source = re.search(r"^```python\n(.*?)^```$", section, re.M | re.S)[1]
    assert source in (ROOT / "README.zh-TW.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text(source)
    reference = re.search(r"NETWORK=(\S+)", section)[1]
    small = ["--faces", "210", "--epochs", "1", "--batch", "32", "--precision", "float32"]
    assert train_main(["--run", "mine", "--network", reference, *small]) == 0
    assert runs.Run.load("mine").network_name == reference
