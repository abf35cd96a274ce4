"""What records say: events, and places in the namespace; what is neither is logged with its place in the log."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from openfactory.engines.kafka_engine.fold import Place, place_of_message
from openfactory.engines.kafka_engine.log_reader import Partition, key_of
from openfactory.events.event import AssetEvent
from openfactory.events.message import read_message
from openfactory.exceptions import InvalidEventError

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["Records"]

_logger = logging.getLogger("openfactory.engines")

# Records that are not understood are logged one by one up to this number, then now and then.
_SAID = 20
_SAID_AGAIN = 1_000

# So many of them are known, so that each is logged once however often it is read.
_REMEMBERED = 10_000


class Records:
    """Reads the records of one engine's topics; from any thread.

    Attributes:
        unreadable: how many were not understood.
    """

    def __init__(self) -> None:
        self.unreadable = 0
        self._lock = threading.Lock()
        self._skipped: dict[tuple[Partition, int], None] = {}

    def event_of(self, message: Message, partition: Partition, offset: int) -> AssetEvent | None:
        """The event of a record, or None."""
        asset_uuid, value = key_of(message), message.value()
        if asset_uuid and isinstance(value, bytes):
            try:
                return read_message(asset_uuid, value, offset + 1)
            except InvalidEventError as error:
                reason = str(error)
        else:
            reason = "it has no value" if asset_uuid else "it has no key"
        self._skip(partition, offset, reason)
        return None

    def place_of(self, message: Message, partition: Partition, offset: int) -> tuple[str, Place] | None:
        """Which asset stands where, as a record of the map says; or None."""
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
            if len(self._skipped) > _REMEMBERED:
                del self._skipped[next(iter(self._skipped))]
            self.unreadable += 1
        if self.unreadable <= _SAID or not self.unreadable % _SAID_AGAIN:
            _logger.warning(
                "The record at %s, partition %d, offset %d is skipped, the %d. of its kind: %s",
                partition.topic,
                partition.number,
                offset,
                self.unreadable,
                reason,
            )
