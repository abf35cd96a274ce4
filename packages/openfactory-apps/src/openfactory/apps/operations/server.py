"""The operations port of an app: a small web server for its health and metrics.

It is the server of the standard library, so that a plain app needs no web framework. It answers a few clients that
poll; users get the pages of an app from the servers of its web framework.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedReader
from typing import Any

from prometheus_client import CollectorRegistry

from openfactory.apps.operations.health import AppHealth, health_pages
from openfactory.apps.operations.metrics import Metrics
from openfactory.apps.operations.pages import Page, View
from openfactory.concurrency.bounded import call_on_thread
from openfactory.concurrency.forked_child import reset_in_forked_child

__all__ = ["OperationsServer", "plain_pages"]

# Number of clients that are answered at once; further ones are disconnected.
_CLIENTS = 32

# Seconds in which a client must send its request, and then receive the response.
_SECONDS = 5.0

# Seconds between two looks at whether the server is to stop.
_POLL_SECONDS = 0.2


def plain_pages(
    health: Callable[[], AppHealth], logger: logging.Logger, registry: CollectorRegistry | None = None
) -> dict[str, View]:
    """Return the pages of an app without web pages, by their paths.

    Args:
        health: function that returns the health of the app.
        logger: logger of the app.
        registry: registry with further metrics of the app.
    """
    metrics = Metrics(registry or CollectorRegistry(), health, logger)
    return {**health_pages("/health", health), "/metrics": metrics.page}


class OperationsServer:
    """Web server for the pages of an app, on a thread of its own.

    Args:
        listener: open port, which the server takes over.
        pages: the view for each path.
        logger: logger of the app.

    Attributes:
        port: number of the port.
        url: URL of the server.
    """

    def __init__(self, listener: socket.socket, pages: Mapping[str, View], logger: logging.Logger) -> None:
        host, self.port = listener.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._server = _Server(listener, pages, logger)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name=f"openfactory-operations-{self.port}"
        )
        self._thread.daemon = True
        reset_in_forked_child(self)

    @property
    def serving(self) -> bool:
        """Whether the server answers requests."""
        return self._thread.is_alive()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return self._server.connections

    def start(self) -> None:
        """Start to answer requests."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop accepting requests. A request that is running may still finish.

        Args:
            timeout: seconds to wait until the port is closed.
        """
        if self._thread.is_alive():
            with suppress(TimeoutError):
                call_on_thread("openfactory-operations-stop", self._server.shutdown).result(timeout)
        self._server.server_close()

    def reset_after_fork(self) -> None:
        """Close the parent's port, which would stay open after the parent has ended."""
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Server that handles each connection on a thread, and a limited number of them at once."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, pages: Mapping[str, View], logger: logging.Logger) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.pages = pages
        self.logger = logger
        self._requests: set[int] = set()  # ids of the sockets; adding and discarding is atomic

    @property
    def connections(self) -> int:
        return len(self._requests)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.connections >= _CLIENTS:
            self.shutdown_request(request)
            return
        self._requests.add(id(request))
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._requests.discard(id(request))
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as socketserver calls it
        error = sys.exception()
        if not isinstance(error, OSError):  # a client that has gone is no error of the app
            self.logger.error("A request for health or metrics failed.", exc_info=error)


class _RequestInput(socket.SocketIO):
    """The bytes of a request, which must all arrive in time. The timeout of a socket counts from each read anew."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        super().__init__(connection, "r")
        self._connection = connection
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("The request did not arrive in time.")
        self._connection.settimeout(left)
        try:
            return super().readinto(buffer)
        finally:
            self._connection.settimeout(self._seconds)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SECONDS
    server_version = "OpenFactory"
    sys_version = ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = BufferedReader(_RequestInput(self.connection, self.timeout))

    def do_GET(self) -> None:
        page = self._page()
        self.send_response(page.status)
        for name, value in page.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET  # noqa: N815 - http.server calls it by this name

    def _page(self) -> Page:
        view = self.server.pages.get(self.path.partition("?")[0])
        if view is None:
            content = {"error": "Not found.", "pages": sorted(self.server.pages)}
            return Page.of_json(HTTPStatus.NOT_FOUND, content)
        try:
            return view(self.headers.get("Accept", ""))
        except Exception:
            self.server.logger.exception("The page %s failed.", self.path)
            return Page.of_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "Read the log of the app."})

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: orchestrators and Prometheus poll the pages for years."""
