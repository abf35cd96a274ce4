"""Decoding of Kafka records: events and places in the namespace."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from openfactory.engines.kafka_engine.command_age import with_log_time
from openfactory.engines.kafka_engine.fold import Place, place_of_message
from openfactory.engines.kafka_engine.log_reader import key_of
from openfactory.engines.kafka_engine.positions import Partition, Positions
from openfactory.events.event import COMMAND_TAG, AssetEvent
from openfactory.events.message import read_message
from openfactory.exceptions import InvalidEventError

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["Records"]

_logger = logging.getLogger("openfactory.engines")

# Each of the first unreadable records is logged, then one of every thousand.
_LOGGED_RECORDS = 20
_LOGGED_INTERVAL = 1_000

# Number of unreadable records to remember, so that a record that is read again is not logged again.
_MAX_SKIPPED = 10_000


class Records:
    """Decoder for the records of one engine's topics, for use from any thread.

    Args:
        positions: the positions of the log.

    A record that cannot be decoded is logged with its topic, partition and offset.

    Attributes:
        unreadable: number of records that could not be decoded.
    """

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self.unreadable = 0
        self._lock = threading.Lock()
        self._skipped: dict[tuple[Partition, int], None] = {}

    def event_of(self, message: Message, partition: Partition, offset: int) -> AssetEvent | None:
        """Return the event of a record, or None if the record is unreadable."""
        asset_uuid, value = key_of(message), message.value()
        if asset_uuid and isinstance(value, bytes):
            try:
                event = read_message(asset_uuid, value, self._positions.of_record(asset_uuid, partition, offset))
                return event if event.tag != COMMAND_TAG else with_log_time(event, message)
            except InvalidEventError as error:
                reason = str(error)
        else:
            reason = "it has no value" if asset_uuid else "it has no key"
        self._skip(partition, offset, reason)
        return None

    def place_of(self, message: Message, partition: Partition, offset: int) -> tuple[str, Place] | None:
        """Return the asset UUID and the place of a record of the UNS map, or None if the record is unreadable."""
        asset_uuid, value = key_of(message), message.value()
        if not asset_uuid:
            self._skip(partition, offset, "it has no key")
            return None
        try:
            return asset_uuid, place_of_message(value if isinstance(value, bytes) else None)
        except InvalidEventError as error:
            self._skip(partition, offset, str(error))
            return None

    def _skip(self, partition: Partition, offset: int, reason: str) -> None:
        with self._lock:
            if (partition, offset) in self._skipped:
                return
            self._skipped[partition, offset] = None
            if len(self._skipped) > _MAX_SKIPPED:
                del self._skipped[next(iter(self._skipped))]
            self.unreadable += 1
        if self.unreadable <= _LOGGED_RECORDS or not self.unreadable % _LOGGED_INTERVAL:
            _logger.warning(
                "The record at %s, partition %d, offset %d is skipped (%d skipped so far): %s",
                partition.topic,
                partition.number,
                offset,
                self.unreadable,
                reason,
            )
