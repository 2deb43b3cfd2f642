"""Make the report: ``python -m fer_utils.report [--run NAME] [--data FILE] …``."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock

from fer_utils import revision
from fer_utils.commandline import run_command
from fer_utils.precomputed import missing
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
    parser.add_argument("--network", default=os.environ.get("FER_NETWORK") or None,
                        help="of a run that is made: a name, or FILE.py:Class (default: "
                        "$FER_NETWORK, else FerCNN)")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=2, help="chapters executed at a time")
    parser.add_argument("--build", type=Path, help="folder for the pages (default: build)")
    parser.add_argument("--limit", type=int, default=1800, metavar="SECONDS",
                        help="a cell that takes longer has hung (%(default)s)")  # fmt: skip
    parser.add_argument("--no-faces", action="store_true", help="leave single real faces out")
    parser.add_argument("--code", action="store_true", help="print the code in the PDF")
    parser.add_argument("training", nargs="*", metavar="-- OPTION",
                        help="options of fer_utils.train, for a run that is made")  # fmt: skip
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", options.run):
        parser.error(f"--run {options.run!r}: expected letters, digits, '-', '_' and '.' only")
    return options


def report(options: argparse.Namespace, root: Path) -> int:
    """Say what is missing before any work; then make the report."""
    for option, path in (("--data", options.data), ("--votes", options.votes)):
        if path and not path.exists():
            raise ReportError(f"{option} {path}: no such file or folder; give its path, or none")
    # Chapters run in another folder: from here on, every path is whole.
    options.data, options.votes = (p and p.resolve() for p in (options.data, options.votes))
    os.environ |= {"FER_DATA": str(options.data or ""), "FER_VOTES": str(options.votes or "")}
    if options.network:
        os.environ["FER_NETWORK"] = whole_reference(options.network)
    if os.environ.get("FER_RUNS"):
        os.environ["FER_RUNS"] = str(Path(os.environ["FER_RUNS"]).resolve())
    fingerprint.versions()
    chapters = fingerprint.chapters(root / "notebooks")
    if not chapters:
        raise ReportError(f"{root / 'notebooks'}: no chapter there; expected NN_name.ipynb")
    folder = (options.build or root / "build").resolve() / options.run
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    (folder / "html").mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):  # a second call waits, then finds nothing to do
        return make(options, root, chapters, folder)


def whole_reference(network: str) -> str:
    """``FILE.py:Class`` with the file's whole path; a name stays as it is."""
    file, _, name = network.rpartition(":")
    if not file:
        return network
    path = Path(file).expanduser()
    if not path.is_file():
        raise ReportError(f"--network {network}: no file {file}; expected FILE.py:Class")
    return f"{path.resolve()}:{name}"


def make(options: argparse.Namespace, root: Path, chapters: list[Path], folder: Path) -> int:
    run = fingerprint.run_folder(root, options.run)
    if status := make_run(run, options):
        return status
    tell_faces(run)
    if options.no_faces:
        options.data = options.votes = None
        os.environ |= {"FER_DATA": "", "FER_VOTES": ""}
    stamp = fingerprint.Stamp(folder)
    inputs = fingerprint.inputs(root, options.run, options.data, options.votes)
    keys = {path.name: fingerprint.digest(inputs, fingerprint.notebook(path)) for path in chapters}
    executed = [folder / "notebooks" / path.name for path in chapters]
    pairs = zip(chapters, executed, strict=True)
    old = [source for source, path in pairs if not stamp.holds(path, keys[path.name])]
    if old:
        from fer_utils.report.execute import execute

        for path in execute(old[::-1], folder, options):  # backwards: the later compute more
            stamp.add([path], keys[path.name])

    module = fingerprint.tree(TEMPLATES.parent)
    key = fingerprint.digest(keys, module, revision.commit(root), options.code)
    names = [f"html/{path.stem}.{kind}" for path in chapters for kind in ("html", "ipynb")]
    pages = [folder / name for name in (*names, "html/index.html", "report.pdf")]
    told = f"{short(folder / 'report.pdf')} and {short(folder / 'html' / 'index.html')}"
    if all(stamp.holds(page, key) for page in pages):
        print(f"{told} are up to date")
        return 0
    start = time.monotonic()
    write_all(render_pages(executed, folder, options.code))
    stamp.add(pages, key)
    stamp.remove_all_but([*pages, *executed])
    print(f"{told} made in {time.monotonic() - start:.1f} s")
    return 0


def make_run(run: Path, options: argparse.Namespace) -> int:
    """Finish a run: train it, the original recipe beside it, and compute what the chapters show.

    Returns:
        the exit status of the first step that failed, else 0.
    """
    whole, original = fingerprint.is_whole(run), run / "variants" / "original"
    train = ["train", "--run", run.name]
    steps, lacking = [], []
    if whole:
        check_made(run, options)
        lacking = missing(run)
    else:
        steps.append([*train, *options.training])
    if not fingerprint.is_whole(original) and (original.is_dir() or not whole):
        steps.append([*train, "--variant", "original", "--recipe", "original", *options.training])
    if lacking or not whole:
        steps.append(["precomputed", run.name, *lacking])
    for step in steps:
        print(f"  {' '.join(step)}", flush=True)
        command = [sys.executable, "-m", f"fer_utils.{step[0]}", *step[1:]]
        if status := subprocess.run(command, cwd=ROOT).returncode:
            return status
    return 0


def check_made(run: Path, options: argparse.Namespace) -> None:
    """ReportError where a run that is there is of another network than is given."""
    config = fingerprint.run_config(run)
    have = config.get("network")
    if config.get("network_checksum") and not options.network:
        raise ReportError(
            f"the network of run {run.name!r} is your own: give NETWORK=path/to/{have}"
        )
    wanted = options.network and Path(options.network).name
    if wanted and have and wanted != have:
        raise ReportError(
            f"run {run.name!r} is there, of the network {have}, not {wanted}; give another RUN"
        )
    if options.training:
        print(f"  {run.name} is trained already: {' '.join(options.training)} changes nothing")


def tell_faces(run: Path) -> None:
    """Print what the run was made from: its faces, and what was recognised or assumed of them."""
    config = fingerprint.run_config(run)
    about = config["data"]
    lines = {split: f"{split} {n:,}" for split, n in about["faces"].items()}
    with suppress(Exception):  # what is damaged in any way is told by the chapter that reads it
        with np.load(run / "precomputed" / "dataset.npz") as stored:
            counts = stored["counts"]  # (classes, splits)
        for split, column in zip(about["faces"], counts.T, strict=True):
            named = zip(config["classes"], column, strict=True)
            lines[split] += ": " + ", ".join(f"{name} {n:,}" for name, n in named)
    told = [f"{run.name}: {about['kind']} faces", *lines.values(), *about.get("notes", ())]
    print("  " + "\n    ".join(told))


def render_pages(executed: list[Path], folder: Path, code: bool) -> dict[Path, bytes]:
    """Every page, in memory: file -> content."""
    import nbformat

    from fer_utils.report import render

    book = render.read_book(executed, nbformat.read(executed[0], as_version=4))
    html, typst = render.FerHTMLExporter(), render.FerTypstExporter()
    made, chapters = {}, []
    for path in executed:
        page, _ = html.from_filename(str(path), {"book": book})
        source, found = typst.from_filename(str(path), {"book": book})
        chapters.append(found["chapter"] | {"source": source})
        made[folder / "html" / f"{path.stem}.html"] = page.encode()
        made[folder / "html" / path.name] = path.read_bytes()
    made[folder / "html" / "index.html"] = html.index(chapters, book).encode()
    made[folder / "report.pdf"] = render.compile_pdf(chapters, book, code)
    return made


def write_all(made: dict[Path, bytes]) -> None:
    """Write all files beside their places, then put them there; or leave the old ones."""
    written = {path: path.with_name(f".{path.name}") for path in made}
    try:
        for path, partial in written.items():
            partial.write_bytes(made[path])
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
