"""The settings of the storage type `fsspec`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from openfactory.storage.remote.filesystems import Address

__all__ = ["RemoteConfiguration"]


class RemoteConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="fsspec"):
    """The settings of an `fsspec` storage.

    Attributes:
        url: protocol and location, such as `s3://bucket/folder` or `sftp://host/folder`.
        options: arguments of the protocol's filesystem, such as `{"key": "…", "secret": "${S3_SECRET}"}`. `${NAME}` is
            replaced by the value of the environment variable, here and in the URL.
        read_only: whether methods that write raise `ReadOnlyStorageError`.
        description: a text for the reader of the settings.
    """

    url: str
    options: dict[str, Any] = {}
    read_only: bool = False
    description: str | None = None

    def __post_init__(self) -> None:
        Address.of(self.url, self.options)

    def __repr__(self) -> str:
        """Return the URL without the login and the options, which may be secret."""
        return f"{type(self).__name__}({str(Address.of(self.url, self.options))!r})"

    def __rich_repr__(self) -> Iterator[tuple[str, str]]:  # type: ignore[override]
        """Yield the URL without secrets for rich, which would show all fields otherwise."""
        yield "url", str(Address.of(self.url, self.options))
