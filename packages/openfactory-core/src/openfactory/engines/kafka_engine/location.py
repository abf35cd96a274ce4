"""What a URL of Kafka alone says: the brokers, and the options behind the `?`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from openfactory.exceptions import ConfigurationError

__all__ = ["KafkaLocation"]

_OPTIONS = "state=/path/of/a/file.db, prefix=plant2_, linger_ms=N"

# What a topic's name may begin with.
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,100}")

_BROKER = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+)(:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class KafkaLocation:
    """Which cluster, and how it is used.

    Attributes:
        bootstrap_servers: `host:9092`, or several with commas between them.
        prefix: stands before the names of all topics: several factories on one cluster.
        state: a file that keeps what was read of the log, so that the next start reads only what is new.
        linger_ms: how long a message may wait for others to go with.
    """

    bootstrap_servers: str
    prefix: str = ""
    state: Path | None = None
    linger_ms: float = 0.0

    @classmethod
    def of(cls, url: str) -> KafkaLocation:
        """Read a URL.

        >>> KafkaLocation.of("kafka://broker?prefix=plant2_")
        KafkaLocation(bootstrap_servers='broker:9092', prefix='plant2_', state=None, linger_ms=0.0)

        Raises:
            ConfigurationError: it cannot be understood.
        """
        try:
            parts = urlsplit(url, allow_fragments=False)
        except ValueError as error:
            raise _no_broker(url) from error
        if "@" in parts.netloc:
            raise ConfigurationError(
                "A kafka:// URL holds no user and no password: it is shown in logs. "
                "Set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD."
            )
        brokers = [broker.strip() for broker in parts.netloc.split(",")]
        if parts.path.strip("/") or not all(_BROKER.fullmatch(broker) for broker in brokers):
            raise _no_broker(url)
        servers = ",".join(broker if re.search(r":\d+$", broker) else f"{broker}:9092" for broker in brokers)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            return cls(
                servers,
                prefix=_prefix(options.pop("prefix", "")),
                state=_state(options.pop("state", None)),
                linger_ms=_linger(options.pop("linger_ms", "0")),
                **options,
            )
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{url} has an option that is not understood. They are {_OPTIONS}.") from error

    @property
    def place(self) -> str:
        """What is the same for all URLs that mean this factory."""
        return f"kafka://{self.bootstrap_servers}/{self.prefix}"


def _no_broker(url: str) -> ConfigurationError:
    return ConfigurationError(f"{url} names no broker. Write kafka://host:9092, or kafka://one:9092,two:9092.")


def _prefix(text: str) -> str:
    if text and not _PREFIX.fullmatch(text):
        raise ValueError(text)
    return text


def _state(text: str | None) -> Path | None:
    if text is None:
        return None
    if not text or text.endswith("/"):
        raise ValueError(text)
    return Path(text).expanduser().resolve()


def _linger(text: str) -> float:
    milliseconds = float(text)
    if not 0 <= milliseconds <= 10_000:
        raise ValueError(text)
    return milliseconds
