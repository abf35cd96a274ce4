"""Requests as RFC 9112 has them: what is valid, what is not, and which of them leave the connection open."""

from __future__ import annotations

import gzip
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import http_site
from http_site import MEGABYTE, PATIENCE, MakeSite, Site, head, rest

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOST = b"Host: x\r\n"
CLOSE = HOST + b"Connection: close\r\n"
POST = b"POST /body HTTP/1.1\r\n" + CLOSE
EXACTLY = b"POST /exactly HTTP/1.1\r\n" + CLOSE
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site()


def statuses(received: bytes) -> list[bytes]:
    """The status of each response."""
    return [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Content-Length: +4\r\n\r\nbody",
        POST + b"Content-Length: -4\r\n\r\nbody",
        POST + b"Content-Length: 0x4\r\n\r\nbody",
        POST + b"Content-Length: 0_4\r\n\r\nbody",
        POST + b"Content-Length: \r\n\r\nbody",
        POST + b"Content-Length: 4, 4\r\n\r\nbody",
        POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\nbody",
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A : b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b" X-A: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\x1bb\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X\x00A: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\rX-B: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\nX-B: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b": no name\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /a\x00b HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /\x1b[31m HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET ftp://x/ HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / RTSP/1.0\r\n\r\n",
        CHUNKED + b"0x4\r\nbody\r\n0\r\n\r\n",
        CHUNKED + b"-4\r\nbody\r\n0\r\n\r\n",
        CHUNKED + b"ffffffffffffffff\r\nbody\r\n0\r\n\r\n",
        CHUNKED + b"4\nbody\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nbody\r\n0\r\n\r\n",
        CHUNKED + b"4;" + b"x" * 10_000 + b"\r\nbody\r\n0\r\n\r\n",
        CHUNKED + b"4\r\nbody\r\n0\r\nno colon\r\n\r\n",
        CHUNKED + b"4\r\nbody\r\n0\r\n" + b"X-Many: x\r\n" * 10_000 + b"\r\n",
    ],
)
def test_an_invalid_request_gets_one_response_with_a_sentence(site: Site, sent: bytes) -> None:
    received = rest(site.connect(sent + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"))
    assert statuses(received) == [b"400"]
    assert b"\r\nConnection: close\r\n" in received
    assert b". " in received.partition(b"\r\n\r\n")[2]  # what is wrong, and the remedy
    assert b"Server:" not in received


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501"),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", b"501"),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", b"501"),
        (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", b"501"),
        (b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n", b"501"),
        (b"GET / HTTP/1.9\r\n" + HOST + b"\r\n", b"505"),
        (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", b"505"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (POST + b"Expect: 200-ok\r\nContent-Length: 4\r\n\r\nbody", b"417"),
    ],
)
def test_an_unknown_feature_is_refused(site: Site, sent: bytes, status: bytes) -> None:
    assert statuses(rest(site.connect(sent))) == [status]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (CHUNKED + b"4\r\nbody\r\n0\r\n\r\n", b"4"),
        (CHUNKED + b'4;sum="a;b"\r\nbody\r\n0;last\r\n\r\n', b"4"),
        (CHUNKED + b"4\r\nbody\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n", b"4"),
        (CHUNKED + b"00004 \r\nbody\r\nA\r\n0123456789\r\n000\r\n\r\n", b"14"),
        (POST + b"transfer-encoding:\tChunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", b"4"),
        (POST + b"Content-Length:  4  \r\n\r\nbody", b"4"),
        (POST + b"Content-Length: " + b"0" * 5_000 + b"4\r\n\r\nbody", b"4"),
        (b"GET / HTTP/1.1\r\nHost: x \t\r\nConnection: close\r\n\r\n", b"here"),
        (POST + b"Transfer_Encoding: chunked\r\nContent-Length: 4\r\n\r\nbody", b"4"),
        (POST + b"Upgrade: h2c\r\nHTTP2-Settings: x\r\nContent-Length: 4\r\n\r\nbody", b"4"),
        (EXACTLY + b"Content-Length: 12\r\n\r\n0123456\n8901", b"012345,6\n8901"),
        (EXACTLY + b"Transfer-Encoding: chunked\r\n\r\n3\r\n012\r\n9\r\n3456\n8901\r\n0\r\n\r\n", b"012345,6\n8901"),
        (b"\r\n\r\nGET / HTTP/1.1\r\n" + CLOSE + b"\r\n", b"here"),
        (b"GET http://y/ HTTP/1.1\r\n" + CLOSE + b"\r\n", b"here"),
        (b"GET /?a=\xc3\xa4 HTTP/1.1\r\n" + CLOSE + b"\r\n", b"here"),
        (b"GET /echo/\xc3\xa4//%C3%A4 HTTP/1.1\r\n" + CLOSE + b"\r\n", "x ä//ä".encode()),
        (b"GET http://y:81/echo/a HTTP/1.1\r\n" + CLOSE + b"\r\n", b"y:81 a"),
        (b"GET / HTTP/1.0\r\n\r\n", b"here"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", b"here"),
    ],
)
def test_a_valid_request_is_answered_however_its_bytes_arrive(site: Site, sent: bytes, text: bytes) -> None:
    at_once = rest(site.connect(sent)).partition(b"\r\n\r\n")[2]
    connection = site.connect()
    for number in range(len(sent)):
        connection.sendall(sent[number : number + 1])
    assert [at_once, rest(connection).partition(b"\r\n\r\n")[2]] == [text, text]


def test_a_connection_carries_requests_in_order(site: Site) -> None:
    further = b"GET /echo/1 HTTP/1.1\r\n" + HOST + b"\r\n"
    body = b"POST /body HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    unread = b"POST /unread HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
    nothing = b"HEAD /echo/2 HTTP/1.1\r\n" + HOST + b"\r\n"
    received = rest(site.connect((further + body + unread + nothing) * 20 + head("/echo/3")))
    texts = [b"x 1", b"3", b"not needed", b""] * 20 + [b"site.example 3"]
    answers = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == texts
    assert received.count(b"Connection: close") == 1


def test_a_connection_is_used_again_with_a_pause_and_by_http_1_0(site: Site) -> None:
    with site.connect() as connection, connection.makefile("rb") as answers:
        for pause in (0, 0, 1.2):  # the last is longer than a thread waits for the next request
            connection.settimeout(pause or PATIENCE)
            if pause:
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(PATIENCE)
                continue
            connection.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            lines = [answers.readline() for _ in range(6)]
            assert b"Connection: keep-alive\r\n" in lines
            assert answers.read(4) == b"here"
        connection.sendall(head("/"))
        assert rest(connection).endswith(b"here")
    assert site.log == ""


@pytest.mark.parametrize("path", ["/unread", "/body"])
def test_a_body_that_is_not_read_is_never_taken_for_a_request(site: Site, path: str) -> None:
    """The route does not read, or the body is too large: the rest of it comes later, and looks like a request."""
    with site.connect(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n".encode()) as connection:
        received = connection.recv(10_000)
        connection.sendall(b"GET /stop HTTP/1.1\r\nHost: x\r\n\r\n" + MEGABYTE)
        received += rest(connection)
    assert statuses(received) == [b"200" if path == "/unread" else b"413"]
    assert b"Connection: close" in received
    assert site.server.serving


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/length/3", b"abc"),
        ("/length/5", b"abcde"),
        ("/length/9", b"abcde"),
        ("/endless/3", b"xxx"),
    ],
)
def test_a_wrong_length_of_a_route_does_not_reach_the_next_response(site: Site, path: str, text: bytes) -> None:
    received = rest(site.connect(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + head("/")))
    first, _, others = received.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1")
    assert first == text
    assert others.endswith(b"here") == (path == "/length/5")
    assert ("than its Content-Length" in site.log) == (path != "/length/5")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(site: Site, status: int) -> None:
    received = rest(site.connect(f"GET /status/{status} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + head("/")))
    assert statuses(received) == [str(status).encode(), b"200"]
    assert b"text" not in received.partition(b"HTTP/1.1 200")[0].partition(b"\r\n\r\n")[2]
    assert b"Transfer-Encoding" not in received


def test_no_value_of_one_request_is_seen_by_the_next_on_the_same_thread(site: Site) -> None:
    received = rest(site.connect(b"GET /thread HTTP/1.1\r\nHost: x\r\n\r\n" + head("/thread")))
    (first, before), (second, then) = (
        answer.partition(b"\r\n\r\n")[2].split() for answer in received.split(b"HTTP/1.1 ")[1:]
    )
    assert first == second  # else it says nothing
    assert [before, then] == [b"nothing", b"nothing"]


def test_a_file_arrives_whole_and_in_part(site: Site) -> None:
    sent = b"GET /file HTTP/1.1\r\nHost: x\r\n\r\nGET /file HTTP/1.1\r\nHost: x\r\nRange: bytes=-3\r\n\r\n"
    received = rest(site.connect(sent + head("/file", method="HEAD")))
    assert statuses(received) == [b"200", b"206", b"200"]
    whole = Path(http_site.__file__).read_bytes()
    assert received.count(whole) == 1
    assert received.count(b"\r\n\r\n" + whole[-3:] + b"HTTP/1.1 200 ") == 1


def test_an_upgraded_connection_belongs_to_the_route(make_site: MakeSite) -> None:
    site = make_site(silence_timeout=0.3)
    with site.connect(head("/upgrade", "Upgrade: echo")) as connection:
        assert connection.recv(100) == b"welcome"
        connection.settimeout(1)
        with pytest.raises(TimeoutError):  # longer than another client may be silent
            connection.recv(1)
        connection.settimeout(PATIENCE)
        assert site.server.connections == 1
        connection.sendall(b"ping")
        assert connection.recv(100) == b"ping"
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b""
    assert site.log == ""


def test_a_look_at_the_socket_does_not_take_the_connection(site: Site) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        client = environ["werkzeug.socket"]
        start_response("200 OK", [("Content-Length", "3")])
        assert not hasattr(client, "__html__")
        assert client.fileno() > 0
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        site.opened.set()
        while True:
            with suppress(TimeoutError):  # the body has not arrived yet
                return [client.recv(3, socket.MSG_PEEK)]

    site.server.app = application
    with site.connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n") as connection:
        assert site.opened.wait(PATIENCE)
        connection.sendall(b"one")
        assert rest(connection).endswith(b"\r\n\r\none")


def test_a_body_is_there_for_a_route_that_has_begun_its_response(site: Site) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"read "
        yield environ["wsgi.input"].read()

    site.server.app = application
    sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
    received = rest(site.connect(sent + sent.replace(b"one", b"two")))
    assert statuses(received) == [b"200", b"200"]
    assert (received.count(b"read "), received.count(b"one"), received.count(b"two")) == (2, 1, 1)


def test_a_compressed_file_is_sent_as_its_content(site: Site, tmp_path: Path) -> None:
    (tmp_path / "log.gz").write_bytes(gzip.compress(b"the content"))

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "11")])
        file = gzip.open(tmp_path / "log.gz")  # noqa: SIM115 - the server closes it
        parts: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return parts

    site.server.app = application
    assert rest(site.connect(head("/"))).endswith(b"\r\n\r\nthe content")


def test_an_unforeseen_error_about_one_client_does_not_end_the_server(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a head that nobody thought of")

    with monkeypatch.context() as patch:
        patch.setattr("openfactory.flaskapp.http.request_head.HeadParser.feed", fail)
        assert rest(site.connect(head("/"))) == b""
    assert site.ask("/") == (200, "here")
    assert site.log.startswith("ERROR A connection from 127.0.0.1 failed.\nTraceback")


def test_a_stop_ends_an_upgraded_connection(make_site: MakeSite) -> None:
    site = make_site()
    with site.connect(head("/upgrade", "Upgrade: echo")) as connection:
        assert connection.recv(100) == b"welcome"
        site.server.stop(PATIENCE)
        assert rest(connection) == b""
    assert site.log == ""


def raises(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise ValueError("the spindle is stuck")


def has_a_line_break(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("X-Name", "a\r\nSet-Cookie: b")])
    return [b"text"]


def has_no_number(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("OK", [])
    return [b"text"]


def does_not_start(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return [b"text"]


def starts_twice(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"text"]


@pytest.mark.parametrize("application", [raises, has_a_line_break, has_no_number, does_not_start, starts_twice])
def test_an_application_that_fails_is_logged_and_answered_with_500(site: Site, application: WSGIApplication) -> None:
    site.server.app = application
    received = rest(site.connect(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert statuses(received) == [b"500"]
    assert b"Set-Cookie" not in received
    assert site.log.startswith("ERROR A request from 127.0.0.1 failed.\nTraceback")


def test_an_application_may_write_and_replace_its_response(site: Site) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("X-First", "1")])
        try:
            raise ValueError("too late")
        except ValueError:
            write = start_response("418 Teapot", [("Date", "today"), ("Transfer-Encoding", "x")], sys.exc_info())
        write(b"one ")
        return [b"two"]

    site.server.app = application
    received = rest(site.connect(head("/")))
    assert received.startswith(b"HTTP/1.1 418 Teapot\r\nDate: today\r\nTransfer-Encoding: chunked\r\n")
    assert received.endswith(b"\r\n\r\n4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n")
