"""Commands: the envelope that asks an asset to run a method, and the reply with the result."""

from openfactory.commands.envelope import (
    CommandCancel,
    CommandEnvelope,
    CommandHeader,
    CommandReply,
    command_attribute_id,
    reply_attribute_id,
)

__all__ = [
    "CommandCancel",
    "CommandEnvelope",
    "CommandHeader",
    "CommandReply",
    "command_attribute_id",
    "reply_attribute_id",
]
