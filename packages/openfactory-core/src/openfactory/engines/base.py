"""What an engine promises: the verbs by which everything else writes, reads and watches.

All verbs are synchronous and may be called from any thread. None of their names or types belongs to Kafka.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from openfactory.events.event import AssetEvent
from openfactory.events.message import checked_event
from openfactory.events.receipt import Receipt
from openfactory.events.registration import Registration
from openfactory.exceptions import ConfigurationError, OpenFactoryError

if TYPE_CHECKING:
    from openfactory.settings.credentials import Credentials

__all__ = [
    "ASSETS_STREAM",
    "ASSETS_TOPIC",
    "Engine",
    "EngineHealth",
    "LogPosition",
    "OnDeliveryError",
    "OnEvent",
    "OnGap",
    "Servers",
    "Snapshot",
    "Subscription",
]

#: The stream of all events, as ksqlDB names it, and its topic.
ASSETS_STREAM = "ASSETS_STREAM"
ASSETS_TOPIC = "ofa_assets"

#: Called for each event of a subscription, on the engine's delivery thread: it must return soon.
OnEvent = Callable[[AssetEvent], None]

#: Called after a cut: read a snapshot again and give back its position, from which events go on.
OnGap = Callable[[], int]


#: Called with each event that could not be written and the reason, on a thread of the engine.
OnDeliveryError = Callable[[AssetEvent, OpenFactoryError], object]


class Servers(NamedTuple):
    """What a URL does not name; engines that need it read what is left out from the environment.

    Attributes:
        bootstrap_servers: address of the Kafka broker.
        asset_router_url: address of the asset router.
        credentials: user names, secrets and certificates.
    """

    bootstrap_servers: str | None = None
    asset_router_url: str | None = None
    credentials: Credentials | None = None


class LogPosition(int):
    """The position of a log that has several partitions: as a number that of the furthest one.

    Attributes:
        partitions: the position in each partition.
    """

    partitions: Mapping[int, int]

    @classmethod
    def of(cls, partitions: Mapping[int, int]) -> LogPosition:
        """A position in each partition."""
        position = cls(max(partitions.values(), default=0))
        position.partitions = dict(partitions)
        return position


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last event of each attribute, as of one position of the log.

    Attributes:
        events: by asset and in the order of the log; an asset that nobody has ever written is not in it.
        position: all events up to this one are taken into account.
    """

    events: Mapping[str, list[AssetEvent]]
    position: int


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """How an engine is.

    Attributes:
        connected: whether it can write and read now.
        reason: why not, empty where it can.
        queued: how many published events wait to be written.
        counters: what happened since the engine was opened, by name.
    """

    connected: bool
    reason: str = ""
    queued: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)


class Subscription:
    """The handle of a subscription; closing it ends the calls.

    Attributes:
        position: of the last event that was handed on, at first what events are handed on behind.
    """

    __slots__ = ("_partitions", "_start", "_unsubscribe", "asset_uuid", "closed", "on_event", "on_gap", "position")

    def __init__(
        self,
        asset_uuid: str | None,
        on_event: OnEvent,
        on_gap: OnGap | None,
        position: int,
        unsubscribe: Callable[[Subscription], None],
    ) -> None:
        self.asset_uuid = asset_uuid
        self.on_event = on_event
        self.on_gap = on_gap
        self.closed = False
        self._unsubscribe = unsubscribe
        self.seek(position)

    def when_closed(self, unsubscribe: Callable[[Subscription], None]) -> None:
        """Have something else unsubscribe it."""
        self._unsubscribe = unsubscribe

    def seek(self, position: int) -> None:
        """Hear what stands behind a position, of each partition if it tells them apart."""
        self.position = position
        self._start = 0 if isinstance(position, LogPosition) else position
        self._partitions = dict(position.partitions) if isinstance(position, LogPosition) else {}

    def advance(self, position: int, partition: int = 0) -> bool:
        """Whether an event has not been heard yet; it counts as heard from now on."""
        if position <= self._partitions.get(partition, self._start):
            return False
        self.position = self._partitions[partition] = position
        return True

    def close(self) -> None:
        """Hear no more; a call that is under way may still end."""
        if not self.closed:
            self.closed = True
            self._unsubscribe(self)


class Engine(ABC):
    """One place where the data of a factory is written, read and watched.

    Attributes:
        url: what it was opened by.
    """

    url: str

    @classmethod
    @abstractmethod
    def location(cls, url: str, servers: Servers = Servers()) -> str:  # noqa: B008 - immutable
        """What a URL names, in one spelling: two URLs with the same place share one engine.

        Raises:
            ConfigurationError: the URL cannot be understood, or a server that it needs is not named.
        """

    @abstractmethod
    def publish(self, event: AssetEvent) -> Receipt:
        """Hand an event over to be written; it does not wait for a disk or a broker.

        Returns:
            the receipt, which tells later where the event stands or why it could not be written.

        Raises:
            EngineClosedError: the engine takes no more events.
            DeliveryTimeout: its queue stayed full for as long as it may.
        """

    def produce(self, topic: str, key: str | bytes, value: str | bytes | None) -> Receipt:
        """Hand a message over as it stands on the wire.

        Args:
            topic: `ofa_assets`, whose key is the asset; a Kafka has others too.
            value: JSON with ID, VALUE, TAG, TYPE and attributes.

        Raises:
            ConfigurationError: there is no such topic here.
            InvalidEventError: the message is no event.
        """
        if topic != ASSETS_TOPIC:
            raise ConfigurationError(
                f"{self.url} has no topic {topic!r}. Write to {ASSETS_TOPIC}, or use a Kafka for others."
            )
        return self.publish(checked_event(key, value))

    def topic_of(self, name: str) -> str:
        """The Kafka topic of a stream or table.

        Raises:
            ConfigurationError: there is no Kafka here, or no such stream.
        """
        raise ConfigurationError(
            f"{self.url} has no Kafka, so {name} has no topic. Write through an asset's attributes or "
            "insert_into_stream, which work everywhere."
        )

    @abstractmethod
    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        """Have each event told that could not be written, as long as the engine is open."""

    @abstractmethod
    def flush(self, timeout: float = 10.0) -> None:
        """Wait until everything published before is acknowledged.

        Args:
            timeout: how long to wait, in seconds.

        Raises:
            DeliveryError: events failed since the last flush; it names them.
            DeliveryTimeout: some are not acknowledged yet.
        """

    @abstractmethod
    def snapshot(self, asset_uuids: Collection[str] | None = None) -> Snapshot:
        """The last event of each attribute of some assets, or of all."""

    @abstractmethod
    def subscribe(
        self,
        asset_uuid: str | None,
        on_event: OnEvent,
        on_gap: OnGap | None = None,
        from_position: int | None = None,
    ) -> Subscription:
        """Hear the events of an asset, or of all assets with None, in order per asset.

        Args:
            from_position: the events after this one, such as a snapshot's; without it, those written from now on.
        """

    @abstractmethod
    def register(self, registration: Registration) -> None:
        """Make an asset known: its type, its container, and its place in the unified namespace."""

    @abstractmethod
    def deregister(self, asset_uuid: str) -> None:
        """Take an asset off the register; what it said stays readable."""

    @abstractmethod
    def types(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        """The type of each registered asset, of some or of all."""

    @abstractmethod
    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        """The availability that assets have stated and not taken back, of some or of all."""

    @abstractmethod
    def uns_map(self) -> dict[str, str]:
        """The UNS id of each asset that has a place in the unified namespace."""

    @abstractmethod
    def history(
        self,
        asset_uuid: str,
        attribute_id: str | None = None,
        *,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 1000,
    ) -> list[AssetEvent]:
        """What the log still holds of an asset, newest last.

        Args:
            attribute_id: only this attribute.
            tag: only events of this tag, such as replies.
            since: not older than this timestamp.
            until: not newer than this timestamp.
            limit: at most so many, the newest.
        """

    @abstractmethod
    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """A SELECT on the tables of the ksqlDB topology; the columns come in upper case.

        Raises:
            QueryError: this engine cannot answer it.
        """

    @abstractmethod
    def tables(self) -> list[str]:
        """The names of the tables that can be queried, in upper case."""

    @abstractmethod
    def health(self) -> EngineHealth:
        """How the engine is; it never raises."""

    @abstractmethod
    def close(self, timeout: float = 5.0) -> None:
        """Write what was published, then let go of everything; closing twice does nothing.

        Raises:
            DeliveryError: events could not be written.
            DeliveryTimeout: some were not written in time, in seconds.
        """
