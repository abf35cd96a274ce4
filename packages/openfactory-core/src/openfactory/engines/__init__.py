"""Engines store and move events: one interface, with an implementation for each kind of URL.

Start with `location`, the URLs and servers, `base`, the interface, and `registry`, which opens an engine by its URL;
then read `shared`, the base class of the engines here, and a single engine.
"""

from openfactory.engines.base import Engine, EngineHealth, Snapshot, Subscription
from openfactory.engines.registry import EngineReference, engine_schemes, open_engine

__all__ = [
    "Engine",
    "EngineHealth",
    "EngineReference",
    "Snapshot",
    "Subscription",
    "engine_schemes",
    "open_engine",
]
