"""Every environment variable that OpenFactory reads: its name, its default and what it means.

A value given as an argument wins over the environment, which wins over the default. The environment is read
when a value is asked for, never at import; a variable that is set to nothing counts as unset.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from openfactory.exceptions import ConfigurationError

__all__ = ["VARIABLES", "Variable", "environment", "integer", "setting"]


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
    Variable("KSQLDB_URL", None, "Where the data is: `sqlite:///factory.db`, `memory://`, `http://ksqldb:8088`."),
    Variable("OPENFACTORY_ROOT_PATH", None, "Path prefix under which a gateway serves the app's web pages."),
    Variable("PORT", "4000", "Port of the app's web pages."),
    Variable("STORAGE", None, "JSON that describes the app's file storage, see `app.storage`."),
    Variable("SWARM_REPLICAS", "1", "How many replicas of the app run; above 1 the UUID gets a suffix."),
    Variable("SWARM_TASK_SLOT", None, "Number of this replica: the suffix of its UUID."),
)

#: All variables by name.
VARIABLES = {variable.name: variable for variable in _TABLE}


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
