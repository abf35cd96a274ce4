"""The names that code written for OpenFactory imports from here: the client, the producer and the consumers.

`KSQLDBClient` names the factory by its URL and answers queries; `AssetProducer` writes events. The consumers read the
log of a Kafka as members of a consumer group.
"""

from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.kafka.consumer import KafkaAssetConsumer, KafkaAssetUNSConsumer, delete_consumer_group
from openfactory.kafka.ksql import KSQLDBClient, KSQLDBClientException
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
