"""`ofa run --reload`: an app in a separate process that is restarted when a file changes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from openfactory.apps.stop_signals import StopClock, handle_stop_signals

__all__ = ["run_and_reload"]

# Seconds between two looks at the files.
_POLL_SECONDS = 0.25

# Seconds after which a message says that the app is still stopping.
_NOTICE_SECONDS = 1.0


def run_and_reload(file: Path, arguments: Sequence[str]) -> None:
    """Run an app file until a signal arrives, and restart it when a `*.py` file in its folder changes."""
    _Reloader(file, arguments).run()


class _Reloader:
    """The process of an app, and its restarts.

    A signal is only recorded and handled later, so that a signal between two steps does not leave a process behind.
    """

    def __init__(self, file: Path, arguments: Sequence[str]) -> None:
        self._file = file
        self._command = [sys.executable, "-P", "-m", "openfactory.apps.cli", "run", str(file), "--", *arguments]
        self._clock = StopClock()
        self._requests = 0

    def run(self) -> None:
        handle_stop_signals(lambda *_: self._record_signal())
        while not self._requests:
            stamps = _file_stamps(self._file.parent)
            app = self._start()
            try:
                self._wait_for_change(app, stamps)
                self._stop(app)
            finally:
                app.kill()  # no effect if it has ended
                app.wait()

    def _record_signal(self) -> None:
        self._requests = 2 if self._clock.is_second() else 1

    def _start(self) -> subprocess.Popen[bytes]:
        # In a separate session, the app does not receive Ctrl-C from the terminal; the reloader stops it once.
        # Compiled files would hide a change within the same second that keeps the size of a file.
        return subprocess.Popen(
            self._command, start_new_session=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        )

    def _wait_for_change(self, app: subprocess.Popen[bytes], stamps: dict[str, tuple[int, int]]) -> None:
        ended = False
        while not self._requests:
            time.sleep(_POLL_SECONDS)
            if changed := _file_stamps(self._file.parent).items() ^ stamps.items():
                click.echo(f"{', '.join(sorted({name for name, _ in changed}))} changed, starting again.", err=True)
                return
            if not ended and app.poll() is not None:
                ended = True
                click.echo(f"{self._file} ended with status {app.returncode}; waiting for a change.", err=True)

    def _stop(self, app: subprocess.Popen[bytes]) -> None:
        """Stop the app and wait for it, until a second request arrives."""
        app.terminate()
        started, notified = time.monotonic(), False
        while self._requests < 2:
            try:
                app.wait(_POLL_SECONDS)
                return
            except subprocess.TimeoutExpired:
                if not notified and time.monotonic() - started > _NOTICE_SECONDS:
                    notified = True
                    again = " again" if self._requests else " twice"
                    click.echo(f"{self._file} is still stopping; Ctrl-C{again} ends it at once.", err=True)


def _file_stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the modification time and the size of each `*.py` file in a folder."""
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
