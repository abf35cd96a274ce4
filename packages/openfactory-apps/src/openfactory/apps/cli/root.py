"""The `ofa` command: what it consists of, and what becomes of errors."""

from __future__ import annotations

from typing import Any

import click

from openfactory.apps.__about__ import __version__ as apps_version
from openfactory.apps.cli.completion import COMPLETE_VARIABLE, completion
from openfactory.apps.cli.doctor import doctor
from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.inspect import inspect, list_assets, methods
from openfactory.apps.cli.output import print_json, print_table
from openfactory.apps.cli.run import run
from openfactory.apps.cli.setup_kafka import setup_kafka
from openfactory.apps.cli.watch import watch
from openfactory.apps.cli.write import call, set_attribute
from openfactory.assets.__about__ import __version__ as core_version
from openfactory.exceptions import OpenFactoryError

__all__ = ["main"]

# What a shell reports of a program that Ctrl-C has ended.
_INTERRUPTED = 130


class _Commands(click.Group):
    """Turns an error of OpenFactory into its sentence: it says what to do, and a traceback would hide that."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OpenFactoryError as error:
            raise Failure(str(error)) from error
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def ofa() -> None:
    """Run OpenFactory apps, and read, watch, write and command their assets.

    \b
      ofa run mill.py                      run an app
      ofa asset ls                         what there is
      ofa asset watch mill                 what happens, live
      ofa asset call mill start speed=900  command it
      ofa doctor                           what is wrong, and what to do

    All commands look at one factory: that of KSQLDB_URL where it is set, else the file factory.db of the working
    directory. Your shell completes UUIDs, attribute ids and method names, see `ofa completion --help`.
    """


@click.group()
def asset() -> None:
    """Read, watch, write and command assets."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, version by distribution.")
def version(as_json: bool) -> None:
    """Print the installed versions."""
    versions = _versions()
    if as_json:
        print_json(versions)
    else:
        print_table(("distribution", "version"), list(versions.items()))


def _versions() -> dict[str, str]:
    from importlib.metadata import distributions  # slow to import, and only wanted here

    installed = {found.name.lower().replace("_", "-"): found.version for found in distributions()}
    ours = {name: text for name, text in installed.items() if name.startswith("openfactory-")}
    # These two run here, and what runs knows better than what was installed once.
    return dict(sorted((ours | {"openfactory-apps": apps_version, "openfactory-core": core_version}).items()))


for command in (run, asset, setup_kafka, doctor, version, completion):
    ofa.add_command(command)
for command in (list_assets, inspect, methods, watch, set_attribute, call):
    asset.add_command(command)


def main() -> None:
    """What the `ofa` script starts."""
    ofa(prog_name="ofa", complete_var=COMPLETE_VARIABLE)
