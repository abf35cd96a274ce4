"""What stands behind `http://` URLs until the Kafka engine is there: it looks for a server, and explains."""

from __future__ import annotations

import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NoReturn
from urllib.parse import urlsplit

from openfactory.engines.base import Engine
from openfactory.exceptions import ConfigurationError, EngineUnavailableError

__all__ = ["KsqlDBProbe"]

# How long the server may take, and how long finding its address may take, in seconds.
_ANSWER_SECONDS = 4.0
_PROBE_SECONDS = 8.0

_WAY_OUT = "Run without any server by KSQLDB_URL=sqlite:///factory.db, or by `ofa run` with the app's file."


class KsqlDBProbe:
    """No engine: asking for one says why there is none and what to do."""

    def __new__(cls, url: str) -> Engine:  # type: ignore[misc]  # it never gives an instance
        cls._explain(url)

    @staticmethod
    def place(url: str) -> str:
        """The URL without what does not matter."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"{url} has no proper port ({error}). Write http://host:8088.") from error
        if not parts.hostname:
            raise ConfigurationError(f"{url} names no host. Write http://host:8088.")
        return f"{parts.scheme}://{parts.hostname}:{port or 8088}"

    @staticmethod
    def _explain(url: str) -> NoReturn:
        failure = _probe(url)
        if failure is None:
            raise EngineUnavailableError(
                f"A server answers at {url}, but this version of openfactory-core works on the embedded engine only. "
                + _WAY_OUT,
                address=url,
            )
        raise EngineUnavailableError(
            f"No ksqlDB server answers at {url} ({failure}). {_WAY_OUT}", address=url
        ) from failure


def _probe(url: str) -> Exception | None:
    """Ask a server for its info; in a thread, because looking up a name has no time limit."""
    answers: list[Exception | None] = []

    def ask() -> None:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port or 8088, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", "/info")
            connection.getresponse().read()
            answers.append(None)
        except (OSError, HTTPException) as error:
            answers.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=ask, name="openfactory-probe", daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return answers[0] if answers else TimeoutError(f"no answer within {_PROBE_SECONDS:g} s")
