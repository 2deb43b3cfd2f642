"""A network of the reader's own: found, refused in one line, trained, and never executed unasked."""

import re
from pathlib import Path

import nbformat
import networks as examples
import pytest
import torch
from conftest import ROOT

from fer_utils import evaluation, runs, train
from fer_utils.networks import NetworkError, build, find_network, own_network
from fer_utils.train import Recipe
from fer_utils.train.__main__ import main as train_main

EXAMPLES = Path(examples.__file__)
NAMES = ("Flattening", "Skips", "Separable", "Dropping")
RECIPE = Recipe(epochs=1, batch=32)
SOURCE = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
TINY = """
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Conv2d(1, 4, 5), nn.Flatten(), nn.Linear(4 * 44 * 44, classes))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """own(source): writes my_net.py and returns the reference of its class Tiny."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_NETWORK", "")

    def write(source=TINY):
        Path("my_net.py").write_text(source)
        return "my_net.py:Tiny"

    return write


def test_a_network_is_found_by_name_and_by_file():
    assert find_network("FerCNN").build is runs.find_network("FerCNN").build
    network = find_network(f"{EXAMPLES}:Skips")
    assert network.name == "networks.py:Skips" and len(network.checksum) == 64
    assert build(network, 5)(torch.zeros(2, 1, 48, 48)).shape == (2, 5)


@pytest.mark.parametrize(
    "reference, told",
    [
        ("Nope", "no network 'Nope'; expected FerCNN or FerResNet, or FILE.py:Class"),
        ("none.py:Net", "none.py: No such file or directory; expected FILE.py:Class"),
        ("~nosuchuser/none.py:Net", "~nosuchuser/none.py: No such file or directory"),
        ("my_net.py", "no network 'my_net.py'; expected FerCNN"),
        ("my_net.py:Other", "my_net.py: no nn.Module 'Other' in it (have: Tiny)"),
        ("my_net.py:nn", "my_net.py: no nn.Module 'nn' in it (have: Tiny)"),
    ],
)
def test_what_is_no_network_is_refused_in_a_line(own, reference, told):
    own()
    with pytest.raises(NetworkError) as caught:
        find_network(reference)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source, told",
    [
        ("import nothing_such", "my_net.py, line 1: ModuleNotFoundError: No module named"),
        ("a = 1\nb = ((", "my_net.py: SyntaxError: '(' was never closed (my_net.py, line 2)"),
        ("\n\nraise SystemExit('usage')", "my_net.py, line 3: SystemExit: usage"),
        ("\nimport broken", "my_net.py, line 2: SyntaxError: '(' was never closed (broken.py, li"),
    ],
)
def test_a_file_that_fails_is_quoted_with_its_line(own, source, told, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("a = (")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NetworkError, match=re.escape(told)):
        find_network(own(source))


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("self, classes)", "self)", r"Tiny\(7\) fails: TypeError.*one argument is the number"),
        ("Conv2d(1, 4, 5)", "Identity()", "no Conv2d in it"),
        ("Conv2d(1, 4", "Conv2d(3, 4", r"refuses .*begin its forward with `x = x.expand\(-1, 3"),
        ("4 * 44 * 44", "99", r"refuses faces of 1 × 48 × 48 \(mat1.*size=\(224, 224\)"),
        (", classes))", ", 3))", r"returns \(2, 3\) for two faces; expected \(2, 7\)"),
        ("classes))", "classes), nn.Unflatten(1, (7, 1)))", r"returns \(2, 7, 1\)"),
        ("classes))", "classes), nn.Softmax(1))", "returns probabilities.*leave the softmax out"),
        ("classes))", "classes), nn.Threshold(1e9, float('nan')))", "returns NaN or infinity"),
    ],
)  # fmt: skip
def test_a_network_that_the_report_cannot_read_is_refused_before_training(own, old, new, told):
    assert old in TINY
    with pytest.raises(NetworkError, match=told):
        build(find_network(own(TINY.replace(old, new))), 7)


def test_a_network_that_fails_leaves_nothing_behind_and_no_face_is_read(own, runs_folder, capsys):
    reference = own(TINY.replace("Conv2d(1, 4", "Conv2d(3, 4"))
    assert train_main(["--run", "mine", "--data", "nosuch.csv", "--network", reference]) == 1
    assert "refuses faces of 1 × 48 × 48" in capsys.readouterr().err
    assert not (runs_folder / "mine").exists()


def test_a_run_of_ones_own_network_needs_its_file_as_it_was(own, runs_folder, monkeypatch):
    reference = own()
    assert train_main(["--run", "mine", "--faces", "210", "--epochs", "1", "--batch", "32",
                       "--network", reference]) == 0  # fmt: skip
    run = runs.Run.load("mine")
    assert run.network_name == "my_net.py:Tiny"
    with pytest.raises(runs.RunError, match="say where its file lies, NETWORK=path/to/my_net"):
        run.model()
    monkeypatch.setenv("FER_NETWORK", reference)
    assert run.model()(torch.zeros(2, 1, 48, 48)).shape == (2, 7)
    own(TINY + "\n")
    with pytest.raises(runs.RunError, match="not as it was when the run was trained"):
        runs.Run.load("mine").model()


def test_a_fit_does_not_go_on_with_another_file(own, runs_folder, few_faces):
    def stop(event):
        if event.get("epoch") == 2:
            raise KeyboardInterrupt

    recipe = Recipe(network="my_net.py:Tiny", epochs=2, batch=32)
    first = find_network(own())
    with pytest.raises(KeyboardInterrupt):
        train.make_run("mine", few_faces, recipe, SOURCE, progress=stop, network=first)
    changed = find_network(own(TINY + "\n"))
    with pytest.raises(train.TrainingError, match="begun with other network file"):
        train.make_run("mine", few_faces, recipe, SOURCE, network=changed)
    assert train.make_run("mine", few_faces, recipe, SOURCE, network=first)


def test_the_run_of_a_stranger_executes_nothing(own, monkeypatch, tmp_path):
    trap = tmp_path / "sprung"
    reference = own(f"open({str(trap)!r}, 'w')\n{TINY}")
    for mine in ("", "FerCNN", "elsewhere/my_net.py:Other", "other.py:Tiny"):
        monkeypatch.setenv("FER_NETWORK", mine)
        with pytest.raises(NetworkError, match="say where its file lies"):
            own_network(reference, "0" * 64)
    assert not trap.exists()


def test_only_the_shipped_run_on_the_same_faces_is_a_reference(runs_folder, few_faces):
    shipped = runs.Run.load("synthetic")
    assert shipped.reference() is None
    other = train.make_run("other", few_faces, RECIPE, SOURCE, precision="float32")
    assert other.reference() is None
    other.config["data"]["checksum"] = shipped.config["data"]["checksum"]
    assert other.reference().name == "synthetic"


@pytest.mark.parametrize("name", NAMES)
def test_every_method_explains_every_network(name):
    net = build(find_network(f"{EXAMPLES}:{name}"), 7).eval()
    x = torch.randn(2, 1, 48, 48)
    for title, method in evaluation.METHODS.items():
        if (name, title) == ("Separable", "guided backprop"):
            with pytest.raises(ValueError, match="needs ReLU or LeakyReLU"):
                method.maps(net, x, 0)
            continue
        maps = method.maps(net, x, torch.tensor([0, 3]))
        assert maps.shape == x.shape and maps.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_chapter_speaks_of_every_network(name, tmp_path, monkeypatch):
    """The whole report about a network of another make, on few faces; nothing in it fails."""
    from fer_utils.report.__main__ import main as report_main

    monkeypatch.setenv("FER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("FER_NETWORK", f"{EXAMPLES}:{name}")
    given = ["--run", "own", "--build", str(tmp_path), "--", "--faces", "700", "--epochs", "2"]
    assert report_main(given) == 0
    folder = tmp_path / "own"
    assert (folder / "report.pdf").stat().st_size > 100_000
    chapters = sorted((folder / "notebooks").glob("*.ipynb"))
    assert [path.name for path in chapters] == [
        p.name for p in sorted(ROOT.glob("notebooks/0*.ipynb"))
    ]
    first = nbformat.read(chapters[1], as_version=4)
    (answer,) = [c for c in first.cells if "answer" in c.metadata.get("tags", [])]
    assert f"networks.py:{name}" in answer.outputs[0]["data"]["text/markdown"]
