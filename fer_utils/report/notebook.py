"""From an executed notebook to one that a template can walk: nbconvert's preprocessors.

nbconvert's own (hidden cells, empty cells, streams) work between ``number_cells`` and
``read_chapter``; ``set_markdown`` comes last. What can't become a page is refused here:
``ReportError`` with chapter and cell.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

from nbformat import NotebookNode, from_dict

from fer_utils.report import ReportError, markup

VECTOR_LIMIT = 600_000  # bytes: a larger SVG holds more marks than print can show


def number_cells(nb: NotebookNode, resources):
    """``cell.metadata.place``: chapter and number, from 1 over all cells of the source notebook."""
    number = 0
    for cell in nb.cells:
        number += "injected-parameters" not in cell.metadata.get("tags", ())
        cell.metadata["place"] = f"{resources['metadata']['name']}, cell {number}"
    return nb, resources


def read_chapter(nb: NotebookNode, resources):
    """Each output in the one form that pages carry, and ``resources["chapter"]``, a dict of

    name, number, title, answer (Markdown), code, picture (the first PNG), files (name -> content
    of the figures for print).
    """
    name = resources["metadata"]["name"]
    answer, place = find_answer(nb, name)
    if faults := answer_faults(answer):
        raise ReportError(f"{place}: the answer has {', '.join(faults)}")
    opening = nb.cells[0]
    chapter = {
        "name": name, "number": str(int(name[:2])), "title": heading(opening.source, name),
        "answer": answer, "picture": "", "files": {},
    }  # fmt: skip
    opening.source = opening.source.partition("\n")[2]
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    chapter["code"] = "\n\n".join(
        cell.source for cell in code if not cell.metadata.get("transient")
    )
    figures = Path(resources["metadata"]["path"]).resolve().parent / "figures"
    for cell in code:
        shown = [read_output(output, cell.metadata.place) for output in cell.outputs]
        cell.outputs = [output for output in shown if output]
        for output in cell.outputs:
            if "image/png" in output.data:
                add_figure(chapter, output, figures)
    resources["chapter"] = chapter
    return nb, resources


def find_answer(nb: NotebookNode, name: str) -> tuple[str, str]:
    """A chapter's answer, as Markdown, and the place of its cell."""
    answers = [cell for cell in nb.cells if "answer" in cell.metadata.get("tags", ())]
    outputs = [output for cell in answers for output in cell.get("outputs", ())]
    texts = [output.get("data", {}).get("text/markdown", "") for output in outputs]
    if len(texts) != 1 or not texts[0]:
        raise ReportError(f"{name}: expected one Markdown output of one cell tagged 'answer'")
    return texts[0], answers[0].metadata.get("place", name)


def heading(source: str, name: str) -> str:
    """The title of chapter ``name``, from its first cell."""
    found = re.match(r"# (?:\d+ *[·.:–-] *)?(.+)", source)
    if not found:
        raise ReportError(f"{name}: expected '# N · The question?' at the top of its first cell")
    return found[1].strip()


def answer_faults(answer: str) -> list[str]:
    """What is too much in an answer's Markdown: at most three bullets, 60 words, six numbers.

    A word holds a letter or digit. A number begins a word or stands after a bracket or sign, so
    FER2013 and layer4 are none; nor are `names` and 2019, the report that chapters compare with.
    """
    bullets = len(re.findall(r"^ *(?:[-*+]|\d+[.)]) ", answer, re.MULTILINE))
    plain = re.sub(r"^ *\d+[.)] ", "", answer, flags=re.MULTILINE)
    words = sum(bool(re.search(r"\w", word)) for word in plain.split())
    figures = re.findall(r"(?<![\w.,])\d[\d.,]*", re.sub(r"`[^`]*`", "", plain))
    numbers = [figure for figure in figures if figure.strip(".,") != "2019"]
    counted = [(bullets, 3, "bullets"), (words, 60, "words"), (len(numbers), 6, "numbers")]
    return [f"{n} {what} (at most {most})" for n, most, what in counted if n > most]


def short_answer(answer: str) -> str:
    """The sentence that tells an answer's finding: the first with 'we find', else the first."""
    paragraphs = re.sub(r"^ *[-*+] ", "\n", answer, flags=re.MULTILINE)
    sentences = re.split(r"\n\s*\n|(?<=[.!?])\s+(?=[A-Z*])", paragraphs.strip())
    sentences = [" ".join(sentence.split()) for sentence in sentences if sentence.strip()]
    finding = [sentence for sentence in sentences if re.search(r"[Ww]e find", sentence)]
    return [*finding, *sentences][0]


# -- outputs ------------------------------------------------------------------------------------


def read_output(output: NotebookNode, place: str) -> NotebookNode | None:
    """An output as a figure, Markdown (tables too) or printed text; None: pages don't show it."""
    if output.output_type == "stream":
        shown = output.name == "stdout" and output.text.strip()
        return display("text/plain", output.text.strip("\n")) if shown else None
    if output.output_type == "error":
        return display("text/plain", f"{output.ename}: {output.evalue}")
    data = output.data
    if any("widget-view" in kind for kind in data):
        return None  # a page has no kernel that a widget could ask
    if "image/png" in data:
        about = output.metadata.get("image/png", {})
        if not all(about.get(key) for key in ("alt", "name", "width")):
            raise ReportError(
                f"{place}: a figure without alt text and name; use show(figure, name, alt='…')"
            )
        png = "".join(data["image/png"].split())
        return display("image/png", png, figure={"caption": about["alt"], **about})
    if "text/markdown" in data:
        return display("text/markdown", data["text/markdown"])
    if "text/latex" in data:
        return display("text/markdown", f"$${data['text/latex'].strip().strip('$')}$$")
    if "<table" in data.get("text/html", ""):
        return display("text/markdown", markup.table(data["text/html"]))
    if data.keys() & {"text/html", "image/svg+xml", "image/jpeg"}:
        kinds = ", ".join(sorted(data))
        raise ReportError(f"{place}: an output of {kinds} can't be set; show a figure or a table")
    return display("text/plain", data["text/plain"]) if data.get("text/plain") else None


def display(kind: str, text: str, **metadata) -> NotebookNode:
    return from_dict({"output_type": "display_data", "data": {kind: text}, "metadata": metadata})


def add_figure(chapter: dict, output: NotebookNode, figures: Path) -> None:
    """Number a figure ("3.1") and put its file for print into the chapter.

    That is the SVG which ``show`` kept in ``figures`` beside this very PNG, unless it is too large;
    else the PNG.
    """
    about = output.metadata.figure
    chapter["picture"] = chapter["picture"] or output.data["image/png"]
    content, suffix = base64.b64decode(output.data["image/png"]), "png"
    kept = figures / f"{about.name}.svg"
    beside = kept.with_suffix(".png")
    same = kept.is_file() and beside.is_file() and beside.read_bytes() == content
    if same and kept.stat().st_size <= VECTOR_LIMIT:
        content, suffix = kept.read_bytes(), "svg"
    about["number"] = f"{chapter['number']}.{len(chapter['files']) + 1}"
    about["file"] = f"{about.number}.{suffix}"
    chapter["files"][about.file] = content


# -- Markdown -----------------------------------------------------------------------------------


def set_markdown(nb: NotebookNode, resources, to: str):
    """Markdown cells, outputs and captions as ``html`` or ``typst``; ``resources["glyphs"]``."""
    holders = []  # (where, a dict that holds Markdown, its key there)
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            holders.append((cell.metadata.place, cell, "source"))
        for output in cell.get("outputs", ()):
            if "text/markdown" in output.data:
                holders.append((cell.metadata.place, output.data, "text/markdown"))
            elif "figure" in output.metadata:
                holders.append((cell.metadata.place, output.metadata.figure, "caption"))
    sources = [holder[key] for _, holder, key in holders]
    places = [place for place, _, _ in holders]
    pieces, resources["glyphs"] = markup.convert(sources, places, to)
    for (_, holder, key), piece in zip(holders, pieces, strict=True):
        holder[key] = piece
    return nb, resources
