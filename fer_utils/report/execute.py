"""Execute chapters several at a time (papermill), with a line of progress each."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable
from contextlib import chdir
from multiprocessing.pool import ThreadPool
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from fer_utils.report import ReportError


def execute(
    chapters: list[Path], folder: Path, run: str, real_faces: bool, workers: int, limit: float,
    done: Callable[[str], None],
) -> None:  # fmt: skip
    """Execute chapters about ``run`` into ``folder``, ``workers`` at a time; ``done(name)`` after each.

    Args:
        real_faces: noted in the executed notebooks, whose pages must then not be published.
        limit: seconds that a cell may take.

    Raises:
        ReportError: a chapter failed; the chapters still at work end with this process.
    """

    def timed(chapter: Path) -> tuple[Path, float, str]:
        print(f"  {chapter.stem:<26} running", flush=True)
        began = time.monotonic()
        reason = execute_one(chapter, folder, run, real_faces, limit)
        return chapter, time.monotonic() - began, reason

    for talker in ("papermill", "asyncio"):  # what they say of a dead kernel is said in one line
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    try:
        with chdir(chapters[0].parent), ThreadPool(workers) as pool:
            for chapter, seconds, reason in pool.imap_unordered(timed, chapters):
                if reason:
                    raise ReportError(f"{chapter.stem}, {reason}")
                print(f"  {chapter.stem:<26} done    {seconds:6.1f} s", flush=True)
                done(chapter.name)
    finally:
        for running in folder.glob("*.running.ipynb"):
            running.unlink()


def execute_one(chapter: Path, folder: Path, run: str, real_faces: bool, limit: float) -> str:
    """Execute one notebook; its copy in ``folder`` appears whole or not at all.

    Returns:
        "" or, of a chapter that failed, cell and error in one line; the notebook as far as it got
        is then kept as NAME.failed.ipynb.
    """
    running = folder / f"{chapter.stem}.running.ipynb"
    failed = folder / f"{chapter.stem}.failed.ipynb"
    try:
        notebook = papermill.execute_notebook(
            chapter, running, {"RUN": run}, kernel_name="python3", progress_bar=False,
            execution_timeout=math.ceil(limit), extra_arguments=["--log-level=CRITICAL"],
        )  # fmt: skip
        notebook.metadata["real_faces"] = real_faces
        nbformat.write(notebook, running)
    except Exception as error:  # whatever ends a chapter is named, and the others stop
        if not running.exists():
            return first_line(error)
        os.replace(running, failed)
        if isinstance(error, PapermillExecutionError):
            reason = first_line(f"{error.ename}: {error.evalue}")
            return f"cell {source_number(failed)} (In [{error.exec_count}]): {reason}"
        return f"cell {source_number(failed)}: {type(error).__name__}: {first_line(error)}"
    failed.unlink(missing_ok=True)
    os.replace(running, folder / chapter.name)
    return ""


def source_number(failed: Path) -> int:
    """The number in the source notebook, from 1, of the cell that was begun last."""
    about = [cell["metadata"] for cell in json.loads(failed.read_text("utf-8"))["cells"]]
    added = {"injected-parameters", "papermill-error-cell-tag"}
    about = [cell for cell in about if added.isdisjoint(cell.get("tags", ()))]
    begun = [i for i, cell in enumerate(about, 1) if cell.get("papermill", {}).get("start_time")]
    return max(begun, default=1)


def first_line(error: object) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
