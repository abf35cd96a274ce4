"""Engines move and keep the data: one interface, one implementation for each kind of URL.

Read `base` for what an engine promises, `registry` for how a URL becomes one, then a single engine.
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
