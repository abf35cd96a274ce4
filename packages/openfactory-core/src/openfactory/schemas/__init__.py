"""The wire format of commands, under the path that existing OpenFactory code imports."""

from openfactory.schemas.command_header import CommandEnvelope, CommandHeader

__all__ = ["CommandEnvelope", "CommandHeader"]
