"""The command `ofa`: its subcommands, and the handling of their errors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from openfactory.apps.__about__ import __version__ as apps_version
from openfactory.apps.cli.completion import COMPLETE_VARIABLE, completion
from openfactory.apps.cli.db import db
from openfactory.apps.cli.doctor import doctor
from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.inspect import inspect, methods
from openfactory.apps.cli.listing import list_assets
from openfactory.apps.cli.output import has_color, prepare_output, print_json, print_table
from openfactory.apps.cli.run import run
from openfactory.apps.cli.setup_kafka import setup_kafka
from openfactory.apps.cli.watch import watch
from openfactory.apps.cli.write import call, set_attribute
from openfactory.assets.__about__ import __version__ as core_version
from openfactory.exceptions import OpenFactoryError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["main"]

#: Other distributions add commands here: name = command, value = `module:click_command`.
ENTRY_POINT_GROUP = "openfactory.commands"

# Exit status of a program that Ctrl-C has ended, as shells report it.
_INTERRUPTED = 130


class _Commands(click.Group):
    """The commands of this distribution, then those of other distributions, in the order of their names.

    An error of OpenFactory is printed without a traceback, which would hide its remedy.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = super().list_commands(ctx)
        return [*names, *sorted(_entry_points().keys() - names)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None and (entry_point := _entry_points().get(cmd_name)):
            return _loaded(entry_point)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None and not sys.stdout.closed:  # an app may close it
                sys.stdout.flush()  # commands of other distributions may print
            return result
        except OpenFactoryError as error:
            raise Failure.of(error) from error
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)


def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, and only needed here

    return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}


def _loaded(entry_point: EntryPoint) -> click.Command:
    """Load the command of another distribution; if that fails, return one that reports why."""
    try:
        command = entry_point.load()
        if isinstance(command, click.Command):
            return command
        reason = f"{entry_point.value} is not a click command"
    except Exception as error:  # noqa: BLE001 - the import runs code of another distribution
        reason = str(error)

    def fail() -> None:
        raise Failure(
            f"The command `ofa {entry_point.name}` cannot be loaded: {reason}. "
            f"Reinstall the distribution that provides {entry_point.value}."
        )

    return click.Command(entry_point.name, callback=fail, help="This command cannot be loaded.")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def ofa(context: click.Context) -> None:
    """Run OpenFactory apps, and read, watch, write and command their assets.

    \b
      ofa run mill.py                      run an app
      ofa asset ls                         list the assets
      ofa asset watch mill                 print events as they happen
      ofa asset call mill start speed=900  call a method
      ofa db info                          show what its file contains
      ofa doctor                           check the factory

    The commands work on the factory that KSQLDB_URL names; if it is not set, on the file factory.db in the working
    directory. For completion of UUIDs, attribute ids and method names in your shell, see `ofa completion --help`.

    \b
    exit status 0  the command is done
                1  it has failed
                2  its arguments are wrong
                4  it is done, but its output could not be written

    On a terminal the output has colors, unless NO_COLOR is set.
    """
    context.color = None if has_color() else False


@click.group()
def asset() -> None:
    """Read, watch, write and command assets."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with the version of each distribution.")
def version(as_json: bool) -> None:
    """Print the installed versions."""
    versions = _versions()
    if as_json:
        print_json(versions)
    else:
        print_table(("distribution", "version"), list(versions.items()))


def _versions() -> dict[str, str]:
    from importlib.metadata import distributions  # slow to import, and rarely needed

    installed = {item.name.lower().replace("_", "-"): item.version for item in distributions()}
    versions = {name: text for name, text in installed.items() if name.startswith("openfactory-")}
    # The metadata of an editable installation may be older than the code that runs here.
    return dict(sorted((versions | {"openfactory-apps": apps_version, "openfactory-core": core_version}).items()))


for command in (run, asset, db, setup_kafka, doctor, version, completion):
    ofa.add_command(command)
for command in (list_assets, inspect, methods, watch, set_attribute, call):
    asset.add_command(command)


def main() -> None:
    """Run the command `ofa`; the entry point of its script."""
    prepare_output()
    ofa(prog_name="ofa", complete_var=COMPLETE_VARIABLE)
