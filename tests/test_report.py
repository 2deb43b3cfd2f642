"""The report: pages are whole, honest about failures, and made again only when they must be."""

import base64
import json
import os
import re
import struct
import subprocess
import sys
import zlib

import pytest

from fer_utils.report import ROOT, ReportError, fingerprint, markup, notebook, pdf
from fer_utils.report.__main__ import main, provenance


def png(width=8, height=4) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    pixels = zlib.compress(b"".join(b"\0" + b"\x80" * width for _ in range(height)))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def markdown(source):
    about = {"cell_type": "markdown", "id": f"m{abs(hash(source))}", "metadata": {}}
    return about | {"source": source}


def code(source, *tags, data=None, metadata=None):
    output = {"output_type": "display_data", "data": data, "metadata": metadata or {}}
    return {
        "cell_type": "code", "id": f"c{abs(hash(source))}", "metadata": {"tags": list(tags)},
        "execution_count": None, "source": source, "outputs": [output] if data else [],
    }  # fmt: skip


def write(path, *cells):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), "utf-8")
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
    (root / "runs" / "tiny" / "precomputed").mkdir(parents=True)
    facts = {"kind": "synthetic", "checksum": "0123456789abcdef"}
    about = {"data": facts, "recipe": {"seed": 7}}
    (root / "runs" / "tiny" / "config.json").write_text(json.dumps(about))
    (root / "runs" / "tiny" / "metrics.json").write_text('{"PrivateTest": {"accuracy": 0.625}}')
    write(root / "notebooks" / "00_a.ipynb", *first())
    write(root / "notebooks" / "01_b.ipynb", *second())
    assert make(root) == 0
    return root


def second(answer="Markdown('It stands.')"):
    answer = f"from IPython.display import Markdown\n{answer}"
    return markdown("# 1 · And then?"), code("RUN = ''", "parameters"), code(answer, "answer")


def make(root):
    return main(["--run", "tiny", "--jobs", "1"], root=root)


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
    assert 'alt="a grey &lt;box&gt;"' in page and "2 &lt; 3 &amp; so on" in page
    assert '<th scope="row">&lt;i&gt;</th><td class="number">0.5</td>' in page
    assert "Figure 0.1." in page and page.count('<span class="math ') == 4 == page.count("<math ")
    index = (project / "build" / "tiny" / "html" / "index.html").read_text("utf-8")
    assert "62.5%" in index and "0123456789ab" in index and "It stands." in index


@pytest.mark.whole
def test_pdf_is_tagged_and_declares_its_accessibility(project):
    made = (project / "build" / "tiny" / "report.pdf").read_bytes()
    assert made.startswith(b"%PDF") and b"pdfuaid" in made and b"StructTreeRoot" in made


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
    write(project / "notebooks" / "01_b.ipynb", *second("1 / 0"))
    for _ in range(2):
        assert make(project) == 1
        said = capsys.readouterr().err
        assert said == "report: 01_b, cell 3 (In [3]): ZeroDivisionError: division by zero\n"
    assert (folder / "01_b.failed.ipynb").is_file() and not list(folder.glob("*.running*"))
    assert state(folder.parent / "html") == pages

    write(project / "notebooks" / "01_b.ipynb", *second("Markdown('It moved.')"))
    assert make(project) == 0
    assert (folder / "00_a.ipynb").stat().st_mtime_ns == kept  # the other chapter was left alone
    assert not (folder / "01_b.failed.ipynb").exists()
    assert "It moved." in (folder.parent / "html" / "index.html").read_text("utf-8")


def test_a_run_that_cannot_be_made_ends_with_the_status_of_its_maker(tmp_path, monkeypatch):
    called = []

    def run(command, **_):
        called.append(command[2:])
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("fer_utils.report.__main__.subprocess.run", run)
    assert main(["--run", "mine"], root=tmp_path) == 3
    assert called == [["fer_utils.train", "--run", "mine"]]


def test_data_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["--data", str(tmp_path / "no.csv")], root=tmp_path) == 1
    assert "no.csv: no such file" in capsys.readouterr().err


def test_a_folder_of_pictures_is_data_too_and_a_change_in_it_is_seen(tmp_path, capsys):
    folder = tmp_path / "pictures" / "happy"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(png())
    before = fingerprint.surroundings(tmp_path, "r", folder.parent, None)
    assert before == fingerprint.surroundings(tmp_path, "r", folder.parent, None)
    (folder / "1.png").write_bytes(png() + b"more")
    assert before != fingerprint.surroundings(tmp_path, "r", folder.parent, None)
    (tmp_path / "runs" / "r" / "precomputed").mkdir(parents=True)
    (tmp_path / "runs" / "r" / "metrics.json").write_text("{}")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_x.ipynb").write_text("{}")
    assert main(["--run", "r", "--data", str(folder.parent)], root=tmp_path) == 1
    assert "not a notebook" in capsys.readouterr().err  # the folder was no complaint


def set_pages(tmp_path, *cells):
    read = notebook.read(write(tmp_path / "05_x.ipynb", *cells))
    markup.typeset([read])
    front = markup.front({"accuracy": 0.5, "split": "PublicTest", "faces": "none"})
    text = pdf.source([read], front, {"facts": {}}, pdf.place([read], tmp_path))
    return pdf.compile_pdf(text, tmp_path, timestamp=0)


HEAD = markdown("# 5 · Why?")
END = code("…", "answer", data={"text/markdown": "So."})


def picture(**facts):
    data = {"image/png": base64.b64encode(png()).decode()}
    return code("…", data=data, metadata={"image/png": facts})


def frame(columns):
    row = "".join(f"<td>{'long value ' * 3}</td>" for _ in range(columns))
    return code("…", data={"text/html": f"<table><tr>{row}</tr></table>"})


@pytest.mark.parametrize(
    "bad, message",
    [
        (markdown(r"$$a \odot_! \nosuch{b}$$"), "cell 2: Could not convert TeX math"),
        (markdown(r"\begin{align} x \end{align}"), "cell 2: '.*align.*' is left of a formula"),
        (markdown("A price of $5."), "cell 2: '.*5.*' is left of a formula"),
        (markdown("### Too deep"), "cell 2: a heading of level 3 follows one of level 1"),
        (markdown("![x](y.png)"), r"cell 2: .*show\(\.\.\.\)"),
        (picture(), "cell 2: a figure without alt text"),
        (frame(40), "cell 2: a table is wider than the page"),
        (markdown(f"$${'+'.join(['abcdefg'] * 30)}$$"), "cell 2: a formula is wider than the page"),
        (markdown("\U000e0041\ufdd0 no font has this"), "cell 2: no font on this machine"),
        (code("…", data={"text/html": "<p>x</p>"}), "cell 2: an output of text/html can't be set"),
    ],
)  # fmt: skip
def test_what_cannot_be_set_is_refused_with_chapter_and_cell(tmp_path, bad, message):
    with pytest.raises(ReportError, match=f"^05_x, {message}"):
        set_pages(tmp_path, HEAD, bad, END)


def test_a_chapter_without_an_answer_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"^05_x: expected one Markdown output"):
        set_pages(tmp_path, HEAD)


def test_mathematics_of_the_chapters_converts(tmp_path):
    formulas = (
        r"\left\lfloor \frac{n+2p-d(k-1)-1}{s} \right\rfloor + 1",
        r"\begin{aligned} \mu &= \frac1m\sum_i x_i, & \hat{x} &= \gamma x \\ a &= b \end{aligned}",
        r"\begin{cases} 1 & \text{if } i=j \\ 0 & \text{otherwise} \end{cases}",
        r"\Bigl(\sum_k \mathbb{R}^7\Bigr) \quad \operatorname{argmin}_\theta \mathcal{L}",
        r"\frac{\partial\ell}{\partial\sigma^2} \cdot \begin{pmatrix} a & b \\ c & d \end{pmatrix}",
    )
    cells = [markdown(f"$$\n{formula}\n$$") for formula in formulas]
    assert set_pages(tmp_path, HEAD, *cells, END).startswith(b"%PDF")


def test_a_table_keeps_spans_numbers_and_the_name_of_its_index():
    rows, widths = notebook.table(
        "<table><tr><th></th><th colspan=2>both</th></tr><tr><th></th><th>a</th><th>b</th></tr>"
        "<tr><th>k</th><th></th><th></th></tr><tr><th>x</th><td>1.5</td><td>NaN y</td></tr></table>"
    )
    assert [[(c.text, c.columns, c.numeric) for c in row] for row in rows] == [
        [("", 1, False), ("both", 2, False)],
        [("k", 1, False), ("a", 1, True), ("b", 1, False)],
        [("x", 1, False), ("1.5", 1, True), ("NaN y", 1, False)],
    ]
    assert widths == ["auto"] * 3


def test_every_formula_sits_on_the_line_of_its_text():
    drawn, symbols = markup.draw([("inline", "x"), ("inline", "y")])
    above, below = (
        float(re.search(r"vertical-align:(-?[\d.]+)em", drawn[key])[1]) for key in drawn
    )
    assert -0.05 < above <= 0 and -0.6 < below < -0.2  # x stands on the line, y hangs below it
    assert len(symbols) == 2 and os.linesep not in symbols


@pytest.mark.parametrize("kind, data, warned", [("fer2013", "x.csv", True), ("fer2013", None, False),
                                                ("synthetic", "x.csv", False)])  # fmt: skip
def test_pages_warn_exactly_where_real_faces_may_stand(kind, data, warned):
    config = {"data": {"kind": kind, "checksum": "f" * 64}, "recipe": {"seed": 3}}
    foot = provenance("mine", config, "abc, modified", data)
    assert bool(foot["warning"]) == warned
    assert foot["facts"]["Seed"] == "3" and foot["facts"]["Commit"] == "abc, modified"
