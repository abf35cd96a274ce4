"""Putting an asset on the register and taking it off, with its references and its place in the namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openfactory.engines.registry import open_engine_of
from openfactory.events.event import new_event
from openfactory.events.registration import REFERENCES, Registration
from openfactory.exceptions import ConfigurationError
from openfactory.kafka import KSQLDBClient

__all__ = ["deregister_asset", "register_asset"]


def register_asset(
    asset_uuid: str,
    uns: Mapping[str, Any] | None,
    asset_type: str,
    ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
    bootstrap_servers: str | None = None,
    docker_service: str = "",
) -> None:
    """Put an asset on the register, with empty references, and come back when every reader can see it.

    Args:
        uns: its place in the unified namespace, `{"levels": {level: name}, "uns_id": text}`, or nothing.
        asset_type: what it is, such as `Device`.
        docker_service: name of the container that it runs in.

    Raises:
        ConfigurationError: `uns` has another shape.
        DeliveryError, DeliveryTimeout: it could not be written.
    """
    levels, uns_id = _place(uns) if uns else ({}, None)
    references = dict.fromkeys(REFERENCES, "")
    with open_engine_of(ksqlClient, bootstrap_servers) as reference:
        reference.engine.register(
            Registration(asset_uuid, asset_type, docker_service, references, uns_id=uns_id, uns_levels=levels)
        )
        reference.engine.flush()


def deregister_asset(
    asset_uuid: str,
    ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
    bootstrap_servers: str | None = None,
) -> None:
    """Take an asset off the register and clear its references; what else it said stays readable.

    Raises:
        DeliveryError, DeliveryTimeout: it could not be written.
    """
    with open_engine_of(ksqlClient, bootstrap_servers) as reference:
        for name in REFERENCES:
            reference.engine.publish(new_event(asset_uuid, name, "", "OpenFactory", "AssetsReferences"))
        reference.engine.deregister(asset_uuid)
        reference.engine.flush()


def _place(uns: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """The levels and the id of a place in the namespace."""
    try:
        levels, uns_id = dict(uns["levels"]), uns["uns_id"]
        if not (isinstance(uns_id, str) and uns_id and all(isinstance(name, str) for name in levels.values())):
            raise TypeError("the id and the names of a place are text")
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f'{uns!r} is no place in the namespace. Give {{"levels": {{level: name}}, "uns_id": text}}.'
        ) from error
    return levels, uns_id
