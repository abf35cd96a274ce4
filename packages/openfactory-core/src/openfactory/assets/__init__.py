"""Assets: what a factory is made of, as others read, watch and command it.

Read in this order: `attribute` and `event` (what is said), `state` (what holds), `subscriptions` (who hears of it),
`asset_class` (the whole, as users see it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openfactory.assets.__about__ import __version__
from openfactory.assets.attribute import UNAVAILABLE, AssetAttribute
from openfactory.assets.event import AssetEvent
from openfactory.assets.timestamp import current_timestamp

if TYPE_CHECKING:
    from openfactory.assets.asset_class import Asset
    from openfactory.assets.asset_uns_class import AssetUNS
    from openfactory.assets.event_queue import EventQueue

__all__ = [
    "UNAVAILABLE",
    "Asset",
    "AssetAttribute",
    "AssetEvent",
    "AssetUNS",
    "EventQueue",
    "__version__",
    "current_timestamp",
]


def __getattr__(name: str) -> Any:
    """Assets are loaded when asked for: they stand on the engines, which stand on the events of this package."""
    if name == "Asset":
        from openfactory.assets.asset_class import Asset

        return Asset
    if name == "AssetUNS":
        from openfactory.assets.asset_uns_class import AssetUNS

        return AssetUNS
    if name == "EventQueue":
        from openfactory.assets.event_queue import EventQueue

        return EventQueue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
