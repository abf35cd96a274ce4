"""The functions for timestamps, under the path that existing OpenFactory code imports."""

from openfactory.events.timestamp import current_timestamp, openfactory_timestamp

__all__ = ["current_timestamp", "openfactory_timestamp"]
