"""The fan-out of live events: the asset router says which NATS cluster carries an asset, and NATS delivers."""

from openfactory.engines.fanout.nats_feed import NatsFeed
from openfactory.engines.fanout.router import AssetRouter, BadAnswerError

__all__ = ["AssetRouter", "BadAnswerError", "NatsFeed"]
