"""The environment variables that OpenFactory reads: names, defaults and meanings.

Each distribution declares its own variables in a table, which an entry point of the group `openfactory.settings` names,
and passes it to `declare` before it reads one.

An argument takes precedence over the environment, and the environment over the default. The environment is read when a
value is needed, never at import. An empty variable counts as unset.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import NamedTuple

from openfactory.exceptions import ConfigurationError
from openfactory.settings.characters import fault_in
from openfactory.settings.redaction import redacted

__all__ = [
    "VARIABLES",
    "Variable",
    "declare",
    "environment",
    "integer",
    "nats_cluster",
    "nats_clusters",
    "seconds",
    "setting",
]

#: Other distributions name their tables here: name = distribution, value = `module:VARIABLES`.
ENTRY_POINT_GROUP = "openfactory.settings"


# The beginning of the variables that name the servers of a NATS cluster.
_NATS_CLUSTER = "NATS_CLUSTER_"


class Variable(NamedTuple):
    """An environment variable.

    Attributes:
        name: name of the variable.
        default: value if the variable is not set, or None.
        meaning: text for the table of the documentation.
        is_text: the value is any text, such as a password or a name for people. Other values are checked for quotes
            and invisible characters.
    """

    name: str
    default: str | None
    meaning: str
    is_text: bool = False


_TABLE = (
    Variable(
        "APP_UUID",
        "DEV-UUID",
        "UUID of the app as an asset. If it is not set, an app has the name of its file, as with `ofa run`; the "
        "default is for test mode, and for an app without a file.",
    ),
    Variable("ASSET_ROUTER_URL", None, "Address of the asset router; the embedded engine does not need it."),
    Variable(
        "COMMAND_TIMEOUT",
        "30",
        "Seconds after which an app no longer begins a command whose sender does not wait; 0 for no limit.",
    ),
    Variable("KAFKA_BROKER", None, "Address of the Kafka broker; the embedded engine does not need it."),
    Variable(
        "KAFKA_GROUP",
        "ofa_fan_out_layer_group",
        "Consumer group of the asset forwarder, by whose offsets apps see whether it keeps up; `ofa fanout forwarder` "
        "adds the prefix of the factory and the name of a NATS cluster.",
    ),
    Variable("KAFKA_OAUTH_CA_FILE", None, "Certificate authorities for `KAFKA_OAUTH_TOKEN_URL`, a PEM file."),
    Variable("KAFKA_OAUTH_CLIENT_ID", None, "Client id for the token, with the mechanism `OAUTHBEARER`.", is_text=True),
    Variable("KAFKA_OAUTH_CLIENT_SECRET", None, "Secret of `KAFKA_OAUTH_CLIENT_ID`.", is_text=True),
    Variable("KAFKA_OAUTH_SCOPE", None, "Scope of the token, if the token server requires a scope."),
    Variable("KAFKA_OAUTH_TOKEN_URL", None, "URL that issues tokens for Kafka (OpenID Connect, client credentials)."),
    Variable("KAFKA_SASL_MECHANISM", None, "Login: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`."),
    Variable("KAFKA_SASL_PASSWORD", None, "Password of `KAFKA_SASL_USERNAME`.", is_text=True),
    Variable("KAFKA_SASL_USERNAME", None, "User name for the Kafka brokers.", is_text=True),
    Variable("KAFKA_SECURITY_PROTOCOL", None, "`PLAINTEXT` (if unset), `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`."),
    Variable("KAFKA_SSL_CA_FILE", None, "Certificate authorities for the Kafka brokers, a PEM file."),
    Variable("KAFKA_SSL_CERT_FILE", None, "Client certificate for the Kafka brokers, a PEM file."),
    Variable("KAFKA_SSL_KEY_FILE", None, "Private key of `KAFKA_SSL_CERT_FILE`, a PEM file."),
    Variable("KAFKA_SSL_KEY_PASSWORD", None, "Password of `KAFKA_SSL_KEY_FILE`, if it is encrypted.", is_text=True),
    Variable("KSQLDB_PASSWORD", None, "Password of `KSQLDB_USERNAME`.", is_text=True),
    Variable("KSQLDB_SSL_CA_FILE", None, "Certificate authorities for the ksqlDB server, a PEM file."),
    Variable(
        "KSQLDB_URL",
        None,
        "Location of the data: `sqlite:///factory.db`, `memory://`, `kafka://host:9092` or `http://ksqldb:8088`.",
    ),
    Variable("KSQLDB_USERNAME", None, "User name for the ksqlDB server.", is_text=True),
    Variable("LIVENESS_TIMEOUT", "15", "Seconds after which an app whose process has ended reads as UNAVAILABLE."),
    Variable(
        "NATS_CLUSTER_<NAME>",
        None,
        "All servers of the NATS cluster `<NAME>`. Routers and forwarders need it for each cluster, and apps if the "
        "router names only one server.",
    ),
    Variable("NATS_CREDENTIALS_FILE", None, "Credentials file for NATS, as `nsc` writes it: a JWT and its seed."),
    Variable("NATS_NKEY_SEED_FILE", None, "File with the seed of the NKey for NATS."),
    Variable("NATS_PASSWORD", None, "Password of `NATS_USERNAME`.", is_text=True),
    Variable("NATS_SSL_CA_FILE", None, "Certificate authorities for the NATS servers, a PEM file."),
    Variable("NATS_SSL_CERT_FILE", None, "Client certificate for the NATS servers, a PEM file."),
    Variable("NATS_SSL_KEY_FILE", None, "Private key of `NATS_SSL_CERT_FILE`, an unencrypted PEM file."),
    Variable("NATS_TOKEN", None, "Login token for the NATS servers.", is_text=True),
    Variable("NATS_USERNAME", None, "User name for the NATS servers.", is_text=True),
)

# Each of these may also be in a file, because orchestrators provide secrets as files.
_SECRETS = (
    "KAFKA_OAUTH_CLIENT_SECRET",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_KEY_PASSWORD",
    "KSQLDB_PASSWORD",
    "NATS_PASSWORD",
    "NATS_TOKEN",
)
_SECRET_FILES = (
    Variable(f"{name}_FILE", None, f"File that contains `{name}`, such as a Docker secret.") for name in _SECRETS
)


class _Variables(Mapping[str, Variable]):
    """The declared variables by name; a listing loads the tables of all installed distributions."""

    def __init__(self) -> None:
        self._declared: dict[str, Variable] = {}
        self._complete = False

    def declare(self, variables: Iterable[Variable]) -> None:
        self._declared |= {variable.name: variable for variable in variables}

    def __getitem__(self, name: str) -> Variable:
        if name not in self._declared:
            self._load()
        return self._declared[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._declared))

    def __len__(self) -> int:
        self._load()
        return len(self._declared)

    def _load(self) -> None:
        if self._complete:
            return
        from importlib.metadata import entry_points  # slow to import, and rarely needed

        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            module, _, table = entry_point.value.partition(":")
            try:
                self.declare(getattr(import_module(module), table))
            except (ImportError, AttributeError) as error:
                raise ConfigurationError(
                    f"The table of settings {entry_point.value} cannot be loaded ({error}). "
                    f"Reinstall the distribution that declares it: {entry_point.name}."
                ) from error
        self._complete = True


#: All variables by name, sorted.
VARIABLES: Mapping[str, Variable] = (_variables := _Variables())
_variables.declare((*_TABLE, *_SECRET_FILES))


def declare(variables: Iterable[Variable]) -> None:
    """Add the variables of a distribution to `VARIABLES`."""
    _variables.declare(variables)


def setting(name: str) -> str | None:
    """Return the value of a variable in `VARIABLES`, or its default.

    >>> setting("APP_UUID")
    'DEV-UUID'
    """
    return environment(name) or VARIABLES[name].default


def environment(name: str) -> str | None:
    """Return the value of a variable in `VARIABLES`, or None if it is not set.

    Raises:
        ConfigurationError: the value is in quotes, or the value or the name contains a character that cannot be seen.
    """
    variable = VARIABLES[name]
    _check_name(name)
    return _value_of(name, variable.is_text)


def integer(name: str) -> int:
    """Return the value of a variable in `VARIABLES` as an integer.

    Raises:
        ConfigurationError: the value is not an integer.
    """
    text = setting(name)
    try:
        return int(text or "")
    except ValueError as error:
        raise ConfigurationError(
            f"{name}={text!r} is not a whole number. Set a number, or unset it to use {VARIABLES[name].default}."
        ) from error


def seconds(name: str, shortest: float = 0.0, longest: float = math.inf) -> float:
    """Return the value of a variable in `VARIABLES` as a number of seconds.

    Args:
        name: name of the variable.
        shortest: the least permitted value.
        longest: the greatest permitted value.

    Raises:
        ConfigurationError: the value is not such a number.
    """
    text = setting(name)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and shortest <= value <= longest):
        limits = f" from {shortest:g} to {longest:g}" if math.isfinite(longest) else f", {shortest:g} or above"
        raise ConfigurationError(
            f"{name}={text!r} is not a number of seconds{limits}. "
            f"Set one, or unset it to use {VARIABLES[name].default}."
        )
    return value


def nats_cluster(name: str) -> tuple[str, ...]:
    """Return the servers in `NATS_CLUSTER_<NAME>`, a list of addresses with commas between them.

    Raises:
        ConfigurationError: the value is in quotes, or contains a character that cannot be seen.
    """
    value = _value_of(_NATS_CLUSTER + name, is_text=False) or ""
    return tuple(filter(None, (server.strip() for server in value.split(","))))


def nats_clusters() -> dict[str, tuple[str, ...]]:
    """Return the servers of each NATS cluster in `NATS_CLUSTER_<NAME>`, by its name; a cluster has at least one.

    Raises:
        ConfigurationError: a value is in quotes, or contains a character that cannot be seen.
    """
    names = (name.removeprefix(_NATS_CLUSTER) for name in os.environ if name.startswith(_NATS_CLUSTER))
    clusters = {name: nats_cluster(name) for name in sorted(filter(None, names))}
    return {name: servers for name, servers in clusters.items() if servers}


@cache  # once for each name: an env file is read before the process starts, and each asset asks for two variables
def _check_name(name: str) -> None:
    """Check that the environment does not have a variable with a byte order mark before its name."""
    if (marked := f"\ufeff{name}") in os.environ:
        raise ConfigurationError(
            f"The environment has a variable {marked!r}, whose name {fault_in(marked)} "
            "Save the env file as UTF-8 without a byte order mark."
        )


def _value_of(name: str, is_text: bool) -> str | None:
    value = os.environ.get(name) or None
    if value is not None and not is_text and (fault := fault_in(value)):
        raise ConfigurationError(f"{name}={redacted(value)!r} {fault}")
    return value
