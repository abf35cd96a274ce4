"""The records of the state topic, in which a state keeper stores the last event of each attribute.

The key of a record is a JSON array, whose length tells its kind:

[]                                the marker: the log, and the offset up to which the partition contains it
["MILL"]                          the deregistration of an asset
["MILL","status"]                 the last event of an attribute
["MILL","Method.Command",4711]    one of the latest commands or replies, by its offset in the log

The value of an event is a line of JSON with the place of its record in the log, then the value of that record as it is
in the log. A record of an asset is in the partition that has the number of the log's partition with its event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from openfactory.engines.kafka_engine.command_age import with_appended
from openfactory.engines.kafka_engine.log_clock import appended_at
from openfactory.engines.kafka_engine.log_watch import TopicIdentity
from openfactory.engines.kafka_engine.record_mark import RecordMark
from openfactory.events.event import COMMAND_TAG, AssetEvent
from openfactory.events.message import encode_message, read_message
from openfactory.exceptions import InvalidEventError

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = [
    "MARKER_KEY",
    "KeptEvent",
    "Key",
    "Marker",
    "StateRecord",
    "encode_key",
    "log_of",
    "read_deregistration",
    "read_event",
    "record_of",
]

_VERSION = 1

#: The key of the marker.
MARKER_KEY = b"[]"

_encode = msgspec.json.Encoder().encode


class Key(NamedTuple):
    """The key of a record, except that of the marker.

    Attributes:
        asset_uuid: the asset.
        id: the attribute, or the tag of a command or a reply; None for a deregistration.
        offset: the offset of a command or a reply, otherwise None.
    """

    asset_uuid: str
    id: str | None = None
    offset: int | None = None

    @classmethod
    def read(cls, key: bytes) -> Key:
        """Return the key in the bytes of a record.

        Raises:
            msgspec.MsgspecError: it is not the key of a record of the state.
        """
        return _read_key(key)

    @property
    def parts(self) -> tuple[str | int | None, ...]:
        """The parts of which the key consists.

        >>> Key("MILL", "status").parts, Key("MILL").parts
        (('MILL', 'status'), ('MILL',))
        """
        return self[:1] if self.id is None else self[:2] if self.offset is None else tuple(self)


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the log that a partition of the state topic contains.

    Attributes:
        log: the identity of the log, see `log_of`.
        offset: the offset up to which the state contains the log.
        last: offset and time of the last record before it, by which the log is recognised; None without a record.
        version: the version of this format.
    """

    log: str
    offset: int
    last: tuple[int, int] | None = None
    version: int = _VERSION

    @property
    def mark(self) -> RecordMark | None:
        """The last record."""
        return None if self.last is None else RecordMark(*self.last)

    def encode(self) -> bytes:
        """Return the value of the record."""
        return _encode(self)

    @classmethod
    def read(cls, value: bytes | None, log: str) -> Marker | None:
        """Return the marker in the value of a record, or None if it is of another log or version."""
        try:
            marker = None if value is None else _read_marker(value)
        except msgspec.MsgspecError:
            return None
        return marker if marker is not None and (marker.log, marker.version) == (log, _VERSION) else None


class _Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line of a value.

    Attributes:
        offset: offset of the record in the log.
        time: time of the record, in milliseconds since 1970.
        appended: whether the time is that of the broker.
    """

    offset: int
    time: int
    appended: bool = False


class KeptEvent(NamedTuple):
    """An event of the state topic.

    Attributes:
        event: the event.
        milliseconds: the time of its record in the log, since 1970; 0 for a command that has lost its arguments or its
            result, because there are many.
    """

    event: AssetEvent
    milliseconds: int


class StateRecord(NamedTuple):
    """The value of an event before it is encoded."""

    place: _Place
    value: bytes

    @classmethod
    def reduced(cls, event: AssetEvent) -> StateRecord:
        """Return the value of a command that has lost its arguments or its result."""
        return cls(_Place((event.position or 1) - 1, 0), encode_message(event))

    def without_value(self) -> StateRecord:
        """Return the value for a deregistration, of which only the place is of interest."""
        return StateRecord(self.place, b"")

    def encode(self) -> bytes:
        """Return the value as bytes."""
        return b"%b\n%b" % (_encode(self.place), self.value)


def encode_key(parts: tuple[str | int | None, ...]) -> bytes:
    """Return the key with some parts as bytes.

    >>> encode_key(("MILL", "status"))
    b'["MILL","status"]'
    """
    return _encode(parts)


def record_of(message: Message) -> StateRecord:
    """Return the value for a record of the log that has a value."""
    place = _Place(message.offset() or 0, message.timestamp()[1], appended_at(message) is not None)
    return StateRecord(place, message.value() or b"")


def read_event(key: Key, value: bytes, base: int) -> KeptEvent:
    """Return the event of a record.

    Args:
        key: the key of the record.
        value: the value of the record.
        base: the base of the log, from which the position of the event counts.

    Raises:
        msgspec.MsgspecError, InvalidEventError: the value is not that of an event.
    """
    head, line, message = value.partition(b"\n")
    if not line:
        raise InvalidEventError("The value has one line. Write the place of the record, then the record.")
    place = _read_place(head)
    event = read_message(key.asset_uuid, message, base + place.offset + 1)
    if event.tag == COMMAND_TAG:
        event = with_appended(event, place.time / 1_000 if place.appended else None)
    return KeptEvent(event, place.time)


def read_deregistration(value: bytes, base: int) -> tuple[int, int]:
    """Return the position of a deregistration, and the time of its record in milliseconds.

    Raises:
        msgspec.MsgspecError: the value is not that of a deregistration.
    """
    place = _read_place(value.partition(b"\n")[0])
    return base + place.offset + 1, place.time


def log_of(identity: TopicIdentity) -> str:
    """Return the identity of a log as text: it changes if the topic is made anew, or gets more partitions."""
    return f"{identity.id}/{identity.partitions}"


_read_key = msgspec.json.Decoder(Key).decode
_read_marker = msgspec.json.Decoder(Marker).decode
_read_place = msgspec.json.Decoder(_Place).decode
