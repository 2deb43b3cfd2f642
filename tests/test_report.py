"""The report: pages are whole, honest about failures, and made again only when they must be."""

import argparse
import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbconvert.exporters import get_exporter
from PIL import Image

from fer_utils import precomputed
from fer_utils.data import faces as data
from fer_utils.report import ROOT, ReportError, execute, fingerprint, markup, notebook, render
from fer_utils.report.__main__ import main, tell_faces


def png(width=8) -> bytes:
    content = io.BytesIO()
    Image.new("L", (width, 4), 128).save(content, "png")
    return content.getvalue()


def markdown(source):
    return nbformat.v4.new_markdown_cell(source)


def code(source, *tags, data=None, metadata=None):
    shown = nbformat.v4.new_output("display_data", data or {}, metadata=metadata or {})
    about, outputs = {"tags": list(tags)}, [shown] if data else []
    return nbformat.v4.new_code_cell(source, metadata=about, outputs=outputs)


def write(path, *cells):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata={"kernelspec": kernel})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


FIGURE = f"""from IPython.display import display
facts = {{"alt": "a grey <box>", "caption": "A box of $n_1$ pixels", "name": "x", "width": 300}}
display({{"image/png": {png()!r}, "text/plain": "box"}}, raw=True, metadata={{"image/png": facts}})
print("2 < 3 & so on")"""
TABLE = """class Frame:
    def _repr_html_(self):
        return "<table><tr><th></th><th>a</th></tr><tr><th>&lt;i&gt;</th><td>0.5</td></tr></table>"
Frame()"""
ANSWER = """from IPython.display import Markdown
Markdown(f"We find <b>{RUN}</b> and $x^2$.")"""


def first(answer=ANSWER):
    return (
        markdown("# 0 · What is seen?\n\nSee [next](01_b.ipynb), $a_i$ and"),
        markdown("$$\n\\frac{a}{b}\n- c\n$$"),
        code("RUN = 'stored'", "parameters"),
        code(FIGURE),
        code(TABLE),
        markdown("## Answer"),
        code(answer, "answer", "remove-input"),
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of two small chapters, its report made."""
    root = tmp_path_factory.mktemp("project")
    whole_run(root / "runs" / "tiny")
    write(root / "notebooks" / "00_a.ipynb", *first())
    write(root / "notebooks" / "01_b.ipynb", *second())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS", str(root / "runs"))
        for name in ("FER_DATA", "FER_VOTES", "FER_FIGURES", "PYTHONPATH", "OMP_NUM_THREADS"):
            patch.setenv(name, os.environ.get(name, ""))  # as they were, after these tests
        assert make(root) == 0
        yield root


def whole_run(folder, *missing):
    """A run on real faces with all that a report asks for, but without what is ``missing``."""
    (folder / "precomputed").mkdir(parents=True)
    facts = {"kind": "fer2013", "checksum": "0123456789abcdef", "faces": {"Training": 1234},
             "notes": ["numbers read as 0=Angry"]}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"data": facts, "recipe": {"seed": 7}}))
    (folder / "metrics.json").write_text('{"PrivateTest": {"accuracy": 0.625}}')
    for name in precomputed.missing(folder):
        if name not in missing:
            (folder / "precomputed" / f"{name}.npz").touch()


def second(answer="Markdown('It stands.')"):
    answer = f"from IPython.display import Markdown\n{answer}"
    return markdown("# 1 · And then?"), code("RUN = ''", "parameters"), code(answer, "answer")


def make(root, *options):
    return main(["--run", "tiny", "--jobs", "1", *options], root=root)


def state(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.whole
def test_pages_are_whole_in_themselves(project):
    html = project / "build" / "tiny" / "html"
    assert {p.name for p in html.iterdir()} == {
        "index.html", "00_a.html", "00_a.ipynb", "01_b.html", "01_b.ipynb",
    }  # fmt: skip
    for path in html.glob("*.html"):
        page = path.read_text("utf-8")
        outside = r'(?:src|srcset)="(?!data:)|url\(|@import|<link[^>]*href="(?!data:)'
        assert not re.findall(outside, page)
        targets = re.findall(r'href="([^"#:]+\.(?:html|ipynb))"', page)
        assert all((html / target).is_file() for target in targets)
        ids = re.findall(r'\bid="([^"]+)"', page)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


@pytest.mark.whole
def test_pages_show_the_run_and_escape_what_comes_from_data(project):
    page = (project / "build" / "tiny" / "html" / "00_a.html").read_text("utf-8")
    assert "We find &lt;b&gt;tiny&lt;/b&gt; and" in page  # the parameter was injected …
    assert "stored" not in page and "RUN =" not in page  # … and its cells are hidden
    assert '<li><a href="#answer">Answer</a></li>' in page  # the contents of this chapter
    assert 'alt="a grey &lt;box&gt;"' in page and "2 &lt; 3 &amp; so on" in page
    assert re.search(r'<th>&lt;i&gt;</th>\s<td style="text-align: right;">0.5</td>', page)
    assert "Figure 0.1." in page and page.count('<span class="math ') == 4 == page.count("<math ")
    index = (project / "build" / "tiny" / "html" / "index.html").read_text("utf-8")
    assert "62.5%" in index and "0123456789ab" in index and "It stands." in index


@pytest.mark.whole
def test_nothing_changed_means_nothing_touched_and_nothing_large_imported(project):
    before = state(project)
    script = (
        "import sys, pathlib; from fer_utils.report.__main__ import main\n"
        f"assert main(['--run', 'tiny', '--jobs', '1'], root=pathlib.Path({str(project)!r})) == 0\n"
        "print(sorted({'torch', 'papermill', 'nbconvert', 'nbformat', 'typst'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("up to date\n[]\n"), done.stderr
    assert state(project) == before


@pytest.mark.whole
def test_a_chapter_that_fails_is_named_and_fails_again(project, capsys):
    folder = project / "build" / "tiny" / "notebooks"
    kept, pages = (folder / "00_a.ipynb").stat().st_mtime_ns, state(folder.parent / "html")
    write(project / "notebooks" / "01_b.ipynb", *second("1 / 0"), markdown("The end."))
    for _ in range(2):
        assert make(project) == 1
        said = capsys.readouterr().err
        assert said == "report: 01_b, cell 3: ZeroDivisionError: division by zero\n"
    assert (folder / "01_b.failed.ipynb").is_file() and not list(folder.glob("*.running*"))
    assert state(folder.parent / "html") == pages

    write(project / "notebooks" / "01_b.ipynb", *second("Markdown('It moved.')"))
    assert make(project) == 0
    assert (folder / "00_a.ipynb").stat().st_mtime_ns == kept  # the other chapter was left alone
    assert not (folder / "01_b.failed.ipynb").exists()
    assert "It moved." in (folder.parent / "html" / "index.html").read_text("utf-8")


def test_a_kernel_that_never_spoke_is_started_once_more(monkeypatch):
    ends = [RuntimeError("Kernel died before replying to kernel_info"), "executed"]

    def start(*_, **__):
        if isinstance(end := ends.pop(0), Exception):
            raise end
        return end

    monkeypatch.setattr(execute.papermill, "execute_notebook", start)
    options = argparse.Namespace(run="tiny", limit=60)
    assert execute.run_cells(Path("00_a.ipynb"), Path("running"), options) == "executed"
    ends += [RuntimeError("Kernel died before replying to kernel_info")] * 2
    with pytest.raises(RuntimeError, match="died before"):
        execute.run_cells(Path("00_a.ipynb"), Path("running"), options)


@pytest.mark.whole
def test_nbconvert_alone_gives_the_page_of_the_report_and_an_accessible_pdf(project):
    executed = project / "build" / "tiny" / "notebooks" / "00_a.ipynb"
    page, _ = get_exporter("fer-html")().from_filename(str(executed))
    assert page == (project / "build" / "tiny" / "html" / "00_a.html").read_text("utf-8")
    made, _ = get_exporter("fer-pdf")().from_filename(str(executed))
    assert made.startswith(b"%PDF") and b"pdfuaid" in made and b"StructTreeRoot" in made
    with_code, _ = get_exporter("fer-pdf")(code=True).from_filename(str(executed))
    assert len(with_code) > len(made)


@pytest.mark.whole
def test_what_a_user_or_jupyterlab_puts_beside_is_left_alone_and_what_lost_its_cause_goes(project):
    folder = project / "build" / "tiny"
    own = [folder / "html" / "mine.html", folder / "notebooks" / "02_own.ipynb",
           folder / "notebooks" / ".ipynb_checkpoints" / "00_a-checkpoint.ipynb"]  # fmt: skip
    own[-1].parent.mkdir()
    for path in own:
        path.write_text("mine")
    (project / "notebooks" / "00_a-Copy1.ipynb").write_text("{}")
    third = write(project / "notebooks" / "02_c.ipynb", *second())
    made = [folder / "html" / "02_c.html", folder / "html" / third.name,
            folder / "notebooks" / third.name]  # fmt: skip
    assert make(project) == 0 and all(path.is_file() for path in made)
    third.unlink()
    assert make(project) == 0 and not any(path.exists() for path in made)
    assert [path.read_text() for path in own] == ["mine"] * len(own)
    page = (folder / "html" / "00_a.html").read_text("utf-8")
    assert "02_c" not in page and "02_own" not in page and "Copy1" not in page


@pytest.mark.whole
def test_runs_pages_and_working_folder_may_lie_elsewhere(project, tmp_path, monkeypatch, capsys):
    whole_run(tmp_path / "elsewhere" / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_RUNS", "elsewhere")  # both relative to the caller's folder
    assert main(["--run", "mine", "--jobs", "2", "--build", "pages"], root=project) == 0
    assert (tmp_path / "pages" / "mine" / "report.pdf").is_file()
    told = capsys.readouterr().out
    assert "mine: fer2013 faces\n    Training 1,234\n" in told and "numbers read as 0=Angry" in told
    assert main(["--run", "tiny", "--build", "pages"], root=project) == 0  # shipped, so not trained


def test_a_run_is_sought_in_the_users_folder_first_then_among_the_shipped(tmp_path, monkeypatch):
    whole_run(tmp_path / "runs" / "shipped")
    monkeypatch.setenv("FER_RUNS", str(tmp_path / "own"))
    assert fingerprint.run_folder(tmp_path, "shipped") == tmp_path / "runs" / "shipped"
    assert fingerprint.run_folder(tmp_path, "new") == tmp_path / "own" / "new"
    variant = tmp_path / "own" / "shipped" / "variants" / "other" / "metrics.json"
    variant.parent.mkdir(parents=True)
    variant.touch()  # a variant of the shipped run, scored on PrivateTest
    (tmp_path / "own" / "shipped" / "ledger.csv").touch()
    assert fingerprint.run_folder(tmp_path, "shipped") == tmp_path / "runs" / "shipped"
    (tmp_path / "own" / "shipped" / "config.json").touch()
    assert fingerprint.run_folder(tmp_path, "shipped") == tmp_path / "own" / "shipped"


def test_a_new_variant_makes_chapters_stale_wherever_it_lies(tmp_path, monkeypatch):
    whole_run(tmp_path / "runs" / "shipped")
    monkeypatch.setenv("FER_RUNS", str(tmp_path / "own"))
    seen = [fingerprint.inputs(tmp_path, "shipped", None, None)]
    for folder in ("own", "runs"):
        variant = tmp_path / folder / "shipped" / "variants" / "other" / "metrics.json"
        variant.parent.mkdir(parents=True)
        variant.touch()
        seen.append(fingerprint.inputs(tmp_path, "shipped", None, None))
    assert len(set(seen)) == 3


@pytest.fixture
def called(monkeypatch, tmp_path):
    """The commands that the report of a small project starts; each ends with status 3."""
    write(tmp_path / "notebooks" / "00_a.ipynb", *second())
    commands = []

    def run(command, **_):
        commands.append(" ".join(command[2:]))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("fer_utils.report.__main__.subprocess.run", run)
    return commands


def test_what_a_run_lacks_is_made_and_a_failure_there_is_the_reports(tmp_path, called):
    assert main(["--run", "mine"], root=tmp_path) == 3
    whole_run(tmp_path / "runs" / "mine", "copies", "filters")
    assert main(["--run", "mine"], root=tmp_path) == 3
    assert called == ["fer_utils.train --run mine", "fer_utils.precomputed mine copies filters"]


def test_what_is_missing_is_said_before_any_work(tmp_path, called, capsys):
    for option in ("--data", "--votes"):
        assert main(["--run", "mine", option, "no.csv"], root=tmp_path) == 1
        assert f"report: {option} no.csv: no such file" in capsys.readouterr().err
    assert called == [] and not (tmp_path / "build").exists()


@pytest.mark.parametrize("config", ["{}", "[]", '{"data": {"kind": "fer2013"}}', '{"data": {'])
def test_a_config_of_no_run_is_named_in_one_line(tmp_path, called, capsys, config):
    whole_run(tmp_path / "runs" / "mine")
    (tmp_path / "runs" / "mine" / "config.json").write_text(config)
    assert main(["--run", "mine"], root=tmp_path) == 1
    said = capsys.readouterr().err
    assert re.search(r"config.json: not (the config of a run|readable as JSON) .*\n\Z", said)


def test_the_faces_of_a_run_are_told_by_split_and_class(tmp_path, capsys):
    whole_run(tmp_path / "mine")
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    config |= {"classes": ["Happy"]}
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    np.savez(tmp_path / "mine" / "precomputed" / "dataset.npz", counts=[[1200]])
    opened = []
    load = np.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "load", lambda path: opened.append(load(path)) or opened[-1])
        tell_faces(tmp_path / "mine")
    assert "Training 1,234: Happy 1,200" in capsys.readouterr().out
    assert opened[0].zip is None


def test_a_change_of_data_or_of_the_order_of_classes_makes_chapters_stale(tmp_path, monkeypatch):
    picture = tmp_path / "pictures" / "happy" / "1.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(png())

    def made_from():
        return fingerprint.inputs(tmp_path, "r", tmp_path / "pictures", None)

    before = made_from()
    assert before == made_from()
    picture.write_bytes(png() + b"more")
    changed = made_from()
    monkeypatch.setenv("FER_CLASSES", "Happy,Sad")
    assert len({before, changed, made_from()}) == 3


def set_pages(tmp_path, *cells):
    path = str(write(tmp_path / "05_x.ipynb", *cells))
    render.FerHTMLExporter().from_filename(path)
    return render.FerPDFExporter().from_filename(path)[0]


HEAD = markdown("# 5 · Why?")
END = code("…", "answer", data={"text/markdown": "So."})
LONG = code("…", "answer", data={"text/markdown": "word " * 61})


def picture(**facts):
    data = {"image/png": base64.b64encode(png()).decode()}
    return code("…", data=data, metadata={"image/png": {"name": "x", "width": 300, **facts}})


def frame(columns):
    table = pd.DataFrame([["long value " * 3] * columns])
    return code("…", data={"text/html": table._repr_html_()})


@pytest.mark.parametrize(
    "bad, message",
    [
        (markdown(r"$$a \odot_! \nosuch{b}$$"), "cell 2: Could not convert TeX math"),
        (markdown("A price of $5."), "cell 2: '.*5.*' is left of a formula"),
        (markdown("### Too deep"), "cell 2: .*skipped from heading level 1 to 3"),
        (markdown("![x](y.png)"), r"cell 2: .*show\(\.\.\.\)"),
        (picture(), "cell 2: a figure without alt text"),
        (picture(alt="a", name=""), "cell 2: a figure without alt text and name"),
        (frame(19), "cell 2: a table is wider than the page"),
        (markdown(f"$${'+'.join(['abcdefg'] * 30)}$$"), "cell 2: a formula is wider than the page"),
        (markdown("\U000e0041\ufdd0 no font has this"), "cell 2: no font on this machine"),
        (code("…", data={"text/html": "<p>x</p>"}), "cell 2: an output of text/html can't be set"),
        (code("…", "answer"), "expected one Markdown output"),
        (LONG, r"cell 2: the answer has 61 words \(at most 60\)$"),
    ],
)
def test_what_cannot_be_set_is_refused_with_chapter_and_cell(tmp_path, bad, message):
    end = () if "answer" in bad.metadata.get("tags", ()) else (END,)
    with pytest.raises(ReportError, match=f"^05_x(, |: ){message}"):
        set_pages(tmp_path, HEAD, bad, *end)


def test_a_table_that_fits_when_its_cells_wrap_is_set(tmp_path):
    assert set_pages(tmp_path, HEAD, frame(9), END).startswith(b"%PDF")


def test_a_notebook_that_is_no_chapter_is_refused(tmp_path):
    path = write(tmp_path / "mine.ipynb", HEAD, END)
    with pytest.raises(ReportError, match=r"^mine.ipynb: a chapter is named NN_name.ipynb"):
        render.FerHTMLExporter().from_filename(str(path))


def test_print_takes_the_svg_drawn_with_a_figure_and_no_other(tmp_path):
    path = str(write(tmp_path / "notebooks" / "05_x.ipynb", HEAD, picture(alt="a"), END))
    folder = tmp_path / "figures"
    folder.mkdir()

    def printed():
        return render.FerTypstExporter().from_filename(path)[1]["chapter"]["files"]

    assert printed() == {"5.1.png": png()}
    (folder / "x.svg").write_text("<svg/>")
    (folder / "x.png").write_bytes(png())
    assert printed() == {"5.1.svg": b"<svg/>"}
    (folder / "x.png").write_bytes(png(9))  # drawn by another call
    assert printed() == {"5.1.png": png()}


LIMIT = """- **2019 said** that Fear–Sad and Fear–Neutral are confused most.
- **We find** Sad–Neutral (18 % [16, 20]) or Angry–Disgust in front, depending on the seed;
  Fear–Neutral is eighth in all five.
- **The claim does not hold.** In 37 % of the mistakes the crowd sides with the network, in 28 %
  with the label, in 35 % with nobody."""


def test_an_answer_holds_three_bullets_sixty_words_six_numbers():
    assert notebook.answer_faults(LIMIT) == []
    assert notebook.answer_faults("1, 2.5, −3, 4 %, [5, 6] of conv4, `1`, fc and 2019") == []
    too_many = ["4 bullets (at most 3)", "7 numbers (at most 6)"]
    assert notebook.answer_faults(LIMIT + "\n- And 1.") == too_many


def test_the_short_answer_is_the_sentence_that_tells_the_finding():
    short = notebook.short_answer(LIMIT)
    assert short.startswith("**We find** Sad–Neutral (18 %") and short.endswith("in all five.")
    assert notebook.short_answer("It holds. We find 0.5 nats. More.") == "We find 0.5 nats."
    assert notebook.short_answer("So.") == "So."


def test_a_table_keeps_spans_numbers_and_the_name_of_its_index():
    index = pd.MultiIndex.from_product([["u", "v"], ["w", "x"]], names=["k", "l"])
    table = pd.DataFrame({"a": [1.5, np.nan, 2, 3], "b": [*"pq", "r [1, 2]", "<i>"]}, index=index)
    (page,), _ = markup.convert([markup.table(table._repr_html_())], ["cell 1"], "html")
    rows = [re.findall(r"<t[hd](.*?)>(.*?)</t[hd]>", row) for row in page.split("</tr>")]
    right = ' style="text-align: right;"'
    assert rows[0] == [("", "k"), ("", "l"), (right, "a"), ("", "b")]
    assert rows[1][0] == (' rowspan="2" data-valign="top"', "u")
    assert rows[1][1:] == [("", "w"), (right, "1.5"), ("", "p")]
    assert rows[2] == [("", "x"), (right, "–"), ("", "q")]
    assert rows[3][-1] == ("", "r [1,\u00a02]")  # no line ends within an interval
    assert rows[4] == [("", "x"), (right, "3.0"), ("", "&lt;i&gt;")]


def test_every_formula_sits_on_the_line_of_its_text():
    pieces, glyphs = markup.convert(["$x$", "$y$"], ["1", "2"], "html")
    x, y = (float(re.search(r"vertical-align:(-?[\d.]+)em", piece)[1]) for piece in pieces)
    assert -0.05 < x <= 0 and -0.6 < y < -0.2  # x stands on the line, y hangs below it
    assert glyphs.count("<symbol") == 2 and all("<math" in piece for piece in pieces)


def test_the_front_page_speaks_of_fer2013_where_the_run_learned_from_it():
    for kind, checksum, words in (
        ("fer2013", data.FER2013, "trained on FER2013,"),
        ("fer2013", "f" * 64, "trained on real faces,"),
        ("synthetic", "f" * 64, "trained on synthetic faces,"),
    ):
        config = {"data": {"kind": kind, "checksum": checksum}}
        front = render.read_front(config, {"PublicTest": {"accuracy": 0.5}})
        assert words in front["abstract"] and "PublicTest" in front["abstract"]


def test_pages_warn_exactly_where_real_faces_may_stand():
    for kind, faces in (("fer2013", True), ("fer2013", False), ("synthetic", True)):
        config = {"data": {"kind": kind, "checksum": "f" * 64}, "recipe": {"seed": 3}}
        foot = render.provenance("mine", config, faces)
        assert bool(foot["warning"]) == (faces and kind == "fer2013")
        assert foot["facts"]["Seed"] == "3" and foot["facts"]["Run"] == "mine"


@pytest.mark.whole
def test_notebooks_replay_in_two_processes_and_under_any_kernels_name(tmp_path):
    for name in ("00_a", "01_b"):
        cells = [code("x = 20"), code("x += 1\nx"), code("2 * x")]
        for count, (cell, value) in enumerate(zip(cells[1:], ("21", "42"), strict=True), 2):
            result = {"text/plain": value}
            cell.execution_count = count
            cell.outputs = [nbformat.v4.new_output("execute_result", result, execution_count=count)]
        path = write(tmp_path / "notebooks" / f"{name}.ipynb", *cells)
        path.write_text(path.read_text().replace('"python3"', '"nosuch"'))
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path / "notebooks")
    command = [sys.executable, "-m", "pytest", "--nbval", "-n", "2", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, "notebooks"], cwd=tmp_path, capture_output=True, text=True)
    assert "6 passed" in done.stdout, done.stdout + done.stderr


def test_make_runs_the_chapters_in_this_environments_kernel_and_passes_its_settings_on():
    command = ["make", "-n", "PYTHON=python", "READY=", "CODE=1", "report", "notebooks"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert "kernel_name=python3" in told and " --code" in told
    shown = "include Makefile\nshow:\n\t@echo $$FER_CLASSES\n"
    command = ["make", "-s", "-f", "-", "show", "CLASSES=Happy,Sad"]
    told = subprocess.run(command, cwd=ROOT, input=shown, capture_output=True, text=True)
    assert told.stdout == "Happy,Sad\n"


def test_make_leaves_an_active_environment_that_lacks_the_project_alone(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    active = {"VIRTUAL_ENV": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command, environment = ["make", "-n", "READY=", "lint"], os.environ | active
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "\n.venv/bin/python -m ruff" in "\n" + told.stdout
