"""Markdown, formulas and tables for both pages: pandoc reads them, typst draws the formulas.

In HTML a formula is an inline SVG drawn by the engine that sets the PDF, so it looks the same
everywhere and needs neither script nor font; MathML stands beside it for screen readers. (MathML
alone was tried: its look hangs on the reader's fonts, and is poor on a plain Linux.)
"""

from __future__ import annotations

import html
import json
import re
import subprocess
from itertools import zip_longest

import pypandoc
import typst
from bs4 import BeautifulSoup

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
NUMBER = re.compile(
    r"[-−+±]?[\d.,]+(e[-+]?\d+)?(\s*±\s*[\d.,]+)?\s*%?(\s*\[[^]]*\])?|nan|–|—|", re.IGNORECASE
)
LONG = 24  # characters: a longer cell may wrap


def pandoc(text: str, to: str) -> str:
    """Markdown to ``html`` or ``typst``; anything that pandoc only warns about is an error."""
    command = [pypandoc.get_pandoc_path(), "--from", READER, "--to", to, "--mathml"]
    command += ["--wrap=preserve", "--fail-if-warnings"]
    command += [f"--lua-filter={TEMPLATES / 'markdown.lua'}"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise ReportError(" ".join(done.stderr.removeprefix("[WARNING] ").split()[:40]))
    return done.stdout


def convert(sources: list[str], places: list[str], to: str) -> tuple[list[str], str]:
    """Each piece of Markdown as ``html`` or ``typst``, all in one call of pandoc.

    Returns:
        the pieces; for ``html`` their formulas are drawn, and the glyphs that they share come as
        SVG symbols.

    Raises:
        ReportError: one can't be converted; the message begins with its place.
    """
    # Formulas on one line: in Markdown a line that opens with '-' or '+' would begin a list.
    sources = [
        re.sub(r"\$\$.+?\$\$", lambda m: " ".join(m[0].split()), source, flags=re.DOTALL)
        for source in sources
    ]
    try:
        whole = pandoc(f"\n\n{CUT}\n\n".join(sources), to)
    except ReportError:
        for place, source in zip(places, sources, strict=True):
            try:
                pandoc(source, to)
            except ReportError as error:
                raise ReportError(f"{place}: {error}") from None
        raise
    pieces = re.split(rf"\n?(?:<p>)?{CUT}(?:</p>)?\n?", whole)
    if len(pieces) != len(sources):
        raise ReportError(f"{places[0]} ff.: a code fence or a formula is left open")
    pieces = [piece.strip() for piece in pieces]
    if to != "html":
        return pieces, ""
    for place, piece in zip(places, pieces, strict=True):
        check_formulas(piece, place)
    return draw_formulas(pieces)


def check_formulas(piece: str, place: str) -> None:
    bare = re.sub(r"<(math|code|pre|table)\b.*?</\1>", "", piece, flags=re.DOTALL)
    if left := re.search(r"[^\s<>]*(?:\$|\\[A-Za-z(\[])[^\s<>]*", bare):
        raise ReportError(
            f"{place}: {left[0]!r} is left of a formula that was not recognised; "
            "write $…$ without inner spaces, or $$…$$"
        )


def draw_formulas(pieces: list[str]) -> tuple[list[str], str]:
    formulas = list(dict.fromkeys(MATH.findall("\n".join(pieces))))  # (display, escaped TeX)
    if not formulas:
        return pieces, ""
    mark = {"block": "$$", "inline": "$"}
    lines = [f"{mark[kind]}{html.unescape(tex)}{mark[kind]}" for kind, tex in formulas]
    preamble = (TEMPLATES / "fer-html" / "formulas.typ").read_text("utf-8")
    source = (preamble + pandoc("\n\n".join(lines), "typst")).encode()
    pages = typst.compile(source, format="svg", ignore_system_fonts=True)
    pages = pages if isinstance(pages, list) else [pages]
    sizes = typst.query(source, "<size>", field="value", ignore_system_fonts=True)
    drawn, symbols = {}, {}
    for formula, page, size in zip(formulas, pages, json.loads(sizes), strict=True):
        svg = page.decode()
        found = re.finditer(r'<symbol id="(\w+)".*?</symbol>', svg, re.DOTALL)
        symbols |= {symbol[1]: symbol[0] for symbol in found}
        drawn[formula] = inline_svg(svg, formula[0], *size)

    def with_drawing(found: re.Match) -> str:
        return drawn[found.groups()].replace("⁂", found[0])

    return [MATH.sub(with_drawing, piece) for piece in pieces], "".join(symbols.values())


def inline_svg(svg: str, kind: str, width: float, height: float, depth: float) -> str:
    """A page of typst's as part of a line of text, 10 points to the em; ⁂ stands for its MathML."""
    svg = re.sub(r"<defs>.*?</defs>| xmlns[:\w]*=\"[^\"]*\"", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href").replace(' fill="#000000" fill-rule="nonzero"', "")
    style = f"width:{width / 10:.3f}em;height:{height / 10:.3f}em"
    if kind == "inline":
        style += f";vertical-align:{-depth / 10:.3f}em"
    size = f'style="{style}" aria-hidden="true"'
    svg = re.sub(r'width="[^"]*" height="[^"]*"', size, svg, count=1)
    focus = ' tabindex="0"' if width > 200 else ""  # it may scroll
    return f'<span class="math {kind}"{focus}>{svg}<span class="unseen">⁂</span></span>'


def table(source: str) -> str:
    """pandas' HTML of a table as Markdown for ``convert``.

    Its words alone, columns of numbers to the right, the names of index and columns in one row.
    """
    found = BeautifulSoup(source, "html.parser").find("table")
    found.attrs = {}
    for cell in found.find_all(["th", "td"]):
        text = " ".join(cell.get_text().split()).replace(" ±", "\u00a0±").replace("± ", "±\u00a0")
        text = re.sub(r"\[[^]]*]", lambda interval: interval[0].replace(" ", "\u00a0"), text)
        cell.string = "–" if text == "NaN" else text
        if len(text) > LONG:
            cell["class"] = "long"
    heads = found.thead.find_all("tr") if found.thead else []
    if len(heads) > 1:  # pandas writes an index's name in a row of its own
        pairs = list(zip_longest(heads[-2].find_all("th"), heads[-1].find_all("th")))
        if all(above and name and not (above.string and name.string) for above, name in pairs):
            for above, name in pairs:
                above.string = (above.string or "") + (name.string or "")
            heads[-1].decompose()
    rows = [row.find_all(["th", "td"])[::-1] for row in found.find_all("tr")]
    rows = [row for row in rows if not any(cell.get("colspan") for cell in row)]
    for column in zip_longest(*rows):  # from the right: on the left a cell may span rows
        cells = [cell for cell in column if cell]
        values = [cell.string or "" for cell in cells if cell.name == "td"]
        if values and all(map(NUMBER.fullmatch, values)):
            for cell in cells:
                cell["style"] = "text-align: right"
    return f"```dataframe\n{found}\n```"  # for markdown.lua
