"""How an app ends: signals, the steps of a stop, and the time it may take.

A signal handler publishes nothing. It ends the main loop, by an exception in the main thread or by cancelling the task,
and `run` does the stop. A watchdog does it where the main loop does not end, and ends the process when the budget is
used up.
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
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

__all__ = ["Lifecycle", "StopRequested", "end_process", "handle_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# The main loop gets this share of the budget to end by itself.
_PATIENCE = 0.3

# C code that does not return within this time, in seconds, keeps a signal from being handled.
_UNREACHABLE_SECONDS = 1.0


class StopRequested(SystemExit):
    """Ends the main loop after a signal; nothing that catches errors catches it."""

    def __init__(self) -> None:
        super().__init__(0)


class Lifecycle:
    """What is known of one app's end: whether it was asked for, who does it, and until when.

    Args:
        steps: does the stop, within the seconds it is given.
        budget: how long the whole stop may take, in seconds.
    """

    def __init__(self, steps: Callable[[float], None], budget: float) -> None:
        self._steps = steps
        self._budget = budget
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

    @property
    def requested(self) -> bool:
        """Whether a signal has asked for the stop."""
        return self._deadline is not None

    @property
    def done(self) -> bool:
        """Whether the stop is over."""
        return self._done.is_set()

    def main_loop_begins(self, task: asyncio.Task[Any] | None = None) -> None:
        """Note that the main loop runs in this thread, or as this task."""
        self._runner = threading.current_thread()
        self._task = task

    def main_loop_ended(self) -> None:
        """Note that there is nothing left that a signal could end."""
        self._loop_ended = True

    def stop(self) -> None:
        """Do the steps, once; whoever comes second waits until they are done."""
        if os.getpid() != self._process:
            return  # a fork's copy of the app is not the app
        with self._lock:
            first, self._begun = not self._begun, True
        if not first:
            self._done.wait(self._budget)
            return
        try:
            self._steps(self._budget if self._deadline is None else max(self._deadline - time.monotonic(), 0.5))
        finally:
            self._done.set()
            self._end_main_loop()

    def _end_main_loop(self) -> None:
        """Somebody has called `shutdown` beside a coroutine that is the main loop: it has nothing left to do."""
        if self._task is not None and not self._loop_ended:
            with suppress(RuntimeError):  # its event loop is closed
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def notice(self) -> bool:
        """A signal has arrived, whether or not Python can handle it now; returns whether it is the first."""
        self._arrived = self._arrived or time.monotonic()
        self._signals += 1
        return self._signals == 1

    def request(self) -> bool:
        """A signal asks for the stop; the budget counts from its arrival.

        Returns:
            whether the caller, in the main thread, ends the main loop by raising `StopRequested`.
        """
        self._arrived = self._arrived or time.monotonic()
        self._deadline = self._arrived + self._budget
        threading.Thread(target=self._watch, args=(self._deadline,), name="openfactory-watchdog", daemon=True).start()
        if self._loop_ended or self._begun:
            return False
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
            return False
        return True

    def _watch(self, deadline: float) -> None:
        """Do the stop if the main loop does not end, and end the process if that does not."""
        ends_by_itself = self._task is not None or self._runner in (None, threading.main_thread())
        give_up = deadline - self._budget * (1 - _PATIENCE if ends_by_itself else 1)
        while time.monotonic() < give_up and not self._begun:
            time.sleep(0.02)
        self.stop()
        time.sleep(max(deadline - time.monotonic(), 0))
        end_process(0)


class App(Protocol):
    """What a signal is handed to."""

    _lifecycle: Lifecycle

    def signal_handler(self, signum: int, frame: FrameType | None) -> None:
        """End the main loop."""


_apps: weakref.WeakSet[App] = weakref.WeakSet()
_previous: dict[int, Any] = {}
_wakeup: socket.socket | None = None
_acted_on: list[int] = []  # signals that Python could not handle in time, so that a thread has asked for the stop


def handle_signals(app: App, logger: logging.Logger) -> None:
    """Stop an app on SIGINT and SIGTERM, and when the interpreter ends; all apps of a process stop together."""
    _apps.add(app)
    if threading.current_thread() is not threading.main_thread():
        logger.info("Built outside the main thread, so this app sets no signal handlers.")
        return
    for signum in _SIGNALS:
        previous = signal.signal(signum, _on_signal)
        if previous is not _on_signal:
            _previous[signum] = previous
    _listen_for_signals()


def end_process(status: int) -> None:
    """End now, whatever other threads do."""
    flushing = threading.Thread(target=_flush_streams, daemon=True)
    with suppress(RuntimeError):  # the interpreter ends, and starts no more threads; it flushes by itself
        flushing.start()
        flushing.join(0.2)  # whoever should read it may not
    os._exit(status)


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _alive() -> list[App]:
    return [app for app in _apps if not app._lifecycle.done]


def _on_signal(signum: int, frame: FrameType | None) -> None:
    if _acted_on:
        _acted_on.pop()  # it comes late, and is no second one
        return
    apps = _alive()
    if not apps:
        _pass_on(signum, frame)
    stop: SystemExit | None = None
    for app in apps:
        try:
            app.signal_handler(signum, frame)
        except SystemExit as request:
            stop = request
    if stop is not None:
        raise stop


def _pass_on(signum: int, frame: FrameType | None) -> None:
    """A signal after all apps have stopped does what it did before there were any."""
    previous = _previous.get(signum, signal.SIG_DFL)
    if callable(previous):
        previous(signum, frame)
    elif previous == signal.SIG_DFL:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _listen_for_signals() -> None:
    """Python handles signals between two steps of the main thread; C code that does not return keeps them waiting.

    So the interpreter writes the signal's number to a socket as well, at once, and a thread looks after it.
    """
    global _wakeup
    if _wakeup is not None:
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    if previous != -1:
        signal.set_wakeup_fd(previous)  # somebody listens already, such as an event loop
        receiver.close()
        sender.close()
        return
    _wakeup = sender
    threading.Thread(target=_look_after_signals, args=(receiver,), name="openfactory-signals", daemon=True).start()


def _look_after_signals(receiver: socket.socket) -> None:
    while number := receiver.recv(1):
        if number[0] not in _SIGNALS:
            continue
        apps = _alive()
        noticed = [app._lifecycle.notice() for app in apps]
        if not all(noticed):
            end_process(128 + number[0])  # the second one
        arguments = (apps, number[0])
        threading.Thread(target=_stop_unless_requested, args=arguments, name="openfactory-signals", daemon=True).start()
    receiver.close()


def _stop_unless_requested(apps: list[App], signum: int) -> None:
    time.sleep(_UNREACHABLE_SECONDS)
    left = [app for app in apps if not app._lifecycle.requested]
    if left:
        _acted_on.append(signum)
    for app in left:
        app._lifecycle.request()  # the handler has not run, so the watchdog does it all


_mask = threading.local()


def _hold_signals() -> None:
    """From a fork to what the child does first, its signals would be the parent's: they share the socket."""
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _let_signals_go() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _forget_in_child() -> None:
    """A fork's copy of an app is not the app: signals do what they did before, and wake nobody in the parent."""
    if _wakeup is not None:
        signal.set_wakeup_fd(-1)
    for signum, previous in _previous.items():
        signal.signal(signum, previous)
    _apps.clear()
    _let_signals_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_go, after_in_child=_forget_in_child)


@atexit.register
def _stop_all() -> None:
    """An app that was built and never stopped is taken off the register when the program ends."""
    for app in _alive():
        app._lifecycle.stop()
    if _wakeup is not None:
        signal.set_wakeup_fd(-1)
        _wakeup.close()
