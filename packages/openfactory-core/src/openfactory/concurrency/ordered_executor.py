"""Lanes: the tasks of a lane run in order, lanes run in parallel, and an idle lane uses no thread.

A thread that submits tasks, and has nothing else to do, can run them itself, which saves the way to another thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from openfactory.concurrency.forked_child import reset_in_forked_child

__all__ = ["CollectedLanes", "Lane", "OrderedExecutor", "run_lanes"]

_logger = logging.getLogger("openfactory.concurrency")

# A lane returns its thread after this number of tasks, so that a busy lane does not starve the others.
_TASKS_IN_A_ROW = 64

# Seconds in which the threads must take so many lanes. If they take fewer while lanes wait, they are blocked.
_BLOCKED_SECONDS = 0.05
_BLOCKED_LANES = 8

# A lane is quick if its tasks took less than this time, in seconds and on average, when it ran last.
_QUICK_SECONDS = 0.0005

# A lane logs a warning at this backlog, and again whenever the backlog is ten times larger.
_BACKLOG_TO_WARN_AT = 10_000


class _Collected(threading.local):
    """The lanes that have got tasks on this thread, while it collects them."""

    lanes: list[Lane] | None = None


_collected = _Collected()


class CollectedLanes:
    """A context manager for a list that gets the lanes which this thread makes busy, in place of their executors.

    They wait until the caller passes them to `run_lanes`, or to `start` of each.
    """

    def __enter__(self) -> list[Lane]:
        lanes = _collected.lanes = []
        return lanes

    def __exit__(self, *_: object) -> None:
        _collected.lanes = None


def run_lanes(lanes: list[Lane]) -> None:
    """Run the tasks of the first lane on this thread, beside those of the others on the threads of their executors."""
    for lane in lanes[1:]:
        lane.start()
    if lanes and lanes[0].run_some():
        lanes[0].start()


class Lane:
    """A queue of tasks that run one after the other.

    Attributes:
        name: name of the lane for log lines.
        is_quick: whether its tasks took so little time, when it ran last, that others can wait for them.
    """

    __slots__ = ("_active", "_lock", "_start", "_tasks", "_warn_at", "is_quick", "name")

    def __init__(self, start: Callable[[Lane], None], name: str) -> None:
        self.name = name
        self.is_quick = False
        self._start = start
        self._lock = threading.Lock()
        self._tasks: deque[tuple[Callable[..., object], tuple[Any, ...]]] | None = None  # it takes 600 bytes
        self._active = False
        self._warn_at = _BACKLOG_TO_WARN_AT

    def __len__(self) -> int:
        return len(self._tasks or ())

    def submit(self, task: Callable[..., object], *arguments: Any) -> None:
        """Run a task after all earlier tasks; an exception is logged, and the lane continues."""
        with self._lock:
            if self._tasks is None:
                self._tasks = deque()
            self._tasks.append((task, arguments))
            backlog = len(self._tasks)
            was_active, self._active = self._active, True
        if not was_active:
            if _collected.lanes is None:
                self._start(self)
            else:
                _collected.lanes.append(self)
        if backlog >= self._warn_at:
            self._warn_at = backlog * 10
            _logger.warning(
                "%s: %d events wait, because they arrive faster than the callback handles them. "
                "Move its work to another thread, or subscribe to fewer attributes.",
                self.name,
                backlog,
            )

    def start(self) -> None:
        """Run the waiting tasks on the threads of the executor; for a lane that was collected."""
        self._start(self)

    def run_some(self) -> bool:
        """Run the waiting tasks, up to a fair share; for the threads of the executor, and for `run_lanes`.

        Returns:
            whether tasks are left.
        """
        begin = time.monotonic()
        for count in range(_TASKS_IN_A_ROW):
            with self._lock:
                if not self._tasks:
                    self._active = False
                    if count:
                        self.is_quick = time.monotonic() < begin + count * _QUICK_SECONDS
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
        max_threads: number of threads for lanes that do not block. If so many lanes are blocked, further threads start
            for the lanes that wait.
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
        self._taken = 0  # lanes that a thread has taken
        self._watched = False  # whether a thread looks for blocked threads

    def lane(self, name: str) -> Lane:
        """Return a new lane; its name appears in log lines."""
        return Lane(self._start, name)

    def _start(self, lane: Lane) -> None:
        self._ready.put(lane)
        self._grow()

    def _grow(self) -> None:
        """Start a thread if lanes wait; only one starts at a time, so that a burst of short tasks needs few threads."""
        with self._lock:
            if self._starting or self._ready.qsize() <= self._idle:
                return
            if self._threads < self._max_threads:
                self._starting = self._start_thread()
            elif not self._watched:
                self._watched = _start_daemon(self._watch, f"{self.name}-watch")

    def _start_thread(self) -> bool:
        started = _start_daemon(self._work, f"{self.name}-{self._threads + 1}")
        self._threads += started
        return started

    def _watch(self) -> None:
        """Start more threads while lanes wait and all threads are blocked. The thread ends when no lane waits."""
        warned = False
        while True:
            taken = self._taken
            time.sleep(_BLOCKED_SECONDS)
            with self._lock:
                waiting = self._ready.qsize() - self._idle
                if waiting <= 0:
                    self._watched = False
                    return
                if self._taken - taken >= _BLOCKED_LANES:
                    continue
                blocked = self._threads
                for _ in range(min(waiting, self._max_threads)):
                    self._start_thread()
            if not warned:
                warned = True
                _logger.warning(
                    "%s: %d threads are blocked, so more threads start. A callback or method that waits occupies a "
                    "thread: make it an async def function, or shorten its wait.",
                    self.name,
                    blocked,
                )

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
                self._taken += 1
            self._grow()
            while lane.run_some():
                self._taken += 1  # not counted exactly: the thread is not blocked
                if not self._ready.empty():
                    self._ready.put(lane)
                    lane = self._ready.get()
            with self._lock:
                self._idle += 1


def _start_daemon(target: Callable[[], None], name: str) -> bool:
    """Start a thread and return whether it started. It does not keep the process alive: a callback may never return."""
    try:
        threading.Thread(target=target, name=name, daemon=True).start()
    except RuntimeError:  # the interpreter is shutting down, or the machine has too many threads
        return False
    return True
