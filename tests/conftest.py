"""Shared by the tests: few faces, an empty runs/, the same chance each time."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(min(2, torch.get_num_threads()))
# Drawn cases are the same in every run, so that a red test means the change; FUZZ draws new ones.
settings.register_profile(
    "drawn", derandomize="FUZZ" not in os.environ, database=None, deadline=None
)
settings.load_profile("drawn")


@pytest.fixture
def runs_folder(tmp_path, monkeypatch):
    """An empty runs/ that the module uses for the length of a test."""
    monkeypatch.setenv("FER_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def few_faces():
    """210 synthetic faces, every class in every split."""
    from fer_utils import synthetic

    return synthetic.faces(210, seed=3)


@pytest.fixture(scope="session", autouse=True)
def without_real_data():
    """No test meets the real set by accident; those about it read the variables at import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FER_DATA", raising=False)
        patch.delenv("FER_VOTES", raising=False)
        yield


@pytest.fixture(autouse=True)
def same_chance():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def answer_with(monkeypatch):
    """answer_with(chapter, model): its cells run here on a network without a run; the answer."""
    from fer_utils import plotting, runs
    from fer_utils.data import EMOTIONS

    def answer(chapter, model):
        stub = SimpleNamespace(
            model=lambda: model, classes=EMOTIONS, network_name="Own",
            scale=lambda images: runs.scale(torch.from_numpy(images), 0.5, 0.25),
        )  # fmt: skip
        monkeypatch.setattr(runs.Run, "load", lambda name: stub)
        monkeypatch.setattr(plotting, "show", lambda *args, **kwargs: None)
        names = {}
        path = ROOT / "notebooks" / f"{chapter}.ipynb"
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            if "answer" in cell["metadata"].get("tags", ()):
                exec(source.replace("Markdown(f", "answer = Markdown(f"), names)
                return " ".join(names["answer"].data.split())
            if cell["cell_type"] == "code":
                exec(source, names)
        raise AssertionError("no cell is tagged 'answer'")

    return answer
