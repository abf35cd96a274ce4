"""`ofa run`: an unchanged app file, by default on a factory in a file."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import click

from openfactory.apps.app_name import app_uuid_of
from openfactory.apps.cli.reload import run_and_reload
from openfactory.apps.cli.target import default_url
from openfactory.apps.standard_streams import keep_streams_going
from openfactory.exceptions import OpenFactoryError
from openfactory.settings import environment

__all__ = ["run"]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENTS…]")
@click.option("--reload", is_flag=True, help="Restart the app when a *.py file in its folder changes.")
@click.option("--take-over", is_flag=True, help="Stop an app that already runs with this UUID, and go on in its place.")
def run(file: Path, arguments: tuple[str, ...], reload: bool, take_over: bool) -> None:
    """Run an app file unchanged.

    The file runs as with `python FILE`. Environment variables that are not set get these values:

    \b
      KSQLDB_URL  the file factory.db in the working directory
      APP_UUID    the name of the file, such as mill for mill.py, or of the
                  folder of a __main__.py; white space, dots, '*', '>' and '|'
                  are replaced by '-'

    The exit status is that of the app. Arguments after -- are passed to the app.
    """
    if not environment("KSQLDB_URL"):
        os.environ["KSQLDB_URL"] = default_url()
    if not environment("APP_UUID"):
        os.environ["APP_UUID"] = app_uuid_of(file)
    if take_over:
        os.environ["APP_TAKE_OVER"] = "1"
    if reload:
        run_and_reload(file, arguments)
    else:
        _run_as_main(file, arguments)


def _run_as_main(file: Path, arguments: Sequence[str]) -> None:
    """Run a file in this process as `python FILE` does.

    Unlike with `runpy`, the module stays `__main__` after its last line, for hooks and threads that still run.
    """
    keep_streams_going()
    path = os.path.abspath(file)
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.argv = [os.fspath(file), *arguments]
    sys.path.insert(0, os.path.dirname(os.path.realpath(file)))
    try:
        code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        exec(code, vars(module))
    except (OpenFactoryError, SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - it is printed and ends the process, as with `python FILE`
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != path:
            trace = trace.tb_next  # skip the frames of ofa
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)
