"""Commands: the envelope that asks an asset to run a method, and the reply that tells what came of it."""

from openfactory.commands.envelope import (
    CommandEnvelope,
    CommandHeader,
    CommandReply,
    command_attribute_id,
    reply_attribute_id,
)

__all__ = ["CommandEnvelope", "CommandHeader", "CommandReply", "command_attribute_id", "reply_attribute_id"]
