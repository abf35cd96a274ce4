"""An asset router for tests: it answers what it is told to, and can be stopped, silenced and started again."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote

__all__ = ["RouterStandIn"]


class RouterStandIn:
    """Answers `GET /asset/<uuid>` on 127.0.0.1 as the router does; as a context manager it runs within the block.

    Attributes:
        nats_url: where an asset is that `places` says nothing about.
        cluster_name: what its cluster is called.
        places: by asset, the answer: an address, or a whole JSON object.
        failing: by asset, or for all assets under `*`: a status and a body in place of an answer.
        silent: whether it takes questions and never answers.
        asked: the assets that were asked for.
        connections: how many connections were made to it.
    """

    def __init__(self, nats_url: str = "", cluster_name: str = "C1") -> None:
        self.nats_url = nats_url
        self.cluster_name = cluster_name
        self.places: dict[str, str | dict[str, Any]] = {}
        self.failing: dict[str, tuple[int, bytes]] = {}
        self.silent = False
        self.asked: list[str] = []
        self.login: str | None = None  # of the last request, as its header has it
        self.connections = 0
        self.port = 0
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, again too, on the same port."""
        assert self._server is None
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name="router-stand-in", daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and cut those that are open."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.cut()
            server.server_close()

    def answer(self, asset_uuid: str) -> tuple[int, bytes]:
        """Status and body."""
        self.asked.append(asset_uuid)
        failure = self.failing.get(asset_uuid) or self.failing.get("*")
        if failure is not None:
            return failure
        place = self.places.get(asset_uuid, self.nats_url)
        if isinstance(place, str):
            place = {"asset_id": asset_uuid, "cluster_name": self.cluster_name, "nats_url": place}
        return 200, json.dumps(place).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that the end waits for them
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], router: RouterStandIn) -> None:
        self.router = router
        self.stopped = threading.Event()
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.router.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        self.stopped.set()
        for one in list(self._open):
            with contextlib.suppress(OSError):  # the other side was quicker
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one go: two would wait for each other, 40 ms each time
    server: _Server

    def do_GET(self) -> None:
        router = self.server.router
        router.login = self.headers["Authorization"]
        if router.silent:
            self.server.stopped.wait()
            return
        prefix, _, asset_uuid = self.path.rpartition("/")
        status, body = router.answer(unquote(asset_uuid)) if prefix == "/asset" else (404, b'{"detail":"Not Found"}')
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
