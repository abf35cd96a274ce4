"""Parsing of `kafka://` URLs: the brokers, and the options after the `?`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from openfactory.exceptions import ConfigurationError
from openfactory.settings.credentials import redacted

__all__ = ["KafkaLocation"]

_OPTIONS = "state=/path/of/a/file.db, prefix=plant2_, linger_ms=N"

_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,100}")

_BROKER = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+)(:\d{1,5})?")


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
        try:
            parts = urlsplit(url, allow_fragments=False)
        except ValueError as error:
            raise _missing_broker(url) from error
        if "@" in parts.netloc:
            raise ConfigurationError(
                "A kafka:// URL must not contain a user or a password, because it appears in logs. "
                "Set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD."
            )
        brokers = [broker.strip() for broker in parts.netloc.split(",")]
        if parts.path.strip("/") or not all(_BROKER.fullmatch(broker) for broker in brokers):
            raise _missing_broker(url)
        servers = ",".join(broker if re.search(r":\d+$", broker) else f"{broker}:9092" for broker in brokers)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            return cls(
                servers,
                prefix=_prefix(options.pop("prefix", "")),
                state=_state(options.pop("state", None)),
                linger_ms=_linger_ms(options.pop("linger_ms", "0")),
                **options,
            )
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{url} has an unknown or invalid option. Use {_OPTIONS}.") from error

    @property
    def place(self) -> str:
        """The location in one spelling, equal for all URLs that name this factory."""
        return f"kafka://{self.bootstrap_servers}/{self.prefix}"


def _missing_broker(url: str) -> ConfigurationError:
    return ConfigurationError(
        f"{redacted(url)} does not name a broker. Write kafka://host:9092, or kafka://one:9092,two:9092."
    )


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


def _linger_ms(text: str) -> float:
    milliseconds = float(text)
    if not 0 <= milliseconds <= 10_000:
        raise ValueError(text)
    return milliseconds
