"""The pages: nbconvert's exporters ``fer-html`` and ``fer-pdf``, the index and the whole PDF.

An exporter makes the page of one chapter from an executed notebook, by the preprocessors of
``notebook`` and a template of ``templates/``. It finds out by itself what stands around the
chapter (the other chapters' titles, the run, the commit), so that ``jupyter nbconvert`` gives the
same page as ``make report``, which passes it on.
"""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import typst
from nbconvert.exporters import TemplateExporter
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from traitlets import Bool, default
from traitlets.config import Config

from fer_utils import revision
from fer_utils.report import ROOT, TEMPLATES, ReportError, fingerprint, markup
from fer_utils.report.notebook import (
    NumberCells,
    ReadChapter,
    ReadOutputs,
    SetMarkdown,
    heading,
    short_answer,
)

HEADING = re.compile(r'<h([2-6]) id="([^"]*)">(.*?)</h\1>', re.DOTALL)


class ChapterExporter(TemplateExporter):
    """What HTML and PDF have in common: preprocessors, and what stands around a chapter."""

    default_preprocessors = [
        NumberCells,
        "nbconvert.preprocessors.TagRemovePreprocessor",
        "nbconvert.preprocessors.RegexRemovePreprocessor",
        "nbconvert.preprocessors.CoalesceStreamsPreprocessor",
        ReadOutputs,
        ReadChapter,
        SetMarkdown,
    ]
    markdown = ""  # what Markdown becomes

    @property
    def default_config(self):
        config = Config()
        config.TagRemovePreprocessor.enabled = True
        config.TagRemovePreprocessor.remove_cell_tags = {
            "parameters", "injected-parameters", "remove-cell",
        }  # fmt: skip
        config.TagRemovePreprocessor.remove_input_tags = {"remove-input"}
        config.RegexRemovePreprocessor.patterns = [r"\s*\Z"]
        config.SetMarkdown.to = self.markdown
        for name in ("RegexRemove", "CoalesceStreams"):
            config[f"{name}Preprocessor"].enabled = True
        for step in (NumberCells, ReadOutputs, ReadChapter, SetMarkdown):
            config[step.__name__].enabled = True
        kinds = ["image/png", "text/markdown", "text/html", "text/plain"]
        config.NbConvertBase.display_data_priority = kinds
        return config

    @default("extra_template_basedirs")
    def _own_templates(self):
        return [str(TEMPLATES)]

    def from_notebook_node(self, nb, resources=None, **kw):
        resources = self._init_resources(resources)
        if "front" not in resources:
            name, path = resources["metadata"]["name"], resources["metadata"].get("path")
            folder = Path(path or ".").resolve()
            resources.update(surroundings(fingerprint.chapters(folder) or [folder / name], nb))
        return super().from_notebook_node(nb, resources, **kw)


class FerHTMLExporter(ChapterExporter):
    """A chapter as one HTML page, whole in itself: ``jupyter nbconvert --to fer-html``."""

    export_from_notebook = "Report page (HTML)"
    output_mimetype = "text/html"
    file_extension = ".html"
    template_name = "fer-html"
    markdown = "html"

    def default_filters(self):
        yield from super().default_filters()
        yield from {"anchored": anchored, "sections": sections, "python": coloured}.items()

    def _create_environment(self):
        environment = super()._create_environment()
        environment.autoescape = True  # what comes from data is shown, never obeyed
        environment.trim_blocks = environment.lstrip_blocks = True
        return environment

    def index(self, made: list[dict], front: dict, foot: dict) -> str:
        """The first page, from the chapters as ``resources["chapter"]`` tells them."""
        answers = [chapter["answer"] for chapter in made]
        sources = [front["abstract"], front["limits"], *map(short_answer, answers), *answers]
        pieces = markup.convert(sources, ["index"] * len(sources), "html")
        (abstract, limits, *pieces), glyphs = markup.draw_formulas(pieces)
        texts = zip(made, pieces[: len(made)], pieces[len(made) :], strict=True)
        cards = [{**chapter, "short": short, "answer": whole} for chapter, short, whole in texts]
        front = {**front, "abstract": abstract, "limits": limits}
        template = self.environment.get_template("front.html.j2")
        resources = {"front": front, "foot": foot, "glyphs": glyphs}
        return template.render(cards=cards, resources=resources).lstrip()


class FerTypstExporter(ChapterExporter):
    """A chapter's Typst source; its figures are in ``resources["outputs"]``."""

    export_from_notebook = None  # a step towards the PDF
    output_mimetype = "text/x-typst"
    file_extension = ".typ"
    template_name = "fer-typst"
    markdown = "typst"

    def default_filters(self):
        yield from super().default_filters()
        yield "quote", quote


class FerPDFExporter(FerTypstExporter):
    """A chapter as one accessible PDF, by way of Typst: ``jupyter nbconvert --to fer-pdf``."""

    export_from_notebook = "Report page (PDF)"
    output_mimetype = "application/pdf"
    code = Bool(False, help="print the cells' code in an appendix").tag(config=True)

    def from_notebook_node(self, nb, resources=None, **kw):
        source, resources = super().from_notebook_node(nb, resources, **kw)
        chapter = resources["chapter"] | {"source": source, "files": resources.pop("outputs")}
        pdf = compile_pdf([chapter], resources["front"], resources["foot"], self.code)
        resources["output_extension"] = ".pdf"
        return pdf, resources


# -- what stands around a chapter ---------------------------------------------------------------


def surroundings(notebooks: list[Path], nb: NotebookNode) -> dict:
    """Resources that the chapters of a report share; ``nb`` is one of its ``notebooks``.

    Returns:
        ``chapters`` (name, number, title of each), ``figures`` (a folder), the ``front`` page's
        texts, and ``foot``: facts by name, a ``warning``, the commit's ``time`` in seconds.
    """
    run = parameter(nb)
    config, metrics = facts_of(run)
    return {
        "chapters": [title_of(path) for path in notebooks],
        "figures": notebooks[0].parent.parent / "figures",
        "front": front_texts(config, metrics),
        "foot": provenance(run, config, bool(nb.metadata.get("real_faces"))),
    }


def parameter(nb: NotebookNode) -> str:
    """The run that a notebook is about: RUN of its parameters, of the injected ones if any."""
    run = "none"
    for cell in nb.cells:
        named = re.search(r"""^RUN *= *["'](.*)["']""", cell.source, re.MULTILINE)
        if named and {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", ())):
            run = named[1]
    return run


def facts_of(run: str) -> tuple[dict, dict]:
    """A run's configuration and figures; empty where there is no such run."""
    folder = fingerprint.run_folder(ROOT, run)
    files = folder / "config.json", folder / "metrics.json"
    config, metrics = (fingerprint.read_json(f) if f.is_file() else {} for f in files)
    return config, metrics


def title_of(path: Path) -> dict:
    name = path.stem
    cells = fingerprint.read_json(path).get("cells") if path.is_file() else None
    title = heading("".join(cells[0]["source"]), name) if cells else name
    return {"name": name, "number": str(int(name[:2])), "title": title}


def front_texts(config: dict, metrics: dict) -> dict[str, str]:
    """The texts of the front page by name; the abstract begins with the run's own result."""
    text = (TEMPLATES / "front.md").read_text("utf-8")
    parts = re.split(r"^# (.+)\n", text, flags=re.MULTILINE)[1:]
    front = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    split = "PrivateTest" if "PrivateTest" in metrics else "PublicTest"
    if split in metrics:
        faces = "synthetic faces" if config["data"]["kind"] == "synthetic" else "FER2013"
        accuracy = metrics[split]["accuracy"]
        headline = front["headline"].format(faces=faces, split=split, accuracy=accuracy)
        front["abstract"] = f"{headline} {front['abstract']}"
    return front


def provenance(run: str, config: dict, real_faces: bool) -> dict:
    data = config.get("data", {"kind": "unknown"})
    commit, time = revision.commit(ROOT)
    facts = {
        "Run": run,
        "Data": f"{data['kind']}, checksum {str(data.get('checksum', 'unknown'))[:12]}",
        "Seed": str(config.get("recipe", {}).get("seed", "unknown")),
        "Commit": commit,
        "Made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "With": ", ".join(f"{name} {version}" for name, version in fingerprint.versions().items()),
    }
    real_faces = real_faces and data["kind"] != "synthetic"
    warning = "Contains FER2013 faces: do not publish." if real_faces else ""
    return {"facts": facts, "warning": warning, "time": time}


# -- HTML ---------------------------------------------------------------------------------------


def sections(html: str) -> list[tuple[str, str]]:
    """Id and words of each section of a page, a formula in them as its TeX."""
    found = []
    for level, key, words in HEADING.findall(html):
        words = re.sub(r"<math.*?<annotation[^>]*>|</annotation>.*?</math>", "", words)
        if level == "2":
            found.append((key, re.sub(r"<[^>]*>", "", words)))
    return found


def anchored(html: str) -> str:
    """Headings that can be linked to, tables that scroll by themselves."""
    link = r'<a class="anchor" href="#\2" aria-label="Link to this section">#</a>'
    html = HEADING.sub(rf'<h\1 id="\2">\3 {link}</h\1>', str(html))
    html = html.replace("<table>", '<div class="wide" tabindex="0"><table>')
    return html.replace("</table>", "</table></div>")


def coloured(code: str) -> str:
    return highlight(code, PythonLexer(), HtmlFormatter(nowrap=True))


# -- PDF ----------------------------------------------------------------------------------------


def quote(text: str) -> str:
    """A Typst string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def compile_pdf(made: list[dict], front: dict, foot: dict, code: bool) -> bytes:
    """Chapters (``resources["chapter"]`` with ``source`` and ``files``) as one PDF/UA-1.

    The same bytes on every machine, unless a text needs a font of the system's.

    Raises:
        ReportError: too wide, a glyph without a font, or not accessible; names chapter and cell.
    """
    answers = [short_answer(chapter["answer"]) for chapter in made]
    sources = [front["abstract"], front["limits"], *answers]
    abstract, limits, *answers = markup.convert(sources, ["front page"] * len(sources), "typst")
    rows = [{**chapter, "short": text} for chapter, text in zip(made, answers, strict=True)]
    kept = ("name", "number", "title", "short", "code")
    book = {
        "front": {**front, "abstract": abstract, "limits": limits},
        "foot": foot,
        "code": code,
        "chapters": [{key: row[key] for key in kept} for row in rows],
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("report.typ", "style.typ"):
            (root / name).write_bytes((TEMPLATES / "fer-typst" / name).read_bytes())
        (root / "book.json").write_text(json.dumps(book), "utf-8")
        for chapter in made:
            (root / f"{chapter['name']}.typ").write_text(chapter["source"], "utf-8")
            (root / chapter["name"]).mkdir()
            for name, content in chapter["files"].items():
                (root / chapter["name"] / name).write_bytes(content)
        return compile_folder(root, foot["time"])


def compile_folder(root: Path, timestamp: int) -> bytes:
    def compiled(system_fonts: bool):
        return typst.compile_with_warnings(
            str(root / "report.typ"), root=str(root), format="pdf", pdf_standards="ua-1",
            timestamp=timestamp, ignore_system_fonts=not system_fonts,
        )  # fmt: skip

    try:
        try:
            pdf, warnings = compiled(system_fonts=False)
        except typst.TypstError as error:
            if "font" not in error.message:
                raise
            pdf, warnings = compiled(system_fonts=True)
    except typst.TypstError as error:
        raise ReportError(reason(error, root)) from None
    for warning in warnings:
        if "font" in warning.message:
            raise ReportError(f"report.pdf: {warning.message}")
    return pdf


def reason(error: typst.TypstError, root: Path) -> str:
    """Typst's message in one line, with the chapter and cell of the source line it points to."""
    message = error.message.removeprefix("panicked with: ").strip('"')
    if glyph := re.search(r'the text `"(.+?)"` could not be displayed', message):
        message = f"no font on this machine shows {glyph[1]!r}; install one, such as Noto Sans CJK"
    if ", cell " in message:
        return message
    for name, line in re.findall(r"(\w+)\.typ:(\d+):\d+", error.diagnostic):
        above = (root / f"{name}.typ").read_text("utf-8").split("\n")[: int(line)]
        cells = re.findall(r"^// (\w+, cell \d+)$", "\n".join(above), re.MULTILINE)
        if cells:
            return f"{cells[-1]}: {message}"
    return message
