"""Generate the tables of the documentation from the code, into the pages: `hatch run docs:tables`.

A page marks a table by `<!-- table: KIND -->` and `<!-- end of table -->`, so that readers of the Markdown files see it
without a build. tests/docs/test_tables.py fails when a page is behind the code.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path

import click

from distributions import ROOT
from openfactory import settings

PAGES = ROOT / "docs"

_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_DOCUMENTED = re.compile(r"^\.\. auto(?:class|exception|function):: (openfactory[\w.]+)\.(\w+)$", re.MULTILINE)


def environment_variables(_page: str) -> Iterator[tuple[str, ...]]:
    """Each environment variable that OpenFactory reads."""
    yield "variable", "default", "meaning"
    for variable in settings.VARIABLES.values():
        default = "" if variable.default is None else f"`{variable.default}`"
        yield f"`{variable.name}`", default, variable.meaning


def names(page: str) -> Iterator[tuple[str, ...]]:
    """Each class and function that the page describes, with the first line of its docstring."""
    yield "name", "summary"
    for module, name in _DOCUMENTED.findall(page):
        documented = getattr(import_module(module), name)
        yield f"`{name}`", (inspect.getdoc(documented) or "").partition("\n")[0]


def commands(_page: str) -> Iterator[tuple[str, ...]]:
    """Each command of `ofa`."""
    from openfactory.apps.cli.root import ofa

    yield "command", "summary"
    yield from _commands_below(ofa, click.Context(ofa, info_name="ofa"))


def _commands_below(group: click.Group, context: click.Context) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        below = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands_below(command, below)
        else:
            yield f"`{below.command_path}`", command.get_short_help_str(limit=100)


KINDS: dict[str, Callable[[str], Iterable[tuple[str, ...]]]] = {
    "environment": environment_variables,
    "names": names,
    "commands": commands,
}


def with_tables(page: str) -> str:
    """The text of a page with its tables as the code has them now."""
    return _TABLE.sub(lambda match: match[1] + "\n" + _markdown(KINDS[match[2]](page)) + "\n" + match[3], page)


def _markdown(rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows]
    columns = lines[0].count("|") - 1
    return "".join([lines[0], "|" + "---|" * columns + "\n", *lines[1:]])


def pages() -> list[Path]:
    """The pages that have tables of this kind."""
    return [path for path in sorted(PAGES.rglob("*.md")) if _TABLE.search(path.read_text(encoding="utf-8"))]


def main() -> None:
    """Write each page whose tables are behind the code, and print its name."""
    for path in pages():
        before = path.read_text(encoding="utf-8")
        if (after := with_tables(before)) != before:
            path.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
