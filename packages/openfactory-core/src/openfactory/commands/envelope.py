"""The wire format of commands and replies: JSON text in the value of an attribute."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent, new_event

__all__ = [
    "CommandEnvelope",
    "CommandHeader",
    "CommandReply",
    "argument_text",
    "command_attribute_id",
    "method_of_command",
    "reply_attribute_id",
]

_COMMAND_SUFFIX = "_CMD"
_REPLY_SUFFIX = "_REPLY"


def command_attribute_id(method: str) -> str:
    """The attribute that carries commands to a method: `move_axis_CMD`."""
    return method + _COMMAND_SUFFIX


def reply_attribute_id(method: str) -> str:
    """The attribute that carries its replies: `move_axis_REPLY`."""
    return method + _REPLY_SUFFIX


def method_of_command(attribute_id: str) -> str:
    """The method that a command's attribute names."""
    return attribute_id.removesuffix(_COMMAND_SUFFIX)


def _now() -> datetime:
    return datetime.now(UTC)


class CommandHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who sent a command, and when.

    Attributes:
        correlation_id: tells this command and its reply from all others.
        sender_uuid: the asset that sends it.
        timestamp: when, with its zone.
        signature: left to those who sign commands.
    """

    correlation_id: uuid.UUID
    sender_uuid: str
    timestamp: datetime = msgspec.field(default_factory=_now)
    signature: str | None = None


class CommandEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command: its header, and its arguments as text.

    >>> envelope = CommandEnvelope.addressed("HMI", {"x": 1.5, "fast": True})
    >>> envelope.arguments
    {'x': '1.5', 'fast': 'true'}
    """

    header: CommandHeader
    arguments: dict[str, str] = {}

    @classmethod
    def addressed(cls, sender_uuid: str, arguments: Mapping[str, Any]) -> CommandEnvelope:
        """A new command from a sender; arguments become text as `argument_text` says."""
        header = CommandHeader(correlation_id=uuid.uuid4(), sender_uuid=sender_uuid)
        return cls(header, {str(name): argument_text(value) for name, value in arguments.items()})

    @classmethod
    def parse(cls, value: Any) -> CommandEnvelope:
        """Read the value of a command's attribute.

        Raises:
            msgspec.DecodeError, msgspec.ValidationError: it is no command.
        """
        if isinstance(value, str):
            return msgspec.json.decode(value, type=cls)
        return msgspec.convert(value, cls)

    def event(self, asset_uuid: str, method: str) -> AssetEvent:
        """The event that carries this command to a method of an asset."""
        text = msgspec.json.encode(self).decode()
        return new_event(asset_uuid, command_attribute_id(method), text, "OpenFactory", COMMAND_TAG)


class CommandReply(msgspec.Struct, frozen=True):
    """What came of a command.

    Attributes:
        correlation_id: the command's.
        status: `succeeded`, `failed` (the method raised) or `rejected` (nothing was run).
        result: what the method returned.
        error: why it failed or was rejected.
        timestamp: when it was answered.
    """

    correlation_id: uuid.UUID
    status: Literal["succeeded", "failed", "rejected"]
    result: Any = None
    error: str | None = None
    timestamp: datetime = msgspec.field(default_factory=_now)

    @classmethod
    def parse(cls, value: Any) -> CommandReply:
        """Read the value of a reply's attribute.

        Raises:
            msgspec.DecodeError, msgspec.ValidationError: it is no reply.
        """
        if isinstance(value, str):
            return msgspec.json.decode(value, type=cls)
        return msgspec.convert(value, cls)

    def event(self, asset_uuid: str, method: str) -> AssetEvent:
        """The event that carries this reply.

        Raises:
            InvalidEventError: the result is too large, or holds NaN.
        """
        text = msgspec.json.encode(self).decode()
        return new_event(asset_uuid, reply_attribute_id(method), text, "OpenFactory", REPLY_TAG)


def argument_text(value: Any) -> str:
    """An argument as it travels: text as it is, everything else as JSON says it.

    >>> argument_text("left"), argument_text(2), argument_text([1, 2]), argument_text(None)
    ('left', '2', '[1,2]', 'null')

    Raises:
        TypeError: JSON cannot say it.
    """
    if isinstance(value, str) and type(value) is str:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it, and float() reads it back
    said = msgspec.to_builtins(value, str_keys=True)
    return said if isinstance(said, str) else msgspec.json.encode(said).decode()
