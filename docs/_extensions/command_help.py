"""The directive `command-help`: what a click command and those below it say at `--help`, each under a heading."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import ClassVar

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import OptionSpec

_WIDTH = 88


class CommandHelp(SphinxDirective):
    """Takes `module:attribute`; the option `prog` is how the command is called."""

    required_arguments = 1
    option_spec: ClassVar[OptionSpec] = {"prog": str}

    def run(self) -> list[nodes.Node]:
        module, _, attribute = self.arguments[0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return [self._section(context) for context in _contexts(command, self.options["prog"])]

    def _section(self, context: click.Context) -> nodes.section:
        name = context.command_path
        section = nodes.section("", ids=[nodes.make_id(name)], names=[name])
        text = context.command.get_help(context)
        section += nodes.title("", "", nodes.literal("", name))
        section += nodes.literal_block(text, text, language="text")
        self.state.document.note_explicit_target(section)
        return section


def _contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A command as it is called, then each that is below it, in the order in which it lists them."""
    settings = {**command.context_settings, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            child = command.get_command(context, below)
            if child is not None and not child.hidden:
                yield from _contexts(child, below, context)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
