"""The wire format of commands, under the path that existing OpenFactory code imports."""

from openfactory.schemas.command_header import CommandEnvelope
from openfactory.schemas.command_header import CommandHeader as CommandHeader  # the same as in openfactory.commands

__all__ = ["CommandEnvelope"]
