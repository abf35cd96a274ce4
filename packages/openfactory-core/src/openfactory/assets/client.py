"""The client by which an asset or a factory finds its engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Client", "UrlClient"]


class Client(Protocol):
    """The part of a `KSQLDBClient` that an asset needs."""

    ksqldb_url: str


@dataclass(slots=True)
class UrlClient:
    """A client that is only a URL; servers and credentials come from the environment."""

    ksqldb_url: str
