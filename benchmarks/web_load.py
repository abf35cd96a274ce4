"""The client of the web benchmark: asks a page over and over, on a few connections at a time."""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["HOST", "answer_of", "requests_a_second", "wait_for_first_answer"]

HOST = "127.0.0.1"

CONNECTIONS = 8

_ANSWER_SECONDS = 30
_RETRY_SECONDS = 0.002
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def answer_of(port: int, path: str = "/") -> Any:
    """Ask for a page on a connection of its own, and give back its JSON."""
    return json.loads(_ask(port, _request(path, keep_alive=False)))


def requests_a_second(port: int, seconds: float, connections: int = CONNECTIONS, *, keep_alive: bool = False) -> float:
    """Ask for `/` for so long, on every connection the next when the last is answered.

    One thread asks on all connections: more of them would wait for each other, and not for the server.

    Args:
        port: port of the server.
        seconds: how long.
        connections: how many at a time.
        keep_alive: whether a connection is used again, if the server allows it.
    """
    request = _request("/", keep_alive=keep_alive)
    count = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            _ask_on(selector, port, request)
        begun = now = time.perf_counter()
        while now < begun + seconds:
            ready = selector.select(_ANSWER_SECONDS)
            if not ready:
                raise RuntimeError("The server does not answer any more; what it has to say stands above.")
            for key, _ in ready:
                connection: socket.socket = key.fileobj  # type: ignore[assignment]
                key.data.extend(connection.recv(65_536) or _broken_off(key.data))
                head, separator, body = key.data.partition(b"\r\n\r\n")
                if not separator or len(body) < _length(head):
                    continue
                count += 1
                if keep_alive and b"close" not in head:
                    key.data.clear()
                    connection.sendall(request)
                else:
                    selector.unregister(connection)
                    connection.close()
                    _ask_on(selector, port, request)
            now = time.perf_counter()
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return count / (now - begun)


def _ask_on(selector: selectors.BaseSelector, port: int, request: bytes) -> None:
    """Ask on a new connection."""
    connection = socket.create_connection((HOST, port), timeout=_ANSWER_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(request)
    selector.register(connection, selectors.EVENT_READ, bytearray())


def wait_for_first_answer(port: int, ended: Callable[[], object]) -> None:
    """Ask for `/` until a server that has just been started answers.

    Args:
        ended: tells whether it has ended, so that nobody waits for it.
    """
    deadline = time.perf_counter() + _ANSWER_SECONDS
    request = _request("/", keep_alive=False)
    while True:
        try:
            _ask(port, request)
        except ConnectionError as error:
            if ended() or time.perf_counter() > deadline:
                raise RuntimeError("A server does not answer; what it has to say stands above.") from error
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _request(path: str, *, keep_alive: bool) -> bytes:
    connection = "keep-alive" if keep_alive else "close"
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\nConnection: {connection}\r\n\r\n".encode()


def _ask(port: int, request: bytes) -> bytes:
    """One request; the connection is closed as soon as the answer is complete, as a gateway does."""
    with socket.create_connection((HOST, port), timeout=_ANSWER_SECONDS) as connection:
        connection.sendall(request)
        received = b""
        while True:
            chunk = connection.recv(65_536)
            if not chunk:
                _broken_off(received)
            received += chunk
            head, separator, body = received.partition(b"\r\n\r\n")
            if separator and len(body) >= _length(head):
                return body


def _broken_off(received: bytes) -> NoReturn:
    raise ConnectionError(f"The answer ended before it was complete: {received[:200]!r}")


def _length(head: bytes) -> int:
    """The length of the body that a good answer announces."""
    announced = _LENGTH.search(head + b"\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or announced is None:
        raise RuntimeError(f"The page answered {head[:200]!r}.")
    return int(announced[1])
