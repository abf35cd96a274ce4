"""Reject chunked request bodies above the limit instead of truncating them."""

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

    For a chunked body, werkzeug's class reads the first MAX_CONTENT_LENGTH bytes and ignores the rest. Without that
    limit, it raises an error that is not an HTTP error if the client disconnects.
    """

    class StrictRequest(request_class):  # type: ignore[misc, valid-type]
        @cached_property
        def stream(self) -> IO[bytes]:
            stream: IO[bytes] = super().stream
            if self.content_length is not None or not self.environ.get("wsgi.input_terminated"):
                return stream
            limit = sys.maxsize if self.max_content_length is None else self.max_content_length
            return cast("IO[bytes]", _StrictStream(self.environ["wsgi.input"], limit, is_max=True))

    return cast("type[RequestClass]", StrictRequest)


class _StrictStream(LimitedStream):
    """Stream that raises an error for data above its limit, however it is read. Data of exactly the limit is valid."""

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
