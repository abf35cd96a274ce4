"""The producer that code written for OpenFactory finds on every asset: it writes for any asset, on any engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from openfactory.assets.attribute import AssetAttribute
from openfactory.assets.event import AssetEvent
from openfactory.assets.receipt import Receipt
from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.assets.timestamp import current_timestamp
from openfactory.engines.base import Engine
from openfactory.exceptions import ConfigurationError, InvalidEventError

__all__ = ["EngineProducer"]

ASSETS_TOPIC = "ofa_assets"


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
            attributes: a `timestamp` in it stands for the attribute's own.

        Raises:
            InvalidEventError: the UUID, the id or the value cannot be carried.
        """
        timestamp = CaseInsensitiveDict(attributes or {}).get("timestamp")
        if timestamp is not None:
            assetAttribute = replace(assetAttribute, timestamp=timestamp)  # noqa: N806
        return self._engine.publish(AssetEvent.of(asset_uuid, assetAttribute))

    def produce(self, topic: str, key: str | bytes, value: str | bytes) -> Receipt:
        """Write a message as it stands on the wire, for an asset that is its key.

        Args:
            topic: `ofa_assets`.
            value: JSON with ID, VALUE, TAG, TYPE and attributes.

        Raises:
            ConfigurationError: another topic, which only a Kafka has.
            InvalidEventError: the message is no event.
        """
        if topic != ASSETS_TOPIC:
            raise ConfigurationError(
                f"{self._engine.url} has no topic {topic!r}. Write to {ASSETS_TOPIC}, or use a Kafka for others."
            )
        asset_uuid = key.decode(errors="surrogateescape") if isinstance(key, bytes) else key
        return self._engine.publish(event_of_message(asset_uuid, value))

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until all that was written is acknowledged.

        Raises:
            DeliveryError, DeliveryTimeout: some of it was not.
        """
        self._engine.flush(timeout)


def event_of_message(asset_uuid: str, value: str | bytes) -> AssetEvent:
    """The event that a message says.

    Raises:
        InvalidEventError: it says none.
    """
    try:
        message = CaseInsensitiveDict(msgspec.json.decode(value))
        said = CaseInsensitiveDict(message.get("attributes") or {})
        attribute = AssetAttribute(
            id=message["ID"],
            value=message.get("VALUE"),
            type=message["TYPE"],
            tag=message.get("TAG") or "",
            timestamp=said.get("timestamp") or current_timestamp(),
        )
    except (msgspec.MsgspecError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InvalidEventError(
            f"A message for {asset_uuid} is no event: {error!r}. Send JSON with ID, VALUE, TAG, TYPE and attributes.",
            asset_uuid=asset_uuid,
        ) from error
    return AssetEvent.of(asset_uuid, attribute)
