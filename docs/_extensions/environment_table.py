"""The directive `environment-table`: every environment variable, from the table that the code itself reads."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from openfactory import settings

_TITLES = ("Variable", "Default", "Meaning")


class EnvironmentTable(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(settings.__file__))
        group = nodes.tgroup(cols=len(_TITLES))
        group += [nodes.colspec(colwidth=1) for _ in _TITLES]
        group += nodes.thead("", self._row([nodes.Text(title)] for title in _TITLES))
        body = nodes.tbody()
        for variable in settings.VARIABLES.values():
            default = nodes.Text("none") if variable.default is None else nodes.literal("", variable.default)
            meaning, messages = self.parse_inline(variable.meaning)
            body += self._row([[nodes.literal("", variable.name)], [default], [*meaning, *messages]])
        group += body
        return [nodes.table("", group, classes=["colwidths-auto"])]

    @staticmethod
    def _row(cells: object) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("environment-table", EnvironmentTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
