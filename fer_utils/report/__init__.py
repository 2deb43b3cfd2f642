"""From notebooks to pages: execute the chapters, set them as HTML and as one PDF.

``python -m fer_utils.report --run NAME`` does it all; nothing is done twice::

    fingerprint  which chapters and pages are no longer what would be made now
    execute      notebooks/NN_name.ipynb -> build/RUN/notebooks/NN_name.ipynb    (papermill)
    notebook     an executed notebook, checked and numbered                      (preprocessors)
    markup       its Markdown, formulas and tables -> HTML or Typst              (pandoc, typst)
    render       the pages: exporters ``fer-html`` and ``fer-pdf``               (nbconvert)

``jupyter nbconvert --to fer-html NOTEBOOK`` (or ``fer-pdf``) gives a chapter alone.

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
