"""Register and deregister an asset, with its references and its place in the unified namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openfactory.assets.writes import Writes
from openfactory.engines.registry import open_engine_of
from openfactory.events.event import new_event
from openfactory.events.registration import REFERENCES, Registration
from openfactory.exceptions import ConfigurationError
from openfactory.kafka import KSQLDBClient

__all__ = ["deregister_asset", "register_asset"]

# Seconds to wait until a registration is acknowledged.
_WRITE_SECONDS = 10.0


def register_asset(
    asset_uuid: str,
    uns: Mapping[str, Any] | None,
    asset_type: str,
    ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
    bootstrap_servers: str | None = None,
    docker_service: str = "",
) -> None:
    """Register an asset with empty references, and return when every reader can see it.

    Args:
        asset_uuid: UUID of the asset.
        uns: place in the unified namespace, `{"levels": {level: name}, "uns_id": text}`, or None.
        asset_type: type of the asset, such as `Device`.
        ksqlClient: client whose URL selects the engine.
        bootstrap_servers: address of the Kafka broker of a ksqlDB server; by default from the client or KAFKA_BROKER.
        docker_service: name of the container in which the asset runs.

    Raises:
        ConfigurationError: `uns` has another shape.
        DeliveryError: the registration was not written.
        DeliveryTimeout: the registration was not acknowledged in time.
    """
    levels, uns_id = _parse_place(uns) if uns else ({}, None)
    references: dict[str, str] = dict.fromkeys(REFERENCES, "")
    with open_engine_of(ksqlClient, bootstrap_servers) as reference:
        writes = Writes(reference.engine)
        writes.register(
            Registration(asset_uuid, asset_type, docker_service, references, uns_id=uns_id, uns_levels=levels)
        )
        writes.flush(_WRITE_SECONDS)


def deregister_asset(
    asset_uuid: str,
    ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
    bootstrap_servers: str | None = None,
) -> None:
    """Remove an asset from the register and clear its references; its other attributes stay readable.

    Raises:
        DeliveryError: the change was not written.
        DeliveryTimeout: the change was not acknowledged in time.
    """
    with open_engine_of(ksqlClient, bootstrap_servers) as reference:
        writes = Writes(reference.engine)
        for name in REFERENCES:
            writes.publish(new_event(asset_uuid, name, "", "OpenFactory", "AssetsReferences"))
        writes.deregister(asset_uuid)
        writes.flush(_WRITE_SECONDS)


def _parse_place(uns: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Return the levels and the id of a place in the namespace."""
    try:
        levels, uns_id = dict(uns["levels"]), uns["uns_id"]
        if not (isinstance(uns_id, str) and uns_id and all(isinstance(name, str) for name in levels.values())):
            raise TypeError("uns_id and the names of the levels must be text")
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f'{uns!r} is not a place in the namespace. Pass {{"levels": {{level: name}}, "uns_id": text}}.'
        ) from error
    return levels, uns_id
