"""The pages: nbconvert's exporters ``fer-html`` and ``fer-pdf``, the index and the whole PDF.

An exporter makes the page of one chapter from an executed notebook, by the preprocessors of
``notebook`` and a template of ``templates/``. What stands around the chapter, the *book* (a dict:
chapters, front, foot), it finds out by itself, so that ``jupyter nbconvert`` gives the same page
as ``make report``, which passes the book on.
"""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import typst
from nbconvert.exporters import FilenameExtension, TemplateExporter
from nbconvert.preprocessors import (
    CoalesceStreamsPreprocessor,
    RegexRemovePreprocessor,
    TagRemovePreprocessor,
)
from nbformat import NotebookNode
from traitlets import Bool, Unicode, default

from fer_utils import revision
from fer_utils.data.faces import FER2013
from fer_utils.report import ROOT, TEMPLATES, ReportError, fingerprint, markup, notebook


class ChapterExporter(TemplateExporter):
    """What HTML and PDF share; ``to`` is pandoc's name of what Markdown becomes."""

    to = ""

    @default("extra_template_basedirs")
    def _own_templates(self):
        return [str(TEMPLATES)]

    @default("preprocessors")
    def _own_preprocessors(self):
        hidden = {"parameters", "injected-parameters", "remove-cell"}
        return [
            notebook.number_cells,
            TagRemovePreprocessor(remove_cell_tags=hidden, remove_input_tags={"remove-input"}),
            RegexRemovePreprocessor(patterns=[r"\s*\Z"]),
            CoalesceStreamsPreprocessor(),
            notebook.read_chapter,
            partial(notebook.set_markdown, to=self.to),
        ]

    def default_filters(self):
        yield from super().default_filters()
        yield "sections", sections
        yield "quote", quote

    def from_notebook_node(self, nb, resources=None, **kw):
        resources = self._init_resources(resources)
        name = resources["metadata"]["name"]
        if not re.fullmatch(fingerprint.NAME, name):
            raise ReportError(f"{name}.ipynb: a chapter is named NN_name.ipynb, such as 07_mine")
        if "book" not in resources:
            folder = Path(resources["metadata"]["path"]).resolve()
            resources["book"] = read_book(fingerprint.chapters(folder), nb)
        return super().from_notebook_node(nb, resources, **kw)


class FerHTMLExporter(ChapterExporter):
    """A chapter as one HTML page, whole in itself: ``jupyter nbconvert --to fer-html``."""

    to = "html"
    export_from_notebook = "Report page (HTML)"
    output_mimetype = "text/html"
    template_name = Unicode("fer-html").tag(config=True, affects_template=True)
    file_extension = FilenameExtension(".html").tag(config=True)

    def _create_environment(self):
        environment = super()._create_environment()
        environment.autoescape = True  # what comes from data is shown, never obeyed
        environment.trim_blocks = environment.lstrip_blocks = True
        return environment

    def index(self, chapters: list[dict], book: dict) -> str:
        """The first page, from each chapter's ``resources["chapter"]``."""
        book, glyphs = set_front(book, chapters, self.to)
        template = self.environment.get_template("front.html.j2")
        return template.render(resources={"book": book, "glyphs": glyphs})


class FerTypstExporter(ChapterExporter):
    """A chapter's Typst source, a step towards the PDF."""

    to = "typst"
    export_from_notebook = None
    output_mimetype = "text/x-typst"
    template_name = Unicode("fer-typst").tag(config=True, affects_template=True)
    file_extension = FilenameExtension(".typ").tag(config=True)


class FerPDFExporter(FerTypstExporter):
    """A chapter as one accessible PDF, by way of Typst: ``jupyter nbconvert --to fer-pdf``."""

    export_from_notebook = "Report page (PDF)"
    output_mimetype = "application/pdf"
    code = Bool(False, help="print the cells' code in an appendix").tag(config=True)

    def from_notebook_node(self, nb, resources=None, **kw):
        source, resources = super().from_notebook_node(nb, resources, **kw)
        resources["output_extension"] = ".pdf"
        chapter = resources["chapter"] | {"source": source}
        return compile_pdf([chapter], resources["book"], self.code), resources


def sections(html: str) -> list[tuple[str, str]]:
    """Id and words of each section of a page, a formula in them as its TeX."""
    found = re.findall(r'<h2 id="([^"]*)">(.*?)\s<a [^>]*class="anchor"', str(html), re.DOTALL)
    tex = re.compile(r"<math.*?<annotation[^>]*>(.*?)</annotation>.*?</math>")
    return [(key, re.sub(r"<[^>]*>", "", tex.sub(r"\1", words))) for key, words in found]


def quote(text: str) -> str:
    """A Typst string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- the book -----------------------------------------------------------------------------------


def read_book(notebooks: list[Path], nb: NotebookNode) -> dict:
    """What the chapters of a report share; ``nb`` is one of its ``notebooks``.

    Returns:
        ``chapters`` (name, number, title of each), the ``front`` page's texts, and ``foot``:
        facts by name, a ``warning``, the commit's ``time`` in seconds.
    """
    run = parameter(nb)
    folder = fingerprint.run_folder(ROOT, run)
    config, metrics = {}, {}
    if fingerprint.is_whole(folder):
        config = fingerprint.run_config(folder)
        metrics = fingerprint.read_json(folder / "metrics.json")
    return {
        "chapters": [title_of(path) for path in notebooks],
        "front": read_front(config, metrics),
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


def title_of(path: Path) -> dict:
    first = fingerprint.read_json(path)["cells"][0]
    title = notebook.heading("".join(first["source"]), path.stem)
    return {"name": path.stem, "number": str(int(path.stem[:2])), "title": title}


def read_front(config: dict, metrics: dict) -> dict[str, str]:
    """The texts of the front page by name; the abstract begins with the run's own result."""
    text = (TEMPLATES / "front.md").read_text("utf-8")
    parts = re.split(r"^# (.+)\n", text, flags=re.MULTILINE)[1:]
    front = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    if metrics:
        split = "PrivateTest" if "PrivateTest" in metrics else "PublicTest"
        faces = "synthetic faces" if config["data"]["kind"] == "synthetic" else "real faces"
        if config["data"].get("checksum") == FER2013:
            faces = "FER2013"
        result = {"faces": faces, "split": split, "accuracy": metrics[split]["accuracy"]}
        front["abstract"] = f"{front['headline'].format(**result)} {front['abstract']}"
    return front


def provenance(run: str, config: dict, real_faces: bool) -> dict:
    data = config.get("data", {"kind": "unknown"})
    commit, time = revision.commit(ROOT)
    facts = {
        "Run": run,
        "Data": f"{data['kind']}, checksum {data.get('checksum', 'unknown')[:12]}",
        "Seed": str(config.get("recipe", {}).get("seed", "unknown")),
        "Commit": commit,
        "Made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "With": ", ".join(f"{name} {version}" for name, version in fingerprint.versions().items()),
    }
    unpublished = real_faces and data["kind"] != "synthetic"
    warning = "Contains single real faces: do not publish." if unpublished else ""
    return {"facts": facts, "warning": warning, "time": time}


def set_front(book: dict, chapters: list[dict], to: str) -> tuple[dict, str]:
    """The book with its texts and the chapters' ``short`` and ``answer`` as ``html`` or ``typst``.

    Returns:
        the book, and the glyphs of its formulas.
    """
    front, number = book["front"], len(chapters)
    answers = [chapter["answer"] for chapter in chapters]
    shorts = [notebook.short_answer(answer) for answer in answers]
    sources = [front["abstract"], front["limits"], *answers, *shorts]
    texts, glyphs = markup.convert(sources, ["front page"] * len(sources), to)
    abstract, limits, *texts = texts
    cards = [
        {**chapter, "answer": answer, "short": short, "source": "", "files": {}}
        for chapter, answer, short in zip(chapters, texts[:number], texts[number:], strict=True)
    ]
    front = {**front, "abstract": abstract, "limits": limits}
    return {**book, "front": front, "chapters": cards}, glyphs


# -- PDF ----------------------------------------------------------------------------------------


def compile_pdf(chapters: list[dict], book: dict, code: bool) -> bytes:
    """Chapters (``resources["chapter"]`` of the Typst exporter) as one PDF/UA-1.

    Raises:
        ReportError: too wide, a glyph without a font, or not accessible; names chapter and cell.
    """
    printed, _ = set_front(book, chapters, "typst")
    printed["code"] = code
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("report.typ", "style.typ"):
            (root / name).write_bytes((TEMPLATES / "fer-typst" / name).read_bytes())
        (root / "book.json").write_text(json.dumps(printed), "utf-8")
        for chapter in chapters:
            (root / f"{chapter['name']}.typ").write_text(chapter["source"], "utf-8")
            (root / chapter["name"]).mkdir()
            for name, content in chapter["files"].items():
                (root / chapter["name"] / name).write_bytes(content)
        try:
            return typst.compile(
                str(root / "report.typ"), root=str(root), format="pdf", pdf_standards="ua-1",
                timestamp=book["foot"]["time"],
            )  # fmt: skip
        except typst.TypstError as error:
            raise ReportError(reason(error, root)) from None


def reason(error: typst.TypstError, root: Path) -> str:
    """Typst's message in one line, with the chapter and cell of the source line it points to."""
    message = error.message.removeprefix("panicked with: ").strip('"')
    if glyph := re.search(r'the text `"(.+?)"` could not be displayed', message):
        message = f"no font on this machine shows {glyph[1]!r}; install one, such as Noto Sans CJK"
    where = re.search(r"(\w+)\.typ:(\d+):\d+", error.diagnostic)
    if ", cell " in message or not where:
        return message
    above = (root / f"{where[1]}.typ").read_text("utf-8").split("\n")[: int(where[2])]
    cells = re.findall(r"^// (\w+, cell \d+)$", "\n".join(above), re.MULTILINE)
    return f"{cells[-1]}: {message}" if cells else message
