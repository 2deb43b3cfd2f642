"""What rendering costs beyond the chapters' own computing, beside the tools called one by one.

    python benchmarks/report.py

- ``cells``        every chapter's cells run in a bare IPython, one process a chapter: what any way
                   must spend
- ``one by one``   ``papermill`` and then ``jupyter nbconvert --to html``, for each chapter; no PDF
- ``make report``  ``python -m fer_utils.report``: HTML of every chapter, the index, and the PDF

CPU seconds of all processes, one after another on one thread each; without the real images.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
BARE = """
import io, json, sys
from contextlib import redirect_stdout
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        with redirect_stdout(io.StringIO()):
            shell.run_cell("".join(cell["source"])).raise_error()
"""


def cpu_seconds(*command: str, cwd: Path = ROOT) -> float:
    """CPU seconds that a command and all its processes take; what it prints is shown if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"FER_DATA": "", "FER_VOTES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])}: {done.stdout[-500:]} {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    python = (sys.executable, "-m")
    with tempfile.TemporaryDirectory() as folder:
        cells = one_by_one = 0.0
        for path in CHAPTERS:
            cells += cpu_seconds(sys.executable, "-c", BARE, str(path), cwd=ROOT / "notebooks")
            made = str(Path(folder) / path.name)
            one_by_one += cpu_seconds(*python, "papermill", "--cwd", "notebooks", "-k", "python3",
                                      str(path), made)  # fmt: skip
            one_by_one += cpu_seconds(*python, "jupyter", "nbconvert", "--to", "html", made)
        report = cpu_seconds(*python, "fer_utils.report", "--jobs", "1", "--build", folder)
    print(f"{'':14}{'CPU s':>8}{'beyond the cells':>20}{'ratio':>8}")
    for name, seconds in (("cells", cells), ("one by one", one_by_one), ("make report", report)):
        added = seconds - cells
        ratio = f"{added / (one_by_one - cells):.2f}" if name != "cells" else ""
        print(f"{name:14}{seconds:8.1f}{added:20.1f}{ratio:>8}")


if __name__ == "__main__":
    main()
