"""From notebooks to pages: execute the chapters, set them as HTML and as one PDF.

``python -m fer_utils.report --run NAME`` does it all; nothing is done twice::

    fingerprint      which chapters and pages the last call's fingerprints no longer cover
    execute    notebooks/NN_name.ipynb  -> build/RUN/notebooks/NN_name.ipynb   (papermill)
    chapter    an executed notebook     -> blocks: text, code, figure, table   (and every check)
    markup     Markdown and formulas    -> HTML and Typst                      (pandoc, typst)
    html       blocks                   -> build/RUN/html/*.html
    pdf        blocks                   -> build/RUN/report.pdf                (typst, PDF/UA-1)

What can't be set well stops the build with chapter and cell: a formula that does not convert, a
figure without alt text, a table wider than the page, a glyph that no font has. Pages are written
only when all of them could be made.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).resolve().parent / "templates"


class ReportError(ValueError):
    """Why there is no report: one line that names chapter and cell, and the way out."""
