"""Markdown, formulas and tables for both pages: pandoc reads them, typst draws the formulas.

In HTML a formula is an inline SVG drawn by the engine that sets the PDF, so it looks the same
everywhere and needs neither script nor font; MathML stands beside it for screen readers.
"""

from __future__ import annotations

import html
import json
import re
import subprocess

from fer_utils.report import TEMPLATES, ReportError

READER = (
    "commonmark+tex_math_dollars+pipe_tables+strikeout+footnotes"
    "+gfm_auto_identifiers+autolink_bare_uris+smart"
)
CUT = "⁂cut⁂"
MATH = re.compile(
    r'<math display="(\w+)".*?<annotation encoding="application/x-tex">(.*?)</annotation>'
    r".*?</math>",
    re.DOTALL,
)
PAGE, CHARACTER, GAP = 453, 3.5, 12  # points: text width, and of the smallest size in tables
NUMBER = re.compile(r"[-−+±]?[\d.,]+(e[-+]?\d+)?\s*%?|nan|NaN|–|—|", re.IGNORECASE)


def pandoc(text: str, to: str) -> str:
    """Markdown to ``html`` or ``typst``; anything that pandoc only warns about is an error."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "--from", READER, "--to", to, "--mathml"]
    command += ["--wrap=preserve", "--fail-if-warnings"]
    command += [f"--lua-filter={TEMPLATES / 'markdown.lua'}"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise ReportError(" ".join(done.stderr.removeprefix("[WARNING] ").split()[:40]))
    return done.stdout


def convert(sources: list[str], where: list[str], to: str) -> list[str]:
    """Each piece of Markdown as ``html`` or ``typst``, all in one call of pandoc.

    Raises:
        ReportError: one can't be converted; the message begins with its place in ``where``.
    """
    # Formulas on one line: in Markdown a line that opens with '-' or '+' would begin a list.
    sources = [
        re.sub(r"\$\$.+?\$\$", lambda m: " ".join(m[0].split()), source, flags=re.DOTALL)
        for source in sources
    ]
    try:
        whole = pandoc(f"\n\n{CUT}\n\n".join(sources), to)
    except ReportError:
        for place, source in zip(where, sources, strict=True):
            try:
                pandoc(source, to)
            except ReportError as error:
                raise ReportError(f"{place}: {error}") from None
        raise
    pieces = re.split(rf"\n?(?:<p>)?{CUT}(?:</p>)?\n?", whole)
    if len(pieces) != len(sources):
        raise ReportError("a Markdown cell leaves a code fence or a formula open")
    if to == "html":
        for place, piece in zip(where, pieces, strict=True):
            check_formulas(piece, place)
    return [piece.strip() for piece in pieces]


def check_formulas(piece: str, place: str) -> None:
    bare = re.sub(r"<(math|code|pre)\b.*?</\1>", "", piece, flags=re.DOTALL)
    if left := re.search(r"[^\s<>]*(?:\$|\\[A-Za-z(\[])[^\s<>]*", bare):
        raise ReportError(
            f"{place}: {left[0]!r} is left of a formula that was not recognised; "
            "write $…$ without inner spaces, or $$…$$"
        )


# -- formulas -----------------------------------------------------------------------------------


def draw_formulas(pieces: list[str]) -> tuple[list[str], str]:
    """HTML pieces with every formula drawn, and the SVG symbols of the glyphs that they share."""
    formulas = list(dict.fromkeys(key for piece in pieces for key in MATH.findall(piece)))
    drawn, symbols = draw(formulas)

    def replaced(found: re.Match) -> str:
        return drawn[found.groups()].replace("⁂", found[0])

    return [MATH.sub(replaced, piece) for piece in pieces], "".join(symbols.values())


def draw(formulas: list[tuple[str, str]]) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """Each formula (display, escaped TeX) as HTML with a gap for its MathML; and the glyphs."""
    import typst

    if not formulas:
        return {}, {}
    mark = {"block": "$$", "inline": "$"}
    lines = [f"{mark[kind]}{html.unescape(tex)}{mark[kind]}" for kind, tex in formulas]
    preamble = (TEMPLATES / "fer-html" / "formulas.typ").read_text("utf-8")
    source = (preamble + pandoc("\n\n".join(lines), "typst")).encode()
    pages = typst.compile(source, format="svg", ignore_system_fonts=True)
    sizes = typst.query(source, "<size>", field="value", ignore_system_fonts=True)
    drawn, symbols = {}, {}
    pages = pages if isinstance(pages, list) else [pages]
    for key, page, (wide, high, deep) in zip(formulas, pages, json.loads(sizes), strict=True):
        svg = page.decode()
        found = re.finditer(r'<symbol id="(\w+)".*?</symbol>', svg, re.DOTALL)
        symbols |= {symbol[1]: symbol[0] for symbol in found}
        svg = re.sub(r"<defs>.*?</defs>| xmlns[:\w]*=\"[^\"]*\"", "", svg, flags=re.DOTALL)
        svg = svg.replace("xlink:href", "href").replace(' fill="#000000" fill-rule="nonzero"', "")
        style = f"width:{wide / 10:.3f}em;height:{high / 10:.3f}em"
        style += f";vertical-align:{-deep / 10:.3f}em" if key[0] == "inline" else ""
        size = f'style="{style}" aria-hidden="true"'
        svg = re.sub(r'width="[^"]*" height="[^"]*"', size, svg, count=1)
        focus = ' tabindex="0"' if wide > 200 else ""
        drawn[key] = f'<span class="math {key[0]}"{focus}>{svg}<span class="unseen">⁂</span></span>'
    return drawn, symbols


# -- tables -------------------------------------------------------------------------------------


def table(source: str) -> dict:
    """A DataFrame's HTML as ``head`` and ``body`` rows of cells, and its columns' ``widths``.

    A cell is a dict: text, head, numeric (its column holds numbers), columns and rows it spans.

    Raises:
        ReportError: it can't fit the page, whatever wraps.
    """
    from bs4 import BeautifulSoup

    rows, taken, columns = [], set(), {}
    for y, row in enumerate(BeautifulSoup(source, "html.parser").find("table").find_all("tr")):
        x = 0
        rows.append([])
        for item in row.find_all(["th", "td"]):
            while (y, x) in taken:
                x += 1
            wide, high = (int(item.get(span, 1)) for span in ("colspan", "rowspan"))
            taken |= {(y + dy, x + dx) for dy in range(high) for dx in range(wide)}
            text = " ".join(item.get_text().split())
            cell = {"text": "–" if text == "NaN" else text, "head": item.name == "th",
                    "columns": wide, "rows": high, "numeric": False}  # fmt: skip
            rows[-1].append(cell)
            if wide == 1:
                columns.setdefault(x, []).append(cell)
            x += wide
    head = [row for row in rows if all(cell["head"] for cell in row)]
    body = [row for row in rows if not all(cell["head"] for cell in row)]
    for column in columns.values():
        values = [cell["text"] for cell in column if not cell["head"]]
        if values and all(map(NUMBER.fullmatch, values)):
            for cell in column:
                cell["numeric"] = True
    texts = [[cell["text"] for cell in columns[x]] for x in sorted(columns)]
    return {"head": joined(head), "body": body, "widths": widths(texts)}


def widths(columns: list[list[str]]) -> list[str]:
    """Typst's widths of columns of texts: "auto" where all fit unwrapped, else shares in points."""

    def points(texts: list[str]) -> float:
        return max(map(len, texts)) * CHARACTER + GAP

    full = [points(column) for column in columns]
    least = [points([word for text in column for word in text.split(" ")]) for column in columns]
    if sum(least) > PAGE:
        raise ReportError(f"a table is wider than the page: {len(columns)} columns; show fewer")
    if sum(full) <= PAGE:
        return ["auto"] * len(columns)
    share = (PAGE - sum(least)) / (sum(full) - sum(least))
    return [f"{int(a + share * (b - a))}pt" for a, b in zip(least, full, strict=True)]


def joined(head: list[list[dict]]) -> list[list[dict]]:
    """pandas writes an index's name in a last row of its own: put it into the row above."""
    if len(head) < 2 or len(head[-2]) != len(head[-1]):
        return head
    pairs = list(zip(head[-2], head[-1], strict=True))
    if any(above["text"] and name["text"] for above, name in pairs):
        return head
    last = [{**above, "text": above["text"] + name["text"]} for above, name in pairs]
    return [*head[:-2], last]
