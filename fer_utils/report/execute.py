"""Execute chapters several at a time (papermill), with a line of progress each."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import chdir
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from fer_utils.report import ROOT, ReportError


def execute(chapters: list[Path], folder: Path, options) -> Iterator[Path]:
    """Execute chapters into ``folder``/notebooks, ``options.jobs`` at a time; yields each made.

    ReportError where a chapter fails; those still at work end with this process.
    """
    os.environ |= {  # the chapters' kernels find it there
        "FER_FIGURES": str(folder / "figures"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    if options.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"
    for talker in ("papermill", "asyncio"):  # what they say of a dead kernel is said in one line
        logging.getLogger(talker).setLevel(logging.CRITICAL)

    one = partial(execute_one, folder=folder / "notebooks", options=options)
    try:
        with chdir(chapters[0].parent), ThreadPool(options.jobs) as pool:
            yield from pool.imap_unordered(one, chapters)
    finally:
        for running in (folder / "notebooks").glob("*.running.ipynb"):
            running.unlink(missing_ok=True)


def execute_one(chapter: Path, folder: Path, options) -> Path:
    """Execute one notebook; its copy in ``folder`` appears whole or not at all.

    Raises:
        ReportError: names chapter, cell and error; the notebook as far as it got is kept as
            NAME.failed.ipynb.
    """
    running = folder / f"{chapter.stem}.running.ipynb"
    failed = folder / f"{chapter.stem}.failed.ipynb"
    # The line's end within the text: what threads print at a time does not mix.
    print(f"  {chapter.stem:<26} running\n", end="", flush=True)
    began = time.monotonic()
    try:
        notebook = run_cells(chapter, running, options)
        notebook.metadata["real_faces"] = bool(options.data)  # such pages must not be published
        nbformat.write(notebook, running)
    except Exception as error:  # whatever ends a chapter is named, and the others stop
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, PapermillExecutionError):
            text = f"{error.ename}: {error.evalue}"
        line = re.sub(r"\x1b\[[0-9;]*m", "", text).strip().splitlines()[0]
        if not running.exists():
            raise ReportError(f"{chapter.stem}, {line}") from None
        os.replace(running, failed)
        raise ReportError(f"{chapter.stem}, cell {cells_begun(failed)}: {line}") from None
    failed.unlink(missing_ok=True)
    os.replace(running, folder / chapter.name)
    seconds = time.monotonic() - began
    print(f"  {chapter.stem:<26} done    {seconds:6.1f} s\n", end="", flush=True)
    return folder / chapter.name


def run_cells(chapter: Path, running: Path, options) -> nbformat.NotebookNode:
    """papermill's; a second try where the kernel never spoke: another process took its port."""
    run = partial(
        papermill.execute_notebook, chapter, running, {"RUN": options.run}, kernel_name="python3",
        progress_bar=False, execution_timeout=options.limit,
        extra_arguments=["--log-level=CRITICAL"],
    )  # fmt: skip
    try:
        return run()
    except RuntimeError as error:
        if "died before replying" not in str(error):
            raise
        return run()


def cells_begun(failed: Path) -> int:
    """The number in the source notebook, from 1, of the cell at which it ended."""
    about = [cell["metadata"] for cell in json.loads(failed.read_text("utf-8"))["cells"]]
    own = [cell for cell in about if "injected-parameters" not in cell.get("tags", ())]
    return sum(bool(cell.get("papermill", {}).get("start_time")) for cell in own)
