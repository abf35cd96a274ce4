"""The publisher of a cluster: batches that it drops by itself are read again, and none of those after them pass."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from openfactory.fanout.cluster import Batch, ClusterPublisher
from openfactory.settings.credentials import Credentials

SECONDS = 30.0


class Server:
    """A NATS server that accepts messages of a size, and that can withhold its answers."""

    def __init__(self) -> None:
        self.max_payload = 1_000_000
        self.answers = threading.Event()
        self.answers.set()
        self.received = b""
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._client: socket.socket | None = None
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_for(self, text: bytes) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.received, SECONDS), self.received

    def drop_client(self) -> None:
        assert self._client is not None
        self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.answers.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                self._client, _ = self._listener.accept()
            except OSError:
                return
            with self._client as client:
                try:
                    self._serve(client)
                except OSError:
                    continue

    def _serve(self, client: socket.socket) -> None:
        information = f'{{"server_id":"one","version":"2.10.0","headers":true,"max_payload":{self.max_payload}}}'
        client.sendall(f"INFO {information}\r\n".encode())
        with client.makefile("rb") as lines:
            for line in lines:
                with self._changed:
                    self.received += line
                    self._changed.notify_all()
                if line == b"PING\r\n" and self.answers.is_set():
                    client.sendall(b"PONG\r\n")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def publisher(server: Server) -> Iterator[ClusterPublisher]:
    publisher = ClusterPublisher("one", [server.url], Credentials())
    yield publisher
    publisher.close()


def batch(name: str, end: int) -> Batch:
    return Batch(f"PUB MILL.x 1\r\n{name}\r\n".encode(), 1, {0: (end, 0.0)}, 0.0)


def test_no_batch_passes_those_before_it_that_a_smaller_server_has_dropped(
    server: Server, publisher: ClusterPublisher, eventually: Callable[..., None]
) -> None:
    assert publisher.wait_for_room(SECONDS)
    server.answers.clear()
    publisher.publish(batch("A", 1))
    server.wait_for(b"A\r\n")
    server.max_payload = 1_000  # another server of the cluster
    server.drop_client()
    server.answers.set()
    eventually(lambda: publisher.max_payload == 1_000)
    publisher.publish(batch("B", 2))  # it was read before the forwarder could know
    publisher.publish(Batch(b"", 0, {0: (3, 0.0)}, 0.0))
    assert publisher.wait_for_proof(SECONDS)
    assert publisher.take_proven() == []
    assert publisher.take_discarded()
    publisher.publish(batch("C", 1))  # read again
    assert publisher.wait_for_proof(SECONDS)
    assert [one.places for one in publisher.take_proven()] == [{0: (1, 0.0)}]
    assert b"B\r\n" not in server.received
