"""Strands: the tasks, requests and threads that write, told apart so that each is told of its own failures."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["Strand", "current_strand", "new_strand"]


class Strand:
    """A task of an event loop, a piece of work such as a request, or a thread: calls that run one after the other.

    A context variable carries it, so `asyncio.to_thread` continues the strand of its task.

    Args:
        task: task that the strand belongs to; None for a thread.

    Attributes:
        over: whether the piece of work is over.
    """

    __slots__ = ("_task", "_thread", "over")

    def __init__(self, task: asyncio.Task[Any] | None = None) -> None:
        self._task = None if task is None else weakref.ref(task)
        self._thread = weakref.ref(threading.current_thread())
        self.over = False

    def is_of(self, task: asyncio.Task[Any] | None) -> bool:
        """Return whether the strand belongs to a task; every strand belongs to None."""
        return task is None or (self._task is not None and self._task() is task)

    @property
    def ended(self) -> bool:
        """Whether the thread or the task has ended, so that it cannot be told of anything; another one waits for it."""
        if self._task is not None:
            task = self._task()
            return task is None or task.done()
        thread = self._thread()
        return not self.over and (thread is None or not thread.is_alive())

    @property
    def is_past(self) -> bool:
        """Whether the strand makes no more calls."""
        return self.over or self.ended


_current: ContextVar[Strand] = ContextVar("openfactory_strand")


def current_strand() -> Strand:
    """Return the strand of the call."""
    try:
        strand = _current.get()
        if asyncio._get_running_loop() is None:  # the common case
            return strand
        task = asyncio.current_task()
        if strand.is_of(task):
            return strand
    except LookupError:
        task = None if asyncio._get_running_loop() is None else asyncio.current_task()
    strand = Strand(task)
    _current.set(strand)
    return strand


@contextmanager
def new_strand() -> Generator[None]:
    """Make the calls inside the block a strand of their own, such as a request in a thread that serves many.

    >>> outside = current_strand()
    >>> with new_strand():
    ...     current_strand() is outside
    False
    >>> current_strand() is outside
    True
    """
    strand = Strand()
    token = _current.set(strand)
    try:
        yield
    finally:
        strand.over = True
        _current.reset(token)
