"""An executed notebook as the blocks of a chapter; what can't become a page is refused here."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

from fer_utils.report import ReportError
from fer_utils.report.fingerprint import read_json

PAGE, CHARACTER, GAP = 453, 3.5, 12  # points: text width, and of the smallest size in tables
MOST = 1000  # columns or rows that a cell of a table may span
HIDDEN = {"parameters", "injected-parameters", "remove-cell"}
NUMBER = re.compile(r"[-−+±]?[\d.,]+(e[-+]?\d+)?\s*%?|nan|NaN|–|—|", re.IGNORECASE)


@dataclass
class Block:
    """One thing on a page, in reading order; ``html`` and ``typst`` are set by ``markup``."""

    kind: str  # text · answer · code · print · figure · table
    cell: int  # counted from 1 over all cells of the source notebook
    source: str = ""  # Markdown (text, answer, a figure's caption), code, or printed text
    html: str = ""
    typst: str = ""
    alt: str = ""
    png: bytes = b""
    name: str = ""
    number: str = ""  # of a figure: "3.1"
    inches: float = 0
    rows: list[list[Cell]] = field(default_factory=list)
    widths: list[str] = field(default_factory=list)


@dataclass
class Cell:
    text: str
    head: bool
    columns: int = 1
    rows: int = 1
    numeric: bool = False


@dataclass
class Chapter:
    name: str  # 03_confusion_matrix
    title: str  # its question
    blocks: list[Block]

    @property
    def number(self) -> str:
        return str(int(self.name[:2]))

    def of(self, *kinds: str) -> list[Block]:
        return [block for block in self.blocks if block.kind in kinds]

    @property
    def answer(self) -> Block:
        return self.of("answer")[0]


def read(path: Path) -> Chapter:
    """An executed notebook's chapter.

    Raises:
        ReportError: no title or answer, a figure without alt text, an output that can't be set.
    """
    try:
        return _chapter(path, read_json(path)["cells"])
    except ReportError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise ReportError(
            f"{path.stem}: not an executed notebook ({type(error).__name__}: {error})"
        ) from None


def _chapter(path: Path, cells: list[dict]) -> Chapter:
    chapter = Chapter(path.stem, "", [])
    number = 0
    for cell in cells:
        tags = set(cell["metadata"].get("tags", ()))
        number += "injected-parameters" not in tags
        source = "".join(cell["source"]).strip()
        if tags & HIDDEN or not source:
            continue
        try:
            blocks = list(_blocks(cell, source, tags, number))
        except ReportError as error:
            raise ReportError(f"{path.stem}, cell {number}: {error}") from None
        for block in blocks:
            last = chapter.blocks[-1] if chapter.blocks else None
            if block.kind == "code" and last and last.kind == "code":
                last.source += "\n\n" + block.source
            else:
                chapter.blocks.append(block)
    first = chapter.blocks[0].source if chapter.blocks else ""
    if not (title := re.match(r"# (?:\d+ *[·.:–-] *)?(.+)\n*", first)):
        raise ReportError(f"{path.stem}, cell 1: expected a heading '# N · The question?'")
    chapter.title = title[1].strip()
    chapter.blocks[0].source = first[title.end() :]
    if len(chapter.of("answer")) != 1:
        raise ReportError(f"{path.stem}: expected one Markdown output of one cell tagged 'answer'")
    for i, figure in enumerate(chapter.of("figure"), 1):
        figure.number = f"{chapter.number}.{i}"
    return chapter


def _blocks(cell: dict, source: str, tags: set[str], number: int):
    if cell["cell_type"] == "markdown":
        if cell.get("attachments"):
            raise ReportError("attached pictures have no place here; draw it and show(…) it")
        yield Block("text", number, source)
    if cell["cell_type"] != "code":
        return
    if "remove-input" not in tags:
        yield Block("code", number, source)
    printed = ""
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            printed += "".join(output["text"]) if output["name"] == "stdout" else ""
        elif output["output_type"] == "error":
            printed += f"{output['ename']}: {output['evalue']}\n"
        else:
            block = _shown(output, "answer" if "answer" in tags else "text", number)
            if printed.strip() and block:
                yield Block("print", number, printed.strip("\n"))
                printed = ""
            if block:
                yield block
    if printed.strip():
        yield Block("print", number, printed.strip("\n"))


def _shown(output: dict, text: str, number: int) -> Block | None:
    """The richest form of a displayed object that pages can carry."""
    data = {kind: "".join(value) for kind, value in output["data"].items() if "json" not in kind}
    if any("widget-view" in kind for kind in output["data"]):
        return None  # pages show the static figure beside it
    if "image/png" in data:
        facts = output["metadata"].get("image/png", {})
        png = base64.b64decode(data["image/png"])
        if not (alt := str(facts.get("alt", "")).strip()):
            raise ReportError("a figure without alt text; give one: show(figure, name, alt='…')")
        if not png.startswith(b"\x89PNG") or min(size := _size(png)) < 2:
            raise ReportError("an empty figure")
        caption = str(facts.get("caption") or alt)
        inches = facts.get("width", size[0] / 1.5) / 100
        name = re.sub(r"[^\w.-]", "_", str(facts.get("name", "")))
        return Block("figure", number, caption, alt=alt, png=png, name=name, inches=inches)
    if "text/markdown" in data:
        return Block(text, number, data["text/markdown"])
    if "text/latex" in data:
        return Block(text, number, f"$${data['text/latex'].strip().strip('$')}$$")
    if "<table" in data.get("text/html", ""):
        rows, widths = table(data["text/html"])
        return Block("table", number, rows=rows, widths=widths)
    if set(data) & {"text/html", "image/svg+xml", "image/jpeg"}:
        kinds = ", ".join(sorted(data))
        raise ReportError(f"an output of {kinds} can't be set; show a figure, table or Markdown")
    return Block("print", number, data["text/plain"]) if data.get("text/plain") else None


def _size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def table(html: str) -> tuple[list[list[Cell]], list[str]]:
    """The first table of a DataFrame's HTML, and its columns' widths for the PDF.

    Cells in columns of numbers are ``numeric``; widths are "auto" where the table fits unwrapped.

    Raises:
        ReportError: it can't fit the page, whatever wraps.
    """
    from bs4 import BeautifulSoup

    rows, taken, columns = [], set(), {}
    for y, row in enumerate(BeautifulSoup(html, "html.parser").find("table").find_all("tr")):
        x = 0
        rows.append([])
        for item in row.find_all(["th", "td"]):
            while (y, x) in taken:
                x += 1
            wide, high = (min(int(item.get(s, 1)), MOST) for s in ("colspan", "rowspan"))
            taken |= {(y + dy, x + dx) for dy in range(high) for dx in range(wide)}
            text = " ".join(item.get_text().split())
            cell = Cell("–" if text == "NaN" else text, item.name == "th", wide, high)
            rows[-1].append(cell)
            if wide == 1:
                columns.setdefault(x, []).append(cell)
            x += wide
    heads = [row for row in rows if all(cell.head for cell in row)]
    for above, names in zip(heads[-2:-1], heads[-1:], strict=False):  # the index's names
        pairs = list(zip(above, names, strict=False))
        if len(above) == len(names) and not any(a.text and b.text for a, b in pairs):
            for cell, name in pairs:
                cell.text += name.text
            rows.remove(names)
    for column in columns.values():
        values = [cell for cell in column if not cell.head]
        if values and all(NUMBER.fullmatch(cell.text) for cell in values):
            for cell in column:
                cell.numeric = True
    texts = [[cell.text for cell in columns[x]] for x in sorted(columns)]
    full = [max(map(len, column)) * CHARACTER + GAP for column in texts]
    least = [
        max(len(w) for t in column for w in t.split(" ")) * CHARACTER + GAP for column in texts
    ]
    if sum(least) > PAGE:
        raise ReportError(f"a table is wider than the page: {len(texts)} columns; show fewer")
    if sum(full) <= PAGE:
        return rows, ["auto"] * len(texts)
    share = (PAGE - sum(least)) / (sum(full) - sum(least))
    return rows, [f"{int(a + share * (b - a))}pt" for a, b in zip(least, full, strict=True)]
