"""Why no broker answers, and what to do: made of what librdkafka says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from openfactory.exceptions import ConfigurationError
from openfactory.settings.credentials import redacted

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

__all__ = ["explained", "unusable"]

# What stands in front of a reason: `sasl_ssl://plant:9092/bootstrap: `.
_ADDRESS = re.compile(r"^\S+/(bootstrap|-?\d+): ")

_PROTOCOL = "Check that this port is Kafka's and speaks the protocol of KAFKA_SECURITY_PROTOCOL."

# What librdkafka says of a broker that ends the connection: by its own line, or by the system's when that comes first.
_HANGS_UP = ("security.protocol", "Disconnected", "SASL", "Broken pipe", "reset by peer")

# What each property of librdkafka that names a file is called here.
_FILES = {
    "https.ca.location": "the file that KAFKA_OAUTH_CA_FILE names",
    "ssl.ca.location": "the file that KAFKA_SSL_CA_FILE names",
    "ssl.certificate.location": "the file that KAFKA_SSL_CERT_FILE names",
    "ssl.key.location": "the file that KAFKA_SSL_KEY_FILE names, and its password in KAFKA_SSL_KEY_PASSWORD",
}


def explained(errors: Iterable[KafkaError]) -> tuple[str, str] | None:
    """Why no broker answers, and what to do: the most telling of some errors; None if none of them tells.

    When several are alike, the last one counts.
    """
    from confluent_kafka import KafkaError

    said = {error.code(): _detail(error) for error in errors}
    for code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
        if code in said:
            return _authentication(said[code])
    if KafkaError._SSL in said:
        return _tls(said[KafkaError._SSL])
    if KafkaError._RESOLVE in said:
        return f"its name is unknown ({said[KafkaError._RESOLVE]})", "Check the name in KAFKA_BROKER."
    if KafkaError._TRANSPORT in said:
        return _transport(said[KafkaError._TRANSPORT])
    if KafkaError._ALL_BROKERS_DOWN in said:
        return "it takes the connection and ends it", f"See whether the broker runs well. {_PROTOCOL}"
    return None


def unusable(bootstrap_servers: object, error: Exception) -> ConfigurationError:
    """The error that says that no client can be made of a configuration."""
    reason: KafkaError = error.args[0]
    text = reason.str() or reason.name()
    named = next((file for name, file in _FILES.items() if name in text), "the KAFKA_… settings of its security")
    return ConfigurationError(
        f"The Kafka client for {bootstrap_servers or 'no broker'} cannot be made: {text.rstrip('.')}. "
        f"Check KAFKA_BROKER, and {named}."
    )


def _authentication(detail: str) -> tuple[str, str]:
    if "OAUTHBEARER token" in detail:
        of_tls = "certificate" in detail or "trust anchors" in detail
        return (
            f"nobody gives us a token for it ({detail})",
            "Name the file of the token server's CA in KAFKA_OAUTH_CA_FILE."
            if of_tls
            else "Check KAFKA_OAUTH_TOKEN_URL, KAFKA_OAUTH_CLIENT_ID and KAFKA_OAUTH_CLIENT_SECRET.",
        )
    return (
        f"it refuses who we are ({detail})",
        "Check the user and password in KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and KAFKA_SASL_MECHANISM.",
    )


def _tls(detail: str) -> tuple[str, str]:
    return (
        f"TLS failed ({detail})",
        "Check that this port speaks TLS, and name the file of its CA in KAFKA_SSL_CA_FILE.",
    )


def _transport(detail: str) -> tuple[str, str]:
    if "alert" in detail and "certificate" in detail:
        return (
            f"it does not take our certificate, or wants one ({detail})",
            "Set KAFKA_SSL_CERT_FILE and KAFKA_SSL_KEY_FILE to a certificate that it trusts, and its key.",
        )
    if "SSL routines" in detail:  # on a busy machine it comes before the error of TLS itself
        return _tls(detail)
    if "refused" in detail:
        return "the connection is refused", "Check the port, and start the broker."
    if any(sign in detail for sign in _HANGS_UP):
        return f"it hangs up ({detail})", _PROTOCOL
    return detail, "Check the address and the network."


def _detail(error: KafkaError) -> str:
    """What the client said, without the address in front and how long it took behind."""
    text = _ADDRESS.sub("", redacted(error.str() or error.name()))
    return text.split(" (after ", 1)[0].strip().rstrip(".")
