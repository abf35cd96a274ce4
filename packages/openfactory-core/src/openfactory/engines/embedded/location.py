"""The URL of an embedded engine: a file or a name in memory, and the options after the `?`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from openfactory.exceptions import ConfigurationError

__all__ = ["Location"]

_OPTIONS = "synchronous=normal|full, keep_events=N, keep_days=N"


@dataclass(frozen=True, slots=True)
class Location:
    """The file or the name in memory of an embedded engine, and its options.

    Attributes:
        path: the file, or None for an engine in memory.
        name: name of an engine in memory, unique in its process.
        synchronous: `normal` keeps all commits when a process is killed, `full` also after a power cut.
        keep_events: maximum number of events in the log.
        keep_days: maximum age of events in days, or None for no limit.
    """

    path: Path | None
    name: str = ""
    synchronous: str = "normal"
    keep_events: int = 1_000_000
    keep_days: float | None = None

    @classmethod
    def of(cls, url: str) -> Location:
        """Parse a URL. It has three slashes before a relative path, and four before an absolute path.

        >>> Location.of("sqlite:///factory.db?keep_events=1000").keep_events
        1000
        >>> Location.of("memory://cell-1").name
        'cell-1'

        Raises:
            ConfigurationError: the URL is not valid.
        """
        parts = urlsplit(url, allow_fragments=False)
        options = _options(url, parts.query)
        if parts.scheme == "memory":
            return cls(None, unquote(parts.netloc + parts.path), **options)
        text = unquote(parts.path.removeprefix("/"))
        if parts.netloc:
            raise ConfigurationError(
                f"{url} has two slashes before its path. Write sqlite:///{parts.netloc}{parts.path} for a path "
                "relative to the working directory, sqlite:////… for an absolute path."
            )
        if not text or text.endswith("/"):
            raise ConfigurationError(f"{url} does not name a file. Write sqlite:///factory.db, for example.")
        if text == ":memory:":
            raise ConfigurationError(f"{url} does not name a file. Write memory:// to keep the data in this process.")
        try:
            return cls(Path(text).expanduser().resolve(), **options)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{url} does not name a file ({error}). Name another file in KSQLDB_URL."
            ) from error

    @property
    def place(self) -> str:
        """The same text for all URLs of this file or name."""
        return f"memory://{self.name}" if self.path is None else str(self.path)


def _options(url: str, query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        try:
            options[name] = _option(name, text)
        except ValueError as error:
            raise ConfigurationError(
                f"{url} has the invalid option {name}={text!r}. The options are {_OPTIONS}."
            ) from error
    return options


def _option(name: str, text: str) -> str | int | float:
    if name == "synchronous" and text.lower() in ("normal", "full"):
        return text.lower()
    if name == "keep_events" and int(text) > 0:
        return int(text)
    if name == "keep_days" and float(text) > 0:
        return float(text)
    raise ValueError(name)
