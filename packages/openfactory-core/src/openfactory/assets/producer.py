"""EngineProducer: the producer of every asset, which writes the events of any asset to any engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openfactory.assets.writes import Writes
from openfactory.engines.base import Engine, OnDeliveryError
from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt

__all__ = ["EngineProducer"]


class EngineProducer:
    """Writes events through an engine.

    Args:
        engine: engine that writes the events.
        writes: writes of the object that the producer belongs to; by default, the producer has writes of its own.
    """

    def __init__(self, engine: Engine, writes: Writes | None = None) -> None:
        self._engine = engine
        self._writes = writes or Writes(engine)

    def send_asset_attribute(
        self,
        asset_uuid: str,
        assetAttribute: AssetAttribute,  # noqa: N803 - the name that apps pass it by
        attributes: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Write an attribute of any asset.

        Args:
            attributes: properties beside the timestamp, which readers receive as `attributes`. A `timestamp` replaces
                the timestamp of the attribute.

        Raises:
            InvalidEventError: the UUID, the id, the value or a property is not valid in a message.
        """
        rest = dict(attributes or {})
        for key in [key for key in rest if key.lower() == "timestamp"]:
            if (timestamp := rest.pop(key)) is not None:
                assetAttribute = replace(assetAttribute, timestamp=timestamp)  # noqa: N806
        return self._writes.publish(AssetEvent.of(asset_uuid, assetAttribute, rest))

    def produce(self, topic: str, key: str | bytes, value: str | bytes | None) -> Receipt:
        """Write a message in its wire format.

        Args:
            topic: `ofa_assets`; Kafka accepts other topics too.
            key: for `ofa_assets`, the UUID of the asset.
            value: JSON object with ID, VALUE, TAG, TYPE and attributes. None is a tombstone, which `ofa_assets` does
                not accept.

        Raises:
            ConfigurationError: the engine does not have the topic; only Kafka has other topics.
            InvalidEventError: the message is not an event.
        """
        return self._writes.produce(topic, key, value)

    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        """Call `callback` with each event of this process that was not written, and with the error."""
        self._engine.on_delivery_error(callback)

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until all writes of this producer are acknowledged.

        Args:
            timeout: seconds to wait.

        Raises:
            DeliveryError: a write of this thread or task has failed.
            DeliveryTimeout: a write was not acknowledged in time.
        """
        self._writes.flush(timeout)
