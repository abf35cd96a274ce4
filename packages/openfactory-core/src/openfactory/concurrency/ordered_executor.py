"""Lanes: what is put into one lane runs in order, lanes run beside each other, and a lane at rest costs no thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from openfactory.concurrency.forked_child import reset_in_forked_child

__all__ = ["Lane", "OrderedExecutor"]

_logger = logging.getLogger("openfactory.concurrency")

# A lane gives its thread back after so many tasks, so that a busy one does not starve the others.
_TASKS_IN_A_ROW = 64

# First backlog at which a lane is said to lag; it is said again each time the backlog has grown ten times.
_LAG_WORTH_A_WARNING = 10_000


class Lane:
    """A queue of tasks that run one after the other."""

    __slots__ = ("_active", "_executor", "_lock", "_tasks", "_warn_at", "name")

    def __init__(self, executor: OrderedExecutor, name: str) -> None:
        self.name = name
        self._executor = executor
        self._lock = threading.Lock()
        self._tasks: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._active = False
        self._warn_at = _LAG_WORTH_A_WARNING

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, task: Callable[..., object], *arguments: Any) -> None:
        """Run a task after all that was submitted before; what it raises is logged and the lane goes on."""
        with self._lock:
            self._tasks.append((task, arguments))
            backlog = len(self._tasks)
            start = not self._active
            self._active = True
        if start:
            self._executor._start(self)
        if backlog >= self._warn_at:
            self._warn_at = backlog * 10
            _logger.warning(
                "%s: %d events wait for a callback that takes longer than they take to come. "
                "Let the callback hand its work on, or watch fewer attributes.",
                self.name,
                backlog,
            )

    def run_some(self) -> bool:
        """Run what waits, up to a fair share; for the executor's threads.

        Returns:
            whether something is left.
        """
        for _ in range(_TASKS_IN_A_ROW):
            with self._lock:
                if not self._tasks:
                    self._active = False
                    self._warn_at = _LAG_WORTH_A_WARNING
                    return False
                task, arguments = self._tasks.popleft()
            try:
                task(*arguments)
            except BaseException:
                # Also a SystemExit: it would end one thread of many, and the app would go on without the lane.
                _logger.exception("%s: a task ended with an error; the next ones run all the same.", self.name)
        return True


class OrderedExecutor:
    """Runs lanes on as many threads as have work; threads that stay idle end.

    >>> lane, seen = OrderedExecutor("example").lane("MILL"), []
    >>> for number in range(3):
    ...     lane.submit(seen.append, number)
    >>> done = threading.Event(); lane.submit(done.set); done.wait(5)
    True
    >>> seen
    [0, 1, 2]

    Args:
        name: the first part of its threads' names.
        max_threads: how many lanes may be blocked at once before others have to wait.
        idle_seconds: after how long an idle thread ends.
    """

    def __init__(self, name: str, *, max_threads: int = 256, idle_seconds: float = 5.0) -> None:
        self.name = name
        self._max_threads = max_threads
        self._idle_seconds = idle_seconds
        self.reset_after_fork()
        reset_in_forked_child(self)

    def reset_after_fork(self) -> None:
        """Begin with no threads and no work, as at first."""
        self._lock = threading.Lock()
        self._ready: SimpleQueue[Lane] = SimpleQueue()
        self._threads = 0
        self._idle = 0  # threads that wait for a lane
        self._starting = False

    def lane(self, name: str) -> Lane:
        """A new lane; its name stands in log lines."""
        return Lane(self, name)

    def _start(self, lane: Lane) -> None:
        self._ready.put(lane)
        self._grow()

    def _grow(self) -> None:
        """Start a thread if lanes wait for one; only one starts at a time, so a burst of quick tasks needs few."""
        with self._lock:
            if self._starting or self._threads >= self._max_threads or self._ready.qsize() <= self._idle:
                return
            self._threads += 1
            self._starting = True
            # A daemon: a callback that never returns must not keep the process from ending.
            thread = threading.Thread(target=self._work, name=f"{self.name}-{self._threads}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, and starts no more threads
                self._threads -= 1
                self._starting = False

    def _work(self) -> None:
        with self._lock:
            self._starting = False
            self._idle += 1
        while True:
            try:
                lane = self._ready.get(timeout=self._idle_seconds)
            except Empty:
                with self._lock:
                    if not self._ready.empty():
                        continue
                    self._idle -= 1
                    self._threads -= 1
                    return
            with self._lock:
                self._idle -= 1
            self._grow()
            while lane.run_some():
                if not self._ready.empty():
                    self._ready.put(lane)
                    lane = self._ready.get()
            with self._lock:
                self._idle += 1
