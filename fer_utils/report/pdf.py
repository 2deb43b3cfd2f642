"""The whole report as one PDF: Typst source from a template, compiled as tagged PDF/UA-1."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from fer_utils.report import ReportError
from fer_utils.report.notebook import Chapter

VECTOR_LIMIT = 600_000  # bytes: a larger SVG holds more marks than print can show


def quote(text: str) -> str:
    """A Typst string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def source(chapters: list[Chapter], front: dict, foot: dict, pictures: dict) -> str:
    """The report's Typst source; ``pictures`` maps a figure's number to its file under the root."""
    from fer_utils.report.exporter import BlocksExporter

    exporter = BlocksExporter("report.typ", {"quote": quote}, escape=False)
    return exporter.render(chapters=chapters, front=front, foot=foot, pictures=pictures)


def place(chapters: list[Chapter], folder: Path) -> dict[str, str]:
    """Choose each figure's file under ``folder``: the SVG beside it, else its PNG."""
    pictures = {}
    for chapter in chapters:
        for figure in chapter.of("figure"):
            file = folder / "figures" / chapter.name[:2] / f"{figure.name or figure.number}.svg"
            if not figure.name or not file.is_file() or file.stat().st_size > VECTOR_LIMIT:
                file = file.with_suffix(".png")
                if not file.is_file() or file.read_bytes() != figure.png:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(figure.png)
            pictures[figure.number] = "/" + file.relative_to(folder).as_posix()
    return pictures


def compile_pdf(text: str, root: Path, timestamp: int) -> bytes:
    """Compile; the same bytes on every machine unless a text needs a font of the system's.

    Raises:
        ReportError: too wide, a glyph without a font, or not accessible; names chapter and cell.
    """
    import typst

    make = partial(
        typst.compile_with_warnings, text.encode(), root=str(root), format="pdf",
        pdf_standards="ua-1", timestamp=timestamp,
    )  # fmt: skip
    try:
        try:
            pdf, warnings = make(ignore_system_fonts=True)
        except typst.TypstError as error:
            if "font" not in error.message:
                raise
            pdf, warnings = make(ignore_system_fonts=False)
    except typst.TypstError as error:
        raise ReportError(_reason(error, text)) from None
    for warning in warnings:
        if "font" in warning.message:
            raise ReportError(f"report.pdf: {warning.message}")
    return pdf


def _reason(error: Exception, text: str) -> str:
    """Typst's message in one line, with the chapter and cell of the source line it points to."""
    message = error.message.removeprefix("panicked with: ").strip('"')
    if glyph := re.search(r'the text `"(.+?)"` could not be displayed', message):
        message = f"no font on this machine shows {glyph[1]!r}; install one, such as Noto Sans CJK"
    if label := re.search(r"label `<chapter-(\w+)>` does not exist", message):
        message = f"a link leads to {label[1]}.ipynb, which is no chapter"
    where = re.search(r":(\d+):\d+", error.diagnostic)
    above = "\n".join(text.split("\n")[: int(where[1])]) if where else ""
    cells = re.findall(r"^// (\w+, cell \d+)$", above, re.MULTILINE)
    return f"{cells[-1]}: {message}" if cells and ", cell " not in message else message
