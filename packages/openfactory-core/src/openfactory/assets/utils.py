"""The names that code written for OpenFactory imports from here; each lives in a module of its own."""

from openfactory.events.attribute import AssetAttribute
from openfactory.events.timestamp import current_timestamp, openfactory_timestamp

__all__ = ["AssetAttribute", "current_timestamp", "openfactory_timestamp"]
