"""The event: one statement about one attribute of one asset, as it travels and as it is kept."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import msgspec

from openfactory.events.attribute import ATTRIBUTE_TYPES, UNAVAILABLE, AssetAttribute, attribute_type, sample_value
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import InvalidEventError

__all__ = [
    "COMMAND_TAG",
    "MAX_VALUE_BYTES",
    "REPLY_TAG",
    "AssetEvent",
    "check_asset_uuid",
    "check_attribute_id",
    "new_event",
    "wire_value",
]

#: Tag of an event that carries a command, and of the one that answers it.
COMMAND_TAG = "Method.Command"
REPLY_TAG = "Method.Reply"

#: The largest value, as JSON. About twice as much stalls a ksqlDB table for good, for every asset in it.
MAX_VALUE_BYTES = 256 * 1024

_MAX_NAME_LENGTH = 255
_INTEGERS = (-(2**63), 2**63 - 1)  # what a column of the tables can hold

# White space and control characters end a NATS subject, `*` and `>` are its wildcards, `|` joins both in a table's key.
_NOT_IN_NAMES = re.compile(r"[\s\x00-\x1f\x7f*>|\ud800-\udfff]")


class AssetEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What was said of an attribute, by whom, and where it stands in the log.

    Attributes:
        asset_uuid: the asset it is about.
        id: the attribute.
        value: anything JSON can say.
        type: one of `ATTRIBUTE_TYPES`.
        tag: what the value means.
        timestamp: when it was so, by the writer's clock.
        position: its place in the log of the asset, higher is later; None before it is written.
    """

    asset_uuid: str
    id: str
    value: Any
    type: str
    tag: str
    timestamp: str
    position: int | None = None

    @classmethod
    def of(cls, asset_uuid: str, attribute: AssetAttribute) -> AssetEvent:
        """The event that says an attribute, checked so that it can hurt no reader.

        >>> AssetEvent.of("MILL", AssetAttribute(id="status", value="busy", type="Events", tag="Status")).value
        'busy'

        Raises:
            InvalidEventError: the UUID, the id or the value cannot be carried.
        """
        return new_event(
            asset_uuid,
            attribute.id,
            attribute.value,
            attribute_type(attribute.type),
            attribute.tag,
            attribute.timestamp,
        )

    @property
    def is_attribute(self) -> bool:
        """Whether it says an attribute: it is no method, command or reply."""
        return self.type != "Method" and self.tag not in (COMMAND_TAG, REPLY_TAG)

    def normalized(self) -> AssetEvent:
        """The same event with its type as it is spelled; what nobody knows is of the type `UNAVAILABLE`."""
        if self.type in ATTRIBUTE_TYPES:
            return self
        try:
            return msgspec.structs.replace(self, type=attribute_type(self.type))
        except ValueError:
            return msgspec.structs.replace(self, type=UNAVAILABLE)

    def attribute(self) -> AssetAttribute:
        """The attribute as users read it; a sample is a float where it can be one."""
        value = sample_value(self.value) if self.type == "Samples" else self.value
        return AssetAttribute(self.id, value, self.type, self.tag, self.timestamp)

    def with_position(self, position: int) -> AssetEvent:
        """The same event with its place in the log."""
        return AssetEvent(self.asset_uuid, self.id, self.value, self.type, self.tag, self.timestamp, position)


def new_event(
    asset_uuid: str, attribute_id: str, value: Any, type: str, tag: str, timestamp: str | None = None
) -> AssetEvent:
    """An event that is ready to publish.

    Raises:
        InvalidEventError: the UUID, the id or the value cannot be carried.
    """
    try:
        check_asset_uuid(asset_uuid)
        check_attribute_id(attribute_id)
        value = wire_value(value)
        _check_text("tag", tag)
        if timestamp is not None:
            _check_text("timestamp", timestamp)
    except InvalidEventError as error:
        raise InvalidEventError(
            f"{asset_uuid}.{attribute_id} was not written: {error}", asset_uuid=asset_uuid, attribute_id=attribute_id
        ) from error.__cause__
    return AssetEvent(asset_uuid, attribute_id, value, type, tag, timestamp or current_timestamp())


@lru_cache(maxsize=4096)
def check_asset_uuid(asset_uuid: str) -> str:
    """The UUID, if a topic key, a NATS subject and SQL can carry it; it holds no dot, which ends it in a subject.

    Raises:
        InvalidEventError: they cannot.
    """
    _check_name("an asset UUID", asset_uuid)
    if "." in asset_uuid:
        raise InvalidEventError(
            f"{asset_uuid!r} cannot be an asset UUID: it holds a dot, which separates the asset from the attribute "
            "in a message's subject. Use '-' or '_' in its place.",
            asset_uuid=asset_uuid,
        )
    return asset_uuid


@lru_cache(maxsize=65536)
def check_attribute_id(attribute_id: str) -> str:
    """The id, if a topic key, a NATS subject and SQL can carry it.

    Raises:
        InvalidEventError: they cannot.
    """
    _check_name("an attribute id", attribute_id)
    if attribute_id.startswith(".") or attribute_id.endswith(".") or ".." in attribute_id:
        raise InvalidEventError(
            f"{attribute_id!r} cannot be an attribute id: a part between its dots is empty. "
            "Name every part, or use '_' in place of the dot.",
            attribute_id=attribute_id,
        )
    return attribute_id


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str):
        raise InvalidEventError(f"{name!r} cannot be {what}: it is no text. Pass a str.")
    if not name:
        raise InvalidEventError(f"The empty text cannot be {what}. Give it a name, such as 'mill-1'.")
    if len(name) > _MAX_NAME_LENGTH:
        raise InvalidEventError(
            f"{name[:40]!r}… cannot be {what}: it has {len(name)} characters. Use at most {_MAX_NAME_LENGTH}."
        )
    if found := _NOT_IN_NAMES.search(name):
        raise InvalidEventError(
            f"{name!r} cannot be {what}: it holds {found.group()!r}, which a message's subject or key cannot carry. "
            "Leave out white space, control characters, '*', '>' and '|'."
        )


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str) or not text.isprintable():
        raise InvalidEventError(f"its {what} is {text!r}. Give it plain text, without control characters.")


def wire_value(value: Any) -> Any:
    """The value as readers will get it; a list or dictionary becomes a copy of what JSON keeps of it.

    Raises:
        InvalidEventError: JSON cannot say it, or it is too large.
    """
    kind = type(value)
    if kind is bool or value is None:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise InvalidEventError(f"{value} is no JSON. Write 'UNAVAILABLE' where there is no number.")
        return value
    if kind is int and _INTEGERS[0] <= value <= _INTEGERS[1]:
        return value
    if kind is str and len(value) < MAX_VALUE_BYTES // 6 and value.isascii():
        return value  # even with every character escaped it is under the bound
    return _through_json(value)


def _through_json(value: Any) -> Any:
    if hasattr(value, "item") and hasattr(value, "dtype"):
        value = value.item()  # a number of numpy or of what follows its interface
    try:
        encoded = msgspec.json.encode(value)
        decoded = msgspec.json.decode(encoded)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidEventError(
            f"a {type(value).__name__} cannot be said in JSON ({error}). "
            "Write text, a number, a Boolean, or lists and dictionaries of them."
        ) from error
    _refuse_what_readers_cannot_take(value, _MAX_DEPTH)
    if len(encoded) > MAX_VALUE_BYTES:
        raise InvalidEventError(
            f"the value has {len(encoded):,} bytes and {MAX_VALUE_BYTES:,} is the most that every reader can take. "
            "Put large data into a file of app.storage and write its name."
        )
    return decoded


# Readers differ in how deeply nested JSON may be; SQLite takes 1000, some decoders what is left of the stack.
_MAX_DEPTH = 100


def _refuse_what_readers_cannot_take(value: Any, depth: int) -> None:
    """The JSON encoder would write NaN as null, and say nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidEventError(f"{value} is no JSON. Write 'UNAVAILABLE' where there is no number.")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple, set, frozenset)):
        return
    if not depth:
        raise InvalidEventError(
            f"the value is nested more than {_MAX_DEPTH} deep. Write it flatter, or as several attributes."
        )
    for item in value:
        _refuse_what_readers_cannot_take(item, depth - 1)
