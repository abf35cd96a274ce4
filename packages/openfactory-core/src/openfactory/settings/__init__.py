"""Every environment variable that OpenFactory reads: its name, its default and what it means.

A value given as an argument wins over the environment, which wins over the default. The environment is read
when a value is asked for, never at import; a variable that is set to nothing counts as unset.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from openfactory.exceptions import ConfigurationError

__all__ = ["VARIABLES", "Variable", "environment", "integer", "nats_cluster", "setting"]


class Variable(NamedTuple):
    """One environment variable: what it stands for, and what holds when it is not set."""

    name: str
    default: str | None
    meaning: str


_TABLE = (
    Variable("APPLICATION_LICENSE", "BSD-3-Clause license", "Licence of the app, published as `application_license`."),
    Variable("APPLICATION_MANUFACTURER", "OpenFactoryIO", "Who made the app, published as `application_manufacturer`."),
    Variable("APPLICATION_VERSION", "latest", "Version of the app, published as `application_version`."),
    Variable("APP_UUID", "DEV-UUID", "UUID under which the app is known as an asset."),
    Variable("ASSET_ROUTER_URL", None, "Address of the asset router; the embedded engine does not need one."),
    Variable("KAFKA_BROKER", None, "Address of the Kafka broker; the embedded engine does not need one."),
    Variable("KAFKA_OAUTH_CA_FILE", None, "Authorities that sign the certificate of `KAFKA_OAUTH_TOKEN_URL`, PEM."),
    Variable("KAFKA_OAUTH_CLIENT_ID", None, "Who asks for a token when Kafka's mechanism is `OAUTHBEARER`."),
    Variable("KAFKA_OAUTH_CLIENT_SECRET", None, "The secret of `KAFKA_OAUTH_CLIENT_ID`."),
    Variable("KAFKA_OAUTH_SCOPE", None, "Scope of the token, where its server asks for one."),
    Variable("KAFKA_OAUTH_TOKEN_URL", None, "Where a token for Kafka is fetched (OpenID Connect, client credentials)."),
    Variable("KAFKA_SASL_MECHANISM", None, "How to log in: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, `OAUTHBEARER`."),
    Variable("KAFKA_SASL_PASSWORD", None, "The password of `KAFKA_SASL_USERNAME`."),
    Variable("KAFKA_SASL_USERNAME", None, "User name at the Kafka broker."),
    Variable("KAFKA_SECURITY_PROTOCOL", None, "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`; unset: the first."),
    Variable("KAFKA_SSL_CA_FILE", None, "Authorities that sign the certificates of the Kafka brokers, a PEM file."),
    Variable("KAFKA_SSL_CERT_FILE", None, "The certificate that is shown to the Kafka brokers, a PEM file."),
    Variable("KAFKA_SSL_KEY_FILE", None, "The private key of `KAFKA_SSL_CERT_FILE`, a PEM file."),
    Variable("KAFKA_SSL_KEY_PASSWORD", None, "The password of `KAFKA_SSL_KEY_FILE`, if it has one."),
    Variable("KSQLDB_PASSWORD", None, "The password of `KSQLDB_USERNAME`."),
    Variable("KSQLDB_SSL_CA_FILE", None, "Authorities that sign the certificate of the ksqlDB server, a PEM file."),
    Variable(
        "KSQLDB_URL",
        None,
        "Where the data is: `sqlite:///factory.db`, `memory://`, `kafka://host:9092`, `http://ksqldb:8088`.",
    ),
    Variable("KSQLDB_USERNAME", None, "User name at the ksqlDB server."),
    Variable("NATS_CLUSTER_<NAME>", None, "All servers of the NATS cluster `<NAME>`, where the router names only one."),
    Variable("NATS_CREDENTIALS_FILE", None, "Credentials for NATS as `nsc` writes them: a JWT and its seed."),
    Variable("NATS_NKEY_SEED_FILE", None, "The seed of the NKey by which to log in to NATS."),
    Variable("NATS_PASSWORD", None, "The password of `NATS_USERNAME`."),
    Variable("NATS_SSL_CA_FILE", None, "Authorities that sign the certificates of the NATS servers, a PEM file."),
    Variable("NATS_SSL_CERT_FILE", None, "The certificate that is shown to the NATS servers, a PEM file."),
    Variable("NATS_SSL_KEY_FILE", None, "The private key of `NATS_SSL_CERT_FILE`, a PEM file, not encrypted."),
    Variable("NATS_TOKEN", None, "The token by which to log in to NATS."),
    Variable("NATS_USERNAME", None, "User name at the NATS servers."),
    Variable("OPENFACTORY_HOST", "0.0.0.0", "Address of this machine to serve web pages on; `0.0.0.0` is every one."),
    Variable("OPENFACTORY_ROOT_PATH", None, "Path prefix under which a gateway serves the app's web pages."),
    Variable("PORT", "4000", "Port of the app's web pages."),
    Variable("STORAGE", None, "JSON that describes the app's file storage, see `app.storage`."),
    Variable("SWARM_REPLICAS", "1", "How many replicas of the app run; above 1 the UUID gets a suffix."),
    Variable("SWARM_TASK_SLOT", None, "Number of this replica: the suffix of its UUID."),
)

# What may also be in a file, for what keeps secrets as files.
_SECRETS = (
    "KAFKA_OAUTH_CLIENT_SECRET",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_KEY_PASSWORD",
    "KSQLDB_PASSWORD",
    "NATS_PASSWORD",
    "NATS_TOKEN",
)
_SECRET_FILES = (
    Variable(f"{name}_FILE", None, f"File that holds `{name}`, such as a secret of Docker.") for name in _SECRETS
)

#: All variables by name.
VARIABLES = {variable.name: variable for variable in sorted((*_TABLE, *_SECRET_FILES))}


def setting(name: str) -> str | None:
    """The value of an environment variable of `VARIABLES`, or its default.

    >>> setting("APPLICATION_VERSION")
    'latest'
    """
    return environment(name) or VARIABLES[name].default


def environment(name: str) -> str | None:
    """The value of an environment variable of `VARIABLES` if somebody has set it."""
    return os.environ.get(VARIABLES[name].name) or None


def integer(name: str) -> int:
    """The value of an environment variable as a whole number.

    Raises:
        ConfigurationError: it is set to something else.
    """
    text = setting(name)
    try:
        return int(text or "")
    except ValueError as error:
        raise ConfigurationError(
            f"{name} is {text!r}, which is no whole number. Set it to one, or unset it for {VARIABLES[name].default}."
        ) from error


def nats_cluster(name: str) -> tuple[str, ...]:
    """The servers of a NATS cluster, where `NATS_CLUSTER_<NAME>` tells: addresses with commas between them."""
    return tuple(filter(None, (one.strip() for one in os.environ.get(f"NATS_CLUSTER_{name}", "").split(","))))
