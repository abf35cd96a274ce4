"""The message: an event as it stands in Kafka, in NATS, and in what apps insert, in whatever case its keys are.

`{"ID": …, "VALUE": …, "TAG": …, "TYPE": …, "attributes": {"timestamp": …}}`; the asset is the message's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import InvalidEventError

__all__ = ["checked_event", "encode_message", "event_of_fields", "read_message", "read_payload"]

_SHAPE = "JSON with ID, VALUE, TAG, TYPE and attributes"


class _Attributes(msgspec.Struct, gc=False):
    timestamp: str


class _Message(msgspec.Struct, gc=False):
    """The spelling of almost all writers, which needs no look at each key."""

    ID: str
    VALUE: Any
    TAG: str
    TYPE: str
    attributes: _Attributes


class _Payload(msgspec.Struct, gc=False):
    """The same on NATS, where the id stands in the subject."""

    VALUE: Any
    TAG: str
    TYPE: str
    attributes: _Attributes


_encode = msgspec.json.Encoder().encode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_payload = msgspec.json.Decoder(_Payload).decode


def encode_message(event: AssetEvent) -> bytes:
    """The message that says an event."""
    return _encode(_Message(event.id, event.value, event.tag, event.type, _Attributes(event.timestamp)))


def read_message(asset_uuid: str, message: bytes, position: int | None = None) -> AssetEvent:
    """The event of a message, whoever wrote it.

    Raises:
        InvalidEventError: it is none.
    """
    try:
        said = _decode_message(message)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _read_any(asset_uuid, None, message, position)
    return AssetEvent(asset_uuid, said.ID, said.VALUE, said.TYPE, said.TAG, said.attributes.timestamp, position)


def read_payload(asset_uuid: str, attribute_id: str, payload: bytes) -> AssetEvent:
    """The event of a NATS message; it has no place in the log.

    Raises:
        InvalidEventError: it is none.
    """
    try:
        said = _decode_payload(payload)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _read_any(asset_uuid, attribute_id, payload, None)
    return AssetEvent(asset_uuid, attribute_id, said.VALUE, said.TYPE, said.TAG, said.attributes.timestamp)


def event_of_fields(asset_uuid: str, fields: Mapping[str, Any]) -> AssetEvent:
    """The event that a row or a decoded message says, checked and ready to publish; without a time it is now.

    Raises:
        InvalidEventError: it says none, or one that cannot be carried.
    """
    said = _Fields.of(asset_uuid, fields)
    try:
        attribute = AssetAttribute(said.id, said.value, said.type, said.tag, said.timestamp or current_timestamp())
        return AssetEvent.of(asset_uuid, attribute)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidEventError):
            raise
        raise _no_event(asset_uuid, str(error)) from error


def checked_event(key: str | bytes, message: str | bytes | None) -> AssetEvent:
    """The event of a message that somebody wants to write, ready to publish.

    Raises:
        InvalidEventError: it is none, or one that cannot be carried.
    """
    asset_uuid = key.decode(errors="surrogateescape") if isinstance(key, bytes) else key
    try:
        fields = msgspec.json.decode(message)  # type: ignore[arg-type]  # None is refused like any other
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError) as error:
        raise _no_event(asset_uuid, str(error)) from error
    return event_of_fields(asset_uuid, fields)


def _read_any(asset_uuid: str, attribute_id: str | None, message: bytes, position: int | None) -> AssetEvent:
    """What the quick way does not understand: another case, a part that is missing, or no event at all."""
    try:
        decoded = msgspec.json.decode(message)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _no_event(asset_uuid, f"it is no JSON, {error}") from error
    said = _Fields.of(asset_uuid, decoded, attribute_id)
    if not isinstance(said.type, str):
        raise _no_event(asset_uuid, f"its type is {said.type!r}")
    timestamp = UNAVAILABLE if said.timestamp is None else str(said.timestamp)
    return AssetEvent(asset_uuid, said.id, said.value, said.type, str(said.tag), timestamp, position)


class _Fields(NamedTuple):
    """What a message says, by keys in any case; a key in capitals wins over another spelling of it."""

    id: str
    value: Any
    type: Any
    tag: Any
    timestamp: Any

    @classmethod
    def of(cls, asset_uuid: str, said: object, attribute_id: str | None = None) -> _Fields:
        fields = _in_capitals(said)
        attributes = None if fields is None else _in_capitals(fields.get("ATTRIBUTES") or {})
        if fields is None or attributes is None:
            raise _no_event(asset_uuid, f"it is {str(said)[:120]!r}")
        attribute_id = attribute_id or fields.get("ID")
        if not isinstance(attribute_id, str) or not attribute_id or "TYPE" not in fields:
            raise _no_event(asset_uuid, f"it lacks an ID or a TYPE and has {', '.join(fields) or 'nothing'}")
        return cls(
            attribute_id, fields.get("VALUE"), fields["TYPE"], fields.get("TAG") or "", attributes.get("TIMESTAMP")
        )


def _in_capitals(said: object) -> dict[str, Any] | None:
    if not isinstance(said, Mapping):
        return None
    folded = {str(key).upper(): value for key, value in said.items()}
    return folded | {key: value for key, value in said.items() if key in folded}


def _no_event(asset_uuid: str, reason: str) -> InvalidEventError:
    return InvalidEventError(f"A message for {asset_uuid} is no event: {reason}. Send {_SHAPE}.", asset_uuid=asset_uuid)
