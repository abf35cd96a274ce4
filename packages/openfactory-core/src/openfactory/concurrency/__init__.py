"""Threads for callbacks, commands and coroutines: lanes that keep order, and an event loop."""

from openfactory.concurrency.loop_thread import LoopThread
from openfactory.concurrency.ordered_executor import Lane, OrderedExecutor, collected_lanes, run_lanes

__all__ = ["Lane", "LoopThread", "OrderedExecutor", "collected_lanes", "run_lanes"]
