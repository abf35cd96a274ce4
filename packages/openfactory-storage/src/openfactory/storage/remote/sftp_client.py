"""A client of SFTP for names in any encoding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from openfactory.storage.remote.any_utf8 import ANY_UTF8

__all__ = ["with_any_names"]


@cache
def with_any_names(client: Any) -> Any:
    """Return a subclass of the client of paramiko whose names may be any bytes, see `any_utf8`.

    The client of paramiko cannot list a folder with a name that is not UTF-8. Its package is an extra, so this module
    does not import it.
    """

    class AnyNameClient(client):  # type: ignore[misc]
        has_odd_names = False

        def listdir_iter(self, path: str = ".", read_aheads: int = 50) -> Iterator[Any]:
            if not self.has_odd_names:
                try:  # the client of paramiko requests many blocks of a folder at once
                    yield from list(super().listdir_iter(path, read_aheads))
                    return
                except UnicodeDecodeError:
                    self.has_odd_names = True
            yield from self.listdir_attr(path)

        def normalize(self, path: str) -> str:
            real = super().normalize(path)
            return real if isinstance(real, str) else real.decode(ANY_UTF8)

        def _request(self, kind: int, *arguments: Any) -> tuple[int, Any]:
            answer, message = super()._request(kind, *arguments)
            plain: Any = type(message)
            message.__class__ = _with_any_text(plain)  # the client of paramiko has created the message
            return answer, message

        def _adjust_cwd(self, path: str | bytes) -> Any:
            return super()._adjust_cwd(path.encode(ANY_UTF8) if isinstance(path, str) else path)

    return AnyNameClient


@cache
def _with_any_text(message: Any) -> Any:
    """Return a subclass of the message of paramiko whose texts may be any bytes."""

    class AnyTextMessage(message):  # type: ignore[misc]
        def get_text(self) -> str:
            return str(self.get_string().decode(ANY_UTF8))

    return AnyTextMessage
