"""The client of the web benchmark: asks a page over and over, on a few connections at a time."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["HOST", "answer_of", "requests_a_second", "wait_for_first_answer"]

HOST = "127.0.0.1"

CONNECTIONS = 8

_ANSWER_SECONDS = 30
_RETRY_SECONDS = 0.002
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def answer_of(port: int, path: str = "/") -> Any:
    """Ask for a page on a connection of its own, and give back its JSON."""
    return json.loads(_ask(port, _request(path)))


def requests_a_second(port: int, seconds: float) -> float:
    """Ask for `/` for so long, on every connection the next when the last is answered."""
    request = _request("/")
    counts: list[int] = []
    begun = time.perf_counter()
    end = begun + seconds

    def ask_on() -> None:
        count = 0
        while time.perf_counter() < end:
            _ask(port, request)
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=ask_on) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begun
    if len(counts) != CONNECTIONS:
        raise RuntimeError("A request failed; its error stands above.")
    return sum(counts) / taken


def wait_for_first_answer(port: int, ended: Callable[[], object]) -> None:
    """Ask for `/` until a server that has just been started answers.

    Args:
        ended: tells whether it has ended, so that nobody waits for it.
    """
    deadline = time.perf_counter() + _ANSWER_SECONDS
    request = _request("/")
    while True:
        try:
            _ask(port, request)
        except ConnectionError as error:
            if ended() or time.perf_counter() > deadline:
                raise RuntimeError("A server does not answer; what it has to say stands above.") from error
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()


def _ask(port: int, request: bytes) -> bytes:
    """One request; the connection is closed as soon as the answer is complete, as a gateway does."""
    with socket.create_connection((HOST, port), timeout=_ANSWER_SECONDS) as connection:
        connection.sendall(request)
        received = b""
        while True:
            chunk = connection.recv(65_536)
            if not chunk:
                raise ConnectionError(f"The answer ended before it was complete: {received[:200]!r}")
            received += chunk
            head, separator, body = received.partition(b"\r\n\r\n")
            if separator and len(body) >= _length(head):
                return body


def _length(head: bytes) -> int:
    """The length of the body that a good answer announces."""
    announced = _LENGTH.search(head + b"\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or announced is None:
        raise RuntimeError(f"The page answered {head[:200]!r}.")
    return int(announced[1])
