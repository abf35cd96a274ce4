"""The URL of an engine on Kafka alone: the brokers, and the options after the `?`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from openfactory.engines.location import Location

__all__ = ["KafkaLocation"]

_OPTIONS = "state=/path/of/a/file.db, prefix=plant2_, linger_ms=N"

_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True, slots=True)
class KafkaLocation:
    """A factory on a Kafka cluster, and the options of its engine.

    Attributes:
        bootstrap_servers: addresses, `host:9092,other:9092`.
        prefix: the beginning of all topic names, so that several factories can share one cluster.
        state: a file that stores the state between runs, so that the next start reads only new records.
        linger_ms: milliseconds that a message waits for others, to be sent in one batch.
    """

    bootstrap_servers: str
    prefix: str = ""
    state: Path | None = None
    linger_ms: float = 0.0

    @classmethod
    def of(cls, url: str) -> KafkaLocation:
        """Parse a URL.

        >>> KafkaLocation.of("kafka://broker?prefix=plant2_")
        KafkaLocation(bootstrap_servers='broker:9092', prefix='plant2_', state=None, linger_ms=0.0)

        Raises:
            ConfigurationError: the URL has no valid broker, a user or password, or an unknown or invalid option.
        """
        location = Location.of(url)
        return cls(location.brokers, **location.typed_options(_CONVERTERS, _OPTIONS))

    @property
    def place(self) -> str:
        """The location in one spelling, equal for all URLs that name this factory."""
        return f"kafka://{self.bootstrap_servers}/{self.prefix}"


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError(text)
    return text


def _state(text: str) -> Path:
    if not text or text.endswith("/"):
        raise ValueError(text)
    try:
        return Path(text).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(text) from error


def _linger_ms(text: str) -> float:
    milliseconds = float(text)
    if not 0 <= milliseconds <= 10_000:
        raise ValueError(text)
    return milliseconds


_CONVERTERS = {"prefix": _prefix, "state": _state, "linger_ms": _linger_ms}
