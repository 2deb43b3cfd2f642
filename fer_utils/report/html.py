"""The pages: one file a chapter and an index, each whole in itself, without any outside request."""

from __future__ import annotations

import base64
import re
from functools import cache

from fer_utils.report import TEMPLATES
from fer_utils.report.notebook import Block, Chapter

HEADING = re.compile(r'<h([2-6]) id="([^"]*)">(.*?)</h\1>', re.DOTALL)


def pages(
    chapters: list[Chapter], symbols: dict[str, str], front: dict, foot: dict
) -> dict[str, str]:
    """File name -> page."""
    page = _exporter().render
    common = {"chapters": chapters, "front": front, "foot": foot}
    answers = "".join(chapter.answer.html for chapter in chapters)
    made = {"index.html": page(chapter=None, glyphs=glyphs(answers, symbols), **common)}
    neighbours = zip([None, *chapters], chapters, [*chapters[1:], None], strict=False)
    for before, chapter, after in neighbours:
        body = "".join(block.html for block in chapter.blocks)
        made[f"{chapter.name}.html"] = page(
            chapter=chapter,
            glyphs=glyphs(body, symbols),
            sections=[(level, key, plain(text)) for level, key, text in HEADING.findall(body)],
            before=before,
            after=after,
            **common,
        )
    return made


def glyphs(html: str, symbols: dict[str, str]) -> str:
    """The symbols that the formulas of a page use, each once."""
    return "".join(symbols[key] for key in dict.fromkeys(re.findall(r'<use href="#(\w+)"', html)))


def plain(html: str) -> str:
    """The words of a heading; a formula in it as its TeX."""
    html = re.sub(r"<math.*?<annotation[^>]*>|</annotation>.*?</math>", "", html)
    return re.sub(r"<[^>]*>", "", html)


def anchored(html: str) -> str:
    """Headings that can be linked to."""
    link = r'<a class="anchor" href="#\2" aria-label="Link to this section">#</a>'
    html = HEADING.sub(rf'<h\1 id="\2">\3 {link}</h\1>', html)
    html = html.replace("<table>", '<div class="wide" tabindex="0"><table>')
    return html.replace("</table>", "</table></div>")


def picture(block: Block) -> str:
    return "data:image/png;base64," + base64.b64encode(block.png).decode()


@cache
def _exporter():
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    from fer_utils.report.exporter import BlocksExporter

    filters = {
        "picture": picture,
        "anchored": anchored,
        "python": lambda code: highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)),
    }
    style = (TEMPLATES / "style.css").read_text("utf-8")
    return BlocksExporter("page.html", filters, escape=True, style=style)
