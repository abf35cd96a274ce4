"""The head of a request: its request line and its headers, as RFC 9112 has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from urllib.parse import unquote_to_bytes, urlsplit

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

__all__ = ["TOKEN", "HeadParser", "RequestError", "RequestHead"]

_MAX_HEAD_BYTES = 65_536
_MAX_HEADERS = 100

#: Pattern of a method, and of the name of a header.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%s) +(\S+) +HTTP/(\d)\.(\d)" % TOKEN)
_METHOD = re.compile(TOKEN + rb" ")
_HOST = re.compile(rb"[^\s/?#@,\\]*")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class RequestError(Exception):
    """A request that cannot be answered by the application.

    Args:
        status: status of the response.
        sentence: text of the response, with the remedy.
    """

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass
class RequestHead:
    """The head of a request.

    Attributes:
        method: method, such as `GET`.
        target: target as the client has sent it.
        version: `HTTP/1.1` or `HTTP/1.0`.
        headers: name and value of each header.
        keep_alive: whether the client would send further requests on the connection.
        content_length: length of the body, 0 without a body, None in chunks.
        expects_continue: whether the client waits for `100 Continue` before it sends the body.
        host: value of Host, None without that header.
    """

    method: str
    target: str
    version: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    content_length: int | None = 0
    expects_continue: bool = False
    host: str | None = None

    @cached_property
    def _parts(self) -> tuple[str, str]:
        path, _, query = self.target.partition("#")[0].partition("?")
        if path.startswith("/") or path == "*":
            return path, query
        url = urlsplit(self.target)
        return url.path or "/", url.query

    @property
    def path(self) -> str:
        """Decoded path, as PEP 3333 has it: each character is a byte."""
        path = self._parts[0]
        return unquote_to_bytes(path.encode("latin-1")).decode("latin-1") if "%" in path else path

    @property
    def query(self) -> str:
        """The part of the target after the question mark."""
        return self._parts[1]

    @property
    def request_line(self) -> str:
        """The request line, for the log."""
        return f"{self.method} {self.target} {self.version}"


class HeadParser:
    """Parser of the heads of a connection, which gets them in parts of any size.

    httptools rejects what is not valid by itself. It does not know limits, the rules for Host, and the codings and
    methods that the server has.
    """

    def __init__(self) -> None:
        self._parser = HttpRequestParser(self)
        self._offers_upgrade = False
        self._received = b""
        self._begin()

    @property
    def begun(self) -> bool:
        """Whether a part of a head has arrived."""
        return bool(self._received)

    def feed(self, data: bytes) -> tuple[RequestHead | None, bytes]:
        """Take received bytes.

        Returns:
            The head if it is complete by now, and the bytes after it.

        Raises:
            RequestError: the head is not valid.
        """
        before = len(self._received)
        if not before:
            data = data.lstrip(b"\r\n")  # empty lines before a request line are ignored
        received = self._received = self._received + data
        end = received.find(b"\r\n\r\n", max(before - 3, 0)) + 4
        if end < 4:
            self._check_size(len(received))
            self._parse(data)
            return None, b""
        self._check_size(end)
        self._parse(received[before:end])
        head = self._head_of()
        self._begin()
        if head.content_length != 0 or self._offers_upgrade:
            self._parser = HttpRequestParser(self)  # the other one takes what follows as the body
            self._offers_upgrade = False
        return head, received[end:]

    def end(self) -> None:
        """Take notice that the client sends no more.

        Raises:
            RequestError: a part of a head has arrived.
        """
        if self._received:
            raise RequestError(HTTPStatus.BAD_REQUEST, "The head of the request is not complete. Send it again.")

    # Called by httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers.append((name, value.rstrip(b" \t")))  # httptools keeps the blanks at its end

    def on_headers_complete(self) -> None:
        """Take notice of the end of the head."""
        self._keep_alive = self._parser.should_keep_alive()

    # Internals

    def _begin(self) -> None:
        self._received = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._keep_alive = False
        self._line: re.Match[bytes] | None = None
        self._error: HttpParserError | None = None

    def _check_size(self, size: int) -> None:
        if size > _MAX_HEAD_BYTES:
            if b"\r\n" in self._received[:_MAX_HEAD_BYTES]:
                raise RequestError(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    f"The headers are too large. Send at most {_MAX_HEAD_BYTES} bytes of them.",
                )
            raise RequestError(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"The path is too long. Send at most {_MAX_HEAD_BYTES} bytes of it."
            )

    def _parse(self, data: bytes) -> None:
        """Let httptools parse the next bytes of the head, and check the request line."""
        if self._line is None:
            if not data.isascii() and not self._received[: -len(data)].endswith(b"\r"):  # else the line is complete
                data = self._quoted(data)
            end = self._received.find(b"\r\n")
            if end >= 0:
                self._line = self._checked_line(self._received[:end])
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._offers_upgrade = True  # a route may accept the offer; else the request is like any other
        except HttpParserInvalidMethodError as error:
            raise self._invalid_method() from error
        except HttpParserError as error:
            if b"\r\n\r\n" not in self._received:
                raise _invalid(error) from error
            self._error = error  # the checks of a complete head may know it better

    def _quoted(self, data: bytes) -> bytes:
        """Quote the characters of a path that are not ASCII, which curl sends as they are."""
        line, end, rest = data.partition(b"\r\n")
        return _NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], line) + end + rest

    def _checked_line(self, line: bytes) -> re.Match[bytes]:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            if not line[:1].isalpha():
                raise self._invalid_method()
            raise RequestError(
                HTTPStatus.BAD_REQUEST, "The request line is not valid. Send a method, a path and HTTP/1.1."
            )
        if match[3] != b"1" or match[4] not in b"01":
            version = line.rpartition(b" ")[2].decode("ascii", "backslashreplace")
            raise RequestError(
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"{version} is not supported. Send the request as HTTP/1.1."
            )
        return match

    def _invalid_method(self) -> RequestError:
        if _METHOD.match(self._received):
            return RequestError(
                HTTPStatus.NOT_IMPLEMENTED, "The method is not known. Send a registered method in capital letters."
            )
        return RequestError(
            HTTPStatus.BAD_REQUEST, "This is not HTTP. This port serves HTTP: use http://, not https://."
        )

    def _head_of(self) -> RequestHead:
        """Return the complete head, after the checks that httptools does not make."""
        line = self._line
        if line is None:  # cannot happen after a complete head
            raise RequestError(HTTPStatus.BAD_REQUEST, "The request has no request line.")
        head = RequestHead(
            line[1].decode("ascii"),
            line[2].decode("latin-1"),
            "HTTP/1.1" if line[4] == b"1" else "HTTP/1.0",
            self._headers,
            self._keep_alive,
        )
        if len(self._headers) > _MAX_HEADERS:
            raise RequestError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"Too many headers. Send at most {_MAX_HEADERS}."
            )
        self._read_headers(head)
        if self._error is not None:
            raise _invalid(self._error) from self._error
        _check_target(head)
        return head

    def _read_headers(self, head: RequestHead) -> None:
        """Check the headers that tell how to read the request."""
        for name, value in self._headers:
            if len(name) not in _LENGTHS_OF_NAMES:
                continue
            match name.lower():
                case b"host":
                    if head.host is not None or not _HOST.fullmatch(value):
                        raise RequestError(HTTPStatus.BAD_REQUEST, "Host is not valid. Send one Host, with one host.")
                    head.host = value.decode("latin-1")
                case b"connection" if b"close" in value.lower():
                    head.keep_alive = False  # also if the header asks for both
                case b"content-length" if self._error is None:
                    head.content_length = int(value.lstrip(b"0") or b"0")  # Python converts 4,300 digits at most
                case b"transfer-encoding":
                    _check_coding(value, head.version)
                    head.content_length = None
                case b"expect" if head.version == "HTTP/1.1":
                    if value.lower() != b"100-continue":
                        raise RequestError(
                            HTTPStatus.EXPECTATION_FAILED, "Expect is not valid. Send 100-continue, or nothing."
                        )
                    head.expects_continue = True
        if head.host is None and head.version == "HTTP/1.1" and self._error is None:
            raise RequestError(HTTPStatus.BAD_REQUEST, "The header Host is missing. Send it with the host.")


_LENGTHS_OF_NAMES = frozenset(map(len, ("host", "connection", "content-length", "transfer-encoding", "expect")))


def _check_coding(coding: bytes, version: str) -> None:
    codings = [name.strip(b" \t").lower() for name in coding.split(b",")]
    if codings == [b"chunked"]:
        if version == "HTTP/1.0":
            raise RequestError(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding. Send Content-Length.")
    elif not {b"chunked"}.issuperset(codings):
        raise RequestError(
            HTTPStatus.NOT_IMPLEMENTED, "The Transfer-Encoding is not known. Send chunked, or Content-Length."
        )


def _check_target(head: RequestHead) -> None:
    target = head.target
    if head.method == "CONNECT":
        raise RequestError(HTTPStatus.NOT_IMPLEMENTED, "This server is not a proxy. Send the request to a proxy.")
    if target.startswith("/") or (target == "*" and head.method == "OPTIONS"):
        return
    try:
        url = urlsplit(target)
    except ValueError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"The path is not valid: {error}. Send a path.") from error
    if url.scheme not in ("http", "https") or not _HOST.fullmatch(url.netloc.encode("latin-1")) or not url.netloc:
        raise RequestError(HTTPStatus.BAD_REQUEST, "The path is not valid. Send a path that begins with a slash.")
    head.host = url.netloc  # takes precedence over Host


def _invalid(error: HttpParserError) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, f"The request is not valid: {error}. Send it as RFC 9112 says.")
