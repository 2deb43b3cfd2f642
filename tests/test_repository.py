"""The house itself: floors, budget, what is stored, and files that must agree."""

import ast
import json
import re
import subprocess
import tomllib
from importlib.util import resolve_name

import nbformat
import pytest
from conftest import ROOT

from fer_utils import __version__, results
from fer_utils.precomputed import RESULTS
from fer_utils.report import figures
from fer_utils.report.notebook import answer_faults, find_answer
from fer_utils.runs import Run

CHAPTERS = [
    "00_data", "01_architecture", "02_training_history", "03_confusion_matrix",
    "04_saliency", "05_filter_visualization", "06_mathematics",
]  # fmt: skip
FIGURES = [f"{name}.png" for name in (*figures.CHOSEN, figures.SHEET)]
BUDGET = 18_000_000  # bytes of all tracked files; a fit's predictions are 0.3 MB a test split


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


# -- the floors ---------------------------------------------------------------------------------


def floors():
    text = ast.get_docstring(ast.parse((ROOT / "fer_utils" / "__init__.py").read_text()))
    return {
        name: int(number)
        for number, names in re.findall(r"^ +(\d)  (.+)$", text, re.M)
        for name in names.split(" · ")
    }


def imported(path):
    """Parts of fer_utils that a file imports, wherever in the file."""
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), package)
                names = [f"{base}.{name}" for name in names]
            yield from (name.split(".")[1] for name in names if name.startswith("fer_utils."))


def test_every_module_has_its_floor_and_imports_from_below_only():
    level = floors()
    parts = {p.stem if p.is_file() else p.name for p in (ROOT / "fer_utils").iterdir()}
    assert parts - {"__init__", "__pycache__"} == set(level)
    for path in (ROOT / "fer_utils").rglob("*.py"):
        own = path.relative_to(ROOT / "fer_utils").parts[0].removesuffix(".py")
        for other in set(imported(path)) - {own, "__version__"}:
            if own != "__init__":
                assert level[other] < level[own], f"{path.name} ({own}) imports {other}"


# -- what is stored -----------------------------------------------------------------------------


def test_tracked_files_stay_within_the_budget():
    sizes = {path: path.stat().st_size for path in tracked()}
    assert sum(sizes.values()) <= BUDGET, sorted(sizes.items(), key=lambda item: -item[1])[:5]


def test_no_data_set_and_no_stray_picture_is_tracked():
    pictures = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".svg"}
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        assert not re.search(r"fer2013(new)?\.csv|\.parquet$|icml_face", name), name
        if path.suffix in pictures:
            assert path.parent.name == "figures" and path.name in FIGURES, name


def test_figures_are_a_fixed_list_from_the_stored_notebooks():
    assert sorted(p.name for p in (ROOT / "figures").iterdir()) == sorted(FIGURES)
    pictures = figures.stored()
    for name in figures.CHOSEN:
        kept = (ROOT / "figures" / f"{name}.png").read_bytes()
        assert kept == pictures[name], "run `make figures`"


def test_the_overview_is_that_of_all_stored_notebooks():
    stored = (ROOT / "notebooks" / "README.md").read_text("utf-8")
    assert stored == figures.overview(), "run `make figures`"
    assert re.findall(r"^## \[\d · .+\?\]\((\w+)\.ipynb\)$", stored, re.M) == CHAPTERS


def test_committed_runs_are_whole_and_show_no_single_face():
    for name in ("fer2013", "synthetic"):
        folder = ROOT / "runs" / name
        files = {p.name for p in folder.iterdir()}
        assert files - {"ledger.csv"} == {
            "config.json", "history.csv", "predictions.npz", "metrics.json",
            "model.safetensors", "precomputed", "variants",
        }, files  # fmt: skip
        assert ("ledger.csv" in files) == (name == "fer2013")
        assert {p.stem for p in (folder / "precomputed").iterdir()} <= set(RESULTS)
        assert (folder / "variants" / "original" / "metrics.json").exists()


# -- the notebooks ------------------------------------------------------------------------------


@pytest.fixture(params=CHAPTERS)
def chapter(request):
    return nbformat.read(ROOT / "notebooks" / f"{request.param}.ipynb", as_version=4)


def test_a_stored_notebook_was_executed_once_from_top_to_bottom(chapter):
    code = [c for c in chapter.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [o for c in code for o in c.outputs]
    kinds = {o.output_type for o in outputs} | {o.get("name") for o in outputs}
    assert outputs and kinds.isdisjoint({"error", "stderr"})
    assert "widgets" not in chapter.metadata


def test_a_stored_notebook_reports_on_the_real_run_without_images_or_traces(chapter):
    parameters = [c for c in chapter.cells if "parameters" in c.metadata.get("tags", [])]
    assert [c.source.splitlines()[0] for c in parameters] == ['RUN = "fer2013"']
    text = json.dumps(chapter)
    for foreign in ("injected-parameters", '00_examples"', "do not publish", "/home/", str(ROOT)):
        assert foreign not in text


def test_each_chapter_leads_to_the_next_by_its_title():
    read = [nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4) for name in CHAPTERS]
    titles = [book.cells[0].source.splitlines()[0].removeprefix("# ") for book in read]
    for book, title, name in zip(read, titles[1:], CHAPTERS[1:], strict=False):
        assert book.cells[-1].source.endswith(f"Next: [{title}]({name}.ipynb)")


def test_an_answer_ends_each_chapter_within_its_limit(chapter):
    answer, _ = find_answer(chapter, "chapter")
    assert "2019" in answer and "e find" in answer and re.search(r"\d", answer)
    assert answer_faults(answer) == []


def test_cells_are_short_and_plain(chapter):
    for cell in chapter.cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert len(lines) <= 15 and max(map(len, lines)) <= 100, cell.source
            assert not cell.source.rstrip().endswith(";") and "!pip" not in cell.source
            for node in ast.walk(ast.parse(cell.source)):
                assert not isinstance(node, ast.ClassDef)
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 11, node.name


# -- files that must agree ----------------------------------------------------------------------


def names_and_bounds(requirements):
    split = (re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", r.replace(" ", "")) for r in requirements)
    return {m[1].lower(): m[2] for m in split}


def test_environment_and_pyproject_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = names_and_bounds(project["dependencies"] + project["optional-dependencies"]["test"])
    lines = (ROOT / "environment.yml").read_text().splitlines()
    listed = [line.strip()[2:] for line in lines if re.match(r" +- ", line)]
    assert listed[-1] == "-e ."  # so that kernels find fer_utils wherever they start
    conda = names_and_bounds(x for x in listed if x not in ("conda-forge", "pip", "pip:", "-e ."))
    assert conda.pop("python") == project["requires-python"]
    conda["torch"] = conda.pop("pytorch-cpu")
    assert conda == wanted


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    rows = re.findall(r"^\| ([a-z].+?) \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M)
    told = {re.sub(r" \(.*", "", name) for row in rows for name in row.split(" · ")}
    assert told == {name for group in groups for name in names_and_bounds(group)}


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    further = project["optional-dependencies"]
    wanted = names_and_bounds(project["dependencies"] + further["test"] + further["browser"])
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    assert {w.replace("_", "-") for w in wanted} <= {p.lower().replace("_", "-") for p in pins}


def test_make_lists_every_public_target():
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split())
    described = set(re.findall(r"^([a-z-]+):.*## ", text, re.M))
    assert phony - described <= {"help", "lint"}


@pytest.mark.parametrize("readme", ["README.md", "README.zh-TW.md"])
def test_readme_answers_are_the_chapters_numbers(readme):
    """Every percentage in the table of answers stands in the stored notebook of its row."""
    text = (ROOT / readme).read_text()
    rows = re.findall(r"^\| \[(\d\d_\w+)\].*$", text, re.M)
    assert rows == CHAPTERS
    for line in re.findall(r"^\| \[\d\d_\w+\].*$", text, re.M):
        name = re.search(r"\d\d_\w+", line)[0]
        outputs = (ROOT / "notebooks" / f"{name}.ipynb").read_text()
        for number in re.findall(r"\d[\d,]*\.?\d*(?= ?%)|\d{1,3}(?:,\d{3})+", line):
            assert number in outputs, f"{readme}: {number} is not in {name}"


@pytest.mark.whole
def test_readme_results_are_the_runs():
    table = results.results(Run.load("fer2013"))
    for readme in ("README.md", "README.zh-TW.md"):
        lines = (ROOT / readme).read_text().splitlines()
        for figure, cells in table.iterrows():
            row = f" | {' | '.join(cells)} |"
            assert sum(line.endswith(row) for line in lines) == 1, (readme, figure)


def test_the_model_card_states_the_runs_figures():
    text = (ROOT / "runs" / "README.md").read_text()
    tested = json.loads((ROOT / "runs/fer2013/metrics.json").read_text())["PrivateTest"]
    synthetic = json.loads((ROOT / "runs/synthetic/metrics.json").read_text())["PrivateTest"]
    low, high = (f"{100 * bound:.1f}" for bound in tested["accuracy_interval"])
    for stated in (
        f"| accuracy | {100 * tested['accuracy']:.1f} % [{low}, {high}] |",
        f"mirror image averaged | {100 * tested['accuracy_flip']:.1f} % |",
        f"| macro-F1 | {tested['macro_f1']:.3f} |",
        f"| balanced accuracy | {100 * tested['balanced_accuracy']:.1f} % |",
        f"likelihood | {tested['nll']:.3f} nats |",
        f"calibration error | {tested['ece']:.3f} |",
        f"{100 * synthetic['accuracy']:.1f} % on its PrivateTest",
    ):
        assert stated in text


def test_version_and_citation_agree():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
