"""The wire format of events: messages in Kafka and NATS, and the rows that apps insert.

`{"ID": …, "VALUE": …, "TAG": …, "TYPE": …, "attributes": {"timestamp": …}}`; the asset UUID is the key of the message.
Keys are read in any case. Writers and carriers may add attributes, which are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec

from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.decoding import FLAT_LENGTH, decode_json
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import InvalidEventError

__all__ = ["attributes_of", "checked_event", "encode_message", "event_of_fields", "read_message", "read_payload"]

_SHAPE = "JSON with ID, VALUE, TAG, TYPE and attributes"


A = TypeVar("A")


class _Timestamp(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The attributes of most messages in the log, which decode faster than a dictionary."""

    timestamp: str


class _Message(msgspec.Struct, Generic[A], gc=False):
    """A message with its keys as almost all programs spell them, which decodes fast."""

    ID: Annotated[str, msgspec.Meta(min_length=1)]
    VALUE: Any
    TAG: str
    TYPE: str
    attributes: A


class _Payload(msgspec.Struct, gc=False):
    """A message on NATS, where the id is in the subject, and the asset forwarder has added attributes."""

    VALUE: Any
    TAG: str
    TYPE: str
    attributes: dict[str, Any]


# The place in a message where attributes begin that have a timestamp only, in the format of the wire.
_ONLY_TIMESTAMP = slice(-len('{"timestamp":"2026-11-21T07:30:00.000Z"}}'), -len('2026-11-21T07:30:00.000Z"}}'))

_encode = msgspec.json.Encoder().encode
_decode_plain = msgspec.json.Decoder(_Message[_Timestamp]).decode
_decode_message = msgspec.json.Decoder(_Message[dict[str, Any]]).decode
_decode_payload = msgspec.json.Decoder(_Payload).decode


def encode_message(event: AssetEvent) -> bytes:
    """Return the message that carries an event."""
    attributes = _Timestamp(event.timestamp) if event.attributes is None else attributes_of(event)
    return _encode(_Message(event.id, event.value, event.tag, event.type, attributes))


def attributes_of(event: AssetEvent) -> dict[str, Any]:
    """Return the attributes of an event's message: the timestamp, and the properties beside it."""
    timestamp = {"timestamp": event.timestamp}
    return timestamp if event.attributes is None else {**timestamp, **event.attributes}


def read_message(asset_uuid: str, message: bytes, position: int | None = None) -> AssetEvent:
    """Return the event of a message from any program.

    Raises:
        InvalidEventError: the message is not an event.
    """
    if message[_ONLY_TIMESTAMP] == b'{"timestamp":"' and len(message) <= FLAT_LENGTH:
        try:
            plain = _decode_plain(message)
        except (msgspec.DecodeError, ValueError, OverflowError):
            pass
        else:
            timestamp = plain.attributes.timestamp
            return AssetEvent(asset_uuid, plain.ID, plain.VALUE, plain.TYPE, plain.TAG, timestamp, position)
    try:
        fields = decode_json(message, _decode_message)
    except msgspec.DecodeError:
        return _read_any(asset_uuid, None, message, position)
    event = _event_of(asset_uuid, fields.ID, fields, position)
    return _read_any(asset_uuid, None, message, position) if event is None else event


def read_payload(asset_uuid: str, attribute_id: str, payload: bytes) -> AssetEvent:
    """Return the event of a NATS message; the event has no position.

    Raises:
        InvalidEventError: the message is not an event.
    """
    try:
        fields = decode_json(payload, _decode_payload)
    except msgspec.DecodeError:
        return _read_any(asset_uuid, attribute_id, payload, None)
    event = _event_of(asset_uuid, attribute_id, fields, None)
    return _read_any(asset_uuid, attribute_id, payload, None) if event is None else event


def _event_of(
    asset_uuid: str, attribute_id: str, fields: _Message[dict[str, Any]] | _Payload, position: int | None
) -> AssetEvent | None:
    """Return the event of a message that is decoded, or None if its timestamp is not a text."""
    attributes = fields.attributes
    timestamp = attributes.pop("timestamp", None)
    if type(timestamp) is not str:
        return None
    return AssetEvent(
        asset_uuid, attribute_id, fields.VALUE, fields.TYPE, fields.TAG, timestamp, position, attributes or None
    )


def event_of_fields(asset_uuid: str, fields: Mapping[str, Any]) -> AssetEvent:
    """Return the event of a row or a decoded message, checked and ready to publish.

    Without a timestamp, the event gets the current time.

    Raises:
        InvalidEventError: the fields are not those of an event, or a field is not valid.
    """
    parsed = _Fields.of(asset_uuid, fields)
    try:
        timestamp = parsed.timestamp or current_timestamp()
        attribute = AssetAttribute(parsed.id, parsed.value, parsed.type, parsed.tag, timestamp)
        return AssetEvent.of(asset_uuid, attribute, parsed.attributes)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidEventError):
            raise
        raise _not_an_event(asset_uuid, str(error)) from error


def checked_event(key: str | bytes, message: str | bytes | None) -> AssetEvent:
    """Return the event of a message that is about to be written, checked and ready to publish.

    Raises:
        InvalidEventError: the message is not an event, or a field is not valid.
    """
    asset_uuid = key.decode(errors="surrogateescape") if isinstance(key, bytes) else key
    try:
        fields = decode_json(message)  # type: ignore[arg-type]  # None is refused like any other message
    except msgspec.DecodeError as error:
        raise _not_an_event(asset_uuid, str(error)) from error
    return event_of_fields(asset_uuid, fields)


def _read_any(asset_uuid: str, attribute_id: str | None, message: bytes, position: int | None) -> AssetEvent:
    """Read a message that the fast decoders refuse: keys in another case, missing fields, or not an event."""
    try:
        decoded = decode_json(message)
    except msgspec.DecodeError as error:
        raise _not_an_event(asset_uuid, f"it is not JSON ({error})") from error
    fields = _Fields.of(asset_uuid, decoded, attribute_id)
    if not isinstance(fields.type, str):
        raise _not_an_event(asset_uuid, f"its type is {fields.type!r}")
    timestamp = UNAVAILABLE if fields.timestamp is None else str(fields.timestamp)
    return AssetEvent(
        asset_uuid, fields.id, fields.value, fields.type, str(fields.tag), timestamp, position, fields.attributes
    )


class _Fields(NamedTuple):
    """The fields of a message with keys in any case; a key in capitals wins over its other spellings."""

    id: str
    value: Any
    type: Any
    tag: Any
    timestamp: Any
    attributes: dict[str, Any] | None

    @classmethod
    def of(cls, asset_uuid: str, message: object, attribute_id: str | None = None) -> _Fields:
        fields, attributes = _in_capitals(message), _attributes_in(message)
        if fields is None or attributes is None:
            raise _not_an_event(asset_uuid, f"it is {str(message)[:120]!r}")
        timestamp = (_in_capitals(attributes) or {}).get("TIMESTAMP")
        further = {str(key): value for key, value in attributes.items() if str(key).upper() != "TIMESTAMP"}
        attribute_id = attribute_id or fields.get("ID")
        if not isinstance(attribute_id, str) or not attribute_id or "TYPE" not in fields:
            raise _not_an_event(asset_uuid, f"it lacks an ID or a TYPE and has {', '.join(fields) or 'nothing'}")
        return cls(
            attribute_id, fields.get("VALUE"), fields["TYPE"], fields.get("TAG") or "", timestamp, further or None
        )


def _attributes_in(message: object) -> dict[str, Any] | None:
    """Return the attributes of a message, or None if they are not a mapping.

    A message may have them under two keys: its writer's, and that of the asset forwarder, which writes `attributes`.
    """
    merged: dict[str, Any] = {}
    if not isinstance(message, Mapping):
        return None
    spellings = [key for key, value in message.items() if str(key).upper() == "ATTRIBUTES" and value]
    for key in sorted(spellings, key="ATTRIBUTES".__eq__):
        if not isinstance(message[key], Mapping):
            return None
        merged |= message[key]
    return merged


def _in_capitals(message: object) -> dict[str, Any] | None:
    """Return a mapping with its keys in capitals, or None for any other object."""
    if not isinstance(message, Mapping):
        return None
    fields = {str(key).upper(): value for key, value in message.items()}
    return fields | {key: value for key, value in message.items() if key in fields}


def _not_an_event(asset_uuid: str, reason: str) -> InvalidEventError:
    return InvalidEventError(
        f"A message for {asset_uuid} is not an event: {reason.removesuffix('.')}. Send {_SHAPE}.", asset_uuid=asset_uuid
    )
