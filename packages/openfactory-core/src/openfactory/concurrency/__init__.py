"""Threads for callbacks, commands and coroutines: lanes that keep order, and an event loop."""

from openfactory.concurrency.loop_thread import LoopThread
from openfactory.concurrency.ordered_executor import Lane, OrderedExecutor

__all__ = ["Lane", "LoopThread", "OrderedExecutor"]
