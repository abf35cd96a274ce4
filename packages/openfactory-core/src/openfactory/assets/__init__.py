"""Assets: what a factory is made of, as others read, watch and command it.

Read in this order: `attribute` and `event` (what is said), `state` (what holds), `subscriptions` (who hears of it),
`asset_class` (the whole, as users see it).
"""

from openfactory.assets.__about__ import __version__
from openfactory.assets.asset_class import Asset
from openfactory.assets.attribute import UNAVAILABLE, AssetAttribute
from openfactory.assets.event import AssetEvent
from openfactory.assets.state import AssetState
from openfactory.assets.timestamp import current_timestamp

__all__ = [
    "UNAVAILABLE",
    "Asset",
    "AssetAttribute",
    "AssetEvent",
    "AssetState",
    "__version__",
    "current_timestamp",
]
