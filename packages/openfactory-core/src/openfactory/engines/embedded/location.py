"""The URL of an embedded engine: a file or a name in memory, and the options after the `?`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from openfactory.engines.embedded.bounds import Bounds
from openfactory.engines.location import Location
from openfactory.exceptions import ConfigurationError
from openfactory.settings.redaction import redacted

__all__ = ["EmbeddedLocation"]

_OPTIONS = "synchronous=normal|full, keep_events=N, keep_days=N, keep_samples=N, keep_samples_days=N"


# The largest number of SQLite.
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EmbeddedLocation:
    """The file or the name in memory of an embedded engine, and its options.

    Attributes:
        path: the file, or None for an engine in memory.
        name: name of an engine in memory, unique in its process.
        synchronous: `normal` keeps all commits when a process is killed, `full` also after a power cut.
        keep_events: number of events that stay in the log, or None if the URL does not tell.
        keep_days: days that events stay in the log after their commit, or None if the URL does not tell.
        keep_samples: number of samples that stay; None for `keep_events`.
        keep_samples_days: days that samples stay; None for `keep_days`.
    """

    path: Path | None
    name: str = ""
    synchronous: str = "normal"
    keep_events: int | None = None
    keep_days: float | None = None
    keep_samples: int | None = None
    keep_samples_days: float | None = None

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
    def bounds(self) -> Bounds | None:
        """The bounds of the log, or None for a URL without bounds.

        >>> EmbeddedLocation.of("sqlite:///factory.db?keep_events=5000&keep_samples_days=7").bounds
        Bounds(events=5000, days=None, samples=5000, samples_days=7.0)
        """
        given = (self.keep_events, self.keep_days, self.keep_samples, self.keep_samples_days)
        return None if given == (None,) * len(given) else Bounds.of(*given)

    @property
    def place(self) -> str:
        """The same text for all URLs of this file or name."""
        return f"memory://{self.name}" if self.path is None else str(self.path)


def _synchronous(text: str) -> str:
    if text.lower() not in ("normal", "full"):
        raise ValueError(text)
    return text.lower()


def _number(text: str) -> int:
    if (events := int(text)) <= 0:
        raise ValueError(text)
    return min(events, _MOST)


def _days(text: str) -> float:
    if not (days := float(text)) > 0:  # also if it is not a number
        raise ValueError(text)
    return days


_CONVERTERS = {
    "synchronous": _synchronous,
    "keep_events": _number,
    "keep_days": _days,
    "keep_samples": _number,
    "keep_samples_days": _days,
}
