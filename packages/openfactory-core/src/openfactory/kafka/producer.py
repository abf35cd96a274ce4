"""AssetProducer: the producer for code that has no asset of its own, such as a gateway or a tool that deploys."""

from __future__ import annotations

from typing import Self

from openfactory.assets.producer import EngineProducer
from openfactory.engines.base import OnDeliveryError
from openfactory.engines.registry import open_engine_of
from openfactory.kafka.ksql import KSQLDBClient

__all__ = ["AssetProducer"]


class AssetProducer(EngineProducer):
    """Writes for any asset, on any engine; also a context manager.

    All producers and assets of a process write through one connection, so it costs nothing to make one. A write does
    not wait: `flush()` does, and raises what failed.

    >>> from openfactory.assets import AssetAttribute
    >>> from openfactory.kafka import AssetProducer, KSQLDBClient
    >>> with KSQLDBClient("memory://example") as ksql, AssetProducer(ksql) as producer:
    ...     speed = AssetAttribute(id="speed", value=1200, type="Samples", tag="Spindle.Speed")
    ...     receipt = producer.send_asset_attribute("MILL", speed)
    ...     producer.flush()
    ...     ksql.query("SELECT id, value FROM assets WHERE asset_uuid = ?", "MILL")
    [{'ID': 'speed', 'VALUE': '1200'}]

    Args:
        ksqlClient: names the place of the data, as it does for an asset.
        bootstrap_servers: the Kafka broker beside a ksqlDB server, else what the client has, else KAFKA_BROKER.
        on_delivery_error: called with each event of this process that could not be written, and the reason.

    Raises:
        ConfigurationError: no place of the data is named, or no broker where one is needed.
        EngineUnavailableError: it cannot be reached.
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
        """Give the connection back; what was written is still delivered. Closing twice does nothing.

        Args:
            timeout: how long writing the rest may take, in seconds, for the connection's last user.

        Raises:
            DeliveryError, DeliveryTimeout: this was the last user, and not all could be written.
        """
        self._reference.close(timeout)
