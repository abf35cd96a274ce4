"""The end of an app: the stop, and its time limit.

A signal only ends the main loop, by an exception in the main thread or by cancelling the task, and `run` then stops the
app. A watchdog thread stops the app if the main loop does not end, and ends the process when the time limit has passed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from openfactory.apps.stop_signals import StopClock
from openfactory.concurrency.bounded import call_on_thread
from openfactory.events.receipt import Receipt

__all__ = ["APPS", "Lifecycle", "StopRequested", "end_process"]

# Seconds for the last output of a process that ends at once.
_OUTPUT_SECONDS = 0.2

# The main loop has this share of the time limit to end by itself.
_PATIENCE = 0.3

# A handover has this share of the time limit after a signal, and looks for one so often, in seconds.
_HANDOVER_SHARE = 0.2
_LOOK_SECONDS = 0.05


class StopRequested(SystemExit):
    """A request to end the main loop after a signal; `except Exception` does not catch it."""

    def __init__(self) -> None:
        super().__init__(0)


class Lifecycle:
    """The stop of one app: its request, its execution, and its time limit.

    Args:
        steps: stops the app, within the seconds that it receives.
        budget: seconds that the whole stop may take.
        signal_handler: ends the main loop of the app when Python handles a signal.
        logger: logger of the app.
        handover: returns the seconds that `hand_over` waits, which the budget does not count. After a signal it waits
            for a fifth of the budget at most, which counts.

    Attributes:
        last_writes: receipts of the writes that tell others of the end of the app, once they are published.
        failed: whether the app was ended because it cannot go on.
        ends_process: whether the process ends with the app, because `run` runs it.
    """

    def __init__(
        self,
        steps: Callable[[float], None],
        budget: float,
        signal_handler: Callable[[int, FrameType | None], None],
        logger: logging.Logger,
        handover: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.signal_handler = signal_handler
        self._logger = logger
        self._steps = steps
        self._handover = handover
        self.budget = budget
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._loop_ended = False
        self._noticed = StopClock()  # by the arrival of signals
        self._handled = StopClock()  # by their handling in Python
        self._begun = False
        self._done = threading.Event()
        self._deadline: float | None = None
        self._runner: threading.Thread | None = None
        self._task: asyncio.Task[Any] | None = None
        self.last_writes: Sequence[Receipt] | None = None
        self.failed = False
        self.ends_process = False

    @property
    def status(self) -> int:
        """Exit status of the process: 0 if the log shows that the app has ended and it has not failed, else 1."""
        written = self.last_writes is not None and all(write.position is not None for write in self.last_writes)
        return 0 if written and not self.failed else 1

    @property
    def requested(self) -> bool:
        """Whether a signal has requested the stop."""
        return self._deadline is not None

    @property
    def requested_just_now(self) -> bool:
        """Whether a signal that arrives now belongs to the same request, after the stop too."""
        return self._noticed.is_running() or self._handled.is_running()

    @property
    def done(self) -> bool:
        """Whether the stop is over."""
        return self._done.is_set()

    def main_loop_begins(self, task: asyncio.Task[Any] | None = None) -> None:
        """Record that the main loop runs in this thread, or as this task."""
        self._runner = threading.current_thread()
        self._task = task

    def main_loop_ended(self) -> None:
        """Record that the main loop has ended, so that a signal does not end it again."""
        self._loop_ended = True

    def stop(self) -> None:
        """Stop the app once; later calls wait until it has stopped."""
        if os.getpid() != self._process:
            return  # a copy of the app in a forked process
        with self._lock:
            first, self._begun = not self._begun, True
        if not first:
            self._done.wait(self._longest() if self._deadline is None else self._left())
            return
        try:
            self._steps(self._left())
        finally:
            self._done.set()
            self.cancel_main_loop()  # it still runs if `shutdown` was called from elsewhere

    def hand_over(self) -> float:
        """Wait while another process takes the work over, and return the seconds that are left for the stop then."""
        end = time.monotonic() + self._handover()
        while (left := end - time.monotonic()) > 0:
            if self._deadline is not None:
                end = min(end, self._deadline - self.budget * (1 - _HANDOVER_SHARE))
            time.sleep(min(left, _LOOK_SECONDS))
        return self._left()

    def _longest(self) -> float:
        """Return the seconds that a stop may take without a signal: with a handover, the commands end before it."""
        handover = self._handover()
        return self.budget + (handover + _HANDOVER_SHARE * self.budget if handover else 0)

    def _left(self) -> float:
        """Return the seconds until the time limit."""
        return self.budget if self._deadline is None else max(self._deadline - time.monotonic(), 0.5)

    def cancel_main_loop(self) -> None:
        """Cancel a main loop that runs as a task. Any thread may call it."""
        if self._task is not None and not self._loop_ended:
            with suppress(RuntimeError):  # its event loop is closed
                self._task.get_loop().call_soon_threadsafe(self._cancel_task)

    def _cancel_task(self) -> None:
        # Asked again by the event loop: the main loop may have ended since, and the stop is not to be cancelled.
        if self._task is not None and not self._loop_ended:
            self._task.cancel()

    def notice(self) -> bool:
        """Record the arrival of a signal, before Python handles it, and return whether it is a second request."""
        return self._noticed.is_second()

    def is_second(self) -> bool:
        """Return whether a signal that Python handles after `request` is a second request.

        Python may handle a signal late, so this is False if `notice` has judged the signals as they arrived.
        """
        return self._noticed.first is None and self._handled.is_second()

    def request(self, signum: int) -> bool:
        """Request the stop after a signal, and log it; the time limit counts from its arrival.

        Returns:
            whether the caller, in the main thread, must end the main loop by raising `StopRequested`.
        """
        handled = self._handled.begin()
        self._deadline = (self._noticed.first or handled) + self.budget
        threading.Thread(target=self._watch, args=(self._deadline,), name="openfactory-watchdog", daemon=True).start()
        has_ended = self._loop_ended or self._begun
        if not has_ended:
            self.cancel_main_loop()
        # Last: if nobody reads the log, this does not return, and the watchdog stops the app.
        self._logger.info("Received %s, stopping.", signal.Signals(signum).name)
        return not has_ended and self._task is None

    def fail(self) -> None:
        """End the main loop and stop the app, because it cannot go on; the status is 1.

        It runs on a thread of its own.
        """
        self.failed = True
        begun = time.monotonic()
        self.cancel_main_loop()
        in_main_thread = self._task is None and self._runner is threading.main_thread()
        if self.ends_process and in_main_thread and callable(signal.getsignal(signal.SIGTERM)):
            os.kill(os.getpid(), signal.SIGTERM)  # only a signal interrupts a main thread that sleeps
        self._stop_by(begun + (0 if self._runner is None else _PATIENCE) * self.budget)
        if self.ends_process:
            time.sleep(max(begun + self._longest() - time.monotonic(), 0))
            end_process(self.status)

    def _watch(self, deadline: float) -> None:
        """Stop the app if the main loop does not end, and end the process at the deadline."""
        ends_by_itself = self._task is not None or self._runner in (None, threading.main_thread())
        self._stop_by(deadline - self.budget * (1 - (_PATIENCE if ends_by_itself else 0)))
        time.sleep(max(deadline - time.monotonic(), 0))
        if self.status and not self.done:
            with suppress(Exception):  # a full pipe may have no reader
                call_on_thread("openfactory-log", self._tell_lateness).result(_OUTPUT_SECONDS)
        end_process(max((app.status for app in list(APPS)), default=self.status))

    def _tell_lateness(self) -> None:
        self._logger.error(
            "The stop did not end within %g s, so the process ends, and its last published events were not written. "
            "Set a longer stop_timeout, or look for what holds the app up.",
            self.budget,
        )

    def _stop_by(self, latest: float) -> None:
        """Stop the app, after the main loop has had until a time to end by itself."""
        while not self._begun and time.monotonic() < latest:
            time.sleep(0.02)
        self.stop()


#: The apps of this process.
APPS: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


def end_process(status: int) -> None:
    """End the process at once, without waiting for other threads."""
    # A full pipe may have no reader. An exiting interpreter starts no more threads, and flushes by itself.
    with suppress(Exception):
        call_on_thread("openfactory-flush", _flush_streams).result(_OUTPUT_SECONDS)
    os._exit(status)


def _flush_streams() -> None:
    # An app may have put another stream in the place of a standard stream, which holds text of its own.
    for stream in filter(None, (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)):  # a closed one may be None
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
