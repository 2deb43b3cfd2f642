"""Make the report: ``python -m fer_utils.report [--run NAME] [--data FILE] …``."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from fer_utils import revision
from fer_utils.commandline import run_command
from fer_utils.report import ROOT, TEMPLATES, ReportError, fingerprint


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    options = parse(arguments)
    again = "interrupted; the next call goes on from here"
    return run_command("report", lambda: report(options, root), again)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fer_utils.report", description=__doc__)
    parser.add_argument("--run", default="fer2013", help="the run; trained where missing")
    parser.add_argument("--data", type=Path, default=os.environ.get("FER_DATA") or None,
                        help="fer2013.csv or its kin (default: $FER_DATA)")  # fmt: skip
    parser.add_argument("--votes", type=Path, default=os.environ.get("FER_VOTES") or None,
                        help="fer2013new.csv (default: $FER_VOTES)")  # fmt: skip
    parser.add_argument("--epochs", type=int, help="where the run is trained first")
    parser.add_argument("--jobs", type=int, default=2, help="chapters executed at a time")
    parser.add_argument("--build", type=Path, help="folder for the pages (default: build)")
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS",
                        help="a cell that takes longer has hung (%(default)s)")  # fmt: skip
    parser.add_argument("--no-faces", action="store_true", help="leave single real faces out")
    parser.add_argument("--code", action="store_true", help="print the code in the PDF")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", options.run):
        parser.error(f"--run {options.run!r}: expected letters, digits, '-', '_' and '.' only")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: expected 1 or more")
    if not options.limit > 0:
        parser.error(f"--limit {options.limit}: expected seconds, above 0")
    return options


def report(options: argparse.Namespace, root: Path) -> int:
    # Chapters run in another folder: from here on, every path is whole.
    for name in ("data", "votes"):
        if path := getattr(options, name):
            setattr(options, name, path.expanduser().resolve())
    if runs := os.environ.get("FER_RUNS"):
        os.environ["FER_RUNS"] = str(Path(runs).resolve())
    folder = (options.build or root / "build").resolve() / options.run
    check(options, root)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"another process makes {short(folder)}; waiting for it", flush=True)
        held = lock.acquire()
    with held:
        return make(options, root, folder)


def check(options: argparse.Namespace, root: Path) -> None:
    """Say what is missing before any work.

    Raises:
        ReportError: data, votes, chapters, a run that they name or a package are not there.
    """
    for path in filter(None, (options.data, options.votes)):
        if not path.exists():
            raise ReportError(f"{path}: no such file; give the path of fer2013.csv or none")
    fingerprint.versions()
    notebooks = root / "notebooks"
    found = fingerprint.chapters(notebooks)
    if not found:
        raise ReportError(f"{notebooks}: no chapter there; expected NN_name.ipynb")
    for path in found:
        needed = re.search(r"Run\.load\(\\?['\"](\w+)", path.read_text("utf-8"))
        if not needed or needed[1] == options.run:
            continue
        if not (fingerprint.run_folder(root, needed[1]) / "metrics.json").is_file():
            where = os.environ.get("FER_RUNS") or root / "runs"
            told = f"{path.stem} reads the run {needed[1]!r}, which is not in {where}"
            raise ReportError(f"{told}; it comes with the project: `git checkout runs`")
    for path in sorted(set(notebooks.glob("*.ipynb")) - set(found)):
        print(f"  left out: notebooks/{path.name}, whose name is not that of a chapter, NN_name")


def make(options: argparse.Namespace, root: Path, folder: Path) -> int:
    run = fingerprint.run_folder(root, options.run)
    if status := make_run(run, options):
        return status
    tell_faces(run)
    shown = None if options.no_faces else options.data
    stamp = fingerprint.Stamp(folder / "stamp.json")
    notebooks = fingerprint.chapters(root / "notebooks")
    around = fingerprint.surroundings(root, options.run, shown, options.votes)
    keys = {path.stem: fingerprint.digest(around, fingerprint.notebook(path)) for path in notebooks}
    targets = {path.stem: folder / "notebooks" / path.name for path in notebooks}
    old = [p for p in notebooks if not stamp.holds(targets[p.stem], keys[p.stem])]
    if old:
        execute_chapters(old, targets, keys, stamp, options)

    key = fingerprint.digest(
        keys, fingerprint.tree(TEMPLATES.parent), revision.commit(root), options.code
    )
    pages = [folder / "report.pdf", folder / "html" / "index.html"]
    if stamp.pages == key and all((folder / name).is_file() for name in stamp.files):
        print(f"{short(pages[0])} and {short(pages[1])} are up to date")
        return 0
    start = time.monotonic()
    made = render_pages(list(targets.values()), folder, options.code)
    write_all(made)
    written = [path.relative_to(folder).as_posix() for path in [*made, *targets.values()]]
    stamp.pages = key
    stamp.replace_files(written)
    print(f"{short(pages[0])} and {short(pages[1])} made in {time.monotonic() - start:.1f} s")
    return 0


def make_run(run: Path, options: argparse.Namespace) -> int:
    """Finish a run: train it, the original recipe beside it, and compute what the chapters show.

    Returns:
        the exit status of the first step that failed, else 0.
    """
    given = {"FER_DATA": options.data, "FER_VOTES": options.votes}
    environment = os.environ | {name: str(path) for name, path in given.items() if path}
    length = ["--epochs", str(options.epochs)] if options.epochs else []
    whole, original = (run / "metrics.json").is_file(), run / "variants" / "original"
    steps = []
    if not whole:
        steps.append(["train", "--run", run.name, *length])
    if not (whole and not original.is_dir()) and not (original / "metrics.json").is_file():
        other = ["--variant", "original", "--recipe", "original"]
        steps.append(["train", "--run", run.name, *other, *length])
    if not whole:
        steps.append(["precomputed", run.name])
    elif lacking := missing_results(run):
        steps.append(["precomputed", run.name, *lacking])
    for step in steps:
        print(f"  {' '.join(step)}", flush=True)
        command = [sys.executable, "-m", f"fer_utils.{step[0]}", *step[1:]]
        if status := subprocess.run(command, cwd=ROOT, env=environment).returncode:
            return status
    return 0


def missing_results(run: Path) -> list[str]:
    """Which precomputed results a whole run still lacks."""
    config = fingerprint.read_json(run / "config.json")
    wanted = ["dataset", "copies", "class_maps", "filters"]
    if config["data"]["kind"] == "synthetic":
        wanted.append("scores")
    return [name for name in wanted if not (run / "precomputed" / f"{name}.npz").is_file()]


def tell_faces(run: Path) -> None:
    """What the run was made from: faces by split and class, and what was assumed of them."""
    import numpy as np

    config = fingerprint.read_json(run / "config.json")
    about = config["data"]
    counts = run / "precomputed" / "dataset.npz"
    if counts.is_file() and "classes" in config:
        with np.load(counts, allow_pickle=False) as stored:
            table = dict(zip(config["classes"], stored["counts"].sum(1).tolist(), strict=True))
        by_class = ", ".join(f"{name} {n:,}" for name, n in table.items())
    else:
        by_class = ""
    by_split = ", ".join(f"{split} {n:,}" for split, n in about.get("faces", {}).items())
    print(f"  {run.name}: {about['kind']} faces: {by_split}")
    for line in filter(None, (by_class, *about.get("notes", ()))):
        print(f"    {line}")


def execute_chapters(old, targets, keys, stamp: fingerprint.Stamp, options) -> None:
    from fer_utils.report.execute import Job, execute, kernels_find

    # Longest first; where nothing is known, the later chapters compute more.
    seconds = {name: facts.get("seconds", 0) for name, facts in stamp.chapters.items()}
    old.sort(key=lambda p: (seconds.get(p.stem, 1e9), p.stem), reverse=True)
    folder = stamp.path.parent
    (folder / "notebooks").mkdir(exist_ok=True)
    data = None if options.no_faces else options.data
    variables = {
        "FER_DATA": str(data) if data else None,
        "FER_VOTES": str(options.votes) if data and options.votes else None,
        "FER_FIGURES": str(folder / "figures"),
    }
    if options.jobs > 1:
        variables["OMP_NUM_THREADS"] = "1"
    jobs = [Job(path, targets[path.stem], options.run, bool(data)) for path in old]
    with kernels_find(variables):
        execute(
            jobs, options.jobs, options.limit,
            lambda job, s: stamp.add(job.target, keys[job.source.stem], s),
        )  # fmt: skip


def render_pages(executed: list[Path], folder: Path, code: bool) -> dict[Path, bytes]:
    """Every page, in memory: file -> content."""
    import nbformat

    from fer_utils.report import render

    shared = render.surroundings(executed, nbformat.read(executed[0], as_version=4))
    html, typst = render.FerHTMLExporter(), render.FerTypstExporter()
    made, chapters = {}, []
    for path in executed:
        page, _ = html.from_filename(str(path), dict(shared))
        source, found = typst.from_filename(str(path), dict(shared))
        chapters.append(found["chapter"] | {"source": source, "files": found["outputs"]})
        made[folder / "html" / f"{path.stem}.html"] = page.encode()
        made[folder / "html" / path.name] = path.read_bytes()
        for fault in found["chapter"]["faults"]:
            print(f"  {path.stem}: the answer has {fault}")
    front, foot = shared["front"], shared["foot"]
    made[folder / "html" / "index.html"] = html.index(chapters, front, foot).encode()
    made[folder / "report.pdf"] = render.compile_pdf(chapters, front, foot, code)
    return made


def write_all(made: dict[Path, bytes]) -> None:
    """Write all files beside their places, then put them there; or leave the old ones."""
    written = {path: path.with_name(f".{path.name}") for path in made}
    try:
        for path, content in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            written[path].write_bytes(content)
    except OSError as error:
        for partial in written.values():
            partial.unlink(missing_ok=True)
        raise ReportError(f"{short(path)}: {error.strerror}; the old pages stay") from None
    for path, partial in written.items():
        os.replace(partial, path)


def short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
