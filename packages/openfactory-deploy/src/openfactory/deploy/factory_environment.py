"""The servers of the factory and the logins for them, as the deployer has them in its own environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote

import msgspec

import openfactory.deploy.settings  # noqa: F401 - it declares the variables
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.engines.location import scheme_of
from openfactory.exceptions import ConfigurationError
from openfactory.settings import environment, nats_clusters, setting
from openfactory.settings.credentials import Credentials

__all__ = ["FactoryEnvironment", "embedded_url", "factory_environment"]

# Settings that all apps of a factory share, beside logins and NATS clusters.
_SHARED = (
    "KAFKA_BROKER",
    "KSQLDB_URL",
    "ASSET_ROUTER_URL",
    "COMMAND_TIMEOUT",
    "COMMAND_WINDOW",
    "KAFKA_GROUP",
    "LIVENESS_TIMEOUT",
)


class FactoryEnvironment(msgspec.Struct, frozen=True):
    """The variables and secrets that every app of a factory gets from the deployer.

    Attributes:
        variables: environment variables without secrets.
        secrets: by name, passwords, tokens and the contents of files for logins and TLS; an app finds the path of the
            secret `kafka_sasl_password` in `KAFKA_SASL_PASSWORD_FILE`.
        prefixes: whether web pages have the path prefix `/<uuid>` on localhost.
    """

    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    prefixes: bool = True


def factory_environment(default_url: str | None = None) -> FactoryEnvironment:
    """Return the variables and secrets for the apps of a factory, from the environment of this process.

    Web pages have a path prefix in a development environment, and where no domain gives them a host name.

    Args:
        default_url: KSQLDB_URL of the apps if neither KSQLDB_URL nor KAFKA_BROKER is set.

    Raises:
        ConfigurationError: a setting is not valid, or a file for a login cannot be read.
    """
    variables = {name: value for name in _SHARED if (value := environment(name)) is not None}
    if "KSQLDB_URL" in variables:
        variables["KSQLDB_URL"] = _absolute(variables["KSQLDB_URL"])
    elif "KAFKA_BROKER" in variables:
        raise ConfigurationError(
            "KAFKA_BROKER is set, and KSQLDB_URL is not. Set KSQLDB_URL too: to http://ksqldb:8088, or to "
            "kafka://broker:9092 for a factory without ksqlDB."
        )
    elif default_url is not None:
        variables["KSQLDB_URL"] = default_url
    variables |= {f"NATS_CLUSTER_{name}": ",".join(servers) for name, servers in nats_clusters().items()}
    variables["OPENFACTORY_LOG_BACKEND"] = setting("OPENFACTORY_LOG_BACKEND") or ""
    secrets = {}
    credentials = Credentials.from_environment()
    for item in fields(credentials):
        value = getattr(credentials, item.name)
        if not value:
            continue
        if item.name.endswith("_file"):
            secrets[item.name.removesuffix("_file")] = _content(item.name, Path(value))
        elif not item.repr:
            secrets[item.name] = value
        else:
            variables[item.name.upper()] = value
    prefixes = environment("OPENFACTORY_ENV") == "dev" or environment("OPENFACTORY_BASE_DOMAIN") is None
    return FactoryEnvironment(variables, secrets, prefixes)


def embedded_url(file: Path) -> str:
    """Return the URL of a factory in a file."""
    return f"sqlite:///{quote(file.absolute().as_posix(), safe='/:')}"


def _absolute(url: str) -> str:
    """Return a URL whose file does not depend on the working directory, which differs between deployer and apps."""
    if scheme_of(url) != "sqlite":
        return url
    path = EmbeddedLocation.of(url).path
    if path is None or url.removeprefix("sqlite://").startswith("//"):
        return url
    _, mark, options = url.partition("?")
    return embedded_url(path) + mark + options


def _content(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name.upper()}={str(path)!r} cannot be read ({error}). Use a PEM file.") from error
