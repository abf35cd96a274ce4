"""The signals that stop a program, and whether one of them is a second request."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["STOP_SIGNALS", "StopClock", "handle_stop_signals", "interrupt_on_signals"]

_ALWAYS = (signal.SIGINT, signal.SIGTERM)

# A program may have given these another meaning, and `nohup` ignores SIGHUP so that the program goes on.
_UNLESS_TAKEN = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name))

#: The signals that stop a program: Ctrl-C, a supervisor, the end of the terminal or of an SSH connection, Ctrl-\.
STOP_SIGNALS: tuple[signal.Signals, ...] = (*_ALWAYS, *_UNLESS_TAKEN)

# A terminal and a supervisor both send a signal for one Ctrl-C, and so do a terminal that closes and its shell.
_SAME_STOP_SECONDS = 0.5


class StopClock:
    """The time of the first signal; signals within half a second after it belong to the same stop.

    Attributes:
        first: time of the first signal by the monotonic clock, or None.
    """

    def __init__(self) -> None:
        self.first: float | None = None

    def begin(self) -> float:
        """Record a signal, and return the time of the first one."""
        if self.first is None:
            self.first = time.monotonic()
        return self.first

    def is_running(self) -> bool:
        """Return whether a signal that arrives now belongs to the same stop as the first one."""
        return self.first is not None and time.monotonic() - self.first <= _SAME_STOP_SECONDS

    def is_second(self) -> bool:
        """Record a signal, and return whether it is a second request to stop."""
        self.begin()
        return not self.is_running()


def handle_stop_signals(handler: Callable[[int, FrameType | None], object]) -> dict[int, Any]:
    """Set the handler of the signals that stop a program, and return the handlers that it replaces, by signal.

    SIGHUP and SIGQUIT keep a handler of the program, and stay ignored if they are.
    """
    taken = [number for number in _UNLESS_TAKEN if signal.getsignal(number) == signal.SIG_DFL]
    return {number: signal.signal(number, handler) for number in (*_ALWAYS, *taken)}


def interrupt_on_signals() -> None:
    """Raise KeyboardInterrupt on the signals that stop a program, once if a signal is repeated at once."""
    clock = StopClock()

    def interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - for signal.signal()
        repeated = clock.is_running()
        clock.begin()
        if not repeated:
            raise KeyboardInterrupt

    handle_stop_signals(interrupt)
