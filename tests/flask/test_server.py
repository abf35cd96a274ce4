"""The HTTP server alone: clients that are many, slow, silent or broken, bodies too large, and a stop amid all that."""

from __future__ import annotations

import http.client
import itertools
import logging
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

from http_site import HIGHEST_BODY, MEGABYTE, PATIENCE, Eventually, MakeSite, Site, head, request_threads, rest

if TYPE_CHECKING:
    from tests.flask.conftest import StartApp


# Many at once


def test_two_hundred_connections_are_answered_together_and_leave_no_thread(
    make_site: MakeSite, eventually: Eventually
) -> None:
    site = make_site()
    connections = [site.connect(head("/hold")) for _ in range(200)]
    for _ in connections:
        assert site.held.acquire(timeout=PATIENCE)  # all 200 run at once
    assert site.server.connections == 200
    assert site.server.serving

    site.opened.set()
    assert [rest(connection).endswith(b"\r\n\r\nheld") for connection in connections] == [True] * 200
    eventually(lambda: site.server.connections == 0, timeout=PATIENCE)
    eventually(lambda: request_threads() == 0, timeout=PATIENCE)


def test_who_comes_when_it_is_full_is_told_to_come_back(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(max_connections=3)
    held = [site.connect(head("/hold")) for _ in range(3)]
    for _ in held:
        assert site.held.acquire(timeout=PATIENCE)

    refused = [rest(site.connect(head("/"))) for _ in range(50)]
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in refused)
    assert all(b"\r\nRetry-After: 1\r\n" in answer for answer in refused)
    with site.connect(head("/body", "Content-Length: 30", method="POST")) as slow:
        assert slow.recv(1000).endswith(b"All connections are taken. Come back later.\n")
        for _ in range(3):
            slow.sendall(b"0123456789")  # it has its answer, and is not cut for asking after that
    assert request_threads() == 3
    assert site.log.count("WARNING 3 connections are open, the maximum of this app") == 1
    assert site.log.count("\n") == 1

    site.opened.set()
    assert all(rest(connection).endswith(b"held") for connection in held)
    eventually(lambda: site.server.connections == 0, timeout=PATIENCE)
    assert site.ask() == (200, "here")


def test_who_comes_when_the_machine_has_no_thread_to_give_is_told_to_come_back(make_site: MakeSite) -> None:
    site = make_site()
    before = threading.stack_size(1 << 50)  # more than any machine can give to a thread
    try:
        assert site.ask()[0] == 503
        assert site.ask()[0] == 503
    finally:
        threading.stack_size(before)
    assert site.log.count("WARNING Connections get status 503: can't start new thread. Raise ") == 1
    assert site.log.count("\n") == 1
    assert site.ask() == (200, "here")


SHORT_OF_FILES = """
import logging, os, resource, signal, time
from flask import Flask
from openfactory.apps.operations.listener import listening_socket
from openfactory.flaskapp.http import HttpServer, strict_request_class

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
app = Flask("site")
app.route("/")(lambda: "here")
logging.basicConfig(level="INFO")
server = HttpServer(listening_socket("127.0.0.1", 0), app, logging.getLogger("site"))
server.start(lambda error: print("failed", error, flush=True))
logging.info("Serving on %s", server.url)

signal.sigwait([signal.SIGUSR1])
while server.connections:
    time.sleep(0.01)
before = resource.getrlimit(resource.RLIMIT_NOFILE)
next_file = os.dup(0)
os.close(next_file)
resource.setrlimit(resource.RLIMIT_NOFILE, (next_file, before[1]))
logging.info("Short")
signal.sigwait([signal.SIGUSR1])
resource.setrlimit(resource.RLIMIT_NOFILE, before)
signal.sigwait([signal.SIGUSR1])
server.stop(10)
print("ended", flush=True)
"""


def test_connections_wait_while_the_machine_has_no_file_to_give(start_app: StartApp, eventually: Eventually) -> None:
    site = start_app(SHORT_OF_FILES)
    assert site.ask().text == "here"
    site.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "Short" in site.log, timeout=PATIENCE)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(site.ask) for _ in range(3)]
        eventually(lambda: "Connections have to wait: Too many open files. Raise" in site.log, timeout=PATIENCE)
        assert not any(answer.done() for answer in waiting)
        site.process.send_signal(signal.SIGUSR1)
        assert [answer.result(PATIENCE).text for answer in waiting] == ["here"] * 3
    site.process.send_signal(signal.SIGUSR1)
    assert site.ends() == 0
    assert site.out.read_text() == "ended\n"
    assert site.log.count("WARNING") == 1
    assert "ERROR" not in site.log


# Silent and slow ones


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GE", b"HTTP/1.1 408 "),
        (head("/")[:-2], b"HTTP/1.1 408 "),
        (head("/body", "Content-Length: 1000", method="POST") + b"a part", b"HTTP/1.1 400 "),
        (head("/body", "Transfer-Encoding: chunked", method="POST") + b"a\r\na part", b"HTTP/1.1 400 "),
        (head("/unread", "Content-Length: 1000", method="POST"), b"HTTP/1.1 200 "),
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "half a chunk", "no body"],
)
def test_who_falls_silent_loses_its_connection(
    make_site: MakeSite, eventually: Eventually, sent: bytes, answer: bytes
) -> None:
    site = make_site(silence_timeout=0.2)
    with site.connect(sent) as silent:
        received = silent.recv(1_000_000)  # back when the server has ended or answered
        assert received.startswith(answer)
        assert bool(received) == bool(answer)
        eventually(lambda: site.server.connections == 0, timeout=PATIENCE)
    assert [line for line in site.log.splitlines() if not line.startswith("DEBUG ")] == []


def test_who_reads_nothing_loses_its_connection(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(silence_timeout=0.5)
    with site.connect(head("/endless")) as connection:
        assert connection.recv(1)
        eventually(lambda: site.server.connections == 0, timeout=PATIENCE)
    assert site.log == "DEBUG 127.0.0.1 connection lost: timed out\n"


def test_a_head_that_trickles_in_has_to_end_in_time(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(head_timeout=1.0)
    with site.connect(b"GET / HTTP/1.1\r\nX-Slow: ") as trickling:
        eventually(lambda: site.server.connections == 1, timeout=PATIENCE)

        def send_on() -> bool:
            with suppress(ConnectionError):
                trickling.sendall(b"x")  # never silent for as long as it may be
            return "code 408" in site.log

        eventually(send_on, timeout=PATIENCE)
        assert trickling.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert "did not arrive in time" in site.log


def test_a_slow_route_and_a_slow_reader_are_not_silent(make_site: MakeSite) -> None:
    site = make_site(silence_timeout=2.0)
    held = site.connect(head("/hold"))
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        reader.settimeout(PATIENCE)
        reader.connect(("127.0.0.1", site.server.port))
        reader.sendall(head("/large"))
        received = 0
        with site.connect() as silent, ThreadPoolExecutor(1) as pool:
            cut = pool.submit(rest, silent)  # the clock: its time is over
            while not cut.done():
                received += len(reader.recv(16_384))
                time.sleep(0.01)  # the pace of a slow reader
        assert received < len(MEGABYTE) * 30
        while data := reader.recv(1_000_000):
            received += len(data)
    assert received > len(MEGABYTE) * 30
    site.opened.set()
    assert rest(held).endswith(b"held")


# Bodies


@pytest.mark.parametrize("path", ["/body", "/pieces", "/unread"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("megabytes", [2, 50])
def test_a_client_with_a_body_too_large_gets_its_answer(
    make_site: MakeSite, path: str, chunked: bool, megabytes: int
) -> None:
    site = make_site()
    headers = {} if chunked else {"Content-Length": str(megabytes * len(MEGABYTE))}
    body = itertools.repeat(MEGABYTE, megabytes)
    status, _ = site.ask(path, method="POST", body=body, headers=headers, encode_chunked=chunked)
    assert status == (200 if path == "/unread" else 413)


@pytest.mark.parametrize("path", ["/body", "/pieces"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 700_000, HIGHEST_BODY])
def test_a_body_within_the_limit_arrives(make_site: MakeSite, path: str, chunked: bool, size: int) -> None:
    site = make_site()
    body = iter([MEGABYTE[: size // 2], MEGABYTE[: size // 2]])
    headers = {} if chunked else {"Content-Length": str(size)}
    assert site.ask(path, method="POST", body=body, headers=headers, encode_chunked=chunked) == (200, str(size))


@pytest.mark.parametrize("limit", [None, HIGHEST_BODY])
@pytest.mark.parametrize("path", ["/body", "/pieces"])
@pytest.mark.parametrize(
    "part",
    [
        b"a\r\nxxxxx",
        b"%x\r\n" % 500_000 + MEGABYTE[:250_000],
        b"a\r\nxxxxxxxxxx",
        b"a\r\nxxxxxxxxxx\r\n",
        b"%x\r\n" % HIGHEST_BODY + MEGABYTE + b"\r\n",
        b"no size",
    ],
    ids=["chunk", "large chunk", "end of a chunk", "no last chunk", "no last chunk at the limit", "no chunk"],
)
def test_chunks_that_break_off_are_not_taken_for_the_whole(
    make_site: MakeSite, part: bytes, path: str, limit: int | None
) -> None:
    site = make_site()
    site.app.config["MAX_CONTENT_LENGTH"] = limit
    connection = site.connect(head(path, "Transfer-Encoding: chunked", method="POST") + part)
    connection.shutdown(socket.SHUT_WR)
    assert rest(connection).startswith(b"HTTP/1.1 400 ")
    assert set(b"".join(site.pieces)) <= set(b"x")
    assert site.log == ""


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(make_site: MakeSite) -> None:
    site = make_site()
    with site.connect(head("/body", "Content-Length: 4", "Expect: 100-continue", method="POST")) as connection:
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert rest(connection).endswith(b"\r\n\r\n4")


# What is no request


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HTTP/1.1 400 "),
        (b"\xff\x00\n\n", b"HTTP/1.1 400 "),
        (b"GET /\r\n", b"HTTP/1.1 400 "),
        (b"GET / SPDY/3\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/2.0\r\n\r\n", b"HTTP/1.1 505 "),
        (b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
        (head("/" + "x" * 100_000), b"HTTP/1.1 414 "),
        (head("/", "X-Long: " + "x" * 100_000), b"HTTP/1.1 431 "),
        (head("/", *["X-Many: x"] * 200), b"HTTP/1.1 431 "),
    ],
    ids=["TLS", "binary", "HTTP/0.9", "SPDY", "HTTP/2", "path", "long line", "long header", "many headers"],
)
def test_what_is_no_request_is_refused_with_one_line_in_the_log(
    make_site: MakeSite, sent: bytes, answer: bytes
) -> None:
    site = make_site()
    assert rest(site.connect(sent)).startswith(answer)
    assert site.log.startswith("DEBUG 127.0.0.1 code ")
    assert site.log.count("\n") == 1
    assert site.log.isprintable() or site.log[:-1].isprintable()


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_no_header_brings_a_line_of_its_own_into_the_log(make_site: MakeSite, line_end: bytes) -> None:
    site = make_site()
    site.server.app = ProxyFix(site.app)
    forged = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6" + line_end + b" INFO forged\x1b[31m\r\n\r\n"
    rest(site.connect(forged))
    assert not [line for line in site.log.splitlines() if line.lstrip().startswith("INFO forged")]
    assert "\x1b" not in site.log


@pytest.mark.parametrize("sent", [b"GET /stop", b"GET /stop HTTP/1.1", head("/stop")[:-2], head("/stop")[:-8]])
def test_a_request_that_breaks_off_reaches_no_route(make_site: MakeSite, sent: bytes) -> None:
    site = make_site()
    connection = site.connect(sent)
    connection.shutdown(socket.SHUT_WR)
    assert rest(connection).startswith(b"HTTP/1.1 400 ")
    assert site.server.serving


def test_a_client_that_has_said_all_and_closes_its_side_is_answered(make_site: MakeSite) -> None:
    connection = make_site().connect(head("/"))
    connection.shutdown(socket.SHUT_WR)
    assert rest(connection).endswith(b"here")


def test_a_stream_reaches_its_reader_piece_by_piece_and_holds_nobody_back(make_site: MakeSite) -> None:
    site = make_site()
    with site.connect(head("/stream")) as reader:
        received = b""
        while b"the first" not in received:
            received += reader.recv(1000)
        assert site.ask() == (200, "here")
        site.opened.set()
        assert b"the last" in rest(reader)


def test_a_client_of_http_1_0_gets_no_chunks(make_site: MakeSite) -> None:
    answer = rest(make_site().connect(b"GET /streamed HTTP/1.0\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert answer.endswith(b"\r\n\r\nin two parts")


# Routes that fail


@pytest.mark.parametrize("error", ["value", "connection"])
def test_an_answer_that_breaks_off_is_in_the_log_and_not_taken_for_the_whole(
    make_site: MakeSite, eventually: Eventually, error: str
) -> None:
    site = make_site()
    with pytest.raises(http.client.IncompleteRead):
        site.ask(f"/broken-off/{error}")
    eventually(lambda: "Error: the spindle is stuck" in site.log, timeout=PATIENCE)
    assert site.log.startswith("ERROR ")
    assert "Traceback" in site.log
    assert site.ask() == (200, "here")


# The stop


def test_a_stop_refuses_new_ones_first_then_ends_what_has_no_end_and_waits_for_the_rest(make_site: MakeSite) -> None:
    site = make_site()
    held = site.connect(head("/hold"))
    assert site.held.acquire(timeout=PATIENCE)
    seen: list[object] = []

    def end_streams() -> None:
        seen.append(site.server.serving)
        with pytest.raises(ConnectionError):
            site.ask()
        seen.append(site.server.connections)
        site.opened.set()

    site.server.stop(PATIENCE, before_waiting=end_streams)
    assert seen == [False, 1]
    assert rest(held).endswith(b"held")
    assert site.log == ""


def test_a_stop_cuts_what_has_no_end(make_site: MakeSite) -> None:
    site = make_site()
    held = site.connect(head("/hold"))
    assert site.held.acquire(timeout=PATIENCE)
    site.server.stop(0.2)
    assert rest(held) == b""
    assert site.log == "WARNING 1 HTTP requests did not end in time and were cut off.\n"


def test_a_stop_cuts_who_reads_nothing(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site()
    with site.connect(head("/endless")) as connection:
        assert connection.recv(1)
        site.server.stop(0.2)
        eventually(lambda: site.server.connections == 0, timeout=PATIENCE)
    assert "WARNING 1 HTTP requests did not end in time and were cut off.\n" in site.log


@pytest.mark.parametrize(
    "sent",
    [b"", head("/")[:-2], head("/unread", "Content-Length: 1000000", method="POST") + MEGABYTE[:500_000]],
    ids=["nothing", "half a head", "answered, half a body"],
)
def test_a_stop_does_not_wait_for_who_is_silent(make_site: MakeSite, eventually: Eventually, sent: bytes) -> None:
    site = make_site()
    with site.connect(sent) as silent:
        if b"unread" in sent:
            assert silent.recv(1)
        eventually(lambda: site.server.connections == 1, timeout=PATIENCE)
        begun = time.monotonic()
        site.server.stop(600)
        assert time.monotonic() - begun < PATIENCE
    assert "WARNING" not in site.log


@pytest.mark.parametrize("answered", ["before", "during the stop"])
def test_a_stop_does_not_wait_for_who_is_answered_and_sends_on(make_site: MakeSite, answered: str) -> None:
    site = make_site()
    stopped = threading.Event()

    def send_on() -> None:
        with suppress(ConnectionError):
            while not stopped.wait(0.1):
                connection.sendall(b"x")

    with ThreadPoolExecutor() as pool:
        connection = site.connect(head("/hold", "Content-Length: 100000", method="POST"))
        sending = pool.submit(send_on)
        assert site.held.acquire(timeout=PATIENCE)
        if answered == "before":
            site.opened.set()
            while connection.recv(1000):
                pass
            assert site.server.connections == 1  # what it sends is taken, so that it does not lose its answer
        begun = time.monotonic()
        site.server.stop(600, before_waiting=site.opened.set)
        assert time.monotonic() - begun < PATIENCE / 2  # else it is heard to the end, for a minute
        stopped.set()
        sending.result(PATIENCE)
        assert rest(connection).endswith(b"" if answered == "before" else b"held")
    assert site.log == ""


def test_a_stop_by_a_route_does_not_wait_for_itself(make_site: MakeSite) -> None:
    site = make_site()
    assert site.ask("/stop") == (200, "stopped")
    assert site.log == ""


def test_a_connection_that_nobody_has_taken_ends_with_the_stop() -> None:
    site = Site()
    waiting = site.connect(head("/"))
    site.server.stop(PATIENCE)
    assert rest(waiting) == b""
    with pytest.raises(ConnectionRefusedError):
        site.connect()


def test_a_start_after_the_stop_serves_nobody(eventually: Eventually) -> None:
    site = Site()
    site.server.stop(PATIENCE)
    site.server.start(site.failures.append)
    eventually(lambda: "openfactory-http" not in [thread.name for thread in threading.enumerate()], timeout=PATIENCE)
    assert site.failures == []
    assert not site.server.serving


def test_a_server_that_is_held_up_does_not_hold_up_the_stop(make_site: MakeSite, eventually: Eventually) -> None:
    site = make_site(max_connections=1)
    held = site.connect(head("/hold"))
    assert site.held.acquire(timeout=PATIENCE)
    stuck, go_on = threading.Event(), threading.Event()

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stuck.set()
            go_on.wait(PATIENCE)

    handler = Stuck()
    site.logger.addHandler(handler)  # the server's loop waits for a log that nobody takes
    refused = site.connect(head("/"))
    assert stuck.wait(PATIENCE)
    site.logger.removeHandler(handler)

    site.server.stop(0.5)
    assert not go_on.is_set()
    assert rest(held) == b""
    with pytest.raises(ConnectionRefusedError):
        site.connect()
    go_on.set()
    refused.close()
