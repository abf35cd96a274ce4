"""Client, producer and consumers, under the path from which existing OpenFactory code imports them.

`KSQLDBClient` connects to a factory by its URL and answers queries. `AssetProducer` writes events. The consumers read
the log of a Kafka broker as members of a consumer group.
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
