"""A run is whole or refused, found from anywhere, and never shown beside foreign data."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from fer_utils import runs, train
from fer_utils.model import FerCNN
from fer_utils.runs import Run, RunError
from fer_utils.train import Recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory, few_faces):
    """A folder of runs with one tiny run in it."""
    folder = tmp_path_factory.mktemp("runs")
    source = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS", str(folder))
        train.make_run("tiny", few_faces, Recipe(epochs=1, batch=32), source, precision="float32")
    return folder


@pytest.fixture
def run(trained, runs_folder):
    shutil.copytree(trained, runs_folder)
    return Run.load("tiny")


def test_stored_predictions_are_the_networks_own(run, few_faces):
    rows = run.predictions
    images = few_faces.images[rows["row"]]
    assert np.allclose(rows[list(run.classes)], run.predict(images), atol=5e-4)
    assert (rows["label"] == few_faces.labels[rows["row"]]).all()


def test_metrics_follow_from_the_stored_predictions(run):
    for name, scores in run.metrics.items():
        rows = run.predictions[run.predictions["split"] == name]
        right = rows[list(run.classes)].to_numpy().argmax(1) == rows["label"]
        assert scores["accuracy"] == pytest.approx(right.mean()) and scores["n"] == len(rows)


def test_synthetic_faces_come_back_the_same(run, few_faces):
    assert run.faces().checksum() == few_faces.checksum()
    assert np.array_equal(run.faces(most=5).images, few_faces.images[:5])


def test_where_runs_lie_elsewhere_the_shipped_ones_are_found_too(run, runs_folder):
    shipped = Run.load("synthetic")
    assert shipped.path == ROOT / "runs" / "synthetic" and run.path == runs_folder / "tiny"
    assert shipped.variant("original").path == ROOT / "runs" / "synthetic" / "variants" / "original"
    shutil.copytree(run.path, runs_folder / "synthetic" / "variants" / "mine")
    assert Run.load("synthetic").path == shipped.path  # a variant alone is no run
    assert set(shipped.variants) >= {"mine", "original"}
    assert shipped.variant("mine").path == runs_folder / "synthetic" / "variants" / "mine"
    shutil.copytree(run.path, runs_folder / "synthetic", dirs_exist_ok=True)
    assert Run.load("synthetic").path == runs_folder / "synthetic"


def test_a_ledger_alone_is_no_run(run, runs_folder):
    """Where a variant of a shipped run was trained and scored elsewhere."""
    shutil.copytree(run.path, runs_folder / "synthetic" / "variants" / "mine")
    (runs_folder / "synthetic" / "ledger.csv").write_text("variant\nmine\n")
    shipped = Run.load("synthetic")
    assert shipped.path == ROOT / "runs" / "synthetic"
    assert shipped.ledger["variant"].tolist() == ["mine"]


def test_the_test_split_is_the_one_that_was_scored(run):
    assert run.test_split == "PrivateTest"
    runs.write_json(run.path / "metrics.json", {"PublicTest": run.metrics["PublicTest"]})
    assert Run.load("tiny").test_split == "PublicTest"


def test_an_unknown_run_names_those_that_are_there(run):
    said = r"no run named 'nosuch'.*have: .*tiny.*make train RUN=nosuch"
    with pytest.raises(RunError, match=said):
        Run.load("nosuch")


@pytest.mark.parametrize("part", ["config.json", "history.csv", "predictions.npz", "metrics.json"])
def test_a_half_written_run_is_refused(run, part):
    (run.path / part).unlink()
    with pytest.raises(RunError, match=f"half-written.*{part}"):
        Run.load("tiny")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "x\n"])
def test_a_name_that_is_a_path_is_refused(runs_folder, name):
    with pytest.raises(RunError, match="letters, digits"):
        Run.load(name)


def test_a_real_run_without_images_has_none_and_foreign_ones_are_refused(
    run, monkeypatch, few_faces
):
    real = {"kind": "fer2013", "checksum": "0" * 64}
    runs.write_json(run.path / "config.json", run.config | {"data": real})
    assert Run.load("tiny").faces() is None
    monkeypatch.setattr(runs.data, "load", lambda path, votes, classes: few_faces)
    monkeypatch.setenv("FER_DATA", "elsewhere.csv")
    with pytest.raises(RunError, match=r"elsewhere.csv: not the set.*RUN=mine"):
        Run.load("tiny").faces()


def test_labels_follow_the_runs_order_of_classes(few_faces):
    classes = ("Neutral", "Happy", "Angry", "Sad", "Fear", "Disgust", "Surprise")
    labels = np.where(few_faces.split == "PublicTest", -1, few_faces.labels)
    turned = runs.relabel(replace(few_faces, labels=labels), classes).labels
    assert ((turned == -1) == (labels == -1)).all()
    assert [classes[k] for k in turned[labels >= 0]] == [
        runs.data.EMOTIONS[k] for k in labels[labels >= 0]
    ]


def test_scaling_is_what_the_config_says(run):
    images = np.full((1, 48, 48), 255, np.uint8)
    scale = run.config["scale"]
    white = (1 - scale["mean"]) / scale["sd"]
    assert run.scale(images).unique().item() == pytest.approx(white, rel=1e-5)
    with pytest.raises(ValueError, match="uint8"):
        run.scale(images.astype(float))


def test_weights_survive_as_float16(tmp_path):
    model, path = FerCNN(), tmp_path / "m.safetensors"
    runs.save_weights(path, model, {"network": "FerCNN", "classes": "[1,2,3,4,5,6,7]"})
    back = runs.load_weights(path).state_dict()
    for key, value in model.half().state_dict().items():
        assert torch.equal(back[key], value.to(back[key].dtype))


def test_a_layer_with_two_names_is_stored_too(tmp_path):
    model, path = FerCNN(), tmp_path / "m.safetensors"
    model.again = model.layer1
    runs.save_weights(path, model, {})
    assert torch.equal(load_file(path)["again.0.bias"], model.layer1[0].bias.half())


def test_weights_too_large_for_float16_are_refused(tmp_path):
    model = FerCNN()
    with torch.no_grad():
        model.fc[6].bias[2] = -1e6
    with pytest.raises(RunError, match=r"fc\.6\.bias.*largest 1e\+06"):
        runs.save_weights(tmp_path / "m.safetensors", model, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_weights_give_one_line(tmp_path, content):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not the weights") as caught:
        runs.load_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", ["7", "null", "nonsense"])
def test_weights_without_class_names_give_one_line(tmp_path, classes):
    runs.save_weights(
        tmp_path / "m.safetensors", FerCNN(), {"network": "FerCNN", "classes": classes}
    )
    with pytest.raises(RunError, match="not the weights"):
        runs.load_weights(tmp_path / "m.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), runs.atomic(path) as partial:
        partial.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_results_come_back_and_damage_is_named(run):
    path = run.store("means", {"a": np.arange(3)})
    assert run.read("means")["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(RunError, match="damaged"):
        run.read("means")
    with pytest.raises(RunError, match="no result 'other'"):
        run.read("other")
