"""`ofa run --reload`: an app in a process of its own, which is started again when a file changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

__all__ = ["run_and_reload"]

# How often files are looked at, in seconds.
_POLL_SECONDS = 0.25

# An app that takes longer than this to stop makes people wonder, in seconds.
_SOON_SECONDS = 1.0

_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


def run_and_reload(file: Path, arguments: Sequence[str]) -> None:
    """Run an app file until a signal comes, again whenever a `*.py` file of its folder changes."""
    _Reloader(file, arguments).run()


class _Reloader:
    """One app process at a time.

    Signals are only noted: one that comes between two steps must not leave a process behind.
    """

    def __init__(self, file: Path, arguments: Sequence[str]) -> None:
        self._file = file
        self._command = [sys.executable, "-P", "-m", "openfactory.apps.cli", "run", str(file), "--", *arguments]
        self._signals: list[int] = []

    def run(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, lambda signum, _: self._signals.append(signum))
        while not self._signals:
            seen = _stamps(self._file.parent)
            app = self._start()
            try:
                self._wait_for_change(app, seen)
                self._stop(app)
            finally:
                app.kill()  # nothing happens to one that has ended
                app.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal reaches the reloader alone, which then stops the app once.
        # And no compiled files: a change within a second that keeps a file's size would not be seen in them.
        return subprocess.Popen(
            self._command, start_new_session=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        )

    def _wait_for_change(self, app: subprocess.Popen[bytes], seen: dict[str, tuple[int, int]]) -> None:
        ended = False
        while not self._signals:
            time.sleep(_POLL_SECONDS)
            if changed := _stamps(self._file.parent).items() ^ seen.items():
                click.echo(f"{', '.join(sorted({name for name, _ in changed}))} changed, starting again.", err=True)
                return
            if not ended and app.poll() is not None:
                ended = True
                click.echo(f"{self._file} ended with status {app.returncode}; waiting for a change.", err=True)

    def _stop(self, app: subprocess.Popen[bytes]) -> None:
        """Ask the app to stop and wait for it; a second signal ends it at once."""
        app.terminate()
        begun, told = time.monotonic(), False
        while len(self._signals) < 2:
            try:
                app.wait(_POLL_SECONDS)
                return
            except subprocess.TimeoutExpired:
                if not told and time.monotonic() - begun > _SOON_SECONDS:
                    told = True
                    again = " again" if self._signals else " twice"
                    click.echo(f"{self._file} is still stopping; Ctrl-C{again} ends it at once.", err=True)


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells one state of the folder's `*.py` files from another."""
    stamps = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue  # an editor has just replaced it
                stamps[entry.name] = (stat.st_mtime_ns, stat.st_size)
    return stamps
