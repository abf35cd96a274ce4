"""Lanes: the tasks of a lane run in order, lanes run in parallel, and an idle lane uses no thread."""

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

# A lane returns its thread after this number of tasks, so that a busy lane does not starve the others.
_TASKS_IN_A_ROW = 64

# A lane logs a warning at this backlog, and again whenever the backlog is ten times larger.
_BACKLOG_TO_WARN_AT = 10_000


class Lane:
    """A queue of tasks that run one after the other."""

    __slots__ = ("_active", "_lock", "_start", "_tasks", "_warn_at", "name")

    def __init__(self, start: Callable[[Lane], None], name: str) -> None:
        self.name = name
        self._start = start
        self._lock = threading.Lock()
        self._tasks: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._active = False
        self._warn_at = _BACKLOG_TO_WARN_AT

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, task: Callable[..., object], *arguments: Any) -> None:
        """Run a task after all earlier tasks; an exception is logged, and the lane continues."""
        with self._lock:
            self._tasks.append((task, arguments))
            backlog = len(self._tasks)
            was_active, self._active = self._active, True
        if not was_active:
            self._start(self)
        if backlog >= self._warn_at:
            self._warn_at = backlog * 10
            _logger.warning(
                "%s: %d events wait, because they arrive faster than the callback handles them. "
                "Move its work to another thread, or subscribe to fewer attributes.",
                self.name,
                backlog,
            )

    def run_some(self) -> bool:
        """Run the waiting tasks, up to a fair share; for the threads of the executor.

        Returns:
            whether tasks are left.
        """
        for _ in range(_TASKS_IN_A_ROW):
            with self._lock:
                if not self._tasks:
                    self._active = False
                    self._warn_at = _BACKLOG_TO_WARN_AT
                    return False
                task, arguments = self._tasks.popleft()
            try:
                task(*arguments)
            except BaseException:
                # A SystemExit too: it would end only this thread, and the app would continue without the lane.
                _logger.exception("%s: a task raised an exception; the lane continues with the next task.", self.name)
        return True


class OrderedExecutor:
    """A pool of threads that runs lanes; idle threads end.

    >>> lane, seen = OrderedExecutor("example").lane("MILL"), []
    >>> for number in range(3):
    ...     lane.submit(seen.append, number)
    >>> done = threading.Event(); lane.submit(done.set); done.wait(5)
    True
    >>> seen
    [0, 1, 2]

    Args:
        name: prefix of the thread names.
        max_threads: number of lanes that may block at the same time before other lanes wait.
        idle_seconds: seconds after which an idle thread ends.
    """

    def __init__(self, name: str, *, max_threads: int = 256, idle_seconds: float = 5.0) -> None:
        self.name = name
        self._max_threads = max_threads
        self._idle_seconds = idle_seconds
        self.reset_after_fork()
        reset_in_forked_child(self)

    def reset_after_fork(self) -> None:
        """Start again without threads and tasks."""
        self._lock = threading.Lock()
        self._ready: SimpleQueue[Lane] = SimpleQueue()
        self._threads = 0
        self._idle = 0  # threads that wait for a lane
        self._starting = False

    def lane(self, name: str) -> Lane:
        """Return a new lane; its name appears in log lines."""
        return Lane(self._start, name)

    def _start(self, lane: Lane) -> None:
        self._ready.put(lane)
        self._grow()

    def _grow(self) -> None:
        """Start a thread if lanes wait; only one starts at a time, so that a burst of short tasks needs few threads."""
        with self._lock:
            if self._starting or self._threads >= self._max_threads or self._ready.qsize() <= self._idle:
                return
            self._threads += 1
            self._starting = True
            # A daemon thread: a callback that never returns must not keep the process alive.
            thread = threading.Thread(target=self._work, name=f"{self.name}-{self._threads}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down and starts no threads
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
