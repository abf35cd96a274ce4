"""Give the connectors of devices their configuration, in a table of ksqlDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from openfactory.assets.writes import Writes
from openfactory.engines.registry import open_engine_of
from openfactory.events.event import check_asset_uuid
from openfactory.events.plain import plain_value
from openfactory.exceptions import ConfigurationError
from openfactory.kafka import KSQLDBClient

__all__ = ["deregister_device_connector", "register_device_connector"]

# The table to which a configuration is written; connectors read DEVICE_CONNECTOR, which is derived from it.
_TABLE = "DEVICE_CONNECTOR_SOURCE"

# Seconds to wait until a configuration is acknowledged.
_WRITE_SECONDS = 10.0


def register_device_connector(
    device: Any,
    ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
    bootstrap_servers: str | None = None,
) -> None:
    """Write the configuration of a device for its connector, and return when it is acknowledged.

    Args:
        device: the device with its UUID and its connector: a mapping with the key `uuid`, or a pydantic model or
            dataclass with the attribute `uuid`.
        ksqlClient: client of a ksqlDB server, whose table connectors read.
        bootstrap_servers: address of the Kafka broker; by default from the client or KAFKA_BROKER.

    Raises:
        ConfigurationError: the device has no UUID, or the factory has no ksqlDB.
        InvalidEventError: the UUID or the device is not valid in a message.
        DeliveryError: the configuration was not written.
        DeliveryTimeout: the configuration was not acknowledged in time.
    """
    device_uuid = device.get("uuid") if isinstance(device, Mapping) else getattr(device, "uuid", None)
    if not device_uuid:
        raise ConfigurationError(f"{device!r:.200} has no UUID. Pass a device with a uuid.")
    configuration = msgspec.json.encode(plain_value(device)).decode()
    _write(str(device_uuid), msgspec.json.encode({"CONNECTOR_CONFIG": configuration}), ksqlClient, bootstrap_servers)


def deregister_device_connector(
    device_uuid: str,
    ksqlClient: KSQLDBClient,  # noqa: N803 - the name that tools pass it by
    bootstrap_servers: str | None = None,
) -> None:
    """Remove the configuration of a device; a device without a configuration stays as it is.

    Raises:
        ConfigurationError: the factory has no ksqlDB.
        DeliveryError: the change was not written.
        DeliveryTimeout: the change was not acknowledged in time.
    """
    _write(device_uuid, None, ksqlClient, bootstrap_servers)


def _write(device_uuid: str, value: bytes | None, client: KSQLDBClient, bootstrap_servers: str | None) -> None:
    check_asset_uuid(device_uuid)
    with open_engine_of(client, bootstrap_servers) as reference:
        try:
            topic = reference.engine.topic_of(_TABLE)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"The configuration of the device {device_uuid} cannot be written: {client} has no table {_TABLE}, "
                "from which connectors read it. Use the URL of a ksqlDB server, such as http://ksqldb:8088."
            ) from error
        writes = Writes(reference.engine)
        writes.produce(topic, device_uuid, value)
        writes.flush(_WRITE_SECONDS)
