"""The settings of the environment, under the path that existing OpenFactory code imports.

`config.KSQLDB_URL` is the value of the variable when it is asked for, or its default. New code calls
`openfactory.settings.setting`.
"""

from __future__ import annotations

import os

from openfactory.settings import VARIABLES, setting

__all__ = ["ASSET_ROUTER_URL", "KAFKA_BROKER", "KSQLDB_URL"]

ASSET_ROUTER_URL: str | None
KAFKA_BROKER: str | None
KSQLDB_URL: str | None

# Variables of programs that deploy apps: existing code finds them here, and no distribution of ours reads them.
_OF_DEPLOYMENT = {
    "DEPLOYMENT_PLATFORM": "swarm",
    "KAFKA_LOG_LEVEL": "WARNING",
    "KSQLDB_LOG_LEVEL": "WARNING",
    "OPENFACTORY_BASE_DOMAIN": None,
    "OPENFACTORY_LOG_LEVEL": "INFO",
    "OPENFACTORY_NETWORK": "factory-net",
    "OPENFACTORY_UNS_SCHEMA": None,
}


def __getattr__(name: str) -> str | None:
    if name in _OF_DEPLOYMENT:
        return os.environ.get(name) or _OF_DEPLOYMENT[name]
    if name.isupper() and name in VARIABLES:
        return setting(name)
    raise AttributeError(f"openfactory.config has no setting {name!r}. Use one that is read, such as KSQLDB_URL.")
