"""Causes and remedies for the errors of librdkafka."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from openfactory.exceptions import ConfigurationError
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

__all__ = ["configuration_error", "explain", "is_closed_connection"]

# librdkafka puts the address before the reason: `sasl_ssl://plant:9092/bootstrap: `.
_ADDRESS = re.compile(r"^\S+/(bootstrap|-?\d+): ")

_PROTOCOL = "Check that this port belongs to Kafka and uses the protocol in KAFKA_SECURITY_PROTOCOL."

# Parts of the reason when the broker closes the connection: librdkafka's own text, or the system's if that comes first.
_CLOSED = ("security.protocol", "Disconnected", "SASL", "Broken pipe", "reset by peer")

# The settings behind librdkafka's properties for files.
_FILES = {
    "https.ca.location": "the file in KAFKA_OAUTH_CA_FILE",
    "ssl.ca.location": "the file in KAFKA_SSL_CA_FILE",
    "ssl.certificate.location": "the file in KAFKA_SSL_CERT_FILE",
    "ssl.key.location": "the file in KAFKA_SSL_KEY_FILE and its password in KAFKA_SSL_KEY_PASSWORD",
}


def explain(errors: Iterable[KafkaError]) -> tuple[str, str] | None:
    """Return the cause and the remedy of the most specific error, or None if no error has an explanation.

    Of several errors with the same code, the last one counts.
    """
    from confluent_kafka import KafkaError

    details = {error.code(): _detail(error) for error in errors}
    for code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
        if code in details:
            return _explain_authentication(details[code])
    if KafkaError._SSL in details:
        return _explain_tls(details[KafkaError._SSL])
    if KafkaError._RESOLVE in details:
        return f"its name cannot be resolved ({details[KafkaError._RESOLVE]})", "Check the name in KAFKA_BROKER."
    if KafkaError._TRANSPORT in details:
        return _explain_transport(details[KafkaError._TRANSPORT])
    if KafkaError._ALL_BROKERS_DOWN in details:
        return "it accepts the connection and closes it", f"Read the broker's log. {_PROTOCOL}"
    return None


def is_closed_connection(error: KafkaError) -> bool:
    """Return whether an error only tells that connections were closed, as a broker does after some idle time."""
    if error.name() == "_TRANSPORT":
        return any(part in (error.str() or "") for part in _CLOSED)
    return error.name() == "_ALL_BROKERS_DOWN"


def configuration_error(bootstrap_servers: object, error: Exception) -> ConfigurationError:
    """Return the error for a configuration that librdkafka rejects.

    Args:
        bootstrap_servers: the addresses, for the text.
        error: a KafkaException.
    """
    reason: KafkaError = error.args[0]
    text = reason.str() or reason.name()
    settings = next((file for name, file in _FILES.items() if name in text), "the security settings KAFKA_…")
    return ConfigurationError(
        f"The Kafka client for {bootstrap_servers or 'an unnamed broker'} cannot be created: {text.rstrip('.')}. "
        f"Check KAFKA_BROKER and {settings}."
    )


def _explain_authentication(detail: str) -> tuple[str, str]:
    if "OAUTHBEARER token" in detail:
        is_tls_error = "certificate" in detail or "trust anchors" in detail
        return (
            f"no OAuth token could be obtained ({detail})",
            "Set KAFKA_OAUTH_CA_FILE to the file with the CA of the token server."
            if is_tls_error
            else "Check KAFKA_OAUTH_TOKEN_URL, KAFKA_OAUTH_CLIENT_ID and KAFKA_OAUTH_CLIENT_SECRET.",
        )
    return (
        f"it rejects the login ({detail})",
        "Check KAFKA_SASL_MECHANISM, and the user and password in KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD.",
    )


def _explain_tls(detail: str) -> tuple[str, str]:
    return (
        f"TLS failed ({detail})",
        "Check that this port uses TLS, and set KAFKA_SSL_CA_FILE to the file with the CA of the broker.",
    )


def _explain_transport(detail: str) -> tuple[str, str]:
    if "alert" in detail and "certificate" in detail:
        return (
            f"it rejects the client certificate, or requires one ({detail})",
            "Set KAFKA_SSL_CERT_FILE to a certificate that the broker trusts, and KAFKA_SSL_KEY_FILE to its key.",
        )
    if "SSL routines" in detail:  # on a busy machine this error may come before _SSL
        return _explain_tls(detail)
    if "refused" in detail:
        return "the connection is refused", "Check the port, and start the broker."
    if any(part in detail for part in _CLOSED):
        return f"it closes the connection ({detail})", _PROTOCOL
    return detail, "Check the address and the network."


def _detail(error: KafkaError) -> str:
    """Return the text of an error without the address before it and the duration after it."""
    text = _ADDRESS.sub("", redacted(error.str() or error.name()))
    return text.split(" (after ", 1)[0].strip().rstrip(".")
