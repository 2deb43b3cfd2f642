"""Markdown and formulas for both pages: pandoc reads them, typst draws the formulas.

In HTML a formula is an inline SVG drawn by the engine that sets the PDF, so it looks the same
everywhere and needs neither script nor font; MathML stands beside it for screen readers.
"""

from __future__ import annotations

import json
import re
import subprocess

from fer_utils.report import TEMPLATES, ReportError
from fer_utils.report.notebook import Block, Chapter

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
FORMULA_PAGES = """
#set page(width: auto, height: auto, margin: 0pt, fill: none)
#set text(size: 10pt, font: "New Computer Modern")
#show math.equation.where(block: true): set par(leading: 0.9em)
#show math.equation: set text(top-edge: "bounds", bottom-edge: "bounds")
#let eq(alt, body) = {
  body
  context [#metadata((
    measure(body).width.pt(),
    measure(body).height.pt(),
    measure([#box(width: 0pt, height: 100pt)#body]).height.pt() - 100,
  )) <size>]
  pagebreak(weak: true)
}
"""


def pandoc(text: str, to: str) -> str:
    """Markdown to ``html`` or ``typst``; anything that pandoc only warns about is an error."""
    import pypandoc

    command = [pypandoc.get_pandoc_path(), "--from", READER, "--to", to, "--mathml"]
    command += ["--wrap=preserve", "--fail-if-warnings", f"--lua-filter={TEMPLATES / 'report.lua'}"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise ReportError(" ".join(done.stderr.removeprefix("[WARNING] ").split()[:40]))
    return done.stdout


def convert(blocks: list[Block], to: str, chapter: str) -> list[str]:
    """Each block's Markdown, all in one call of pandoc; on failure the guilty cell is sought."""
    # Formulas on one line: in Markdown a line that opens with '-' or '+' would begin a list.
    sources = [
        re.sub(r"\$\$.+?\$\$", lambda m: " ".join(m[0].split()), b.source, flags=re.DOTALL)
        for b in blocks
    ]
    try:
        whole = pandoc(f"\n\n{CUT}\n\n".join(sources), to)
    except ReportError:
        for block, source in zip(blocks, sources, strict=True):
            try:
                pandoc(source, to)
            except ReportError as error:
                raise ReportError(f"{chapter}, cell {block.cell}: {error}") from None
        raise
    pieces = re.split(rf"\n?(?:<p>)?{CUT}(?:</p>)?\n?", whole)
    if len(pieces) != len(blocks):
        raise ReportError(f"{chapter}: a Markdown cell leaves a code fence or a formula open")
    return [piece.strip() for piece in pieces]


def typeset(chapters: list[Chapter]) -> dict[str, str]:
    """Fill ``html`` and ``typst`` of every block that holds Markdown.

    Returns:
        The glyphs that the formulas of the HTML share: id -> SVG symbol.
    """
    for chapter in chapters:
        blocks = chapter.of("text", "answer", "figure")
        level = 1
        for block, html in zip(blocks, convert(blocks, "html", chapter.name), strict=True):
            block.html = html
            for found in map(int, re.findall(r"<h([1-6])\b", html)):
                if not 2 <= found <= level + 1:
                    raise ReportError(
                        f"{chapter.name}, cell {block.cell}: a heading of level {found} follows "
                        f"one of level {level}; a chapter has one '#', then levels go by one"
                    )
                level = found
            bare = re.sub(r"<(math|code|pre)\b.*?</\1>", "", html, flags=re.DOTALL)
            if left := re.search(r"[^\s<>]*(?:\$|\\[A-Za-z(\[])[^\s<>]*", bare):
                raise ReportError(
                    f"{chapter.name}, cell {block.cell}: {left[0]!r} is left of a formula that "
                    "was not recognised; write $…$ without inner spaces, or $$…$$"
                )
        for block, typst in zip(blocks, convert(blocks, "typst", chapter.name), strict=True):
            block.typst = typst
    every = [block for chapter in chapters for block in chapter.blocks]
    found = list(dict.fromkeys(key for block in every for key in MATH.findall(block.html)))
    drawn, symbols = draw(found)
    for block in every:
        block.html = MATH.sub(lambda m: drawn[m.groups()].replace("⁂", m[0]), block.html)
    return symbols


def draw(formulas: list[tuple[str, str]]) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """Each formula (display, escaped TeX) as HTML with a gap for its MathML; and the glyphs."""
    import html

    import typst

    if not formulas:
        return {}, {}
    mark = {"block": "$$", "inline": "$"}
    lines = [f"{mark[kind]}{html.unescape(tex)}{mark[kind]}" for kind, tex in formulas]
    source = (FORMULA_PAGES + pandoc("\n\n".join(lines), "typst")).encode()
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


def front(values: dict) -> dict:
    """The fixed sentences of the front page, by name; Markdown ones as blocks."""
    text = (TEMPLATES / "front.md").read_text("utf-8")
    parts = re.split(r"^# (.+)\n", text, flags=re.MULTILINE)[1:]
    front: dict = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    front["abstract"] = front["abstract"].format(headline=front["headline"].format(**values))
    for name in ("abstract", "limits"):
        source = front[name]
        front[name] = Block("text", 0, source, pandoc(source, "html"), pandoc(source, "typst"))
    return front
