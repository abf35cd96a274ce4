"""The URL of an embedded engine: a file or a name in memory, and the options after the `?`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from openfactory.engines.location import Location
from openfactory.exceptions import ConfigurationError
from openfactory.settings.redaction import redacted

__all__ = ["EmbeddedLocation"]

_OPTIONS = "synchronous=normal|full, keep_events=N, keep_days=N"


@dataclass(frozen=True, slots=True)
class EmbeddedLocation:
    """The file or the name in memory of an embedded engine, and its options.

    Attributes:
        path: the file, or None for an engine in memory.
        name: name of an engine in memory, unique in its process.
        synchronous: `normal` keeps all commits when a process is killed, `full` also after a power cut.
        keep_events: maximum number of events in the log.
        keep_days: days that events stay in the log after their commit, or None for no limit.
    """

    path: Path | None
    name: str = ""
    synchronous: str = "normal"
    keep_events: int = 1_000_000
    keep_days: float | None = None

    @classmethod
    def of(cls, url: str) -> EmbeddedLocation:
        """Parse a URL. It has three slashes before a relative path, and four before an absolute path.

        >>> EmbeddedLocation.of("sqlite:///factory.db?keep_events=1000").keep_events
        1000
        >>> EmbeddedLocation.of("memory://cell-1").name
        'cell-1'

        Raises:
            ConfigurationError: the URL is not valid.
        """
        location = Location.of(url)
        options = location.typed_options(_CONVERTERS, _OPTIONS)
        if location.scheme == "memory":
            return cls(None, unquote(location.host + location.path), **options)
        text = unquote(location.path.removeprefix("/"))
        shown = redacted(url)
        if location.host:
            raise ConfigurationError(
                f"{shown} has two slashes before its path. Write sqlite:///{location.host}{location.path} for a path "
                "relative to the working directory, sqlite:////… for an absolute path."
            )
        if not text or text.endswith("/"):
            raise ConfigurationError(f"{shown} does not name a file. Write sqlite:///factory.db, for example.")
        if text == ":memory:":
            raise ConfigurationError(f"{shown} does not name a file. Write memory:// to keep the data in this process.")
        try:
            expanded = Path(text).expanduser() if text.startswith("~") else text
            return cls(Path(os.path.realpath(expanded)), **options)  # half the time of Path.resolve, for each asset
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigurationError(
                f"{shown} does not name a file ({error}). Name another file in KSQLDB_URL."
            ) from error

    @property
    def place(self) -> str:
        """The same text for all URLs of this file or name."""
        return f"memory://{self.name}" if self.path is None else str(self.path)


def _synchronous(text: str) -> str:
    if text.lower() not in ("normal", "full"):
        raise ValueError(text)
    return text.lower()


def _keep_events(text: str) -> int:
    if (events := int(text)) <= 0:
        raise ValueError(text)
    return events


def _keep_days(text: str) -> float:
    if not (days := float(text)) > 0:  # also if it is not a number
        raise ValueError(text)
    return days


_CONVERTERS = {"synchronous": _synchronous, "keep_events": _keep_events, "keep_days": _keep_days}
