"""How many connections there may be, who has to leave for a new one, and how much memory their bodies may use."""

from __future__ import annotations

import logging
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from http_site import MEGABYTE, PATIENCE, Eventually, MakeSite, head, request_threads, rest
from openfactory.flaskapp.http.connection import Connection

KEPT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Connections of this stack are closed at the end."""
    with ExitStack() as opened:
        yield opened


def ends(connection: socket.socket) -> bool:
    """Whether the server has closed a connection."""
    connection.settimeout(PATIENCE)
    return connection.recv(1000) == b""


def is_open(connection: socket.socket) -> bool:
    connection.sendall(KEPT)
    return b"here" in connection.recv(1000)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nX-Slow: "], ids=["silent", "slow"])
def test_clients_that_wait_do_not_keep_others_away(
    make_site: MakeSite, eventually: Eventually, stack: ExitStack, begun: bytes
) -> None:
    site = make_site(max_connections=20)
    waiting = [stack.enter_context(site.connect(begun)) for _ in range(30)]
    assert all(ends(connection) for connection in waiting[:10])
    assert site.ask() == (200, "here")
    assert ends(waiting[10])
    eventually(lambda: site.server.connections == 19, timeout=PATIENCE)
    assert request_threads() <= 2
    assert site.log.count("WARNING 20 connections are open") == 1


def test_the_limit_of_the_app_is_named_although_others_leave_meanwhile(
    make_site: MakeSite, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(max_connections=2)
    connections = site.server._connections
    add = connections.add

    def add_while_others_leave(connection: Connection) -> list[Connection]:
        surplus = add(connection)
        if surplus:
            connections.remove(connection)
        return surplus

    monkeypatch.setattr(connections, "add", add_while_others_leave)
    first, *_ = [stack.enter_context(site.connect()) for _ in range(3)]
    assert ends(first)
    assert site.log.count("WARNING 2 connections are open, the maximum of this app;") == 1
    assert "None" not in site.log


def test_the_connection_that_was_used_last_stays(make_site: MakeSite, eventually: Eventually, stack: ExitStack) -> None:
    site = make_site(max_connections=3)
    first, second, third = (stack.enter_context(site.connect()) for _ in range(3))
    assert is_open(second)
    assert is_open(first)
    eventually(lambda: not site.server._connections._running)  # a client may have its answer before the request ends
    assert site.ask() == (200, "here")
    assert ends(third)
    eventually(lambda: site.server.connections == 2, timeout=PATIENCE)
    assert is_open(first)
    assert is_open(second)


def test_health_is_answered_when_all_connections_have_requests(make_site: MakeSite, stack: ExitStack) -> None:
    site = make_site(max_connections=3, always_answered=["/echo/health"])
    held = [stack.enter_context(site.connect(head("/hold"))) for _ in range(3)]
    for _ in held:
        assert site.held.acquire(timeout=PATIENCE)
    for _ in range(10):
        assert site.ask("/echo/health?full=1")[0] == 200
        assert site.ask("/echo/other")[0] == 503
    site.opened.set()
    assert all(rest(connection).endswith(b"held") for connection in held)
    assert site.ask("/echo/other")[0] == 200


def test_one_address_does_not_take_all_connections(make_site: MakeSite, stack: ExitStack) -> None:
    site = make_site(max_connections_per_address=2)
    held = [stack.enter_context(site.connect(head("/hold"))) for _ in range(2)]
    for _ in held:
        assert site.held.acquire(timeout=PATIENCE)
    for _ in range(3):
        assert site.ask()[0] == 503
        with socket.create_connection(("127.0.0.1", site.server.port), PATIENCE, ("127.0.0.2", 0)) as other:
            other.sendall(head("/"))
            assert rest(other).endswith(b"here")
    assert site.log.count("WARNING 2 connections of 127.0.0.1 are open, the maximum of one address;") == 1
    with socket.create_connection(("127.0.0.1", site.server.port), PATIENCE, ("127.0.0.2", 0)) as other:
        assert is_open(other)
        site.opened.set()
        assert all(rest(connection).endswith(b"held") for connection in held)
        waiting = [stack.enter_context(site.connect()) for _ in range(3)]
        assert ends(waiting[0])
        assert is_open(other)


def test_an_ipv4_client_of_a_port_for_ipv6_has_its_usual_address() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Connection(ours, ("::ffff:192.0.2.7", 5000, 0, 0), 60).host == "192.0.2.7"


def test_a_kept_alive_connection_has_its_time(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(keep_alive_timeout=0.2)
    with site.connect() as connection:
        assert is_open(connection)
        assert ends(connection)
    eventually(lambda: site.server.connections == 0, timeout=PATIENCE)
    assert site.log == ""


def test_a_stop_closes_kept_alive_connections_at_once(make_site: MakeSite, stack: ExitStack) -> None:
    site = make_site()
    connections = [stack.enter_context(site.connect()) for _ in range(100)]  # more than threads wait with
    assert all(is_open(connection) for connection in connections)
    held = stack.enter_context(site.connect(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert site.held.acquire(timeout=PATIENCE)

    def open_gate() -> None:
        assert all(ends(connection) for connection in connections[:20])  # while the request still runs
        site.opened.set()

    site.server.stop(PATIENCE, before_waiting=open_gate)
    assert all(ends(connection) for connection in connections[20:])
    answer = rest(held)
    assert answer.endswith(b"held")
    assert b"Connection: close" in answer
    assert site.log == ""


def test_a_stop_answers_the_requests_whose_connections_have_not_been_accepted_yet(
    make_site: MakeSite, stack: ExitStack, eventually: Eventually
) -> None:
    site = make_site()
    standing, go_on = threading.Event(), threading.Event()

    def stand(record: logging.LogRecord) -> bool:
        standing.set()
        return go_on.wait(PATIENCE)

    site.logger.addFilter(stand)
    stack.enter_context(site.connect(b"nonsense\r\n\r\n"))  # which the loop logs
    assert standing.wait(PATIENCE)
    arrived = [stack.enter_context(site.connect(head("/"))) for _ in range(3)]
    stopping = threading.Thread(target=site.server.stop, args=(PATIENCE,))
    stopping.start()
    eventually(lambda: not site.server.serving)
    go_on.set()
    assert [rest(connection).endswith(b"here") for connection in arrived] == [True] * 3
    stopping.join(PATIENCE)


# The memory of bodies


def test_large_bodies_wait_for_memory_and_slow_ones_use_none(make_site: MakeSite, stack: ExitStack) -> None:
    site = make_site(body_memory=1_500_000)
    half = head("/hold-body", f"Content-Length: {len(MEGABYTE)}", method="POST") + MEGABYTE[:900_000]
    slow = [stack.enter_context(site.connect(half)) for _ in range(5)]
    with ThreadPoolExecutor() as pool:
        large = [pool.submit(site.ask, "/hold-body", method="POST", body=MEGABYTE) for _ in range(3)]
        assert site.held.acquire(timeout=PATIENCE)
        small = site.ask("/body", method="POST", body=b"x" * 50_000)
        assert small == (200, "50000")
        assert not site.held.acquire(timeout=0.5)  # one has memory, and the others wait
        site.opened.set()
        assert [answer.result(PATIENCE) for answer in large] == [(200, str(len(MEGABYTE)))] * 3
    for connection in slow:
        connection.sendall(MEGABYTE[900_000:])
        assert rest(connection).endswith(str(len(MEGABYTE)).encode())


def test_who_waits_too_long_for_memory_is_told_to_come_back(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openfactory.flaskapp.http.request_body._WAIT_SECONDS", 0.1)
    site = make_site(body_memory=1_500_000)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(site.ask, "/hold-body", method="POST", body=MEGABYTE)
        assert site.held.acquire(timeout=PATIENCE)
        status, text = site.ask("/body", method="POST", body=MEGABYTE)
        assert status == 503
        assert "Send the request again later." in text
        site.opened.set()
        assert first.result(PATIENCE)[0] == 200
    assert site.ask("/body", method="POST", body=MEGABYTE)[0] == 200


def test_the_lack_of_a_temporary_folder_is_told(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site()
    site.app.logger = site.logger
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert site.ask("/body", method="POST", body=MEGABYTE)[0] == 500
    assert "Set TMPDIR to a folder that the app can write" in site.log
    assert site.ask("/body", method="POST", body=b"x" * 50_000) == (200, "50000")
    assert site.ask("/pieces", method="POST", body=MEGABYTE) == (200, str(len(MEGABYTE)))
