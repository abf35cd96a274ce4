"""Read, write, watch and command the assets of a factory.

To learn the code, start with `state` (the last event of each attribute), `subscriptions` (the callbacks) and `caller`
(the commands), then read `asset_class`, the class that users work with. `event_buffer` lies between the delivery of
events and a reader at its own pace. `factory` is the front for all assets.
"""

from openfactory.assets.__about__ import __version__
from openfactory.assets.asset_class import Asset
from openfactory.assets.asset_uns_class import AssetUNS
from openfactory.assets.event_queue import EventQueue
from openfactory.assets.factory import Factory
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import Owner
from openfactory.events.timestamp import current_timestamp

__all__ = [
    "UNAVAILABLE",
    "Asset",
    "AssetAttribute",
    "AssetEvent",
    "AssetUNS",
    "EventQueue",
    "Factory",
    "Owner",
    "__version__",
    "current_timestamp",
]
