"""Threads and loops that keep order: lanes for callbacks and commands, one loop for coroutines."""

from openfactory.concurrency.loop_thread import LoopThread
from openfactory.concurrency.ordered_executor import Lane, OrderedExecutor

__all__ = ["Lane", "LoopThread", "OrderedExecutor"]
