"""From an executed notebook to one that a template can walk: nbconvert's preprocessors.

In their order (nbconvert's own ``TagRemovePreprocessor`` and others stand between them):

- ``NumberCells``  numbers the cells as in the source notebook
- ``ReadOutputs``  each output in the one form that pages carry; figures numbered, tables parsed
- ``ReadChapter``  title and answer -> ``resources["chapter"]``
- ``SetMarkdown``  all Markdown as HTML or Typst

What can't become a page is refused here: ``ReportError`` with chapter and cell.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode, from_dict
from traitlets import Unicode

from fer_utils.report import ReportError, markup

WORDS, BULLETS, NUMBERS = 60, 3, 6  # at most, in an answer
VECTOR_LIMIT = 600_000  # bytes: a larger SVG holds more marks than print can show


@contextmanager
def located(resources, cell: NotebookNode | None = None) -> Iterator[None]:
    """Name the chapter, and the cell, in a ReportError raised meanwhile."""
    try:
        yield
    except ReportError as error:
        name = resources["metadata"]["name"]
        text = f"cell {cell.metadata.number}: {error}" if cell else str(error)
        joint = ", " if text.startswith("cell ") else ": "
        raise ReportError(f"{name}{joint}{text}") from None


class NumberCells(Preprocessor):
    """``cell.metadata.number``: from 1 over all cells of the source notebook."""

    def preprocess(self, nb, resources):
        number = 0
        for cell in nb.cells:
            number += "injected-parameters" not in cell.metadata.get("tags", ())
            cell.metadata["number"] = number
        return nb, resources


class ReadOutputs(Preprocessor):
    """Each output in the one form that pages carry: figure, Markdown, table or printed text.

    A figure's metadata gain ``number`` ("3.1"), ``caption``, ``inches`` and ``file``; a table's
    output gains ``metadata.table``. ``resources["figure_files"]`` holds the figures' files for print,
    ``resources["picture"]`` the first PNG.
    """

    def preprocess(self, nb, resources):
        resources["figure_files"] = {}
        cells = []
        for cell in nb.cells:
            with located(resources, cell):
                if cell.cell_type == "code":
                    found = (self.read(output, resources) for output in cell.outputs)
                    cell.outputs = [output for output in found if output]
            if cells and silent(cells[-1]) and shows_code(cell):
                cell.source = f"{cells.pop().source}\n\n{cell.source}"
            cells.append(cell)
        nb.cells = cells
        return nb, resources

    def read(self, output, resources) -> NotebookNode | None:
        if output.output_type == "stream":
            shown = output.name == "stdout" and output.text.strip()
            return printed(output.text.strip("\n")) if shown else None
        if output.output_type == "error":
            return printed(f"{output.ename}: {output.evalue}")
        if any("widget-view" in kind for kind in output.data):
            return None  # pages show the static figure beside it
        data = {kind: text for kind, text in output.data.items() if "json" not in kind}
        if "image/png" in data:
            return self.figure(data["image/png"], output.metadata.get("image/png", {}), resources)
        if "text/markdown" in data:
            return display("text/markdown", data["text/markdown"])
        if "text/latex" in data:
            return display("text/markdown", f"$${data['text/latex'].strip().strip('$')}$$")
        if "<table" in data.get("text/html", ""):
            return display("text/html", "", table=markup.table(data["text/html"]))
        if set(data) & {"text/html", "image/svg+xml", "image/jpeg"}:
            kinds = ", ".join(sorted(data))
            raise ReportError(f"an output of {kinds} can't be set; show a figure or a table")
        return printed(data["text/plain"]) if data.get("text/plain") else None

    def figure(self, encoded: str, about: dict, resources) -> NotebookNode:
        png = base64.b64decode(encoded)
        if not about.get("alt"):
            raise ReportError("a figure without alt text; give one: show(figure, name, alt='…')")
        number = f"{int(resources['metadata']['name'][:2])}.{len(resources['figure_files']) + 1}"
        suffix, content = self.print_version(about["name"], png, resources)
        resources["figure_files"][f"{number}.{suffix}"] = content
        resources.setdefault("picture", "".join(encoded.split()))
        facts = {
            "number": number, "file": f"{number}.{suffix}", "alt": about["alt"],
            "caption": about.get("caption") or about["alt"], "inches": about["width"] / 100,
        }  # fmt: skip
        return display("image/png", "".join(encoded.split()), figure=facts)

    def print_version(self, name: str, png: bytes, resources) -> tuple[str, bytes]:
        """The SVG that ``show`` kept beside this very PNG, unless it is too large; else the PNG."""
        kept = Path(resources["figures"]) / f"{name}.svg"
        if kept.is_file() and kept.stat().st_size <= VECTOR_LIMIT:
            beside = kept.with_suffix(".png")
            if beside.is_file() and beside.read_bytes() == png:
                return "svg", kept.read_bytes()
        return "png", png


def display(kind: str, text: str, **metadata) -> NotebookNode:
    return from_dict({"output_type": "display_data", "data": {kind: text}, "metadata": metadata})


def printed(text: str) -> NotebookNode:
    return display("text/plain", text)


def shows_code(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and not cell.metadata.get("transient")


def silent(cell: NotebookNode) -> bool:
    """A cell of code alone: it is shown together with the next one."""
    return shows_code(cell) and not cell.outputs


class ReadChapter(Preprocessor):
    """``resources["chapter"]``, a dict: name, number, title, answer (Markdown), code, picture.

    ``faults`` tells where the answer is too long; the picture is the first figure's PNG.
    """

    def preprocess(self, nb, resources):
        name = resources["metadata"]["name"]
        with located(resources):
            answers = [output.data.get("text/markdown", "") for output in answer_outputs(nb)]
            if len(answers) != 1 or not answers[0]:
                raise ReportError("expected one Markdown output of one cell tagged 'answer'")
        title = heading(nb.cells[0].source, name)
        nb.cells[0].source = nb.cells[0].source.partition("\n")[2]
        resources["chapter"] = {
            "name": name, "number": str(int(name[:2])), "title": title, "answer": answers[0],
            "faults": answer_faults(answers[0]), "picture": resources.get("picture", ""),
            "code": "\n\n".join(cell.source for cell in nb.cells if shows_code(cell)),
        }  # fmt: skip
        return nb, resources


def answer_outputs(nb: NotebookNode) -> list[NotebookNode]:
    answers = [cell for cell in nb.cells if "answer" in cell.metadata.get("tags", ())]
    return [output for cell in answers for output in cell.get("outputs", ())]


def heading(source: str, name: str) -> str:
    """The title of chapter ``name``, from its first cell."""
    found = re.match(r"# (?:\d+ *[·.:–-] *)?(.+)", source)
    if not found:
        raise ReportError(f"{name}: expected '# N · The question?' at the top of its first cell")
    return found[1].strip()


def answer_faults(answer: str) -> list[str]:
    """What is too much in an answer's Markdown: at most three bullets, 60 words, six numbers.

    A word holds a letter or digit. A number begins a word or stands after a bracket or sign, so
    FER2013 and layer4 are none; nor is 2019, the report that chapters compare with.
    """
    bullets = len(re.findall(r"^ *(?:[-*+]|\d+[.)]) ", answer, re.MULTILINE))
    plain = re.sub(r"^ *\d+[.)] ", "", answer, flags=re.MULTILINE)
    words = sum(bool(re.search(r"\w", word)) for word in plain.split())
    numbers = [n for n in re.findall(r"(?<![\w.,])\d[\d.,]*", plain) if n.strip(".,") != "2019"]
    counted = [
        (bullets, BULLETS, "bullets"),
        (words, WORDS, "words"),
        (len(numbers), NUMBERS, "numbers"),
    ]
    return [f"{n} {what} (at most {most})" for n, most, what in counted if n > most]


def short_answer(answer: str) -> str:
    """The sentence of an answer that tells the finding: the first with 'we find', else the first."""
    paragraphs = re.sub(r"^ *[-*+] ", "\n", answer, flags=re.MULTILINE)
    sentences = re.split(r"\n\s*\n|(?<=[.!?])\s+(?=[A-Z*])", paragraphs.strip())
    sentences = [" ".join(sentence.split()) for sentence in sentences if sentence.strip()]
    finding = [sentence for sentence in sentences if re.search(r"[Ww]e find", sentence)]
    return next(iter([*finding, *sentences]))


class SetMarkdown(Preprocessor):
    """Markdown cells, outputs and captions as HTML or Typst, in one call of pandoc.

    In HTML, formulas are drawn; ``resources["glyphs"]`` holds the symbols that they share.
    """

    to = Unicode("html", help="'html' or 'typst'").tag(config=True)

    def preprocess(self, nb, resources):
        holders = list(markdown(nb))
        sources = [holder[key] for _, holder, key in holders]
        where = [f"cell {cell.metadata.number}" for cell, _, _ in holders]
        with located(resources):
            pieces = markup.convert(sources, where, self.to)
            if self.to == "html":
                pieces, resources["glyphs"] = markup.draw_formulas(pieces)
        for (_, holder, key), piece in zip(holders, pieces, strict=True):
            holder[key] = piece
        return nb, resources


def markdown(nb: NotebookNode) -> Iterator[tuple[NotebookNode, dict, str]]:
    """Where Markdown stands in a notebook: (cell, dict that holds it, its key there)."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            yield cell, cell, "source"
        for output in cell.get("outputs", ()):
            if "text/markdown" in output.data:
                yield cell, output.data, "text/markdown"
            elif "figure" in output.metadata:
                yield cell, output.metadata.figure, "caption"
