"""The change of a record of the log into a NATS message: subject, headers, and payload with added attributes."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from openfactory.engines.fanout.wire import LOG_TIME_HEADER, OFFSET_HEADER, PARTITION_HEADER
from openfactory.events.decoding import decode_json
from openfactory.events.timestamp import current_timestamp

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["PassedRecordError", "RecordEncoder", "encode_progress", "is_subject"]

# One or more tokens with dots between them. A token is not empty and not a wildcard, and has no space or control
# character.
_TOKEN = r"(?![*>](?:\.|\Z))[^\x00-\x20\x7f.]+"
_SUBJECT = re.compile(rf"{_TOKEN}(?:\.{_TOKEN})*")

# NATS ends the connection after a line of more than 4,096 bytes. Two numbers stand behind the subject.
_LONGEST_SUBJECT = 4_000

_TIMESTAMP_TYPES = {1: "producer", 2: "broker"}

_ADDED = b"kafka_timestamp", b"asset_forwarder_timestamp"


class PassedRecordError(Exception):
    """The record cannot be a NATS message.

    Attributes:
        reason: the kind of the fault, one word for a metric.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Record(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A record with its keys as almost all programs spell them. Its parts are not decoded, so they stay as they are."""

    ID: str
    VALUE: msgspec.Raw
    TAG: msgspec.Raw
    TYPE: msgspec.Raw
    attributes: msgspec.Raw


_decode_record = msgspec.json.Decoder(_Record).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class RecordEncoder:
    """Encoder of the records of one batch into commands of the NATS protocol.

    Args:
        max_payload: the largest size of a message with its headers that the NATS server accepts.
    """

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._now = current_timestamp()

    def encode(self, key: bytes, record: Message, partition: int, offset: int) -> bytes:
        """Return the command that publishes a record.

        Args:
            key: the key of the record, which can be a part of a subject.
            record: the record, with a value.
            partition, offset: the place of the record.

        Raises:
            PassedRecordError: the record cannot be a message.
        """
        kind, milliseconds = record.timestamp()
        attribute_id, payload = _payload(record.value(), _attributes(self._now, kind, milliseconds))
        headers = _headers(partition, offset, milliseconds if kind else None)
        size = len(headers) + len(payload)
        if size > self._max_payload:
            raise PassedRecordError(
                "too_large",
                f"it has {size} bytes as a message, and the NATS server accepts {self._max_payload}. "
                "Raise max_payload in the configuration of all servers",
            )
        token = _token(attribute_id)
        if not token or len(key) + len(token) > _LONGEST_SUBJECT:
            raise PassedRecordError(
                "subject",
                f"its ID {attribute_id[:100]!r} cannot be a part of a NATS subject. Use letters, digits, '-' and '_'",
            )
        return b"HPUB %b.%b %d %d\r\n%b%b\r\n" % (key, token, len(headers), size, headers, payload)


def encode_progress(subject: str, payload: bytes) -> bytes:
    """Return the command that publishes a message without headers."""
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)


@lru_cache(maxsize=65_536)
def is_subject(key: bytes) -> bool:
    """Return whether the key of a record can be a part of a NATS subject."""
    try:
        return len(key) <= _LONGEST_SUBJECT and _SUBJECT.fullmatch(key.decode()) is not None
    except UnicodeDecodeError:
        return False


@lru_cache(maxsize=65_536)
def _token(attribute_id: str) -> bytes:
    """Return the end of a subject for an attribute, or empty bytes if it cannot be one."""
    token = attribute_id.encode(errors="replace")
    return token if is_subject(token) else b""


def _headers(partition: int, offset: int, milliseconds: int | None) -> bytes:
    if milliseconds is None:
        return _HEADERS % (partition, offset)
    return _HEADERS_WITH_TIME % (partition, offset, milliseconds)


_BEGIN = f"NATS/1.0\r\n{PARTITION_HEADER}: %d\r\n{OFFSET_HEADER}: %d\r\n"
_HEADERS = f"{_BEGIN}\r\n".encode()
_HEADERS_WITH_TIME = f"{_BEGIN}{LOG_TIME_HEADER}: %d\r\n\r\n".encode()


@lru_cache(maxsize=256)
def _attributes(now: str, kind: int, milliseconds: int) -> bytes:
    """Return the attributes that the forwarder adds, as the end of a JSON object."""
    added = {"asset_forwarder_timestamp": now}
    if kind:
        added["kafka_timestamp"] = f"{_second(milliseconds // 1_000)}.{milliseconds % 1_000:03d}Z"
        added["kafka_timestamp_type"] = _TIMESTAMP_TYPES.get(kind, "unknown")
    return _encode(added)[1:]


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):  # a producer may write any number
        return "1970-01-01T00:00:00"


def _payload(value: Any, added: bytes) -> tuple[str, bytes]:
    """Return the ID of a record, and its other fields with added attributes as JSON.

    Raises:
        PassedRecordError: the record is not a JSON object with an ID.
    """
    try:
        record = _decode_record(value)
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError):
        return _any_payload(value, added)
    attributes = bytes(record.attributes)
    if not record.ID or attributes[:1] != b"{" or any(name in attributes for name in _ADDED):
        return _any_payload(value, added)
    return record.ID, b'{"VALUE":%b,"TAG":%b,"TYPE":%b,"attributes":%b}' % (
        record.VALUE,
        record.TAG,
        record.TYPE,
        _extended(attributes, added),
    )


def _any_payload(value: Any, added: bytes) -> tuple[str, bytes]:
    """Return the same for a record with keys in another case, with further fields, or without attributes."""
    try:
        fields = decode_json(value, _decode_parts)
    except msgspec.DecodeError as error:
        raise PassedRecordError("not_json", f"it is not a JSON object ({error}). Send JSON with an ID") from error
    ids = [name for name in fields if name.upper() == "ID"]
    found = [fields.pop(name) for name in sorted(ids, key="ID".__eq__)]  # a key in capitals wins
    attribute_id = decode_json(bytes(found[-1])) if found else None
    if not isinstance(attribute_id, str) or not attribute_id:
        raise PassedRecordError("no_id", "its ID is missing, is empty or is not a text. Send JSON with an ID")
    spellings = [name for name in fields if name.upper() == "ATTRIBUTES"]
    name = max(spellings, key="ATTRIBUTES".__eq__, default="attributes")
    try:
        attributes = decode_json(bytes(fields[name]), _decode_optional) if spellings else None
    except msgspec.DecodeError as error:
        raise PassedRecordError("not_json", "its attributes are not a JSON object. Send an object") from error
    fields[name] = msgspec.Raw(_encode({**(attributes or {}), **_decode_parts(b"{" + added)}))
    return attribute_id, _encode(fields)


_decode_optional = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode


def _extended(attributes: bytes, added: bytes) -> bytes:
    """Return a JSON object with the members of another one after its own."""
    own = attributes[:-1].rstrip()
    return own + added if own.endswith(b"{") else own + b"," + added
