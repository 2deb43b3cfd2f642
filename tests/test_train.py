"""Training is exact, goes on where it stopped, and complains before it works."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from safetensors.torch import load_file

from fer_utils import runs, train
from fer_utils.model import FerCNN
from fer_utils.train import Recipe, TrainingError, epochs
from fer_utils.train import recipe as recipes
from fer_utils.train.__main__ import main
from fer_utils.train.pipeline import taught

TINY = Recipe(epochs=2, batch=32, learning_rate=0.02)
SCALE = {"mean": 0.5, "sd": 0.25}


def fitted(faces, recipe=TINY, **more):
    torch.manual_seed(recipe.seed)
    model = FerCNN()
    history = train.fit(model, faces, recipe, SCALE, **more)
    return model, [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def same_weights(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.whole
def test_the_same_seed_gives_the_same_history(few_faces):
    first, second = fitted(few_faces), fitted(few_faces)
    assert first[1] == second[1] and same_weights(first[0], second[0])


class Killed(Exception):
    pass


@pytest.mark.whole
@pytest.mark.parametrize(
    "recipe",
    [
        TINY,
        Recipe(epochs=2, batch=32, optimiser="adam", learning_rate=1e-3),
        Recipe(epochs=2, batch=32, learning_rate=0.02, ema=0.9),
    ],
)
def test_a_stopped_fit_ends_with_the_same_weights(few_faces, tmp_path, recipe):
    whole = fitted(few_faces, recipe)

    def stop(event):
        if event["epoch"] == 2 and "step" in event:
            raise Killed

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        fitted(few_faces, recipe, checkpoint=path, progress=stop)
    resumed = fitted(few_faces, recipe, checkpoint=path)
    assert resumed[1] == whole[1] and same_weights(resumed[0], whole[0])


@pytest.mark.whole
def test_another_recipe_does_not_go_on_from_a_checkpoint(few_faces, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    fitted(few_faces, Recipe(epochs=1, batch=32), checkpoint=path)
    with pytest.raises(TrainingError, match="another recipe"):
        fitted(few_faces, Recipe(epochs=2, batch=32), checkpoint=path)


def test_a_cut_checkpoint_is_named(few_faces, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    fitted(few_faces, Recipe(epochs=1, batch=32), checkpoint=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="not a usable checkpoint"):
        fitted(few_faces, Recipe(epochs=1, batch=32), checkpoint=path)


def test_a_loss_that_is_no_number_stops_the_fit(few_faces):
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) at epoch 1"):
        fitted(few_faces, Recipe(epochs=2, batch=32, learning_rate=1e30))


@pytest.mark.whole
def test_the_network_learns_something(few_faces):
    _, history = fitted(few_faces, Recipe(epochs=6, batch=16, optimiser="adam", learning_rate=1e-3,
                                          rotate=0, zoom=0, shift=0, flip=False, smoothing=0))  # fmt: skip
    assert history[-1]["train_accuracy"] > 0.6 > history[0]["train_accuracy"]


def test_no_augmentation_is_the_identity():
    x = torch.randn(4, 1, 48, 48)
    still = Recipe(rotate=0, zoom=0, shift=0, flip=False)
    assert train.augment(x, torch.ones(4, 5), still) is x


def test_augmentation_with_no_chance_changes_nothing():
    x = torch.randn(4, 1, 48, 48)
    assert torch.allclose(train.augment(x, torch.zeros(4, 5), Recipe()), x, atol=1e-4)


def test_flip_is_the_mirror_image():
    x = torch.randn(4, 1, 48, 48)
    chance = torch.tensor([[0.0, 0, 0, 0, 1]]).expand(4, 5)
    assert torch.allclose(train.augment(x, chance, Recipe()), x.flip(3), atol=1e-4)


def test_shift_moves_by_its_share_of_the_half_width():
    x = torch.zeros(1, 1, 48, 48)
    x[..., 24, 24] = 1
    chance = torch.tensor([[0.0, 0, 1, 0, 0]])
    moved = train.augment(x, chance, Recipe(shift=0.25))  # a quarter of 24 pixels
    assert moved.flatten().argmax() == 24 * 48 + 24 - 6


def test_turn_keeps_the_middle_and_its_angle():
    x = torch.zeros(1, 1, 48, 48)
    x[..., 24:, 23:25] = 1  # a line from the centre straight down
    chance = torch.tensor([[1.0, 0, 0, 0, 0]])
    turned = train.augment(x, chance, Recipe(rotate=90))
    assert turned[0, 0, 23:25, :24].sum() + turned[0, 0, 23:25, 24:].sum() == pytest.approx(
        x.sum().item(), rel=0.05
    )


def test_every_face_is_mirrored_in_every_second_epoch():
    flips = [train.draws(50, Recipe(), epoch)[1][:, 4] for epoch in (1, 2, 3)]
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
    assert {g["weight_decay"] for g in groups} == {0, 5e-4}
    assert all(p.ndim < 2 for g in groups if g["weight_decay"] == 0 for p in g["params"])


def test_the_running_mean_follows_the_definition():
    torch.manual_seed(1)
    mean, model = FerCNN(), FerCNN()
    before = mean.fc[0].weight.clone()
    recipes.follow(mean, model, 0.5, step=90)  # warm: 91 / 100 > 0.5
    assert torch.allclose(mean.fc[0].weight, (before + model.fc[0].weight) / 2)
    recipes.follow(mean, model, 0.99, step=0)  # cold: 1 / 10
    moved = (before + model.fc[0].weight) / 2
    assert torch.allclose(mean.fc[0].weight, 0.1 * moved + 0.9 * model.fc[0].weight, atol=1e-6)


@pytest.mark.whole
def test_what_is_kept_and_scored_is_the_running_mean(few_faces):
    recipe = Recipe(epochs=2, batch=32, learning_rate=0.02, ema=0.9)
    model, history = fitted(few_faces, recipe)
    valid = few_faces.of("PublicTest")
    loss, _ = train.evaluate(model, *train.to_device(valid, "cpu"), SCALE)
    assert history[-1]["valid_loss"] == pytest.approx(loss, abs=1e-5)
    plain, _ = fitted(few_faces, Recipe(epochs=2, batch=32, learning_rate=0.02))
    assert not same_weights(model, plain)


def test_evaluate_agrees_with_the_definition(few_faces):
    model = FerCNN().eval()
    images, labels = train.to_device(few_faces, "cpu")
    loss, accuracy = train.evaluate(model, images, labels, SCALE)
    p = runs.probabilities(model, runs.scale(images, **SCALE))
    assert loss == pytest.approx(-p[range(len(labels)), labels].log().mean().item(), rel=1e-4)
    assert accuracy == pytest.approx((p.argmax(1) == labels).float().mean().item())


def test_a_whole_run_is_never_overwritten(runs_folder, few_faces):
    source = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
    recipe = Recipe(epochs=1, batch=32)
    run = train.make_run("once", few_faces, recipe, source, precision="float32")
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    with pytest.raises(TrainingError, match="whole run already"):
        train.make_run("once", few_faces, recipe, source)
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before
    assert set(before) == {
        "config.json",
        "history.csv",
        "predictions.csv",
        "metrics.json",
        "model.safetensors",
    }


@pytest.mark.whole
def test_a_fit_learns_from_its_teachers_too(runs_folder, few_faces):
    source = {"kind": "synthetic", "n": 210, "seed": 3, "preset": "default"}
    alone = Recipe(epochs=1, batch=32)
    pupil = replace(alone, teachers="main,second")
    fits = [train.make_run("a", few_faces, alone, source, precision="float32")]
    fits.append(
        train.make_run(
            "a", few_faces, replace(alone, seed=1), source, "second", precision="float32"
        )
    )
    images = few_faces.of("Training").images
    said = []
    about = few_faces.checksum(), images, fits[0].classes
    answers = taught("a", pupil, *about, progress=said.append)
    assert said == [{"teacher": "main"}, {"teacher": "second"}]
    each = [f.predict(x) for f in fits for x in (images, np.flip(images, 2).copy())]
    assert answers.numpy() == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    third = train.make_run("a", few_faces, pupil, source, "third", precision="float32")
    assert third.config["recipe"]["teachers"] == "main,second"
    loss = fits[0].history["train_loss"][0], third.history["train_loss"][0]
    assert loss[0] != loss[1]
    with pytest.raises(TrainingError, match="other faces"):
        train.make_run("a", few_faces[:200], pupil, source, "fourth")
    with pytest.raises(ValueError, match="nosuch"):
        train.make_run("a", few_faces, replace(alone, teachers="nosuch"), source, "fourth")


@pytest.mark.whole
def test_what_is_learned_lies_between_label_and_teacher(few_faces):
    """A teacher that answers with the labels changes nothing, another one the weights."""
    labels = torch.from_numpy(few_faces.of("Training").labels)
    right = F.one_hot(labels, 7).float()
    plain, same, other = (
        fitted(few_faces, replace(TINY, epochs=1), answers=answers)[0].fc[6].bias.detach()
        for answers in (None, right, torch.full_like(right, 1 / 7))
    )
    assert torch.allclose(plain, same, atol=1e-6)
    assert not torch.allclose(plain, other, atol=1e-4)


@pytest.mark.whole
def test_private_test_is_scored_later_and_every_scoring_is_listed(runs_folder, few_faces):
    source, recipe = {"kind": "fer2013"}, Recipe(epochs=1, batch=32)
    chosen = train.make_run("a", few_faces, recipe, source, private=False, precision="float32")
    assert (
        list(chosen.metrics) == ["PublicTest"] and not (runs_folder / "a" / "ledger.csv").exists()
    )
    assert set(chosen.predictions["split"]) == {"PublicTest"}
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
def test_the_best_epoch_of_private_test_is_told_once_it_decides_nothing(
    runs_folder, few_faces, monkeypatch, capsys
):
    monkeypatch.setattr(runs.Run, "faces", lambda self: few_faces)
    source, recipe = {"kind": "fer2013"}, Recipe(epochs=3, batch=32, learning_rate=0.02)
    make = partial(
        train.make_run, "a", few_faces, recipe, source, "b", precision="float32", keep_epochs=True
    )
    make(private=False)
    assert epochs.main(["a", "b"]) == 1 and "not scored yet" in capsys.readouterr().err
    fit = make()
    assert epochs.main(["a", "b"]) == 0
    told = json.loads((fit.path / "best_epoch.json").read_text())
    faces, right = few_faces.of("PrivateTest"), []
    for path in sorted(fit.path.glob("epochs/*")):
        model, _ = runs.load_weights(path)
        right.append((model(fit.scale(faces.images)).argmax(1).numpy() == faces.labels).mean())
    assert len(right) == told["epochs"] == 3 and right[-1] == fit.metrics["PrivateTest"]["accuracy"]
    assert told["accuracy"] == max(right) == right[told["epoch"] - 1]
    assert told["accuracy_flip"] >= fit.metrics["PrivateTest"]["accuracy_flip"]
    assert (
        epochs.main(["a", "b"]) == 0
        and json.loads((fit.path / "best_epoch.json").read_text()) == told
    )
    ledger = (runs_folder / "a" / "ledger.csv").read_text().splitlines()
    assert len(ledger) == 3 and "b, best of 3 epochs (invalid)" in ledger[2]
    next(fit.path.glob("epochs/*")).unlink()
    assert epochs.main(["a", "b"]) == 1 and "2 of 3 epochs were kept" in capsys.readouterr().err


@pytest.mark.whole
def test_the_deeper_network_is_a_fit_beside_the_reports(runs_folder, few_faces, monkeypatch):
    monkeypatch.setattr("fer_utils.synthetic.faces", lambda *_: few_faces)
    arguments = (
        "--run a --variant deeper --network FerResNet --epochs 1 --batch 64 --precision float32"
    )
    assert main(arguments.split()) == 0
    fit = runs.Run.load("a", "deeper")
    assert fit.config["network"] == fit.config["recipe"]["network"] == "FerResNet"
    tested = few_faces.of("PrivateTest")
    right = fit.predict(tested.images).argmax(1) == tested.labels
    assert right.mean() == pytest.approx(fit.metrics["PrivateTest"]["accuracy"])


def test_a_set_without_private_test_is_whole_at_once(runs_folder, few_faces):
    some = few_faces[few_faces.split != "PrivateTest"]
    recipe, source = Recipe(epochs=1, batch=32), {"kind": "fer2013"}
    train.make_run("own", some, recipe, source, precision="float32")
    with pytest.raises(TrainingError, match="whole run already"):
        train.make_run("own", some, recipe, source)


def command(*arguments, **more):
    return subprocess.run([sys.executable, "-m", "fer_utils.train", *arguments],
                          capture_output=True, text=True, timeout=300, **more)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--run", "x", "--batch", "0"], "not above 0"),
        (["--run", "x", "--learning-rate", "-1"], "not above 0"),
        (["--run", "x", "--epochs", "0"], "not above 0"),
        (["--run", "x", "--smoothing", "1"], "below 1"),
        (["--run", "../x"], "letters, digits"),
        (["--run", "x", "--device", "nosuch"], "nosuch"),
        (["--run", "x", "--data", "nosuch.csv"], "nosuch.csv"),
        (["--run", "x", "--nosuch"], "unrecognized"),
        (["--run", "x", "--preset", "nosuch"], "nosuch"),
        (["--run", "x", "--network", "FerResNet"], "--variant deeper"),
    ],
)
def test_a_bad_option_is_one_line_before_any_work(runs_folder, capsys, arguments, says):
    try:
        status = main(arguments)
    except SystemExit as exit:
        status = exit.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert status != 0 and says in last and not runs_folder.exists()


@pytest.mark.whole
def test_train_imports_with_numpy_torch_and_safetensors_alone():
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'pandas','sklearn','scipy','matplotlib','PIL','pyarrow','sympy','IPython','seaborn'}:\n"
        "            raise ImportError(name)\n"
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
with distributed.started("cpu") as (group, device):
    network = group.wrap(model)
    F.cross_entropy(network(group.share(x)), group.share(y)).backward()
if group.first:
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
    assert {p.name for p in run.iterdir()} == {
        "config.json", "history.csv", "predictions.csv", "metrics.json", "model.safetensors",
    }  # fmt: skip


@pytest.mark.slow
def test_sigkill_at_any_moment_changes_nothing(tmp_path):
    options = ["--faces", "210", "--epochs", "4", "--batch", "20", "--precision", "float32"]
    environment = {**os.environ, "FER_RUNS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    assert command("--run", "whole", *options, env=environment).returncode == 0
    whole, killed = time.perf_counter() - began, tmp_path / "killed"
    rng = np.random.default_rng(0)
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-m", "fer_utils.train", "--run", "killed", *options],
                                   env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
        try:
            process.wait(timeout=whole * rng.uniform(0.3, 1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (killed / "metrics.json").exists():
            assert_same_run(killed, tmp_path / "whole")
            for path in killed.iterdir():
                path.unlink()
    if not (killed / "metrics.json").exists():
        assert command("--run", "killed", *options, env=environment).returncode == 0
    assert_same_run(killed, tmp_path / "whole")


def assert_same_run(one, two):
    """To the bit, but for names, seconds, and the order in which safetensors writes metadata."""
    a, b = (load_file(path / "model.safetensors") for path in (one, two))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in b)
    for name in ("predictions.csv", "metrics.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
