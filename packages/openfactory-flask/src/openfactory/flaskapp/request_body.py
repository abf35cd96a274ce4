"""A body that is sent in chunks, and is longer than the limit, is refused: never taken for one that ends there."""

from __future__ import annotations

import sys
from typing import IO, cast

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.utils import cached_property
from werkzeug.wsgi import LimitedStream

__all__ = ["with_whole_bodies"]


def with_whole_bodies(request_class: type[Request]) -> type[Request]:
    """Derive a request class whose `data` and `json` are all that was sent, or an error with status 413.

    Where the length is not announced, werkzeug's own hold the first MAX_CONTENT_LENGTH bytes, or without that limit
    raise what is no error of HTTP when the client breaks off.
    """

    class WholeRequest(request_class):  # type: ignore[misc, valid-type]
        @cached_property
        def stream(self) -> IO[bytes]:
            stream: IO[bytes] = super().stream
            if self.content_length is not None or not self.environ.get("wsgi.input_terminated"):
                return stream
            limit = sys.maxsize if self.max_content_length is None else self.max_content_length
            return cast("IO[bytes]", _WholeStream(self.environ["wsgi.input"], limit, is_max=True))

    return WholeRequest


class _WholeStream(LimitedStream):
    """Reads up to a limit; more than that is an error, also for who reads all at once, and an end there is none."""

    def on_exhausted(self) -> None:
        try:
            if self._stream.read(1):
                raise RequestEntityTooLarge
        except OSError as error:
            self.on_disconnect(error)

    def readall(self) -> bytes:
        data = super().readall()
        if self.is_exhausted:
            self.on_exhausted()
        return data
