"""The end of an app: signals, the stop, and its time limit.

A signal handler publishes nothing. It only ends the main loop, by an exception in the main thread or by cancelling the
task, and `run` then stops the app. A watchdog thread stops the app if the main loop does not end, and ends the process
when the time limit has passed.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from openfactory.concurrency.bounded import call_on_thread
from openfactory.events.receipt import Receipt

__all__ = ["Lifecycle", "StopRequested", "end_process", "handle_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# The main loop has this share of the time limit to end by itself.
_PATIENCE = 0.3

# Seconds that Python has to run a signal handler; after them, C code is taken to block the main thread.
_UNREACHABLE_SECONDS = 1.0


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

    Attributes:
        last_writes: receipts of the writes that tell others of the end of the app, once they are published.
    """

    def __init__(
        self, steps: Callable[[float], None], budget: float, signal_handler: Callable[[int, FrameType | None], None]
    ) -> None:
        self.signal_handler = signal_handler
        self._steps = steps
        self.budget = budget
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._loop_ended = False
        self._arrived: float | None = None
        self._signals = 0
        self._begun = False
        self._done = threading.Event()
        self._deadline: float | None = None
        self._runner: threading.Thread | None = None
        self._task: asyncio.Task[Any] | None = None
        self.last_writes: Sequence[Receipt] | None = None

    @property
    def status(self) -> int:
        """Exit status of the process: 0 if the log shows that the app has ended, else 1."""
        written = self.last_writes is not None and all(write.position is not None for write in self.last_writes)
        return 0 if written else 1

    @property
    def requested(self) -> bool:
        """Whether a signal has requested the stop."""
        return self._deadline is not None

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
            self._done.wait(self.budget)
            return
        try:
            self._steps(self.budget if self._deadline is None else max(self._deadline - time.monotonic(), 0.5))
        finally:
            self._done.set()
            self.cancel_main_loop()  # it still runs if `shutdown` was called from elsewhere

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
        """Record the arrival of a signal, before Python handles it, and return whether it is the first."""
        self._arrived = self._arrived or time.monotonic()
        self._signals += 1
        return self._signals == 1

    def request(self) -> bool:
        """Request the stop after a signal; the time limit counts from its arrival.

        Returns:
            whether the caller, in the main thread, must end the main loop by raising `StopRequested`.
        """
        self._arrived = self._arrived or time.monotonic()
        self._deadline = self._arrived + self.budget
        threading.Thread(target=self._watch, args=(self._deadline,), name="openfactory-watchdog", daemon=True).start()
        if self._loop_ended or self._begun:
            return False
        self.cancel_main_loop()
        return self._task is None

    def _watch(self, deadline: float) -> None:
        """Stop the app if the main loop does not end, and end the process at the deadline."""
        ends_by_itself = self._task is not None or self._runner in (None, threading.main_thread())
        give_up = deadline - self.budget * (1 - _PATIENCE if ends_by_itself else 1)
        while time.monotonic() < give_up and not self._begun:
            time.sleep(0.02)
        self.stop()
        time.sleep(max(deadline - time.monotonic(), 0))
        end_process(max((app.status for app in list(_apps)), default=self.status))


_apps: weakref.WeakSet[Lifecycle] = weakref.WeakSet()
_previous_handlers: dict[int, Any] = {}
_wakeup: socket.socket | None = None
_handled_by_thread: list[int] = []  # signals for which a thread requested the stop before Python handled them


def handle_signals(app: Lifecycle, logger: logging.Logger) -> None:
    """Stop an app on SIGINT, on SIGTERM and at exit of the interpreter; all apps of a process stop together."""
    _apps.add(app)
    if threading.current_thread() is not threading.main_thread():
        logger.info("The app was built outside the main thread, so it sets no signal handlers.")
        return
    for signum in _SIGNALS:
        previous = signal.signal(signum, _on_signal)
        if previous is not _on_signal:
            _previous_handlers[signum] = previous
    _start_signal_thread()


def end_process(status: int) -> None:
    """End the process at once, without waiting for other threads."""
    # A full pipe may have no reader. An exiting interpreter starts no more threads, and flushes by itself.
    with suppress(Exception):
        call_on_thread("openfactory-flush", _flush_streams).result(0.2)
    os._exit(status)


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _running_apps() -> list[Lifecycle]:
    return [app for app in _apps if not app.done]


def _on_signal(signum: int, frame: FrameType | None) -> None:
    if _handled_by_thread:
        _handled_by_thread.pop()  # a late first signal, not a second signal
        return
    apps = _running_apps()
    if not apps:
        _call_previous_handler(signum, frame)
    stop: SystemExit | None = None
    for app in apps:
        try:
            app.signal_handler(signum, frame)
        except SystemExit as request:
            stop = request
    if stop is not None:
        raise stop


def _call_previous_handler(signum: int, frame: FrameType | None) -> None:
    """Handle a signal that arrives after all apps have stopped as if this module had set no handler."""
    previous = _previous_handlers.get(signum, signal.SIG_DFL)
    if callable(previous):
        previous(signum, frame)
    elif previous == signal.SIG_DFL:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _start_signal_thread() -> None:
    """Have the interpreter write each signal's number to a socket at once, and read the socket in a thread.

    Python runs signal handlers in the main thread only, between two bytecode instructions: C code that does not return
    would delay the stop without limit.
    """
    global _wakeup
    if _wakeup is not None:
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    if previous != -1:
        signal.set_wakeup_fd(previous)  # another reader, such as an event loop, is there already
        receiver.close()
        sender.close()
        return
    _wakeup = sender
    threading.Thread(target=_read_signals, args=(receiver,), name="openfactory-signals", daemon=True).start()


def _read_signals(receiver: socket.socket) -> None:
    while number := receiver.recv(1):
        if number[0] not in _SIGNALS:
            continue
        apps = _running_apps()
        noticed = [app.notice() for app in apps]
        if not all(noticed):
            end_process(128 + number[0])  # the second signal
        threading.Thread(
            target=_request_stop_if_unhandled, args=(apps, number[0]), name="openfactory-signals", daemon=True
        ).start()
    receiver.close()


def _request_stop_if_unhandled(apps: list[Lifecycle], signum: int) -> None:
    time.sleep(_UNREACHABLE_SECONDS)
    left = [app for app in apps if not app.requested]
    if left:
        _handled_by_thread.append(signum)
    for app in left:
        app.request()  # the handler has not run, so the watchdog stops the app


_mask = threading.local()


def _block_signals() -> None:
    """Block signals during a fork, because the child shares the parent's socket until it has reset itself."""
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _restore_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _reset_in_child() -> None:
    """Restore the earlier signal handlers in a forked child, and detach it from the parent's socket and apps."""
    if _wakeup is not None:
        signal.set_wakeup_fd(-1)
    for signum, previous in _previous_handlers.items():
        signal.signal(signum, previous)
    _apps.clear()
    _restore_signals()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_block_signals, after_in_parent=_restore_signals, after_in_child=_reset_in_child)


@atexit.register
def _stop_all() -> None:
    """Stop the apps that still run when the program ends, so that they are deregistered."""
    for app in _running_apps():
        app.stop()
    if _wakeup is not None:
        signal.set_wakeup_fd(-1)
        _wakeup.close()
