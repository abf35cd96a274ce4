"""A client of SFTP for names in any encoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import paramiko

from openfactory.storage.remote.any_utf8 import ANY_UTF8

__all__ = ["AnyNameClient"]


class AnyNameClient(paramiko.SFTPClient):  # type: ignore[misc]
    """Client of SFTP whose names may be any bytes. A byte that is not UTF-8 is a surrogate, as on this machine.

    The client of paramiko cannot list a folder with such a name.
    """

    def listdir_iter(self, path: str = ".", read_aheads: int = 50) -> Iterator[Any]:  # noqa: ARG002
        """Yield the attributes of the files in a folder."""
        yield from self.listdir_attr(path)

    def normalize(self, path: str) -> str:
        """Return the path on the server after its links are resolved."""
        real = super().normalize(path)
        return real if isinstance(real, str) else _text(real)

    def _request(self, kind: int, *arguments: Any) -> tuple[int, Any]:
        answer, message = super()._request(kind, *arguments)
        message.get_text = lambda: _text(message.get_string())
        return answer, message

    def _adjust_cwd(self, path: str | bytes) -> Any:
        return super()._adjust_cwd(path.encode(ANY_UTF8) if isinstance(path, str) else path)


def _text(name: bytes) -> str:
    return name.decode(ANY_UTF8)
