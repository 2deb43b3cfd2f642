"""Make the report: ``python -m fer_utils.report [--run NAME] [--data FILE] …``."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from fer_utils import revision
from fer_utils.report import ROOT, TEMPLATES, ReportError, fingerprint


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    options = parse(arguments)
    try:
        return report(options, root)
    except (ReportError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("report: interrupted; the next call goes on from here", file=sys.stderr)
        return 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fer_utils.report", description=__doc__)
    parser.add_argument("--run", default="fer2013", help="the run; trained where missing")
    parser.add_argument("--data", type=Path, default=os.environ.get("FER_DATA") or None,
                        help="fer2013.csv or its kin (default: $FER_DATA)")  # fmt: skip
    parser.add_argument("--votes", type=Path, default=os.environ.get("FER_VOTES") or None,
                        help="fer2013new.csv (default: $FER_VOTES)")  # fmt: skip
    parser.add_argument("--epochs", type=int, help="where the run is trained first")
    parser.add_argument("--jobs", type=int, default=2, help="chapters executed at a time")
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder for the pages")
    parser.add_argument("--limit", type=float, default=1800, metavar="SECONDS",
                        help="a cell that takes longer has hung (%(default)s)")  # fmt: skip
    parser.add_argument("--no-faces", action="store_true", help="leave single real faces out")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", options.run):
        parser.error(f"--run {options.run!r}: expected letters, digits, '-', '_' and '.' only")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: expected 1 or more")
    if not options.limit > 0:
        parser.error(f"--limit {options.limit}: expected seconds, above 0")
    return options


def report(options: argparse.Namespace, root: Path) -> int:
    for path in filter(None, (options.data, options.votes)):
        if not path.exists():
            raise ReportError(f"{path}: no such file; give the path of fer2013.csv or none")
    folder = ((root / options.build) / options.run).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"another process makes {short(folder)}; waiting for it", flush=True)
        held = lock.acquire()
    with held:
        return make(options, root, folder)


def make(options: argparse.Namespace, root: Path, folder: Path) -> int:
    data, votes = (p and p.resolve() for p in (options.data, options.votes))
    run = fingerprint.runs_folder(root) / options.run
    if code := make_run(run, data, votes, options.epochs):
        return code
    shown = None if options.no_faces else data
    notebooks = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    stamp = Stamp(folder / "stamp.json")
    around = fingerprint.surroundings(root, options.run, shown, votes)
    keys = {path.stem: fingerprint.digest(around, fingerprint.notebook(path)) for path in notebooks}

    targets = {path.stem: folder / "notebooks" / path.name for path in notebooks}
    old = [p for p in notebooks if not stamp.holds(targets[p.stem], keys[p.stem])]
    if old:
        from fer_utils.report import execute

        # Longest first; where nothing is known, the later chapters compute more.
        seconds = {name: facts.get("seconds", 0) for name, facts in stamp.chapters.items()}
        old.sort(key=lambda p: (seconds.get(p.stem, 1e9), p.stem), reverse=True)
        jobs = []
        for path in old:
            targets[path.stem].parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder / "figures" / path.stem[:2], ignore_errors=True)
            kernel = execute.environment(folder, path.stem, shown, votes, options.jobs == 1)
            jobs.append((path, targets[path.stem], options.run, kernel))
        execute.execute(
            jobs, options.jobs, options.limit,
            lambda name, s: stamp.add(targets[name], keys[name], s),
        )  # fmt: skip

    commit, committed = revision.commit(root)
    key = fingerprint.digest(keys, fingerprint.tree(TEMPLATES.parent), commit)
    files = [folder / "report.pdf", folder / "html" / "index.html"]
    files += [folder / "html" / f"{name}.html" for name in targets]
    if stamp.pages == key and all(file.is_file() for file in files):
        print(f"{short(files[0])} and {short(files[1])} are up to date")
        return 0
    start = time.monotonic()
    pages(folder, list(targets.values()), run, shown, (commit, committed))
    stamp.pages = key
    stamp.write()
    print(f"{short(files[0])} and {short(files[1])} made in {time.monotonic() - start:.1f} s")
    return 0


def make_run(run: Path, data: Path | None, votes: Path | None, epochs: int | None) -> int:
    """Train a missing run, the original recipe beside it, and compute what the chapters show."""
    given = {"FER_DATA": data, "FER_VOTES": votes}
    environment = os.environ | {name: str(path) for name, path in given.items() if path}
    steps = []
    length = ["--epochs", str(epochs)] if epochs else []
    whole, original = (run / "metrics.json").is_file(), run / "variants" / "original"
    if not whole:
        steps.append(["train", "--run", run.name, *length])
    if not (whole and not original.is_dir()) and not (original / "metrics.json").is_file():
        other = ["--variant", "original", "--recipe", "original"]
        steps.append(["train", "--run", run.name, *other, *length])
    if not (run / "precomputed").is_dir():
        steps.append(["precomputed", run.name])
    for step in steps:
        print(f"  {' '.join(step[:4])}", flush=True)
        command = [sys.executable, "-m", f"fer_utils.{step[0]}", *step[1:]]
        if code := subprocess.run(command, cwd=ROOT, env=environment).returncode:
            return code
    return 0


def pages(folder: Path, executed: list[Path], run: Path, data, commit) -> None:
    """Make every page in memory, write them all, then put them in place of the old ones."""
    from fer_utils.report import html, markup, pdf
    from fer_utils.report.notebook import read

    chapters = [read(path) for path in executed]
    symbols = markup.typeset(chapters)
    config, metrics = (
        fingerprint.read_json(run / name) for name in ("config.json", "metrics.json")
    )
    front = markup.front(headline(config, metrics))
    foot = provenance(run.name, config, commit[0], data)
    site = html.pages(chapters, symbols, front, foot)
    made = {folder / "html" / name: page.encode() for name, page in site.items()}
    made |= {folder / "html" / path.name: path.read_bytes() for path in executed}
    text = pdf.source(chapters, front, foot, pdf.place(chapters, folder))
    made[folder / "report.pdf"] = pdf.compile_pdf(text, folder, commit[1])
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
    for path in set((folder / "html").iterdir()) - set(made):
        path.unlink()


def headline(config: dict, metrics: dict) -> dict:
    """What the abstract says of this run."""
    split = "PrivateTest" if "PrivateTest" in metrics else "PublicTest"
    kind = config["data"]["kind"]
    faces = "synthetic faces" if kind == "synthetic" else "FER2013"
    return {"accuracy": metrics[split]["accuracy"], "split": split, "faces": faces}


def provenance(run: str, config: dict, commit: str, data: Path | None) -> dict:
    described = config["data"]
    facts = {
        "Run": run,
        "Data": f"{described['kind']}, checksum {str(described.get('checksum', 'unknown'))[:12]}",
        "Seed": str(config.get("seed", config.get("recipe", {}).get("seed", "unknown"))),
        "Commit": commit,
        "Made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "With": ", ".join(f"{name} {version}" for name, version in fingerprint.versions().items()),
    }
    real = data and described["kind"] != "synthetic"
    return {"facts": facts, "warning": "Contains FER2013 faces: do not publish." if real else ""}


class Stamp:
    """build/RUN/stamp.json: what the chapters and pages that lie there were made from."""

    def __init__(self, path: Path):
        self.path = path
        self.chapters: dict[str, dict] = {}
        self.pages = ""
        # Whatever else lies there says nothing: all is made anew.
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            stored = json.loads(path.read_text("utf-8"))
            chapters = {name: dict(facts) for name, facts in stored["chapters"].items()}
            self.chapters, self.pages = chapters, str(stored["pages"])

    def holds(self, executed: Path, key: str) -> bool:
        """Whether an executed notebook lies there as it was made, from what it would be made of."""
        known = self.chapters.get(executed.stem, {})
        made = [known.get("made")]
        return (
            known.get("key") == key and executed.is_file() and fingerprint.content(executed) == made
        )

    def add(self, executed: Path, key: str, seconds: float) -> None:
        (made,) = fingerprint.content(executed)
        self.chapters[executed.stem] = {"key": key, "made": made, "seconds": round(seconds, 1)}
        self.write()

    def write(self) -> None:
        partial = self.path.with_suffix(".partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({"chapters": self.chapters, "pages": self.pages}, indent=1))
        os.replace(partial, self.path)


def short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
