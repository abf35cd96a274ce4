"""The settings of what is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from openfactory.storage.filesystems import Address

__all__ = ["RemoteConfiguration"]


class RemoteConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="fsspec"):
    """The settings of an `fsspec` storage.

    Attributes:
        url: protocol and place, such as `s3://bucket/folder` or `sftp://host/folder`.
        options: what the protocol's filesystem takes, such as `{"key": "…", "secret": "${S3_SECRET}"}`; a text
            `${NAME}` stands for an environment variable, here and in the URL.
        read_only: whether writing is refused.
        description: for people.
    """

    url: str
    options: dict[str, Any] = {}
    read_only: bool = False
    description: str | None = None

    def __post_init__(self) -> None:
        Address.of(self.url, self.options)

    def __repr__(self) -> str:
        """Without what may be a secret."""
        return f"{type(self).__name__}({str(Address.of(self.url, self.options))!r})"

    def __rich_repr__(self) -> Iterator[tuple[str, str]]:  # type: ignore[override]
        """The same for rich, which looks at the fields otherwise."""
        yield "url", str(Address.of(self.url, self.options))
