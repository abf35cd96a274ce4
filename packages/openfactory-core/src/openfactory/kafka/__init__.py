"""What code written for OpenFactory takes from here: the client, the producer, and the consumers of Kafka.

`KSQLDBClient` names the place of the data and answers queries on it; `AssetProducer` writes there. The consumers read
the log of a Kafka as members of a consumer group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.kafka.ksql import KSQLDBClient, KSQLDBClientException

if TYPE_CHECKING:
    from openfactory.kafka.consumer import KafkaAssetConsumer, KafkaAssetUNSConsumer, delete_consumer_group
    from openfactory.kafka.producer import AssetProducer

__all__ = [
    "AssetProducer",
    "CaseInsensitiveDict",
    "KSQLDBClient",
    "KSQLDBClientException",
    "KafkaAssetConsumer",
    "KafkaAssetUNSConsumer",
    "delete_consumer_group",
]


def __getattr__(name: str) -> Any:
    """Loaded when asked for: the engines on a Kafka stand on modules of this package, and these on the engines."""
    if name == "AssetProducer":
        from openfactory.kafka.producer import AssetProducer

        return AssetProducer
    if name in ("KafkaAssetConsumer", "KafkaAssetUNSConsumer", "delete_consumer_group"):
        from openfactory.kafka import consumer

        return getattr(consumer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
