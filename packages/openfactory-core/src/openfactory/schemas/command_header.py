"""The envelope of a command as existing code builds, writes and reads it; new code calls `Asset.call`."""

from __future__ import annotations

import msgspec

from openfactory import commands
from openfactory.commands import CommandHeader

__all__ = ["CommandEnvelope", "CommandHeader"]


class CommandEnvelope(commands.CommandEnvelope, frozen=True, forbid_unknown_fields=True):
    """A command with the methods of the models that existing code writes to the attribute `<method>_CMD`.

    >>> from uuid import UUID
    >>> header = CommandHeader(correlation_id=UUID(int=7), sender_uuid="HMI")
    >>> CommandEnvelope.model_validate_json(CommandEnvelope(header=header).model_dump_json()).header.sender_uuid
    'HMI'

    Raises:
        ValueError: an argument is not text.
    """

    def __post_init__(self) -> None:
        msgspec.convert(self.arguments, dict[str, str])

    def model_dump_json(self) -> str:
        """Return the command as JSON text, the value of the attribute that carries it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def model_validate_json(cls, text: str | bytes) -> CommandEnvelope:
        """Read a command from JSON text.

        Raises:
            ValueError: the text is not a command.
        """
        return msgspec.json.decode(text, type=cls)
