"""The engines on a Kafka: alone, or with a ksqlDB that keeps the state.

Read `log_engine` for what both share, then `kafka_alone` or `with_ksqldb`.
"""

from openfactory.engines.kafka_engine.kafka_alone import KafkaEngine
from openfactory.engines.kafka_engine.with_ksqldb import KsqlDBEngine

__all__ = ["KafkaEngine", "KsqlDBEngine"]
