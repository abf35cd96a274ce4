"""AssetProducer: the producer for code without an asset of its own, such as a gateway or a deployment tool."""

from __future__ import annotations

from typing import Self

from openfactory.assets.producer import EngineProducer
from openfactory.engines.base import OnDeliveryError
from openfactory.engines.registry import open_engine_of
from openfactory.kafka.ksql import KSQLDBClient

__all__ = ["AssetProducer"]


class AssetProducer(EngineProducer):
    """Writes the events of any asset to any engine; also a context manager.

    All producers and assets of a process share one connection, so a producer is cheap to create. A write does not wait
    for its acknowledgement. `flush()` waits, and raises an error if a write has failed.

    >>> from openfactory.assets import AssetAttribute
    >>> from openfactory.kafka import AssetProducer, KSQLDBClient
    >>> with KSQLDBClient("memory://example") as ksql, AssetProducer(ksql) as producer:
    ...     speed = AssetAttribute(id="speed", value=1200, type="Samples", tag="Spindle.Speed")
    ...     receipt = producer.send_asset_attribute("MILL", speed)
    ...     producer.flush()
    ...     ksql.query("SELECT id, value FROM assets WHERE asset_uuid = ?", "MILL")
    [{'ID': 'speed', 'VALUE': '1200'}]

    Args:
        ksqlClient: client whose URL selects the engine; KSQLDB_URL if it is None.
        bootstrap_servers: address of the Kafka broker of a ksqlDB server; by default from the client or KAFKA_BROKER.
        on_delivery_error: called with each event of this process that was not written, and with the error.

    Raises:
        ConfigurationError: neither the client nor KSQLDB_URL gives a URL, or the engine needs the address of
            a broker.
        EngineUnavailableError: the engine cannot be reached.
    """

    def __init__(
        self,
        ksqlClient: KSQLDBClient | None,  # noqa: N803 - the name that tools pass it by
        bootstrap_servers: str | None = None,
        *,
        on_delivery_error: OnDeliveryError | None = None,
    ) -> None:
        self._reference = open_engine_of(ksqlClient, bootstrap_servers)
        super().__init__(self._reference.engine)
        if on_delivery_error is not None:
            self.on_delivery_error(on_delivery_error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self, timeout: float = 5.0) -> None:
        """Release the connection after the pending writes; closing twice does nothing.

        Args:
            timeout: seconds to finish the pending writes, if no other object of the process uses the connection.

        Raises:
            DeliveryError: no other object uses the connection, and a write has failed.
            DeliveryTimeout: no other object uses the connection, and a write was not acknowledged in time.
        """
        self._reference.close(timeout)
