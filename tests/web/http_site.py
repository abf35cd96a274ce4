"""A server alone with a few routes, which tests ask over raw connections."""

from __future__ import annotations

import http.client
import io
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from contextvars import ContextVar
from typing import Any

from flask import Flask, Response, request, send_file

from openfactory.apps.operations.listener import listening_socket
from openfactory.flaskapp.http import HttpServer, strict_request_class

__all__ = ["HIGHEST_BODY", "MEGABYTE", "PATIENCE", "Eventually", "MakeSite", "Site", "head", "request_threads", "rest"]

# What a loaded machine may take for anything here; nothing waits so long when all is well.
PATIENCE = 60.0

HIGHEST_BODY = 1_000_000
MEGABYTE = b"x" * 1_000_000


said: ContextVar[str] = ContextVar("said", default="nothing")


class Site:
    """A server with a few routes, and what it has logged."""

    def __init__(self, **options: Any) -> None:
        self.opened = threading.Event()
        self.held = threading.Semaphore(0)
        self.pieces: list[bytes] = []
        self.failures: list[Exception] = []
        self._log = io.StringIO()
        logger = logging.Logger("site")  # noqa: LOG001 - one for each site
        handler = logging.StreamHandler(self._log)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.addHandler(handler)
        self.app = self._app()
        self.server = HttpServer(listening_socket("127.0.0.1", 0), self.app, logger, **options)
        self.logger = logger

    def _app(self) -> Flask:
        app = Flask("site")
        app.config["MAX_CONTENT_LENGTH"] = HIGHEST_BODY
        app.request_class = strict_request_class(app.request_class)

        @app.route("/")
        def root() -> str:
            return "here"

        @app.route("/echo/<path:text>")
        def echo(text: str) -> str:
            return f"{request.host} {text}"

        @app.route("/endless/<int:length>")
        def endless_part(length: int) -> Response:
            return Response(itertools.repeat(b"x"), headers={"Content-Length": str(length)})

        @app.route("/length/<length>")
        def length(length: str) -> Response:
            return Response(iter(["abc", "de"]), headers={"Content-Length": length})

        @app.route("/status/<int:status>")
        def status(status: int) -> tuple[str, int]:
            return "text", status

        @app.route("/file")
        def file() -> Response:
            return send_file(__file__, "text/plain")

        @app.route("/upgrade")
        def upgrade() -> str:
            connection: socket.socket = request.environ["werkzeug.socket"]
            connection.sendall(b"welcome")
            while data := connection.recv(100):
                connection.sendall(data)
            raise ConnectionError  # as libraries for WebSocket do it: the response is not for the client

        @app.route("/thread")
        def thread() -> str:
            before = said.get()
            said.set("something")
            return f"{threading.get_ident()} {before}"

        @app.route("/hold", methods=["GET", "POST"])
        def hold() -> str:
            self.held.release()
            assert self.opened.wait(PATIENCE)
            return "held"

        @app.route("/body", methods=["POST"])
        def body() -> str:
            return str(len(request.get_data()))

        @app.route("/hold-body", methods=["POST"])
        def hold_body() -> str:
            data = request.get_data()
            self.held.release()
            assert self.opened.wait(PATIENCE)
            return str(len(data))

        @app.route("/exactly", methods=["POST"])
        def exactly() -> bytes:
            return request.stream.read(6) + b"," + request.stream.readline() + request.stream.read()

        @app.route("/pieces", methods=["POST"])
        def pieces() -> str:
            self.pieces.extend(iter(lambda: request.stream.read(65_536), b""))
            return str(sum(len(piece) for piece in self.pieces))

        @app.route("/unread", methods=["POST"])
        def unread() -> str:
            return "not needed"

        @app.route("/endless")
        def endless() -> Response:
            return Response(itertools.repeat(MEGABYTE))

        @app.route("/streamed")
        def streamed() -> Response:
            return Response(iter(["in two", " parts"]))

        @app.route("/stream")
        def stream() -> Response:
            return Response(self._first_and_last())

        @app.route("/large")
        def large() -> bytes:
            return MEGABYTE * 30

        @app.route("/broken-off/<error>")
        def broken_off(error: str) -> Response:
            return Response(self._broken_off({"value": ValueError, "connection": ConnectionError}[error]))

        @app.route("/stop")
        def stop() -> str:
            self.server.stop(PATIENCE)
            return "stopped"

        return app

    def _broken_off(self, error: type[Exception]) -> Iterator[str]:
        yield "a part"
        raise error("the spindle is stuck")

    def _first_and_last(self) -> Iterator[str]:
        yield "the first"
        assert self.opened.wait(PATIENCE)
        yield "the last"

    @property
    def log(self) -> str:
        return self._log.getvalue()

    def connect(self, data: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE)
        connection.sendall(data)
        return connection

    def ask(self, path: str = "/", **options: Any) -> tuple[int, str]:
        """Status and text of the answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)) as connection:
            connection.request(options.pop("method", "GET"), path, **options)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


def head(path: str, *headers: str, method: str = "GET") -> bytes:
    """The head of the last request of a connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: site.example", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


def rest(connection: socket.socket) -> bytes:
    """All that still comes, to the end."""
    received = b""
    with connection, suppress(ConnectionResetError):
        while data := connection.recv(1_000_000):
            received += data
    return received


def request_threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("openfactory-request")


Eventually = Callable[..., None]
MakeSite = Callable[..., Site]
