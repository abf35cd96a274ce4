"""The producer that code written for OpenFactory finds on every asset: it writes for any asset, on any engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from openfactory.engines.base import ASSETS_TOPIC, Engine, OnDeliveryError
from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt

__all__ = ["EngineProducer"]


class EngineProducer:
    """Writes events through an engine.

    Args:
        engine: what writes them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def send_asset_attribute(
        self,
        asset_uuid: str,
        assetAttribute: AssetAttribute,  # noqa: N803 - the name that apps pass it by
        attributes: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """Write an attribute of any asset.

        Args:
            attributes: a `timestamp` in it stands for the attribute's own; the rest travels with the message, where
                there is a Kafka.

        Raises:
            InvalidEventError: the UUID, the id or the value cannot be carried.
        """
        rest = dict(attributes or {})
        for key in [key for key in rest if key.lower() == "timestamp"]:
            if (timestamp := rest.pop(key)) is not None:
                assetAttribute = replace(assetAttribute, timestamp=timestamp)  # noqa: N806
        event = AssetEvent.of(asset_uuid, assetAttribute)
        if not rest:
            return self._engine.publish(event)
        said = {"timestamp": event.timestamp} | rest
        message = {"ID": event.id, "VALUE": event.value, "TAG": event.tag, "TYPE": event.type, "attributes": said}
        return self._engine.produce(ASSETS_TOPIC, asset_uuid, msgspec.json.encode(message))

    def produce(self, topic: str, key: str | bytes, value: str | bytes | None) -> Receipt:
        """Write a message as it stands on the wire.

        Args:
            topic: `ofa_assets`, where the key is the asset; a Kafka takes any other too.
            value: JSON with ID, VALUE, TAG, TYPE and attributes; None is a tombstone, which `ofa_assets` has none of.

        Raises:
            ConfigurationError: another topic, which only a Kafka has.
            InvalidEventError: the message is no event.
        """
        return self._engine.produce(topic, key, value)

    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        """Be told each event of this process that could not be written, with the reason."""
        self._engine.on_delivery_error(callback)

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until all that was written is acknowledged.

        Raises:
            DeliveryError, DeliveryTimeout: some of it was not.
        """
        self._engine.flush(timeout)
