"""The engine interface, by which the rest of OpenFactory writes, reads and watches events.

All methods are synchronous and may be called from any thread. Their names and types do not depend on Kafka.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openfactory.engines.liveness import Liveness
from openfactory.engines.location import Servers
from openfactory.events.event import AssetEvent
from openfactory.events.message import checked_event
from openfactory.events.ownership import Owner, owner_in
from openfactory.events.period import Bound
from openfactory.events.receipt import Receipt
from openfactory.events.registration import Registration
from openfactory.exceptions import ConfigurationError, OpenFactoryError
from openfactory.settings.redaction import redacted

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

#: Name of the stream of all events in ksqlDB.
ASSETS_STREAM = "ASSETS_STREAM"

#: Name of the topic of all events in Kafka.
ASSETS_TOPIC = "ofa_assets"

#: Called with each event of a subscription. It runs on the engine's delivery thread and must return quickly.
OnEvent = Callable[[AssetEvent], None]

#: Called after a gap, also when the log was replaced by another one. It reads a new snapshot and returns its position;
#: delivery continues after that position.
OnGap = Callable[[], int]

#: Called with each event that could not be written, and with the reason. It runs on a thread of the engine.
OnDeliveryError = Callable[[AssetEvent, OpenFactoryError], object]


class LogPosition(int):
    """Position in a log with several partitions.

    Its integer value is the position in the partition of the asset that was asked for, or the highest of several.

    Attributes:
        partitions: position in each partition, by partition number.
    """

    partitions: Mapping[int, int]

    @classmethod
    def of(cls, partitions: Mapping[int, int], value: int | None = None) -> LogPosition:
        """Create a position from the position in each partition, and from its integer value, by default the highest."""
        position = cls(max(partitions.values(), default=0) if value is None else value)
        position.partitions = dict(partitions)
        return position


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last event of each attribute, at one position of the log.

    Attributes:
        events: events by asset UUID, in the order of the log. An asset without events is not included.
        position: the snapshot reflects all events up to this position.
        log: number of logs that the log has replaced since the engine was opened.
    """

    events: Mapping[str, list[AssetEvent]]
    position: int
    log: int = 0

    def owners(self) -> dict[str, Owner]:
        """Return the last owner of each asset that an app has claimed, by UUID."""
        found = {uuid: owner_in({event.id: event for event in of_one}) for uuid, of_one in self.events.items()}
        return {uuid: owner for uuid, owner in found.items() if owner is not None}


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """Connection state and queue of an engine.

    Attributes:
        connected: whether the engine can write and read now.
        reason: why it cannot, or an empty string.
        queued: number of published events that are not written yet.
        counters: counts of what the engine has done since it was opened, by name.
        keeper_lag: on a Kafka with a state keeper, the number of records of the log that its state lacks, which a start
            reads; otherwise None.
    """

    connected: bool
    reason: str = ""
    queued: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    keeper_lag: int | None = None


class Subscription:
    """Handle of a subscription. Closing it ends the calls.

    Attributes:
        asset_uuid: the asset, or None for all assets.
        on_event: called with each event.
        on_gap: called after a gap, or None.
        position: position of the last delivered event, at first the position after which delivery starts.
        closed: whether the subscription is closed.
        knows: returns whether the subscriber has nothing to do for the echo of a write of this process. It is called
            with the receipt of the write, on the engine's delivery thread, and not again for a next write to the asset
            that is shown by the same state; None if each echo is delivered.
    """

    __slots__ = (
        "_partitions",
        "_start",
        "_unsubscribe",
        "asset_uuid",
        "closed",
        "knows",
        "on_event",
        "on_gap",
        "position",
    )

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
        self.knows: Callable[[Receipt], bool] | None = None
        self._unsubscribe = unsubscribe
        self.seek(position)

    def when_closed(self, unsubscribe: Callable[[Subscription], None]) -> None:
        """Replace the function that `close` calls to unsubscribe."""
        self._unsubscribe = unsubscribe

    def seek(self, position: int) -> None:
        """Continue after a position. A `LogPosition` sets the position of each partition."""
        self.position = position
        self._start = 0 if isinstance(position, LogPosition) else position
        self._partitions = dict(position.partitions) if isinstance(position, LogPosition) else {}

    def advance(self, place: int, partition: int = 0) -> bool:
        """Move to the place of an event in a partition, and return whether the event is new to the subscription."""
        if place <= self._partitions.get(partition, self._start):
            return False
        self._partitions[partition] = place
        return True

    def pass_by(self, position: int, partition: int = 0) -> None:
        """Move behind the event at a position, without a call."""
        if self.advance(position, partition):
            self.position = position

    def close(self) -> None:
        """End the calls. A call that is running may still finish."""
        if not self.closed:
            self.closed = True
            self._unsubscribe(self)


class Engine(ABC):
    """Interface of an engine: writing, reading and watching the events of a factory.

    Attributes:
        url: the URL by which the engine was opened.
        liveness: sees which owners of assets live; None if the engine cannot, and apps on it own their assets unseen.
    """

    url: str
    liveness: Liveness | None = None

    @classmethod
    @abstractmethod
    def location(cls, url: str, servers: Servers = Servers()) -> str:  # noqa: B008 - immutable
        """Return the location that a URL names, in one spelling for all URLs that name it.

        URLs with the same location share one engine in a process.

        Raises:
            ConfigurationError: the URL is not valid, or the address of a server that it needs is missing.
        """

    @abstractmethod
    def publish(self, event: AssetEvent) -> Receipt:
        """Queue an event for writing.

        The call does not wait for a disk or a broker. It waits only while the queue is full.

        Returns:
            the receipt, which later has the position of the event or the error.

        Raises:
            EngineClosedError: the engine is closed.
            DeliveryTimeout: the queue was still full when the time limit of the engine expired.
        """

    def produce(self, topic: str, key: str | bytes, value: str | bytes | None) -> Receipt:
        """Publish a message in the wire format.

        Args:
            topic: `ofa_assets`; an engine on Kafka accepts other topics too.
            key: the asset UUID, for `ofa_assets`.
            value: JSON with ID, VALUE, TAG, TYPE and attributes.

        Raises:
            ConfigurationError: the engine does not have this topic.
            InvalidEventError: the message is not an event.
        """
        if topic != ASSETS_TOPIC:
            raise ConfigurationError(
                f"{redacted(self.url)} has no topic {topic!r}. Write to {ASSETS_TOPIC}, or use Kafka for other topics."
            )
        return self.publish(checked_event(key, value))

    def topic_of(self, name: str) -> str:
        """Return the Kafka topic of a stream or table.

        Raises:
            ConfigurationError: the engine does not use Kafka, or the stream does not exist.
        """
        raise ConfigurationError(
            f"{redacted(self.url)} does not use Kafka, so {name} has no topic. Write through an asset's attributes or "
            "insert_into_stream, which work with every engine."
        )

    @abstractmethod
    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        """Call `callback` for each event that cannot be written, until the engine is closed."""

    @abstractmethod
    def flush(self, timeout: float = 10.0) -> None:
        """Wait until all events published before, by any writer of this process, are acknowledged.

        Args:
            timeout: seconds to wait.

        Raises:
            DeliveryError: events have failed; the error lists them. The thread or task that has published an event is
                told of its failure at its next flush, and so is the first other one that calls this method.
            DeliveryTimeout: some events are not acknowledged yet.
        """

    def check_open(self) -> None:  # noqa: B027 - engines of other distributions may do without it
        """Raise an error if the engine is closed.

        Raises:
            EngineClosedError: the engine is closed, or was opened before this process was forked.
        """

    @abstractmethod
    def snapshot(self, asset_uuids: Collection[str] | None = None) -> Snapshot:
        """Return the last event of each attribute, of the given assets or of all."""

    @abstractmethod
    def subscribe(
        self,
        asset_uuid: str | None,
        on_event: OnEvent,
        on_gap: OnGap | None = None,
        from_position: int | None = None,
    ) -> Subscription:
        """Subscribe to the events of an asset, or of all assets.

        The events of each asset arrive in the order of the log.

        Args:
            asset_uuid: the asset, or None for all assets.
            on_event: called with each event.
            on_gap: called after a gap, to read a new snapshot.
            from_position: position after which events are delivered, such as that of a snapshot. By default, events
                written from now on are delivered.
        """

    def stamp(self, asset_uuid: str) -> Mapping[str, str]:  # noqa: ARG002 - engines of others may do without it
        """Return the attributes of a command to an asset by which `age` knows that it was sent now."""
        return {}

    def age(self, event: AssetEvent) -> float | None:  # noqa: ARG002 - engines of others may do without it
        """Return the seconds since a command was sent, by the time of the log.

        The wall clocks of sender and reader play no part. The true age may be higher, if the engine cannot know more.

        Returns:
            the seconds, or None if they are not known.
        """
        return None

    @abstractmethod
    def register(self, registration: Registration) -> Sequence[Receipt]:
        """Register an asset: its type, its container and its place in the unified namespace; return the receipts."""

    @abstractmethod
    def deregister(self, asset_uuid: str, epoch: int | None = None) -> Sequence[Receipt]:
        """Remove an asset from the register, and return the receipts. Its events remain readable.

        Args:
            epoch: epoch of the claim of an owner that removes its own asset; after another claim, nothing is removed.
        """

    @abstractmethod
    def types(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        """Return the type of each registered asset by UUID, of the given assets or of all."""

    @abstractmethod
    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        """Return the last availability of each asset by UUID, of the given assets or of all.

        An asset that has not published an availability, or has withdrawn it, is not included.
        """

    @abstractmethod
    def uns_map(self) -> dict[str, str]:
        """Return the UNS id of each asset that has a place in the unified namespace, by UUID.

        The asset that got its place last is the last: of two assets at one place, it is the one that has the place.
        """

    @abstractmethod
    def history(
        self,
        asset_uuid: str,
        attribute_id: str | None = None,
        *,
        tag: str | None = None,
        since: Bound | None = None,
        until: Bound | None = None,
        limit: int = 1000,
    ) -> list[AssetEvent]:
        """Return the events of an asset that are still in the log, oldest first.

        Args:
            asset_uuid: UUID of the asset.
            attribute_id: the attribute; by default, all attributes.
            tag: the tag, such as that of replies; by default, all tags.
            since: earliest timestamp of an event, inclusive: a datetime with a time zone, or a text in ISO 8601.
            until: latest timestamp of an event, inclusive.
            limit: maximum number of events; the newest events are returned.

        Raises:
            ConfigurationError: `since` or `until` is not a time, or is a datetime without a time zone.
        """

    @abstractmethod
    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Run a SELECT on the tables of the ksqlDB topology and return its rows.

        Args:
            sql: the statement, with `?` for each parameter.
            parameters: values of the parameters.

        Returns:
            each row as a dictionary, with the names of the columns in upper case.

        Raises:
            QueryError: the engine cannot run the statement.
        """

    @abstractmethod
    def tables(self) -> list[str]:
        """Return the names of the tables that can be queried, in upper case."""

    @abstractmethod
    def health(self) -> EngineHealth:
        """Return the connection state and queue of the engine. It never raises."""

    @abstractmethod
    def close(self, timeout: float = 5.0) -> None:
        """Write the published events, then release all resources. A second call does nothing.

        Args:
            timeout: seconds to wait.

        Raises:
            DeliveryError: events could not be written.
            DeliveryTimeout: some events were not written in time.
        """
