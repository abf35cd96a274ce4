"""Events: values of attributes, as they are sent and stored, and the checks before they are written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from openfactory.events.attribute import ATTRIBUTE_TYPES, UNAVAILABLE, AssetAttribute, attribute_type, sample_value
from openfactory.events.plain import plain_value
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import InvalidEventError

__all__ = [
    "CANCEL_TAG",
    "COMMAND_TAG",
    "CONTRACT_TAG",
    "MAX_VALUE_BYTES",
    "OWNER_TAG",
    "REPLY_TAG",
    "AssetEvent",
    "carried_value",
    "check_asset_uuid",
    "check_attribute_id",
    "new_event",
    "wire_value",
]

#: Tags of the events that carry a command and its reply.
COMMAND_TAG = "Method.Command"
REPLY_TAG = "Method.Reply"

#: Tag of the event that cancels a command.
CANCEL_TAG = "Method.Cancel"

#: Tag of the event with all facts about the arguments of a method.
CONTRACT_TAG = "Method.Contract"

#: Tag of the event by which a process claims an asset.
OWNER_TAG = "Asset.Owner"

#: The largest value, in bytes of JSON. A value of about twice this size stalls a ksqlDB table for good, for all assets.
MAX_VALUE_BYTES = 256 * 1024

_NO_ATTRIBUTES = (COMMAND_TAG, REPLY_TAG, CANCEL_TAG, CONTRACT_TAG, OWNER_TAG)

_MAX_NAME_LENGTH = 255
_INTEGERS = (-(2**63), 2**63 - 1)  # the range of an integer column in the tables
_MAX_REASONS = 3  # that a note on a value names

# White space and control characters end a NATS subject, and `*` and `>` are its wildcards. `|` separates the asset from
# the attribute in the key of a table. UTF-8 has no surrogates.
_NOT_IN_NAMES = re.compile(r"[\s\x00-\x1f\x7f*>|\ud800-\udfff]")


class AssetEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One record of the log: a value of one attribute of one asset.

    Attributes:
        asset_uuid: UUID of the asset.
        id: id of the attribute.
        value: any value that JSON can represent.
        type: one of `ATTRIBUTE_TYPES`.
        tag: the meaning of the value.
        timestamp: time of the value, by the clock of its writer.
        position: place in the log of the asset; a later event has a higher position. None before the event is written.
        attributes: the properties that its writers and carriers have added beside the timestamp, such as
            `ingestion_timestamp`; None if there are none.
    """

    asset_uuid: str
    id: str
    value: Any
    type: str
    tag: str
    timestamp: str
    position: int | None = None
    attributes: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, asset_uuid: str, attribute: AssetAttribute, attributes: Mapping[str, Any] | None = None) -> AssetEvent:
        """Return the event for an attribute, with further properties, checked and ready to publish.

        >>> AssetEvent.of("MILL", AssetAttribute(id="status", value="busy", type="Events", tag="Status")).value
        'busy'

        Raises:
            InvalidEventError: the UUID or a field of the attribute is not valid.
        """
        return new_event(
            asset_uuid,
            attribute.id,
            attribute.value,
            attribute_type(attribute.type),
            attribute.tag,
            attribute.timestamp,
            attributes,
        )

    @property
    def is_attribute(self) -> bool:
        """Whether the event is the value of an attribute: no method, contract, command, reply, cancel or claim."""
        return self.type != "Method" and self.tag not in _NO_ATTRIBUTES

    @property
    def announces_method(self) -> bool:
        """Whether the event tells of a method and its arguments, as an app does when it starts."""
        return self.type == "Method" or self.tag == CONTRACT_TAG

    def normalized(self) -> AssetEvent:
        """Return this event with its type as `ATTRIBUTE_TYPES` spells it; an unknown type becomes `UNAVAILABLE`."""
        if self.type in ATTRIBUTE_TYPES:
            return self
        try:
            return msgspec.structs.replace(self, type=attribute_type(self.type))
        except ValueError:
            return msgspec.structs.replace(self, type=UNAVAILABLE)

    def attribute(self) -> AssetAttribute:
        """Return the attribute as users read it; the value of a sample is a float if possible."""
        value = sample_value(self.value) if self.type == "Samples" else self.value
        return AssetAttribute(self.id, value, self.type, self.tag, self.timestamp)

    def as_read(self) -> AssetEvent:
        """Return this event as users read it; the value of a sample is a float if possible."""
        if self.type != "Samples" or type(self.value) is float:
            return self
        return msgspec.structs.replace(self, value=sample_value(self.value))

    def with_position(self, position: int) -> AssetEvent:
        """Return this event with a position."""
        return AssetEvent(
            self.asset_uuid, self.id, self.value, self.type, self.tag, self.timestamp, position, self.attributes
        )


def new_event(
    asset_uuid: str,
    attribute_id: str,
    value: Any,
    type: str,
    tag: str,
    timestamp: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> AssetEvent:
    """Return a new event, checked and ready to publish; without a timestamp, it gets the current time.

    Raises:
        InvalidEventError: the UUID, the id, the value, the tag, the timestamp or an attribute is not valid.
    """
    try:
        check_asset_uuid(asset_uuid)
        check_attribute_id(attribute_id)
        value = wire_value(value)
        # Each write comes through here, so good texts are found without a call.
        if not isinstance(tag, str) or not tag.isprintable():  # type: ignore[redundant-expr]
            _check_text("tag", tag)
        if timestamp is not None and (not isinstance(timestamp, str) or not timestamp.isprintable()):  # type: ignore[redundant-expr]
            _check_text("timestamp", timestamp)
        if attributes:
            attributes = wire_value(dict(attributes))
    except InvalidEventError as error:
        raise InvalidEventError(
            f"{asset_uuid}.{attribute_id} was not written: {error}", asset_uuid=asset_uuid, attribute_id=attribute_id
        ) from error.__cause__
    timestamp = timestamp or current_timestamp()
    return AssetEvent(asset_uuid, attribute_id, value, type, tag, timestamp, None, attributes or None)


@lru_cache(maxsize=4096)
def check_asset_uuid(asset_uuid: str) -> str:
    """Check that a UUID can be part of record keys, NATS subjects and SQL, and return it.

    A UUID must not contain a dot, because a dot ends it in a subject.

    Raises:
        InvalidEventError: the UUID is not valid.
    """
    _check_name("an asset UUID", asset_uuid)
    if "." in asset_uuid:
        raise InvalidEventError(
            f"{asset_uuid!r} cannot be an asset UUID: it contains a dot, which separates the asset from the attribute "
            "in a message's subject. Use '-' or '_' in its place.",
            asset_uuid=asset_uuid,
        )
    return asset_uuid


@lru_cache(maxsize=65536)
def check_attribute_id(attribute_id: str) -> str:
    """Check that an attribute id can be part of record keys, NATS subjects and SQL, and return it.

    Raises:
        InvalidEventError: the id is not valid.
    """
    _check_name("an attribute id", attribute_id)
    if attribute_id.startswith(".") or attribute_id.endswith(".") or ".." in attribute_id:
        raise InvalidEventError(
            f"{attribute_id!r} cannot be an attribute id: a part between its dots is empty. "
            "Name every part, or use '_' in place of the dot.",
            attribute_id=attribute_id,
        )
    return attribute_id


def _check_name(kind: str, name: object) -> None:
    if not isinstance(name, str):
        raise InvalidEventError(f"{name!r} cannot be {kind}: it is not a string. Pass a str.")
    if not name:
        raise InvalidEventError(f"An empty string cannot be {kind}. Write a name such as 'mill-1'.")
    if len(name) > _MAX_NAME_LENGTH:
        raise InvalidEventError(
            f"{name[:40]!r}… cannot be {kind}: it has {len(name)} characters. Write at most {_MAX_NAME_LENGTH}."
        )
    if found := _NOT_IN_NAMES.search(name):
        raise InvalidEventError(
            f"{name!r} cannot be {kind}: it contains {found.group()!r}, which subjects and keys cannot carry. "
            "Leave out white space, control characters, '*', '>' and '|'."
        )


def _check_text(field: str, text: object) -> None:
    if not isinstance(text, str) or not text.isprintable():
        raise InvalidEventError(f"its {field} is {text!r}. Write text without control characters.")


def wire_value(value: Any) -> Any:
    """Return the value as readers receive it: `plain_value`, as JSON carries it.

    Raises:
        InvalidEventError: JSON cannot represent the value, or it is too large or nested too deeply.
    """
    kind = type(value)
    if kind is bool or value is None:
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is int and _INTEGERS[0] <= value <= _INTEGERS[1]:
        return value
    if kind is str and len(value) < MAX_VALUE_BYTES // 6 and value.isascii():
        return value  # below the limit even if JSON escapes every character
    return _through_json(value, plain_value)


def carried_value(value: Any) -> tuple[Any, str]:
    """Return a value with None for each part that an event cannot carry, and a note that names the reasons.

    The note is empty if nothing is missing.
    """
    try:
        return wire_value(value), ""
    except InvalidEventError:
        return _carried_in_part(value)


def _carried_in_part(value: Any) -> tuple[Any, str]:
    reasons: list[str] = []

    def leave_out(reason: InvalidEventError) -> None:
        if len(reasons) == _MAX_REASONS:
            raise reason  # a value that contains itself would never end
        reasons.append(str(reason))

    try:
        carried = _through_json(value, lambda parts: plain_value(parts, leave_out))
    except InvalidEventError as error:
        return None, str(error)
    return carried, " ".join(dict.fromkeys(reasons))


def _through_json(value: Any, plain: Callable[[Any], Any]) -> Any:
    try:
        encoded = msgspec.json.encode(plain(value))
        decoded = msgspec.json.decode(encoded)
    except InvalidEventError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidEventError(
            f"a value of type {type(value).__name__} cannot be written as JSON ({error}). "
            "Write text, a number, a Boolean, or lists and dictionaries of them."
        ) from error
    if len(encoded) > MAX_VALUE_BYTES:
        raise InvalidEventError(
            f"the value has {len(encoded):,} bytes as JSON, but the limit is {MAX_VALUE_BYTES:,}. "
            "Put large data into a file of app.storage and write its name."
        )
    return decoded
