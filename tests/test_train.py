"""Training is exact, goes on where it stopped, and complains before it works."""

import multiprocessing
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import ROOT
from networks import Flattening

from fer_utils import data, runs, train
from fer_utils.model import FerCNN, FerResNet
from fer_utils.train import Recipe, TrainingError, pipeline
from fer_utils.train import __main__ as command
from fer_utils.train import recipe as recipes
from fer_utils.train.__main__ import main

TINY = Recipe(epochs=2, batch=32, learning_rate=0.02, ema=0)
STILL = Recipe(rotate=0, zoom=0, shift=0, flip=False, erase=0)
SCALE = {"mean": 0.5, "sd": 0.25}
SYNTHETIC = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
FILES = {"config.json", "history.csv", "predictions.npz", "metrics.json", "model.safetensors"}


def fitted(faces, recipe=TINY, network=FerCNN, **more):
    torch.manual_seed(recipe.seed)
    model = network()
    history = train.fit(model, faces, recipe, SCALE, **more)
    return model, [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def same_weights(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


class Killed(Exception):
    pass


@pytest.mark.whole
@pytest.mark.parametrize(
    ("recipe", "network"),
    [
        (replace(TINY, optimiser="adam", learning_rate=1e-3), FerCNN),
        (replace(TINY, ema=0.9), FerResNet),  # which drops out
    ],
)
def test_a_stopped_fit_ends_with_the_same_weights(few_faces, tmp_path, recipe, network):
    whole = fitted(few_faces, recipe, network)

    def stop(event):
        if event["epoch"] == 2 and "step" in event:
            raise Killed

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        fitted(few_faces, recipe, network, checkpoint=path, progress=stop)
    resumed = fitted(few_faces, recipe, network, checkpoint=path)
    assert resumed[1] == whole[1] and same_weights(resumed[0], whole[0])


def test_what_was_begun_with_something_else_does_not_go_on(few_faces, tmp_path):
    path, recipe = tmp_path / "checkpoint.pt", Recipe(epochs=1, batch=32)
    fitted(few_faces, recipe, checkpoint=path)
    before = path.read_bytes()
    moved = np.where(few_faces.split == "PrivateTest", "Training", few_faces.split)
    changed = replace(recipe, epochs=2, learning_rate=0.02)
    for other, recipe_now, more, says in (
        (few_faces, changed, {}, r"epochs \(1, now 2\), learning_rate \(0.1, now 0.02\); go on"),
        (few_faces, recipe, {"each": print}, r"epochs to score \(False, now True\)"),
        (few_faces, recipe, {"precision": "bfloat16"}, r"precision \(float32, now bfloat16\)"),
        (few_faces[:203], recipe, {}, "faces; go on"),
        (replace(few_faces, split=moved), recipe, {}, "faces; go on"),
        (replace(few_faces, classes=tuple("abcdefg")), recipe, {}, "faces, classes; go on"),
    ):
        with pytest.raises(TrainingError, match=f"begun with other {says}"):
            fitted(other, recipe_now, checkpoint=path, **more)
    assert path.read_bytes() == before


def test_a_network_that_flattens_by_view_is_fitted_and_asked_too(few_faces):
    model = Flattening(7)
    (row,) = train.fit(model, few_faces, replace(TINY, epochs=1), SCALE)
    assert row["train_loss"] < 3
    x = torch.randn(3, 1, 48, 48)
    assert torch.allclose(runs.probabilities(model, x), model.eval()(x).softmax(1), atol=1e-5)


def test_a_loss_that_is_no_number_stops_the_fit(few_faces):
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) at epoch 1"):
        fitted(few_faces, Recipe(epochs=2, batch=32, learning_rate=1e30))


@pytest.mark.whole
def test_the_network_learns_something(few_faces):
    recipe = replace(train.RECIPES["original"], epochs=6, batch=16, learning_rate=1e-3)
    _, history = fitted(few_faces, recipe)
    assert history[-1]["train_accuracy"] > 0.6 > history[0]["train_accuracy"]


def test_augmentation_by_hand():
    x, none, dot = torch.randn(4, 1, 48, 48), torch.zeros(4, 5), torch.zeros(1, 1, 48, 48)
    assert train.augment(x, torch.ones(4, 5), STILL) is x
    assert torch.allclose(train.augment(x, none, Recipe(erase=0)), x, atol=1e-4)
    mirrored = torch.tensor([[0.0, 0, 0, 0, 1]]).expand(4, 5)
    assert torch.allclose(train.augment(x, mirrored, Recipe(erase=0)), x.flip(3), atol=1e-4)
    turned = torch.tensor([[1.0, 0, 0, 0, 0]]).expand(4, 5)
    quarter = train.augment(x, turned, Recipe(rotate=90, erase=0))
    assert torch.allclose(quarter, x.rot90(1, (2, 3)), atol=1e-4)
    dot[..., 24, 24] = 1
    moved = train.augment(dot, torch.tensor([[0.0, 0, 1, 0, 0]]), Recipe(shift=0.25, erase=0))
    assert moved.flatten().argmax() == 24 * 48 + 24 - 6  # a quarter of 24 pixels


def test_an_erased_rectangle_is_grey_and_within_its_bounds():
    random = torch.rand(400, 10)
    x = train.augment(torch.ones(400, 1, 48, 48), random, replace(STILL, erase=0.25))
    area = (x == 0).float().mean((1, 2, 3))
    assert torch.equal(area > 0, random[:, 5] < 0.25)
    assert area[area > 0].min() > 0.01 and area.max() < 0.36  # of 0.02 to 0.33, to a pixel
    one = (x[area.argmax(), 0] == 0).float()
    assert torch.equal(one, torch.outer(one.amax(1), one.amax(0)))


def test_every_face_is_mirrored_in_every_second_epoch():
    flips = [train.epoch_rng(50, Recipe(), epoch)[1][:, 4] for epoch in (1, 2, 3)]
    assert torch.equal(flips[0], 1 - flips[1]) and torch.equal(flips[0], flips[2])
    assert 0 < flips[0].mean() < 1


def test_learning_rate_climbs_falls_and_ends_at_zero():
    recipe = Recipe(epochs=10)
    rates = [train.learning_rate(recipe, e / 10) for e in range(101)]
    assert max(rates) == pytest.approx(recipe.learning_rate, rel=0.03)
    assert rates[0] < 0.1 * recipe.learning_rate and rates[-1] == pytest.approx(0, abs=1e-9)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_decay_spares_biases_and_norms():
    groups = train.make_optimiser(FerCNN(), Recipe()).param_groups
    assert {g["weight_decay"] for g in groups} == {0, 1e-3}
    assert all(p.ndim < 2 for g in groups if g["weight_decay"] == 0 for p in g["params"])


def test_the_running_mean_follows_the_definition():
    torch.manual_seed(1)
    mean, model = FerCNN(), FerCNN()
    mean.again, model.again = mean.fc, model.fc  # a layer with two names moves once a step
    before, after = mean.fc[0].weight.clone(), model.fc[0].weight
    recipes.update_ema(mean, model, 0.5, step=90)  # warm: 91 / 100 > 0.5
    assert torch.allclose(mean.fc[0].weight, (before + after) / 2)
    recipes.update_ema(mean, model, 0.99, step=0)  # cold: 1 / 10
    assert torch.allclose(mean.fc[0].weight, 0.05 * before + 0.95 * after, atol=1e-6)


@pytest.mark.whole
def test_what_is_kept_and_scored_is_the_running_mean(few_faces):
    model, history = fitted(few_faces, replace(TINY, ema=0.9))
    valid = few_faces.of("PublicTest")
    loss, _ = train.evaluate(model, *train.to_device(valid, "cpu"), SCALE)
    assert history[-1]["valid_loss"] == pytest.approx(loss, abs=1e-5)
    assert not same_weights(model, fitted(few_faces, TINY)[0])


def test_evaluate_agrees_with_the_definition(few_faces):
    model = FerCNN().eval()
    images, labels = train.to_device(few_faces, "cpu")
    loss, accuracy = train.evaluate(model, images, labels, SCALE)
    p = runs.probabilities(model, runs.scale(images, **SCALE))
    assert loss == pytest.approx(-p[range(len(labels)), labels].log().mean().item(), rel=1e-4)
    assert accuracy == pytest.approx((p.argmax(1) == labels).float().mean().item())


def test_a_whole_run_is_never_overwritten(runs_folder, few_faces):
    recipe = Recipe(epochs=1, batch=32)
    run = train.make_run("once", few_faces, recipe, SYNTHETIC, precision="float32")
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    assert set(before) == FILES
    with pytest.raises(TrainingError, match=r"of 1 epochs; for more, .* under another name"):
        train.make_run("once", few_faces, replace(recipe, epochs=2), SYNTHETIC)
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before


@pytest.mark.whole
def test_private_test_is_scored_later_and_every_scoring_is_listed(runs_folder, few_faces):
    source, recipe = {"kind": "fer2013"}, Recipe(epochs=1, batch=32)
    chosen = train.make_run("a", few_faces, recipe, source, private=False, precision="float32")
    assert list(chosen.metrics) == ["PublicTest"] == [*set(chosen.predictions["split"])]
    assert not (runs_folder / "a" / "ledger.csv").exists()
    with pytest.raises(TrainingError, match="whole run already"):
        train.make_run("a", few_faces, recipe, source, private=False)
    with pytest.raises(TrainingError, match="other faces"):
        train.make_run("a", few_faces[:200], recipe, source)
    weights = (runs_folder / "a" / "model.safetensors").read_bytes()
    done = train.make_run("a", few_faces, recipe, source)
    assert (runs_folder / "a" / "model.safetensors").read_bytes() == weights
    assert done.metrics["PublicTest"] == chosen.metrics["PublicTest"]
    train.make_run("a", few_faces, recipe, source, "second", precision="float32")
    ledger = (runs_folder / "a" / "ledger.csv").read_text().splitlines()
    assert len(ledger) == 3 and ",main," in ledger[1] and ",second," in ledger[2]
    assert f"{done.metrics['PrivateTest']['accuracy']:.4f}" in ledger[1]


@pytest.mark.whole
def test_named_epochs_are_scored_beside_the_last(runs_folder, few_faces):
    recipe = Recipe(epochs=3, batch=32, learning_rate=0.02)
    make = partial(train.make_run, "a", few_faces, recipe, {"kind": "fer2013"}, "b",
                   precision="float32", score_epochs=True)  # fmt: skip

    def stop(event):
        if event.get("epoch") == 3 and "step" in event:
            raise Killed

    with pytest.raises(Killed):  # what was scored before goes on, too
        make(progress=stop)
    make(private=False)
    run = make()
    history = run.history
    for name, row in {
        "lowest_loss": history["valid_loss"].idxmin(),
        "best_accuracy": history["valid_accuracy"].idxmax(),
    }.items():
        assert run.epochs[name]["epoch"] == row + 1
        scores = run.epochs[name]["metrics"]
        assert set(scores) == set(run.metrics) == {"PublicTest", "PrivateTest"}
        shown = history["valid_accuracy"][row]
        assert scores["PublicTest"]["accuracy"] == pytest.approx(shown, abs=1e-5)
        table = run.predictions_at(name).query("split == 'PrivateTest'")
        right = table[list(run.classes)].to_numpy().argmax(1) == table["label"]
        assert right.mean() == scores["PrivateTest"]["accuracy"]
    ledger = (runs_folder / "a" / "ledger.csv").read_text().splitlines()
    assert len(ledger) == 4 and ",b," in ledger[1]
    assert f"b, epoch {run.epochs['lowest_loss']['epoch']} (lowest loss)" in ledger[2]


def test_rounded_probabilities_keep_the_answer():
    p = torch.rand(2000, 7, generator=torch.Generator().manual_seed(0)).mul(12).softmax(1).numpy()
    p[0] = [0.3, 0.30001, 0.1, 0.1, 0.1, 0.05, 0.04999]  # one value in float16
    p[1] = [1, 0, 1e-12, 0, 0, 0, 0]
    rounded = pipeline.round_probabilities(p)
    assert rounded.dtype == np.float16 and (rounded.argmax(1) == p.argmax(1)).all()
    assert rounded.min() > 0 and np.allclose(rounded.astype(float), p, rtol=1.1e-3, atol=6e-8)


def add_entries(path, writer):
    for number in range(100):
        pipeline.append_ledger(path, [{"writer": writer, "number": number, "recipe": "x" * 500}])


def test_two_writers_lose_no_line_of_the_ledger(tmp_path):
    path = tmp_path / "run" / "ledger.csv"
    path.parent.mkdir()
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=add_entries, args=(path, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    lines = path.read_text().splitlines()
    assert lines[0] == "writer,number,recipe" and len(lines) == 201
    for name in "ab":
        numbers = [int(line.split(",")[1]) for line in lines if line.startswith(f"{name},")]
        assert numbers == list(range(100))
    assert [file.name for file in path.parent.iterdir()] == ["ledger.csv"]


def test_a_set_without_validation_labels_has_some_set_aside(runs_folder, few_faces):
    """As the contest's own files; the same whenever the same command goes on, and it is said."""
    labels = np.where(few_faces.split == "PublicTest", -1, few_faces.labels)
    some, said = replace(few_faces, labels=labels), []
    run = train.make_run("own", some, Recipe(epochs=1, batch=32), {"kind": "fer2013"},
                         private=False, precision="float32", progress=said.append)  # fmt: skip
    held = said[0]["faces"]
    scored = (held.split == "PublicTest") & (held.labels >= 0)
    assert scored.sum() == run.metrics["PublicTest"]["n"] > 0
    described = run.config["data"]
    assert any("set aside" in note for note in described["notes"]) and described["held_out"]
    later = train.make_run("own", some, Recipe(epochs=1, batch=32), {"kind": "fer2013"})
    assert later.metrics["PublicTest"] == run.metrics["PublicTest"]


def test_a_set_without_private_test_is_whole_at_once(runs_folder, few_faces):
    some = few_faces[few_faces.split != "PrivateTest"]
    make = partial(train.make_run, "own", some, Recipe(epochs=1, batch=32), {"kind": "fer2013"})
    make(precision="float32")
    with pytest.raises(TrainingError, match="whole run already"):
        make()


def test_faces_that_cannot_be_fitted_are_refused_before_any_work(runs_folder, few_faces):
    recipe = Recipe(epochs=1, batch=32)
    none = few_faces[few_faces.split != "Training"]
    with pytest.raises(TrainingError, match=r"^0 labelled Training faces .*'Training': 0"):
        train.make_run("a", none, recipe, {"kind": "fer2013"})
    assert not (runs_folder / "a").exists()


def test_what_is_known_of_the_faces_and_how_long_it_takes_is_said(runs_folder, few_faces, capsys):
    faces = replace(few_faces[few_faces.labels != 1], notes=("numbers read as 0=Angry",))
    recipe = Recipe(epochs=2, batch=32)
    run = train.make_run("a", faces, recipe, {"kind": "fer2013"}, precision="float32",
                         progress=train.progress_line(recipe))  # fmt: skip
    said = capsys.readouterr().err.splitlines()
    counts = {line.split()[0]: line.split()[1:] for line in said}
    angry = faces.split[faces.labels == 0]
    assert counts["Angry"][:3] == [str((angry == split).sum()) for split in data.SPLITS]
    assert counts["Disgust"][:3] == ["0", "0", "0"]
    assert said[-4] == "numbers read as 0=Angry" == run.config["data"]["notes"][0]
    assert said[-3].startswith("epoch   1/2  training ") and "min left" in said[-3]
    assert re.fullmatch(r"about \d+\.\d min to the end of epoch 2", said[-2])


def test_the_estimate_is_that_of_the_steps_done(few_faces, capsys, monkeypatch):
    clock = iter((100.0, 103.0))
    monkeypatch.setattr(train.progress.time, "perf_counter", lambda: next(clock))
    show = train.progress_line(Recipe(epochs=10))
    split = np.where(np.arange(len(few_faces)) < 100, "Training", "PublicTest")
    show({"faces": replace(few_faces, split=split)})
    capsys.readouterr()
    for step in (16, 32):
        show({"epoch": 1, "step": step, "steps": 160, "loss": 1.0})
    # 10 faces in 3 s, and 990 faces to go from the first look on
    assert capsys.readouterr().err.strip() == "about 5.0 min to the end of epoch 10"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--run", "x", "--batch", "0"], "batch 0: expected above 0"),
        (["--run", "x", "--learning-rate", "nan"], "learning-rate nan: expected above 0"),
        (["--run", "x", "--epochs", "1.5"], "invalid int value"),
        (["--run", "x", "--smoothing", "1"], "below 1"),
        (["--run", "x", "--erase", "25"], "erase 25.0: expected 0 to 1"),
        (["--run", "x", "--seed", "9999999999"], "seed 9999999999: expected 0 to 2**32"),
        (["--run", "x", "--optimiser", "lion"], "optimiser lion: expected sgd or adam"),
        (["--run", "../x"], "letters, digits"),
        (["--run", "x", "--device", "nosuch"], "--device nosuch: no such device here, have: cpu"),
        (["--run", "x", "--device", "mps"], "--device mps: no such device here, have: cpu"),
        (["--run", "x", "--data", "nosuch.csv"], "nosuch.csv"),
        (["--run", "x", "--nosuch"], "unrecognized"),
        (["--run", "x", "--preset", "nosuch"], "nosuch"),
        (["--run", "x", "--network", "nosuch"], "no network 'nosuch'; expected FerCNN"),
    ],
)
def test_a_bad_option_is_one_line_before_any_work(runs_folder, capsys, arguments, says):
    try:
        status = main(arguments)
    except SystemExit as exit:
        status = exit.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert status != 0 and says in last and not runs_folder.exists()


def test_a_run_remembers_how_its_faces_were_read(monkeypatch, few_faces):
    """By the option or by the variable: later it is read so without either."""
    monkeypatch.setattr(runs, "load_faces", lambda path, classes: few_faces)
    own, given = ["--run", "x", "--data", "x.csv"], "smile, anger"
    for words, variable in (([*own, "--classes", given], ""), (own, given)):
        monkeypatch.setenv("FER_CLASSES", variable)
        _, source = command.chosen_faces(command.options().parse_args(words))
        assert source["read_as"] == ("smile", "Angry")
    monkeypatch.setenv("FER_CLASSES", "")
    _, source = command.chosen_faces(command.options().parse_args(own))
    assert "read_as" not in source


def test_every_field_of_the_recipe_is_an_option(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    help = capsys.readouterr().out
    for name in Recipe.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in help
    assert help.isascii()  # a console of any encoding can write it


@pytest.mark.whole
def test_the_command_works_in_a_console_without_block_characters(tmp_path):
    options = ["--run", "r", "--faces", "210", "--epochs", "1", "--batch", "32"]
    done = subprocess.run(
        [sys.executable, "-m", "fer_utils.train", *options], capture_output=True, text=True,
        env={**os.environ, "FER_RUNS": str(tmp_path), "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 0 and "PrivateTest: accuracy" in done.stdout, done.stderr
    assert sum(line.startswith("epoch ") for line in done.stderr.splitlines()) == 1


def test_the_precision_is_the_processors_and_the_same_at_every_call(monkeypatch):
    assert {train.best_precision("cpu") for _ in range(40)} <= {"float32", "bfloat16"}
    for has_units, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_units)  # noqa: B023
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert train.best_precision("cpu") == precision
    assert train.best_precision("mps") == "float32"


@pytest.mark.whole
def test_train_imports_without_what_only_the_report_needs():
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'scipy', 'sklearn', 'statsmodels', 'matplotlib', 'seaborn',\n"
        "                                  'pyarrow', 'IPython', 'nbformat', 'papermill', 'cv2'}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import fer_utils.train.__main__\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


GRADIENTS = """
import sys, torch, torch.distributed as dist, torch.nn.functional as F
from fer_utils.model import FerCNN
from fer_utils.train import distributed
torch.manual_seed(0)
model, x, y = FerCNN().eval(), torch.randn(16, 1, 48, 48), torch.arange(16) % 7
with distributed.joined("cpu"):
    network = distributed.wrap(model)
    F.cross_entropy(network(distributed.share(x)), distributed.share(y)).backward()
    if distributed.rank() == 0:
        torch.save([p.grad for p in model.parameters()], sys.argv[1])
"""


def with_processes(number, *arguments, **more):
    return subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone",
                           f"--nproc-per-node={number}", *arguments],
                          capture_output=True, text=True, timeout=300, **more)  # fmt: skip


@pytest.mark.slow
def test_two_processes_average_the_gradient_of_one(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    for number in (1, 2):
        done = with_processes(number, script, tmp_path / str(number), cwd=ROOT,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / str(n), weights_only=True) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_two_processes_make_one_run_and_go_on_from_its_checkpoint(tmp_path):
    environment = {**os.environ, "FER_RUNS": str(tmp_path)}
    options = ["--faces", "420", "--batch", "32", "--precision", "float32"]
    module = ["-m", "fer_utils.train", "--name", "two", *options, "--epochs", "2"]
    odd = with_processes(2, *module, "--batch", "33", env=environment)
    assert odd.returncode and "can't be shared evenly by 2 processes" in odd.stderr
    done = with_processes(2, *module, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("PrivateTest: accuracy") == 1  # one process alone reports
    run = tmp_path / "two"
    assert '"processes": 2' in (run / "config.json").read_text()
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert {p.name for p in run.iterdir()} == FILES
