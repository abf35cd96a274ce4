"""The wire format of commands and replies: JSON text in the value of an attribute."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from openfactory.events.decoding import decode_value
from openfactory.events.event import CANCEL_TAG, COMMAND_TAG, REPLY_TAG, AssetEvent, new_event, wire_value
from openfactory.exceptions import InvalidEventError

__all__ = [
    "CANCEL_ATTRIBUTE_ID",
    "CommandCancel",
    "CommandEnvelope",
    "CommandHeader",
    "CommandReply",
    "argument_text",
    "command_attribute_id",
    "method_of_command",
    "reply_attribute_id",
]

#: Id of the attribute that carries the cancels of all methods: whoever cancels a command knows its id only.
CANCEL_ATTRIBUTE_ID = "commands_CANCEL"

_COMMAND_SUFFIX = "_CMD"
_REPLY_SUFFIX = "_REPLY"


def command_attribute_id(method: str) -> str:
    """Return the id of the attribute that carries commands to a method: `move_axis_CMD`."""
    return method + _COMMAND_SUFFIX


def reply_attribute_id(method: str) -> str:
    """Return the id of the attribute that carries replies of a method: `move_axis_REPLY`."""
    return method + _REPLY_SUFFIX


def method_of_command(attribute_id: str) -> str:
    """Return the method that the attribute id of a command names."""
    return attribute_id.removesuffix(_COMMAND_SUFFIX)


def _now() -> datetime:
    return datetime.now(UTC)


class CommandHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Id, sender and time of a command.

    Attributes:
        correlation_id: unique id of the command, repeated in its reply.
        sender_uuid: UUID of the asset that sends the command.
        timestamp: time at which the command was created, with a time zone.
        signature: reserved for programs that sign commands.
    """

    correlation_id: uuid.UUID
    sender_uuid: str
    timestamp: datetime = msgspec.field(default_factory=_now)
    signature: str | None = None


class CommandEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command: a header, and arguments as text.

    >>> envelope = CommandEnvelope.addressed("HMI", {"x": 1.5, "fast": True})
    >>> envelope.arguments
    {'x': '1.5', 'fast': 'true'}
    """

    header: CommandHeader
    arguments: dict[str, str] = {}

    @classmethod
    def addressed(cls, sender_uuid: str, arguments: Mapping[str, Any]) -> CommandEnvelope:
        """Return a new command from a sender; `argument_text` converts the arguments."""
        header = CommandHeader(correlation_id=uuid.uuid4(), sender_uuid=sender_uuid)
        return cls(header, {str(name): argument_text(value) for name, value in arguments.items()})

    @classmethod
    def parse(cls, value: Any) -> CommandEnvelope:
        """Read the value of a command's attribute.

        Raises:
            msgspec.DecodeError: the value is not a command.
        """
        return decode_value(value, cls, _decode_command)

    def event(self, asset_uuid: str, method: str, attributes: Mapping[str, str] | None = None) -> AssetEvent:
        """Return the event that carries this command to a method of an asset.

        Args:
            attributes: short texts beside the timestamp of the event, such as how long the caller waits.

        Raises:
            InvalidEventError: the UUID, the method or an argument is not valid, or the command is too large.
        """
        try:
            text = msgspec.json.encode(self).decode()
        except UnicodeEncodeError as error:
            raise InvalidEventError(
                f"{asset_uuid}.{method} was not called: UTF-8 cannot encode an argument ({error}). "
                "Write text without surrogates.",
                asset_uuid=asset_uuid,
            ) from error
        attribute_id = command_attribute_id(method)
        event = new_event(asset_uuid, attribute_id, text, "OpenFactory", COMMAND_TAG)
        return msgspec.structs.replace(event, attributes=attributes) if attributes else event


class CommandCancel(msgspec.Struct, frozen=True):
    """The cancel of a command: its caller does not want it any more.

    Attributes:
        correlation_id: id of the command.
    """

    correlation_id: uuid.UUID

    @classmethod
    def of(cls, correlation_id: str) -> CommandCancel:
        """Return the cancel of a command.

        Raises:
            ValueError: it is not the id of a command.
        """
        try:
            return cls(uuid.UUID(correlation_id))
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{correlation_id!r} is not the id of a command. Pass the correlation id that the call returned."
            ) from error

    @classmethod
    def parse(cls, value: Any) -> CommandCancel:
        """Read the value of a cancel's attribute.

        Raises:
            msgspec.DecodeError: the value is not a cancel.
        """
        return decode_value(value, cls, _decode_cancel)

    def event(self, asset_uuid: str) -> AssetEvent:
        """Return the event that carries this cancel to an asset.

        Raises:
            InvalidEventError: the UUID of the asset is not valid.
        """
        text = msgspec.json.encode(self).decode()
        return new_event(asset_uuid, CANCEL_ATTRIBUTE_ID, text, "OpenFactory", CANCEL_TAG)


class CommandReply(msgspec.Struct, frozen=True):
    """The outcome of a command.

    Attributes:
        correlation_id: id of the command.
        status: `succeeded`, `failed` (the method raised an exception), `rejected` (the method did not run), `expired`
            (the method did not run, because the command came too late), `cancelled` (the method did not run, or was
            interrupted) or `unknown` (the method may have run).
        result: return value of the method, or the parts of it that a reply can carry.
        error: reason why the command did not succeed, or a note on a result that is not carried in full.
        timestamp: time of the reply, with a time zone.
    """

    correlation_id: uuid.UUID
    status: Literal["succeeded", "failed", "rejected", "expired", "cancelled", "unknown"]
    result: Any = None
    error: str | None = None
    timestamp: datetime = msgspec.field(default_factory=_now)

    @classmethod
    def parse(cls, value: Any) -> CommandReply:
        """Read the value of a reply's attribute.

        Raises:
            msgspec.DecodeError: the value is not a reply.
        """
        return decode_value(value, cls, _decode_reply)

    def event(self, asset_uuid: str, method: str) -> AssetEvent:
        """Return the event that carries this reply.

        Raises:
            InvalidEventError: the UUID, the method or the result is not valid, or the reply is too large.
        """
        text = msgspec.json.encode(msgspec.structs.replace(self, result=wire_value(self.result))).decode()
        return new_event(asset_uuid, reply_attribute_id(method), text, "OpenFactory", REPLY_TAG)


_decode_cancel = msgspec.json.Decoder(CommandCancel).decode
_decode_command = msgspec.json.Decoder(CommandEnvelope).decode
_decode_reply = msgspec.json.Decoder(CommandReply).decode


def argument_text(value: Any) -> str:
    """Return an argument as text: a string unchanged, any other value as JSON, by the rule of attributes.

    >>> argument_text("left"), argument_text(2), argument_text([1, 2]), argument_text(None)
    ('left', '2', '[1,2]', 'null')

    Raises:
        TypeError: JSON cannot represent the value.
        InvalidEventError: the value contains NaN or infinity, or is too large or nested too deeply.
    """
    if type(value) is str:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))  # JSON has no NaN and no infinity; float() reads this text
    try:
        plain = wire_value(value)
    except InvalidEventError as error:
        if isinstance(error.__cause__, TypeError):
            raise TypeError(str(error)) from error
        raise
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
