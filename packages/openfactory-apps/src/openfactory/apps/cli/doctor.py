"""`ofa doctor`: the problems of a factory, and their remedies."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.options import json_option, url_option
from openfactory.apps.cli.output import one_line, print_json, terminal_width
from openfactory.apps.cli.target import default_url
from openfactory.exceptions import ConfigurationError

if TYPE_CHECKING:
    from openfactory.doctor import Finding

__all__ = ["doctor"]

_MARKS = {"ok": "✓", "failed": "✗", "advice": "!", "unchecked": "–"}  # noqa: RUF001 - a dash on purpose
_COLORS = {"ok": "green", "failed": "red", "advice": "yellow", "unchecked": "bright_black"}

# If fewer columns are left beside the name of a check, the text begins below it.
_BESIDE = 30


@click.command()
@url_option
@json_option
@click.pass_context
def doctor(context: click.Context, url: str | None, as_json: bool) -> None:
    """Check everything that a factory needs.

    It checks the environment, the broker and its topics, ksqlDB, the asset router and the NATS servers behind it, and
    the clock. If the factory is in a file, it checks the owners and modes of the files, the disk, the WAL and the
    content of the database. A test event is written and read. It reports each problem with its remedy, repairs nothing,
    and takes less than 20 seconds.

    \b
      ✓ ok                      ! works, but can be improved
      ✗ failed                  – could not be checked

    The exit status is 1 if a check failed.

    \b
    --json: [{"check", "status", "found", "remedy"}]
    with a status of "ok", "failed", "advice" or "unchecked"
    """  # noqa: RUF002
    from openfactory.doctor import Factory, examine  # it imports every engine, which no other command needs
    from openfactory.doctor.finding import failed

    try:
        findings = examine(Factory.of(url or default_url()))
    except ConfigurationError as error:
        findings = [failed("environment", error)]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        _print(findings)
    if any(finding.status == "failed" for finding in findings):
        context.exit(1)


def _print(findings: list[Finding]) -> None:
    """Print a line for each finding, and its remedy below."""
    has_marks = _can_print("".join(_MARKS.values()) + "→")
    marks, arrow = (_MARKS, "→ ") if has_marks else ({name: name for name in _MARKS}, "-> ")
    mark_width, width = max(map(len, marks.values())), max(len(finding.check) for finding in findings)
    indent = " " * (mark_width + width + 3)
    is_narrow = sys.stdout.isatty() and terminal_width() - len(indent) < _BESIDE
    if is_narrow:
        indent = "  "
    for finding in findings:
        mark = click.style(marks[finding.status].ljust(mark_width), fg=_COLORS[finding.status])
        between = f"\n{indent}" if is_narrow else " " * (width - len(finding.check) + 2)
        click.echo(f"{mark} {finding.check}{between}{_wrapped(one_line(finding.found), indent)}")
        if finding.remedy:
            click.echo(f"{indent}{arrow}{_wrapped(one_line(finding.remedy), indent + ' ' * len(arrow))}")


def _wrapped(text: str, indent: str) -> str:
    """Wrap a text and indent its further lines on a terminal; elsewhere keep it in one line."""
    if not sys.stdout.isatty():
        return text
    columns = terminal_width() - len(indent)
    return f"\n{indent}".join(textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False))


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
