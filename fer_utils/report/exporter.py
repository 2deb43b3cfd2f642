"""nbconvert's template exporter with the report's own templates, for HTML and for Typst."""

from __future__ import annotations

from jinja2 import FileSystemLoader
from nbconvert.exporters import TemplateExporter
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

from fer_utils.report import TEMPLATES


class BlocksExporter(TemplateExporter):
    """Renders ``resources`` (a chapter's blocks and what stands around them) with a template.

    The notebook was read and checked by ``chapter.read``, whose blocks know their number over
    the whole report; so the template walks these blocks and not the notebook's cells.
    """

    template_name = "base"

    def __init__(self, template: str, filters: dict, escape: bool, **variables):
        super().__init__(
            template_file=template, extra_loaders=[FileSystemLoader(TEMPLATES)], filters=filters
        )
        self.environment.autoescape = escape
        self.environment.trim_blocks = self.environment.lstrip_blocks = True
        self.environment.globals |= variables

    def render(self, notebook: NotebookNode | None = None, **resources) -> str:
        return self.from_notebook_node(notebook or new_notebook(), resources)[0]
