"""The client that apps are given: it names the place of the data and answers queries on it."""

from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.kafka.ksql import KSQLDBClient, KSQLDBClientException

__all__ = ["CaseInsensitiveDict", "KSQLDBClient", "KSQLDBClientException"]
