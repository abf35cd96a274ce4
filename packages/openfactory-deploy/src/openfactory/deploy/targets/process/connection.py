"""Requests to the supervisor of a folder over its socket; the first starts the supervisor."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import msgspec

from openfactory.deploy.targets.base import TargetError
from openfactory.deploy.targets.process.layout import Layout
from openfactory.deploy.targets.process.messages import Answer, Request
from openfactory.deploy.targets.process.records import Record
from openfactory.deploy.targets.process.socket_path import short_path

__all__ = ["ask"]

# Seconds in which a supervisor starts, or the one that ends makes room for it.
_START = 30.0

# A command that finds a supervisor between its last app and its end asks again so soon.
_PAUSE = 0.02


def ask(layout: Layout, request: Request, environment: Mapping[str, str]) -> list[Record]:
    """Send a request to the supervisor, and return its records.

    Args:
        layout: files of the supervisor.
        request: the request.
        environment: environment of the supervisor, if it has to be started.

    Raises:
        TargetError: the supervisor refused the request, or cannot be started or reached.
    """
    deadline = time.monotonic() + _START
    while True:
        try:
            answer = _exchange(layout, msgspec.json.encode(request))
        except (FileNotFoundError, ConnectionError) as error:
            if time.monotonic() > deadline:
                raise TargetError(
                    f"The supervisor of {layout.folder} does not answer ({error}). See {layout.supervisor_log}, and "
                    "end the supervisor if it hangs: its apps go on, and the next command starts another one."
                ) from error
            _start(layout, environment)
            time.sleep(_PAUSE)
            continue
        except OSError as error:
            raise TargetError(
                f"The supervisor of {layout.folder} cannot be reached ({error}). Run the command as the user who "
                "started the apps, on the same machine."
            ) from error
        if answer.error:
            raise TargetError(answer.error)
        return answer.records


def _exchange(layout: Layout, request: bytes) -> Answer:
    with socket.socket(socket.AF_UNIX) as connection:
        with short_path(layout.socket) as path:
            connection.connect(path)
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        content = b"".join(_received(connection))
    try:
        return msgspec.json.decode(content, type=Answer)
    except msgspec.ValidationError as error:
        raise TargetError(
            f"The supervisor of {layout.folder} is of another version ({error}). Stop the apps with the version that "
            "has started them."
        ) from error
    except msgspec.DecodeError as error:
        raise ConnectionResetError("it ended before it answered") from error


def _received(connection: socket.socket) -> Iterator[bytes]:
    while chunk := connection.recv(65_536):
        yield chunk


def _start(layout: Layout, environment: Mapping[str, str]) -> None:
    """Start a supervisor, which goes on in a session of its own when this returns."""
    try:
        layout.create()
        with open(layout.supervisor_log, "a", encoding="utf-8") as log:
            subprocess.run(
                [sys.executable, "-m", "openfactory.deploy.targets.process.supervisor", str(layout.folder)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                timeout=_START,
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise TargetError(
            f"The supervisor of {layout.folder} cannot be started ({error}). Look for the cause in "
            f"{layout.supervisor_log}."
        ) from error
