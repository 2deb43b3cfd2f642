"""Faults on purpose, each with the promise that must hold all the same: ``python tests/faults.py``.

A fault is a function: its docstring is ``where: fault → promise``, its argument an empty folder.
It breaks something real (a signal, a limit of the system, a damaged file, a dead kernel) and
asserts the promise; every one ends by asking for the same thing again, which must then work.
``make test-all`` runs them all.
"""

import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before the imports that read it
# Imported once, for every child; those that no line here names are what the commands import.
import bs4  # noqa: F401
import numpy as np
import papermill  # noqa: F401
from safetensors.numpy import load_file
from test_report import code, first, markdown, second, whole_run, write

import fer_utils.precomputed.__main__
import fer_utils.predict
import fer_utils.report.execute
import fer_utils.report.render
import fer_utils.train.__main__  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it off
FAULTS = []
FORK = multiprocessing.get_context("fork")

# Put before a command: what happens at the n-th call of a function inside it.
PRELUDE = """
import errno, os, signal, sys
def at(owner, name, what, n=1):
    real, calls = getattr(owner, name), []
    def meddled(*arguments, **options):
        calls.append(1)
        if len(calls) == n:
            what()
        return real(*arguments, **options)
    setattr(owner, name, meddled)
def die(): os.kill(os.getpid(), signal.SIGKILL)
def stop(): os.kill(os.getpid(), signal.SIGINT)
def full(): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
def no_memory(): raise MemoryError("injected")
"""


def fault(function):
    FAULTS.append(function)
    return function


# -- helpers ------------------------------------------------------------------------------------


def _child(script, arguments, variables, limit, said):
    os.setsid()
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(variables)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    os.dup2(said.fileno(), 2)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv[1:] = map(str, arguments)
    exec(script, {"__name__": "__main__"})


class Child:
    """What ``python -c script`` would do, in a fork of this process: what it imports is here."""

    def __init__(self, script, *arguments, limit=None, **environment):
        variables = {k: v for k, v in os.environ.items() if k not in ("FER_DATA", "FER_VOTES")}
        variables |= {"PYTHONPATH": str(ROOT)} | environment
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the object
        given = (script, arguments, variables, limit, self.said)
        self.process = FORK.Process(target=_child, args=given)
        self.process.start()

    def end(self, timeout=300):
        """(status, all it said on stderr) once it has ended by itself."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still at work after {timeout} s"
        self.said.seek(0)
        return self.process.exitcode, self.said.read()


def start(module, *arguments, meddle="", root=None, **options):
    where = f", root=pathlib.Path({str(root)!r})" if root else ""
    script = (
        f"{PRELUDE}\nimport pathlib\nfrom {module} import main\n{meddle}\n"
        f"sys.exit(main(sys.argv[1:]{where}))"
    )
    return Child(script, *arguments, **options)


def run(module, *arguments, **options):
    """(status, last line on stderr) of a command that must end by itself."""
    status, said = start(module, *arguments, **options).end()
    assert "Traceback" not in said, said
    return status, (said.strip().splitlines() or [""])[-1].split("\r")[-1]


TRAIN = "fer_utils.train.__main__"
SMALL = ("--faces", 210, "--epochs", 3, "--batch", 20, "--precision", "float32")


def train(runs, *more, **options):
    return run(TRAIN, "--run", "r", *SMALL, *more, FER_RUNS=str(runs), **options)


@cache
def undisturbed():
    """The run that every disturbed one must equal in the end."""
    folder = Path(tempfile.mkdtemp(prefix="fer-faults-"))
    assert train(folder)[0] == 0
    return folder / "r"


def equals_undisturbed(folder):
    one, two = (load_file(path / "model.safetensors") for path in (folder, undisturbed()))
    assert all(np.array_equal(one[k], two[k]) for k in two)
    for name in ("predictions.npz", "metrics.json"):
        assert (folder / name).read_bytes() == (undisturbed() / name).read_bytes()
    assert not list(folder.glob("checkpoint*"))


def copy_of_run(place):
    shutil.copytree(undisturbed(), place / "r")
    return place / "r"


def refused(place, says):
    """Loading the run fails in one line that says so; nothing is changed by trying."""
    before = tree(place)
    picture = place.parent / "face.png"
    picture.write_bytes(face_png())
    status, said = run("fer_utils.predict", picture, "--run", "r", FER_RUNS=str(place))
    assert status == 1 and says in said, said
    assert tree(place) == before


def face_png():
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (48, 48), 90).save(stream, "PNG")
    return stream.getvalue()


def tree(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def project(place, *chapters):
    """A project of small chapters and one run; its report is made by ``report``."""
    whole_run(place / "runs" / "tiny")
    for name, cells in zip(("00_a", "01_b"), chapters or (first(), second()), strict=False):
        write(place / "notebooks" / f"{name}.ipynb", *cells)
    return place


REPORT = "fer_utils.report.__main__"


def report(root, *more, **options):
    return run(REPORT, "--run", "tiny", "--jobs", 1, *more, root=root, **options)


def pages(root):
    folder = root / "build" / "tiny"
    return tree(folder / "html") | {folder / "report.pdf": (folder / "report.pdf").read_bytes()}


def whole(root):
    """The report is there, no page is cut and nothing is left lying about."""
    folder = root / "build" / "tiny"
    assert (folder / "report.pdf").read_bytes().rstrip().endswith(b"%%EOF")
    for page in (folder / "html").glob("*.html"):
        assert page.read_text("utf-8").rstrip().endswith("</html>")
    assert not [p for p in folder.rglob("*") if ".running" in p.name or ".failed" in p.name]
    assert not [p for p in (folder / "html").iterdir() if p.name.startswith(".")]


def chapter_with(source):
    return (
        markdown("# 1 · And then?"),
        code("RUN = ''", "parameters"),
        code(source),
        code("from IPython.display import Markdown\nMarkdown('It stands.')", "answer"),
    )


def fails_then_works(place, source, says, *more, **options):
    """A cell that fails is named twice, pages stay as they were; mended, the report is made."""
    root = project(place)
    assert report(root)[0] == 0
    before = pages(root)
    write(root / "notebooks" / "01_b.ipynb", *chapter_with(source))
    for _ in range(2):
        status, said = report(root, *more, **options)
        assert status == 1 and said.startswith("report: 01_b, cell 3") and says in said, said
        assert pages(root) == before
    write(root / "notebooks" / "01_b.ipynb", *chapter_with("1 + 1"))
    assert report(root)[0] == 0
    whole(root)


def kernels():
    """Kernels whose parent is gone."""
    listed = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True).stdout
    return [x for x in listed.splitlines() if "ipykernel_launcher" in x and x.split()[0] == "1"]


def within(seconds, truth):
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.1)


# -- training -----------------------------------------------------------------------------------


def killed_in_training(place, meddle):
    status, _ = train(place, meddle=meddle)
    assert status == -signal.SIGKILL
    assert not (place / "r" / "metrics.json").exists()
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


@fault
def train_killed_in_first_epoch(place):
    """train: SIGKILL in the first epoch → the same command ends with the same weights"""
    killed_in_training(place, "m = sys.modules['fer_utils.train.loop']; at(m, 'augment', die, 5)")


@fault
def train_killed_in_second_epoch(place):
    """train: SIGKILL in the second epoch → goes on from the first, the same weights"""
    killed_in_training(place, "m = sys.modules['fer_utils.train.loop']; at(m, 'augment', die, 12)")


@fault
def train_killed_before_checkpoint(place):
    """train: SIGKILL before a checkpoint is written → the epoch is done again"""
    killed_in_training(
        place, "m = sys.modules['fer_utils.train.loop']; at(m, 'save_checkpoint', die, 2)"
    )


@fault
def train_killed_while_renaming(place):
    """train: SIGKILL between writing a checkpoint and renaming it → the older one is used"""
    killed_in_training(place, "at(os, 'replace', die, 2)")


@fault
def train_killed_before_weights(place):
    """train: SIGKILL after the last epoch, before the weights → only the rest is done"""
    killed_in_training(place, "from fer_utils import runs as m; at(m, 'save_weights', die)")


@fault
def train_killed_while_scoring(place):
    """train: SIGKILL while it scores → a run without metrics is refused, then finished"""
    meddle = "import fer_utils.train.pipeline as m; at(m, 'score', die)"
    assert train(place, meddle=meddle)[0] == -signal.SIGKILL
    refused(place, "half-written")
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


@fault
def train_killed_before_metrics(place):
    """train: SIGKILL before metrics.json, the last file → refused, then finished"""
    meddle = "from fer_utils import runs as m; at(m, 'write_json', die, 2)"
    assert train(place, meddle=meddle)[0] == -signal.SIGKILL
    refused(place, "half-written")
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


@fault
def train_interrupted(place):
    """train: Ctrl-C → one line, status 130, goes on from the last epoch"""
    meddle = "m = sys.modules['fer_utils.train.loop']; at(m, 'augment', stop, 12)"
    status, said = train(place, meddle=meddle)
    assert status == 130 and "goes on from the last epoch" in said, said
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


@fault
def train_disk_full_at_checkpoint(place):
    """train: no room for the checkpoint (file size limit) → one line, no half file, goes on"""
    status, said = train(place, limit=1 << 20)
    assert status == 1 and said.startswith("train: "), said
    assert not [p for p in place.rglob("*") if p.is_file() and p.stat().st_size]
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


@fault
def train_disk_full_at_predictions(place):
    """train: no room for predictions.npz → one line; a run without metrics; then finished"""
    status, said = train(
        place, meddle="from fer_utils import runs as m; at(m, 'write_arrays', full)"
    )
    assert status == 1 and "No space left" in said, said
    assert not (place / "r" / "metrics.json").exists()
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


@fault
def train_folder_that_cannot_be_made(place):
    """train: the folder of runs can't be made → one line that names it"""
    (place / "file").write_text("in the way")
    status, said = train(place / "file" / "runs")
    assert status == 1 and "file" in said, said
    assert train(place / "runs")[0] == 0


@fault
def train_out_of_memory(place):
    """train: out of memory in a step → one line; goes on from the last epoch"""
    status, said = train(
        place, meddle="m = sys.modules['fer_utils.train.loop']; at(m, 'augment', no_memory, 12)"
    )
    assert status == 1 and "memory" in said.lower(), said
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


def begun(place):
    assert (
        train(
            place,
            meddle="m = sys.modules['fer_utils.train.loop']; at(m, 'save_checkpoint', die, 3)",
        )[0]
        == -9
    )
    return place / "r" / "checkpoint.pt"


@fault
def train_checkpoint_cut(place):
    """train: a checkpoint cut short → named, kept for a look; removed, training starts anew"""
    checkpoint = begun(place)
    cut = checkpoint.read_bytes()[:-1000]
    checkpoint.write_bytes(cut)
    status, said = train(place)
    assert status == 1 and "not a usable checkpoint" in said and "remove it" in said, said
    assert checkpoint.read_bytes() == cut
    checkpoint.unlink()
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


@fault
def train_checkpoint_of_another_recipe(place):
    """train: a checkpoint of another recipe → refused, untouched; the first recipe finishes"""
    checkpoint = begun(place)
    before = checkpoint.read_bytes()
    status, said = train(place, "--seed", 5)
    assert status == 1 and "begun with other seed" in said, said
    assert checkpoint.read_bytes() == before
    assert train(place)[0] == 0
    equals_undisturbed(place / "r")


@fault
def train_loss_not_a_number(place):
    """train: the loss becomes NaN → stops with epoch and step, no run is written"""
    status, said = train(place, "--learning-rate", "1e30")
    assert status == 1 and "the loss is" in said and "step" in said, said
    assert not (place / "r" / "metrics.json").exists()


@fault
def train_twice_at_once(place):
    """train: a second process trains the same run → refused; the first one's run is right"""
    meddle = "import time; m = sys.modules['fer_utils.train.loop']; at(m, 'augment', lambda: time.sleep(20), 12)"
    process = start(TRAIN, "--run", "r", *SMALL, meddle=meddle, FER_RUNS=str(place))
    within(60, lambda: (place / "r" / "checkpoint.pt").exists())
    status, said = train(place, "--seed", 5)
    assert status == 1 and "another process is at work" in said, said
    assert process.end()[0] == 0
    equals_undisturbed(place / "r")


# -- runs ---------------------------------------------------------------------------------------


@fault
def run_without_metrics(place):
    """run: metrics.json is lost → refused with the way out, which makes it again"""
    (copy_of_run(place) / "metrics.json").unlink()
    refused(place, "make train RUN=r")
    assert train(place)[0] == 0
    one, two = (
        json.loads((p / "r" / "metrics.json").read_text()) for p in (place, undisturbed().parent)
    )
    assert one == two


@fault
def run_config_not_json(place):
    """run: config.json cut short → one line that names it"""
    path = copy_of_run(place) / "config.json"
    path.write_text(path.read_text()[:100])
    refused(place, "config.json: damaged (JSONDecodeError")


@fault
def run_weights_cut(place):
    """run: weights cut short → one line that names them"""
    path = copy_of_run(place) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(place, "model.safetensors: not the weights")


@fault
def run_weights_of_another_network(place):
    """run: weights of another network → one line that names them"""
    from safetensors.numpy import save_file

    about = {"network": "Other", "classes": "[1]"}
    save_file({"a": np.zeros(3)}, copy_of_run(place) / "model.safetensors", about)
    refused(place, "no network 'Other'")


@fault
def run_network_file_changed_or_gone(place):
    """run: the file of one's own network changes, or goes, after training → one line, no figure"""
    file, picture = place / "net.py", place / "face.png"
    shutil.copy(ROOT / "tests" / "networks.py", file)
    picture.write_bytes(face_png())
    place_of = {"FER_RUNS": str(place / "runs"), "FER_NETWORK": f"{file}:Flattening"}
    training = ("--run", "r", *SMALL, "--network", place_of["FER_NETWORK"])
    assert run(TRAIN, *training, **place_of)[0] == 0
    asked = ("fer_utils.predict", picture, "--run", "r")
    assert run(*asked, **place_of)[0] == 0
    content = file.read_text()
    file.write_text(content + "\n")
    status, said = run(*asked, **place_of)
    assert status == 1 and "net.py" in said, said
    file.unlink()
    status, said = run(*asked, **place_of)
    assert status == 1 and "net.py" in said, said
    file.write_text(content)
    assert run(*asked, **place_of)[0] == 0


@fault
def run_weights_changed(place):
    """run: weights changed in place (valid file) → verify names the figures that differ"""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = copy_of_run(place) / "model.safetensors"
    with safe_open(path, "np") as file:
        about = file.metadata()
    tensors = load_file(path)
    tensors["fc.6.bias"] = tensors["fc.6.bias"] + np.float16([9, 0, 0, 0, 0, 0, 0])
    save_file(tensors, path, about)
    status, said = run("fer_utils.precomputed.__main__", "r", "--verify", FER_RUNS=str(place))
    assert status == 1 and said.startswith("verify: ") and "published" in said, said


def table_refused(place, name, change):
    path = copy_of_run(place) / name
    path.write_bytes(change(path.read_bytes()))
    script = f"from fer_utils.runs import Run; r = Run.load('r'); r.{name.split('.')[0]}"
    status, said = Child(script, FER_RUNS=str(place)).end()
    assert status and "RunError" in said and name in said, said


def fewer_rows(content):
    whole, cut = np.load(io.BytesIO(content)), io.BytesIO()
    np.savez(cut, **{name: whole[name][:-3] for name in whole.files})
    return cut.getvalue()


@fault
def run_predictions_of_fewer_faces(place):
    """run: predictions.npz lacks some rows → refused, counts named, no figure from it"""
    table_refused(place, "predictions.npz", fewer_rows)


@fault
def run_predictions_cut(place):
    """run: predictions.npz ends early → refused"""
    table_refused(place, "predictions.npz", lambda content: content[:-40])


@fault
def run_history_empty(place):
    """run: history.csv is empty → refused"""
    table_refused(place, "history.csv", lambda content: b"")


@fault
def run_aggregate_cut(place):
    """run: an aggregate cut short → one line that names it and the way out"""
    copy_of_run(place)
    assert run("fer_utils.precomputed.__main__", "r", "dataset", FER_RUNS=str(place))[0] == 0
    path = place / "r" / "precomputed" / "dataset.npz"
    path.write_bytes(path.read_bytes()[:-50])
    script = "from fer_utils.runs import Run; Run.load('r').read('dataset')"
    status, said = Child(script, FER_RUNS=str(place)).end()
    assert status and "RunError" in said and "make it again" in said, said
    path.unlink()
    assert run("fer_utils.precomputed.__main__", "r", "dataset", FER_RUNS=str(place))[0] == 0


@fault
def aggregates_killed(place):
    """aggregates: SIGKILL while one is stored → the old one stays whole"""
    copy_of_run(place)
    command = ("fer_utils.precomputed.__main__", "r", "dataset")
    assert run(*command, FER_RUNS=str(place))[0] == 0
    before = (place / "r" / "precomputed" / "dataset.npz").read_bytes()
    assert run(*command, meddle="at(os, 'replace', die)", FER_RUNS=str(place))[0] == -9
    assert (place / "r" / "precomputed" / "dataset.npz").read_bytes() == before
    assert run(*command, FER_RUNS=str(place))[0] == 0


# -- data ---------------------------------------------------------------------------------------


def table_of_faces(place):
    """A csv that is worth a cache, with the checksum of its faces."""
    images = np.random.default_rng(0).integers(0, 256, (900, 48 * 48))
    rows = (f"{i % 7},{' '.join(map(str, image))},Training" for i, image in enumerate(images))
    path = place / "fer.csv"
    path.write_text("emotion,pixels,Usage\n" + "\n".join(rows) + "\n")
    return path


def checksum(place, path, meddle=""):
    """What ``data.load`` makes of a file, with its cache in ``place``; and the status."""
    script = f"{PRELUDE}\nfrom fer_utils import data\n{meddle}\nprint(data.load(sys.argv[1]).checksum(), file=sys.stderr)"
    status, said = Child(script, path, FER_CACHE=str(place / "cache")).end()
    return status or said.strip()


def cache_is_mended(place, damage):
    path = table_of_faces(place)
    right = checksum(place, path)
    (file,) = (place / "cache").glob("*.npz")
    whole_file = file.read_bytes()
    damage(file)
    assert checksum(place, path) == right
    (file,) = (place / "cache").glob("*.npz")
    assert len(file.read_bytes()) == len(whole_file)
    assert checksum(place, path) == right


@fault
def cache_cut(place):
    """data: the cache is cut short → read from the source, cache made again"""
    cache_is_mended(place, lambda f: f.write_bytes(f.read_bytes()[:-100]))


@fault
def cache_bit_flipped(place):
    """data: one bit of a cached face is flipped → noticed, read from the source"""

    def flip(file):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    cache_is_mended(place, flip)


@fault
def cache_killed_while_written(place):
    """data: SIGKILL while the cache is written → the next call reads right"""
    path = table_of_faces(place)
    assert checksum(place, path, "import zipfile as m; at(m.ZipFile, 'open', die, 2)") == -9
    right = checksum(place, path)
    assert len(right) == 64 and checksum(place, path) == right


@fault
def cache_disk_full(place):
    """data: no room for the cache → the faces all the same, no half cache"""
    path = table_of_faces(place)
    right = checksum(place, path, "import zipfile as m; at(m.ZipFile, 'open', full, 2)")
    assert len(right) == 64 and not list((place / "cache").iterdir())


@fault
def source_changed(place):
    """data: the source changed behind the cache → its new content"""
    path = table_of_faces(place)
    old = checksum(place, path)
    path.write_text(path.read_text().replace("\n1,", "\n2,", 1))
    assert checksum(place, path) not in (old, 1)


@fault
def source_cut(place):
    """data: a .gz cut short → refused, nothing cached"""
    import gzip

    path = table_of_faces(place)
    packed = gzip.compress(path.read_bytes(), 1)
    (place / "fer.csv.gz").write_bytes(packed[:-1000])
    assert checksum(place, place / "fer.csv.gz") == 1 and not (place / "cache").exists()
    (place / "fer.csv.gz").write_bytes(packed)
    assert checksum(place, place / "fer.csv.gz") == checksum(place, path)


# -- precomputed results ------------------------------------------------------------------------


@fault
def precomputed_killed_before_each_result(place):
    """precomputed: SIGKILL before each result is put in place → the next call makes the rest"""
    folder, names = copy_of_run(place) / "precomputed", ("dataset", "copies", "votes", "class_maps")
    command = ("fer_utils.precomputed.__main__", "r", *names, "--missing")
    for done in range(1, len(names)):
        meddle = "at(os, 'replace', die, 2)"
        assert run(*command, meddle=meddle, FER_RUNS=str(place))[0] == -signal.SIGKILL
        assert {path.stem for path in folder.glob("[a-z]*")} == set(names[:done])
    assert run(*command, FER_RUNS=str(place))[0] == 0
    assert {path.stem for path in folder.glob("[a-z]*")} == set(names)


# -- the report ---------------------------------------------------------------------------------


def killed_in_report(place, meddle, kept=()):
    root = project(place)
    assert report(root, meddle=meddle)[0] == -signal.SIGKILL
    stamps = {name: (root / "build/tiny/notebooks" / name).stat().st_mtime_ns for name in kept}
    assert report(root)[0] == 0
    whole(root)
    for name, stamp in stamps.items():
        assert (root / "build/tiny/notebooks" / name).stat().st_mtime_ns == stamp
    within(30, lambda: not kernels())


@fault
def report_killed_in_first_chapter(place):
    """report: SIGKILL while a chapter runs → no half notebook counts, no kernel is left over"""
    killed_in_report(place, "import papermill as m; at(m, 'execute_notebook', die)")


@fault
def report_killed_between_chapters(place):
    """report: SIGKILL after a chapter → that one is not executed again"""
    meddle = f"import {REPORT} as m; at(m.fingerprint.Stamp, 'add', die, 2)"
    killed_in_report(place, meddle, kept=["01_b.ipynb"])


@fault
def report_killed_while_typesetting(place):
    """report: SIGKILL while pages are made → the next call makes them all"""
    killed_in_report(place, "from fer_utils.report import render as m; at(m, 'compile_pdf', die)")


@fault
def report_killed_while_writing_pages(place):
    """report: SIGKILL between two pages → old and new pages whole, the next call makes them all"""
    killed_in_report(place, f"import {REPORT} as m; at(m.os, 'replace', die, 7)")


@fault
def report_interrupted(place):
    """report: Ctrl-C → one line, status 130, no kernel left, goes on"""
    root = project(place, first(), chapter_with("import time; time.sleep(60)"))
    process = start(REPORT, "--run", "tiny", "--jobs", 1, root=root)
    running = root / "build/tiny/notebooks/01_b.running.ipynb"
    within(60, running.exists)
    time.sleep(2)
    os.killpg(process.process.pid, signal.SIGINT)
    status, said = process.end(60)
    assert status == 130 and said.strip().endswith("goes on from here"), said
    within(30, lambda: not kernels())
    write(root / "notebooks" / "01_b.ipynb", *chapter_with("1"))
    assert report(root)[0] == 0
    whole(root)


@fault
def report_disk_full(place):
    """report: no room for a page (file size limit) → one line, the old pages stay"""
    root = project(place)
    assert report(root)[0] == 0
    before = pages(root)
    write(root / "notebooks" / "01_b.ipynb", *chapter_with("1"))
    status, said = report(root, limit=30_000)
    assert status == 1 and "report.pdf: File too large" in said, said
    assert pages(root) == before
    assert report(root)[0] == 0
    whole(root)


@fault
def report_cell_fails(place):
    """report: a cell raises → chapter, cell and error named, twice; pages untouched"""
    fails_then_works(place, "1 / 0", "ZeroDivisionError")


@fault
def report_kernel_dies(place):
    """report: the kernel is killed → chapter and cell named, twice; pages untouched"""
    fails_then_works(place, "import os; os.kill(os.getpid(), 9)", "Kernel died")


@fault
def report_kernel_exits(place):
    """report: a cell ends the process → chapter and cell named, twice; pages untouched"""
    fails_then_works(place, "import os; os._exit(0)", "Kernel died")


@fault
def report_kernel_hangs(place):
    """report: a cell hangs → stopped after --limit seconds, named, twice; pages untouched"""
    source = "import time; time.sleep(600)"
    fails_then_works(place, source, "", "--limit", 3)


@fault
def report_kernel_hangs_deaf(place):
    """report: a cell hangs and hears no interrupt → stopped after --limit seconds all the same"""
    source = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
    fails_then_works(place, source, "", "--limit", 3)


@fault
def report_out_of_memory(place):
    """report: a cell needs more memory than there is → named, twice; pages untouched"""
    fails_then_works(place, "bytearray(1 << 60)", "MemoryError")


@fault
def report_notebook_damaged(place):
    """report: a notebook is cut short → one line that names it, pages untouched"""
    root = project(place)
    assert report(root)[0] == 0
    before, path = pages(root), root / "notebooks" / "01_b.ipynb"
    content = path.read_text()
    path.write_text(content[:-20])
    status, said = report(root)
    assert status == 1 and said.startswith("report: ") and "01_b" in said, said
    assert pages(root) == before
    path.write_text(content)
    assert report(root)[0] == 0


@fault
def report_executed_notebook_damaged(place):
    """report: an executed notebook in build/ is cut short → that chapter is executed again"""
    root = project(place)
    assert report(root)[0] == 0
    path = root / "build/tiny/notebooks/01_b.ipynb"
    path.write_bytes(path.read_bytes()[:-100])
    (root / "build/tiny/html/01_b.html").unlink()
    assert report(root)[0] == 0
    assert json.loads(path.read_text("utf-8"))["cells"]
    whole(root)


@fault
def report_stamp_damaged(place):
    """report: build/RUN/stamp.json is garbage → everything is made anew"""
    root = project(place)
    assert report(root)[0] == 0
    for garbage in ('{"files": [1', "[]", '{"files": 3}'):
        (root / "build/tiny/stamp.json").write_text(garbage)
        assert report(root)[0] == 0
        whole(root)


@fault
def report_page_lost(place):
    """report: a page was deleted → it is made again, no chapter is executed"""
    root = project(place)
    assert report(root)[0] == 0
    (root / "build/tiny/html/index.html").unlink()
    path = root / "build/tiny/notebooks/00_a.ipynb"
    before = path.stat().st_mtime_ns
    assert report(root)[0] == 0
    whole(root)
    assert (root / "build/tiny/html/index.html").exists() and path.stat().st_mtime_ns == before


@fault
def report_beside_jupyterlab(place):
    """report: JupyterLab's checkpoints in every folder of build/ and notebooks/ → left alone"""
    root = project(place)
    assert report(root)[0] == 0
    folders = [root / "notebooks", root / "build"]
    folders += [path for path in (root / "build").rglob("*") if path.is_dir()]
    own = [folder / ".ipynb_checkpoints" / "00_a-checkpoint.ipynb" for folder in folders]
    for path in own:
        path.parent.mkdir()
        path.write_text("{}")
    write(root / "notebooks" / "01_b.ipynb", *chapter_with("1"))
    assert report(root)[0] == 0
    assert "It stands." in (root / "build/tiny/html/01_b.html").read_text("utf-8")
    assert all(path.read_text() == "{}" for path in own)


@fault
def report_build_is_a_file(place):
    """report: a file lies where build/ should → one line that names it, the file untouched"""
    root = project(place)
    (root / "build").write_text("mine")
    status, said = report(root)
    assert status == 1 and "build" in said and (root / "build").read_text() == "mine", said


@fault
def report_twice_at_once(place):
    """report: two at once → both succeed, each chapter is executed once"""
    log = place / "log"
    source = f"open({str(log)!r}, 'a').write('x'); import time; time.sleep(3)"
    root = project(place, first(), chapter_with(source))
    both = [start(REPORT, "--run", "tiny", "--jobs", 1, root=root) for _ in range(2)]
    ended = [process.end() for process in both]
    assert [status for status, _ in ended] == [0, 0], ended
    assert log.read_text() == "x"
    whole(root)


@fault
def report_run_damaged(place):
    """report: the run's config.json is cut short → one line that names it"""
    root = project(place)
    path = root / "runs/tiny/config.json"
    content = path.read_text()
    path.write_text(content[:-5])
    status, said = report(root)
    assert status == 1 and "config.json" in said, said
    path.write_text(content)
    assert report(root)[0] == 0


# -- predict ------------------------------------------------------------------------------------


@fault
def predict_map_disk_full(place):
    """predict: no room for the map → one line, an older map stays"""
    (place / "face.png").write_bytes(face_png())
    (place / "map.png").write_bytes(b"old")
    command = ("fer_utils.predict", place / "face.png", "--map", place / "map.png")
    status, said = run(*command, limit=1000)
    assert status == 1 and said.startswith("predict: "), said
    assert (place / "map.png").read_bytes() == b"old" and len(list(place.iterdir())) == 2
    assert run(*command)[0] == 0


def attempt(function):
    """The table's row of a fault, and whether its promise was kept."""
    where, rest = function.__doc__.split(": ", 1)
    what, promise = rest.split(" → ")
    begin, kept = time.monotonic(), "yes"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "place").mkdir()
        try:
            function(Path(folder) / "place")
        except Exception as error:
            kept = f"**no**: {' '.join(str(error).split())[:300]}"
    seconds = time.monotonic() - begin
    return f"| {where} | {what} | {promise} | {kept} | {seconds:.0f} |", kept == "yes"


def main() -> int:
    """Run all, or those whose names are given, two at a time; print the table."""
    chosen = [f for f in FAULTS if not sys.argv[1:] or f.__name__ in sys.argv[1:]]
    print("| where | fault | promise | kept | seconds |\n|---|---|---|---|---|")
    undisturbed()
    kept = 0
    with ProcessPoolExecutor(2, mp_context=FORK) as pool:
        for row, yes in pool.map(attempt, chosen):
            print(row, flush=True)
            kept += yes
    shutil.rmtree(undisturbed().parent)
    print(f"\n{kept} of {len(chosen)} promises kept")
    return kept < len(chosen)


if __name__ == "__main__":
    sys.exit(main())
