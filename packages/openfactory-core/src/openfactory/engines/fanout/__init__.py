"""The fan-out of live events over NATS; the asset router returns the NATS cluster that carries an asset."""

from openfactory.engines.fanout.nats_feed import NatsFeed
from openfactory.engines.fanout.router import AssetRouter, BadAnswerError

__all__ = ["AssetRouter", "BadAnswerError", "NatsFeed"]
