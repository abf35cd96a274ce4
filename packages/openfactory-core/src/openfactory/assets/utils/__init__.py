"""Names that existing OpenFactory code imports from this path; each is defined in its own module."""

from openfactory.events.attribute import AssetAttribute
from openfactory.events.timestamp import current_timestamp, openfactory_timestamp

__all__ = ["AssetAttribute", "current_timestamp", "openfactory_timestamp"]
