"""The rows that ksqlDB derives from the log for the register, in the topics of its tables.

A row appears some time after its event, so a tombstone that is written at once may come before the row, and delete
nothing. Rows do not name their events: they are counted, because each event becomes one row, in the order of the log.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.fold import is_deregistration
from openfactory.engines.kafka_engine.log_reader import LogReader, key_of
from openfactory.engines.kafka_engine.partitioning import partition_of
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.records import Records
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.events.registration import DEREGISTERED
from openfactory.exceptions import EngineUnavailableError

__all__ = ["LAG_SECONDS", "RegisterRows"]

_logger = logging.getLogger("openfactory.engines")

#: Upper bound for the lag of the tables, in seconds; newer events are read from the log.
LAG_SECONDS = 30.0

# Seconds that a deregistration waits for its acknowledgement, and then for rows, and the pause between two reads.
_WAIT_SECONDS = 2.0
_PAUSE_SECONDS = 0.02

# Number of records at the end of a partition, among which there are rows if ksqlDB fills the topic.
_LAST_RECORDS = 500

_TABLES = {"AssetType": "assets_type", "DockerService": "docker_services"}

# Some statements derive this value from the type `delete` beside a tombstone, and others the tombstone alone.
_DELETED_ROW = f'"{DEREGISTERED}"'.encode()


class RegisterRows:
    """Reader for the newest rows of the register.

    Args:
        connection: the cluster.
        reader: reader for the topics.
        records: decoder for the records of the log.
        topics: by table, its topic.

    Attributes:
        are_certain: whether a ksqlDB fills the topics. Otherwise they are examined, until they have rows.
    """

    def __init__(
        self, connection: BrokerConnection, reader: LogReader, records: Records, topics: Mapping[str, str]
    ) -> None:
        self.are_certain = False
        self._connection = connection
        self._reader = reader
        self._records = records
        self._topics = topics
        self._partitions: dict[str, int] = {}

    def wait_until_deletable(
        self, asset_uuid: str, written: Receipt, log: Collection[Partition], partition: Partition
    ) -> bool:
        """Wait for a limited time until the last rows of a deregistered asset have appeared.

        Args:
            asset_uuid: the asset.
            written: the write of its deregistration.
            log: the partitions of the log.
            partition: the partition of the asset.

        Returns:
            False if the asset has no rows, or was registered again meanwhile, so that its new rows must stay.
        """
        if not self._topics:
            return False
        reason = self._connection.outage.reason
        try:
            if not reason and not written.settles(_WAIT_SECONDS):
                reason = "its deregistration is not acknowledged yet"
            elif not reason and self._exist():
                if not self._wait(asset_uuid, self._events(asset_uuid, log)):
                    reason = f"they have not read its last events for {_WAIT_SECONDS:g} s"
                if _is_registered(self._events(asset_uuid, [partition])):
                    return False
        except EngineUnavailableError as error:
            reason = str(error)
        if reason:
            _logger.warning(
                "If the factory has a ksqlDB, its tables may show %s again: %s. "
                "Check it with `ofa doctor`, then call deregister_asset() again.",
                asset_uuid,
                reason,
            )
        return True

    def _exist(self) -> bool:
        """Return whether a ksqlDB fills the topics; without it, they have at most tombstones."""
        if self.are_certain:
            return True
        partitions = [Partition(topic, n) for topic in self._topics.values() for n in range(self._count(topic))]
        self.are_certain = any(
            message.value() is not None
            for partition, (low, high) in self._reader.bounds(partitions).items()
            for _, message in self._reader.read(partition, max(low, high - _LAST_RECORDS), high)
        )
        return self.are_certain

    def _events(self, asset_uuid: str, partitions: Collection[Partition]) -> list[AssetEvent]:
        """Return the newest events of an asset in some partitions of the log."""
        return [
            event
            for partition, offset, message in self._reader.read_newest(self._reader.ends(partitions), LAG_SECONDS)
            if key_of(message) == asset_uuid
            and (event := self._records.event_of(message, partition, offset)) is not None
        ]

    def _wait(self, asset_uuid: str, events: Iterable[AssetEvent]) -> bool:
        """Wait until the rows of the newest events of an asset have appeared, and return whether all of them have."""
        deadline = time.monotonic() + _WAIT_SECONDS
        tables = [table for event in events if (table := _table_of(event)) is not None and table in self._topics]
        for table, count in Counter(tables).items():
            while not _state(self._rows(table, [asset_uuid])[asset_uuid], count)[0]:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE_SECONDS)
        return True

    def deleted(self, table: str, events: Iterable[AssetEvent]) -> set[str]:
        """Return the assets whose newest row in a table was deleted by a tombstone.

        Args:
            table: the table.
            events: the newest events of some assets. Rows that have not appeared yet are not deleted.
        """
        counts = Counter(event.asset_uuid for event in events if _table_of(event) == table)
        if not counts or table not in self._topics:
            return set()
        rows = self._rows(table, counts)
        return {asset_uuid for asset_uuid, count in counts.items() if _state(rows[asset_uuid], count)[1]}

    def _rows(self, table: str, asset_uuids: Collection[str]) -> defaultdict[str | None, list[bytes | None]]:
        """Return the newest rows of some assets, and perhaps of others, with None for a tombstone."""
        topic = self._topics[table]
        count = self._count(topic)
        partitions = {Partition(topic, partition_of(asset_uuid, count)) for asset_uuid in asset_uuids}
        rows = defaultdict[str | None, list[bytes | None]](list)
        for _, _, message in self._reader.read_newest(self._reader.ends(partitions), LAG_SECONDS):
            value = message.value()
            rows[key_of(message)].append(value if isinstance(value, bytes) else None)
        return rows

    def _count(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        if topic not in self._partitions:
            topics = self._reader.cluster().topics
            self._partitions.update((name, topics.get(name, 1)) for name in self._topics.values())
        return self._partitions[topic]


def _is_registered(events: Collection[AssetEvent]) -> bool:
    """Return whether the last event about the registration of an asset registers it."""
    for event in reversed([*events]):
        if is_deregistration(event):
            return False
        if _table_of(event) == "assets_type":
            return True
    return False


def _table_of(event: AssetEvent) -> str | None:
    """Return the table in which an event becomes a row, or None."""
    if event.value == DEREGISTERED:
        return None
    if event.id in ("avail", "agent_avail"):
        return "assets_avail"
    return _TABLES.get(event.id) if event.type == "OpenFactory" else None


def _state(rows: Iterable[bytes | None], events: int) -> tuple[bool, bool]:
    """Return whether the rows of some events have appeared, and whether a tombstone has followed the last of them.

    >>> _state([b'"Device"', None], 1), _state([None, b'"Device"'], 1), _state([None], 1)
    ((True, True), (True, False), (False, False))
    """
    count, deleted = 0, False
    for row in rows:
        if row is None:
            deleted = count >= events
        elif _DELETED_ROW not in row:
            count += 1
            deleted = False
    return count >= events, deleted
