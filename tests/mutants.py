"""Which small mistakes in the code would the tests miss? ``python tests/mutants.py [N] [PART …]``

Makes N (64) random mutants of each part with cosmic-ray (``pip install cosmic-ray``), in copies of
the last commit, and prints how many of them the part's tests notice, and each that they don't.
Most of those are mistakes that change nothing: a default, the size of a chunk, an error's wording.
"""

import argparse
import os
import random
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "metrics": ("fer_utils/metrics", "metrics"),
    "derivations": ("fer_utils/derivations", "derivations"),
    "saliency": ("fer_utils/saliency.py", "saliency"),
    "evaluation": ("fer_utils/evaluation.py", "evaluation"),
    "filters": ("fer_utils/filters.py", "filters"),
    "data": ("fer_utils/data", "data data_damaged predict fuzz"),
}
CONFIG = """[cosmic-ray]
module-path = "{module}"
timeout = 300.0
excluded-modules = []
test-command = "{python} -m pytest -x {tests}"
distributor.name = "local"
"""
MISSED = """select module_path, start_pos_row, diff from mutation_specs join work_results
    using (job_id) where test_outcome = 'SURVIVED'"""


def command(copy: Path, *arguments: str) -> None:
    threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        [sys.executable, "-m", "cosmic_ray.cli", *arguments],
        cwd=copy, env=os.environ | threads, check=True,
    )  # fmt: skip


def sample(database: Path, keep: list[str]) -> None:
    with sqlite3.connect(database) as db:
        db.execute("create temporary table kept (job_id)")
        db.executemany("insert into kept values (?)", [(job,) for job in keep])
        for table in ("mutation_specs", "work_items"):
            db.execute(f"delete from {table} where job_id not in (select job_id from kept)")


def mutants(part: str, number: int, copies: list[Path]) -> tuple[int, list[tuple]]:
    """How many mutants were tried, and those that no test noticed."""
    module, tests = PARTS[part]
    paths = " ".join(f"tests/test_{name}.py" for name in tests.split())
    for copy in copies:
        text = CONFIG.format(module=module, python=shlex.quote(sys.executable), tests=paths)
        (copy / "mutants.toml").write_text(text)
        command(copy, "init", "mutants.toml", f"{part}.sqlite", "--force")
    with sqlite3.connect(copies[0] / f"{part}.sqlite") as db:
        specs = "select module_path, operator_name, occurrence, job_id from mutation_specs"
        # `X | None` stands in annotations alone, which nothing evaluates
        found = sorted(row for row in db.execute(specs) if "BitOr" not in row[1])
    chosen = random.Random(0).sample(found, min(number, len(found)))
    for copy in copies[1:]:  # one numbering of the mutants for all
        (copy / f"{part}.sqlite").write_bytes((copies[0] / f"{part}.sqlite").read_bytes())
    for i, copy in enumerate(copies):
        sample(copy / f"{part}.sqlite", [row[-1] for row in chosen[i :: len(copies)]])
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda c: command(c, "exec", "mutants.toml", f"{part}.sqlite"), copies))
    missed = []
    for copy in copies:
        with sqlite3.connect(copy / f"{part}.sqlite") as db:
            missed += db.execute(MISSED).fetchall()
    return len(chosen), missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, usage="tests/mutants.py [N] [PART …]")
    parser.add_argument("number", nargs="?", type=int, default=64)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: expected {', '.join(PARTS)}")
    tried = noticed = 0
    with tempfile.TemporaryDirectory(prefix="fer-mutants-") as folder:
        copies = [Path(folder) / str(i) for i in range(os.cpu_count() or 1)]
        for copy in copies:
            subprocess.run(["git", "clone", "--quiet", ROOT, copy], check=True)
        for part in args.parts or PARTS:
            count, missed = mutants(part, args.number, copies)
            tried, noticed = tried + count, noticed + count - len(missed)
            print(f"{part:12} {count - len(missed):3} of {count} noticed", flush=True)
            for module, row, diff in sorted(missed):
                lines = [
                    x for x in diff.splitlines() if x[:1] in "+-" and x[:3] not in ("---", "+++")
                ]
                print(f"    {module}:{row}", *lines, sep="\n      ")
    print(f"{noticed} of {tried} mutants noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
