"""Execute chapters several at a time (papermill), longest first, with a line of progress each."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from fer_utils.report import ReportError


@dataclass(frozen=True)
class Job:
    """Execute notebook ``source`` about ``run``; ``target`` appears whole or not at all."""

    source: Path
    target: Path
    run: str
    real_faces: bool  # noted in the executed notebook: its pages must not be published

    @property
    def running(self) -> Path:
        return self.target.with_suffix(".running.ipynb")

    @property
    def failed(self) -> Path:
        return self.target.with_suffix(".failed.ipynb")


def execute(
    jobs: list[Job], workers: int, limit: float, done: Callable[[Job, float], None]
) -> None:
    """Execute jobs in their order, ``workers`` at a time; ``done(job, seconds)`` after each.

    A cell may take ``limit`` seconds.

    Raises:
        ReportError: a chapter failed; the chapters still at work end with this process.
    """

    def timed(job: Job) -> tuple[Job, float, str]:
        print(f"  {job.source.stem:<26} running", flush=True)
        began = time.monotonic()
        reason = execute_one(job, limit)
        return job, time.monotonic() - began, reason

    for talker in ("papermill", "asyncio"):  # what they say of a dead kernel is said in one line
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    try:
        with chdir(jobs[0].source.parent), ThreadPool(min(workers, len(jobs))) as pool:
            for job, seconds, reason in pool.imap_unordered(timed, jobs):
                if reason:
                    raise ReportError(f"{job.source.stem}, {reason}")
                print(f"  {job.source.stem:<26} done    {seconds:6.1f} s", flush=True)
                done(job, seconds)
    finally:
        for job in jobs:
            job.running.unlink(missing_ok=True)


def execute_one(job: Job, limit: float) -> str:
    """Execute one notebook.

    Returns:
        "" or, of a chapter that failed, cell and error in one line; the notebook as far as it got
        is then kept as NAME.failed.ipynb.
    """
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    try:
        notebook = papermill.execute_notebook(
            job.source, job.running, {"RUN": job.run}, kernel_name="python3", progress_bar=False,
            execution_timeout=math.ceil(limit), extra_arguments=["--log-level=CRITICAL"],
        )  # fmt: skip
        notebook.metadata["real_faces"] = job.real_faces
        nbformat.write(notebook, job.running)
    except Exception as error:  # whatever ends a chapter is named, and the others stop
        if not job.running.exists():
            return first_line(error)
        os.replace(job.running, job.failed)
        if isinstance(error, PapermillExecutionError):
            reason = first_line(f"{error.ename}: {error.evalue}")
            number = source_number(job.failed, error.cell_index)
            return f"cell {number} (In [{error.exec_count}]): {reason}"
        return f"cell {source_number(job.failed)}: {type(error).__name__}: {first_line(error)}"
    job.failed.unlink(missing_ok=True)
    os.replace(job.running, job.target)
    return ""


def source_number(failed: Path, index: int | None = None) -> int:
    """The number in the source notebook, from 1, of the cell at ``index``, or of the last begun."""
    about = [cell["metadata"] for cell in json.loads(failed.read_text("utf-8"))["cells"]]
    about = [cell for cell in about if "papermill-error-cell-tag" not in cell.get("tags", ())]
    if index is None:
        begun = [bool(cell.get("papermill", {}).get("start_time")) for cell in about]
        index = max((i for i, yes in enumerate(begun) if yes), default=0)
    return sum("injected-parameters" not in cell.get("tags", ()) for cell in about[: index + 1])


def first_line(error: object) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
