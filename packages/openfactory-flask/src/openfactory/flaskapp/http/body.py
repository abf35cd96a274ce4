"""Reject request bodies above the limit, and read them in one piece."""

from __future__ import annotations

import sys
from typing import IO, TypeVar, cast

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.utils import cached_property
from werkzeug.wrappers import Request
from werkzeug.wsgi import LimitedStream

__all__ = ["strict_request_class"]

RequestClass = TypeVar("RequestClass", bound=Request)


def strict_request_class(request_class: type[RequestClass]) -> type[RequestClass]:
    """Derive a request class whose `data` and `json` are the complete body, or raise an error with the status 413.

    For a chunked body, werkzeug's class reads the first MAX_CONTENT_LENGTH bytes and ignores the rest. It also reads a
    whole body in small parts, which need twice its memory, and more than the server knows of.
    """

    class StrictRequest(request_class):  # type: ignore[misc, valid-type]
        @cached_property
        def stream(self) -> IO[bytes]:
            stream: IO[bytes] = super().stream
            if not self.environ.get("wsgi.input_terminated"):
                return stream
            limit = sys.maxsize if self.max_content_length is None else self.max_content_length
            return cast("IO[bytes]", _StrictStream(self.environ["wsgi.input"], limit, is_max=True))

    return cast("type[RequestClass]", StrictRequest)


class _StrictStream(LimitedStream):
    """Stream that raises an error for data above its limit, however it is read. Data of exactly the limit is valid."""

    def on_exhausted(self) -> None:
        if self._stream.read(1):
            raise RequestEntityTooLarge

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a part in one piece: the base class would allocate its whole size, and return less."""
        if size is None or size < 0:
            return self.readall()
        if self.is_exhausted and size:
            self.on_exhausted()
        data = self._stream.read(min(size, self.limit - self._pos))
        self._pos += len(data)
        return data

    def readall(self) -> bytes:
        data = self._stream.read(min(self.limit - self._pos + 1, sys.maxsize))
        self._pos += len(data)
        if self._pos > self.limit:
            raise RequestEntityTooLarge
        return data
