"""Execute fingerprint chapters in a pool of processes, longest first, with a line of progress each."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import re
import time
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

from fer_utils.report import ROOT, ReportError


def execute_one(
    source: Path, target: Path, run: str, environment: dict[str, str | None], limit: float
) -> str:
    """Execute one notebook into ``target``, which appears whole or not at all.

    A cell may take ``limit`` seconds.

    Returns:
        "" or, of a chapter that failed, cell and error in one line; the notebook as far as it got
        is then kept as NAME.failed.ipynb.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    running, failed = target.with_suffix(".running.ipynb"), target.with_suffix(".failed.ipynb")
    before = dict(os.environ)
    for talker in ("papermill", "asyncio"):  # what they say of a dead kernel is said in one line
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    try:
        for key, value in environment.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
        papermill.execute_notebook(
            source, running, {"RUN": run}, kernel_name="python3", cwd=source.parent,
            progress_bar=False, execution_timeout=math.ceil(limit), extra_arguments=["--log-level=CRITICAL"],
        )  # fmt: skip
    except Exception as error:  # whatever ends a chapter is named, and the others stop
        if not running.exists():
            return _plain(error)
        os.replace(running, failed)
        if isinstance(error, PapermillExecutionError):
            reason = _plain(f"{error.ename}: {error.evalue}")
            return f"cell {_number(failed, error.cell_index)} (In [{error.exec_count}]): {reason}"
        return f"cell {_number(failed)}: {type(error).__name__}: {_plain(error)}"
    finally:
        os.environ.clear()
        os.environ.update(before)
    failed.unlink(missing_ok=True)
    os.replace(running, target)
    return ""


def _number(failed: Path, index: int | None = None) -> int:
    """The number in the source notebook, from 1, of the cell at ``index`` or, None, begun last."""
    about = [cell["metadata"] for cell in json.loads(failed.read_text("utf-8"))["cells"]]
    about = [cell for cell in about if "papermill-error-cell-tag" not in cell.get("tags", ())]
    if index is None:
        begun = [bool(cell.get("papermill", {}).get("start_time")) for cell in about]
        index = max((i for i, yes in enumerate(begun) if yes), default=0)
    return sum("injected-parameters" not in cell.get("tags", ()) for cell in about[: index + 1])


def _plain(error: object) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _timed(limit: float, job: tuple) -> tuple[str, float, str]:
    print(f"  {job[0].stem:<26} running", flush=True)
    began = time.monotonic()
    reason = execute_one(*job, limit)
    return job[0].stem, time.monotonic() - began, reason


def execute(jobs: list[tuple[Path, Path, str, dict]], workers: int, limit: float, done) -> None:
    """Execute ``(source, target, run, environment)`` jobs in their order, ``workers`` at a time.

    A cell that takes more than ``limit`` seconds fails.
    ``done(name, seconds)`` is called after each.

    Raises:
        ReportError: a chapter failed; the chapters still at work are stopped.
    """
    workers, spawn = min(workers, len(jobs)), multiprocessing.get_context("spawn")
    try:
        with (spawn.Pool if workers > 1 else ThreadPool)(workers) as pool:
            for name, seconds, reason in pool.imap_unordered(partial(_timed, limit), jobs):
                if reason:
                    raise ReportError(f"{name}, {reason}")
                print(f"  {name:<26} done    {seconds:6.1f} s", flush=True)
                done(name, seconds)
    finally:
        for _, target, _, _ in jobs:
            target.with_suffix(".running.ipynb").unlink(missing_ok=True)


def environment(folder: Path, chapter: str, data: Path | None, votes: Path | None, threads: bool):
    """What a chapter's kernel finds in its environment; None removes a variable."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        "FER_DATA": str(data) if data else None,
        "FER_VOTES": str(votes) if data and votes else None,
        "FER_FIGURES": str(folder / "figures" / chapter[:2]),
        "PYTHONPATH": path,
    } | ({} if threads else {"OMP_NUM_THREADS": "1"})
