"""Signals: all apps of a process stop together, at the first one; a second request ends the process.

A signal handler publishes nothing. It only ends the main loops.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Any

from openfactory.apps.lifecycle import APPS, Lifecycle, end_process
from openfactory.apps.stop_signals import STOP_SIGNALS, handle_stop_signals

__all__ = ["handle_signals"]

# Seconds that Python has to run a signal handler; after them, C code is taken to block the main thread.
_UNREACHABLE_SECONDS = 1.0

_previous_handlers: dict[int, Any] = {}
_wakeup: socket.socket | None = None
_late: set[int] = set()  # signals of a stop that a thread has requested, because Python has not handled them yet


def handle_signals(app: Lifecycle, logger: logging.Logger) -> None:
    """Stop an app on the signals that stop a program, and at exit of the interpreter."""
    APPS.add(app)
    if threading.current_thread() is not threading.main_thread():
        logger.info("The app was built outside the main thread, so it sets no signal handlers.")
        return
    replaced = handle_stop_signals(_on_signal).items()
    _previous_handlers.update({signum: previous for signum, previous in replaced if previous is not _on_signal})
    _start_signal_thread()


def _running_apps() -> list[Lifecycle]:
    return [app for app in APPS if not app.done]


def _requested_just_now() -> bool:
    return any(app.requested_just_now for app in APPS)


def _on_signal(signum: int, frame: FrameType | None) -> None:
    if signum in _late:
        _late.discard(signum)  # of the first request, not a second one; Python calls this once for all of its kind
        return
    apps = _running_apps()
    if not apps and not _requested_just_now():
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
    while numbers := receiver.recv(64):
        # A handler that the program has set later takes its signal.
        taken = [number for number in numbers if signal.getsignal(number) is _on_signal]
        if taken:
            _notice(taken)
    receiver.close()


def _notice(numbers: list[int]) -> None:
    apps = _running_apps()
    are_second = [app.notice() for app in apps]
    if any(are_second):
        end_process(128 + numbers[0])
    threading.Thread(
        target=_request_stop_if_unhandled, args=(apps, numbers), name="openfactory-signals", daemon=True
    ).start()


def _request_stop_if_unhandled(apps: list[Lifecycle], numbers: list[int]) -> None:
    time.sleep(_UNREACHABLE_SECONDS)
    left = [app for app in apps if not app.requested]
    if left or _late:
        _late.update(numbers)
    for app in left:
        app.request(numbers[0])  # the handler has not run, so the watchdog stops the app


_mask = threading.local()


def _block_signals() -> None:
    """Block signals during a fork, because the child shares the parent's socket until it has reset itself."""
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _restore_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _reset_in_child() -> None:
    """Restore the earlier signal handlers in a forked child, and detach it from the parent's socket and apps."""
    if _wakeup is not None:
        signal.set_wakeup_fd(-1)
    for signum, previous in _previous_handlers.items():
        signal.signal(signum, previous)
    APPS.clear()
    _restore_signals()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_block_signals, after_in_parent=_restore_signals, after_in_child=_reset_in_child)


@atexit.register
def _stop_all() -> None:
    """Stop the apps that still run when the program ends, so that they are deregistered."""
    for app in _running_apps():
        app.stop()
    if _requested_just_now():
        # From here on Python would give a repeated signal its default action, and the process would end by it.
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) is _on_signal:
                signal.signal(signum, signal.SIG_IGN)
    if _wakeup is not None:
        signal.set_wakeup_fd(-1)
        _wakeup.close()
