"""A loop that two threads run by turns, so that the thread which has received an event also handles it.

On a busy machine it takes long to wake up another thread for each event. Here the thread that has received an event
runs its lane itself. If it is one lane that is known to be quick, the thread goes on with the loop afterwards, and the
other one only looks now and then whether the lane lasts. Otherwise it leaves the loop to the other one first. This is
the pattern of leader and followers, from the second volume of Pattern-Oriented Software Architecture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from openfactory.concurrency.ordered_executor import Lane, run_lanes

__all__ = ["Turns", "leave_turn"]

# Seconds after which a lane of the leader lasts, so that the other thread takes the lead; and between two looks at it.
_LASTING_SECONDS = 0.005
_LOOK_SECONDS = 0.025


class _Led(threading.local):
    """The loop that this thread leads while it runs lanes."""

    turns: Turns | None = None


_led = _Led()


def leave_turn() -> None:
    """Leave the loop to the other thread, if this one leads a loop and runs a lane, which is about to wait."""
    if _led.turns is not None:
        _led.turns.leave()


class Turns:
    """A loop, and the two threads that run it. The second one starts when there is something to run beside the loop.

    Args:
        name: name of the threads.
        begin: called first.
        turn: one turn of the loop. It returns the lanes that it has made busy, as `CollectedLanes` yields them.
        end: called after the last turn.
    """

    def __init__(
        self, name: str, begin: Callable[[], object], turn: Callable[[], list[Lane]], end: Callable[[], object]
    ) -> None:
        self._name = name
        self._begin = begin
        self._turn = turn
        self._end = end
        self._threads: list[threading.Thread] = []
        self._waiting: set[threading.Thread] = set()  # threads that run neither the loop nor a lane
        self._guard = threading.Lock()  # of the attributes that follow
        self._leader: threading.Thread | None = None  # the thread that runs the loop
        self._lane_since: float | None = None  # when the leader has begun to run a lane
        self._lanes_run = 0  # how often it has
        self._is_watched = False  # whether the other thread looks at the leader now and then
        self._pause = threading.Lock()  # the thread that waits acquires it, and is woken up by a release
        self._pause.acquire()
        self._begun = False
        self._stopped = False
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the first thread."""
        self._start_thread()

    @property
    def are_started(self) -> bool:
        """Whether the first thread has started."""
        return bool(self._threads)

    def is_in_loop(self) -> bool:
        """Return whether the calling thread runs the loop now, and not a lane."""
        return self._lane_since is None and threading.current_thread() is self._leader

    def leave(self) -> None:
        """Leave the loop to the other thread; called on the thread that leads it, in a lane."""
        _led.turns = None
        self._give_up_lead()

    def stop(self, timeout: float) -> None:
        """End the loop after the present turn, and wait for it and for the threads that run no lane.

        Args:
            timeout: seconds to wait.
        """
        deadline = time.monotonic() + timeout
        self._stopped = True
        if self.is_in_loop() or not self.are_started:
            return
        leave_turn()
        self._ended.wait(timeout)
        for thread in self._waiting - {threading.current_thread()}:
            thread.join(max(deadline - time.monotonic(), 0))

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._threads.append(thread)
        self._waiting.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down, or the machine has too many threads
            self._threads.remove(thread)
            self._waiting.discard(thread)
            if not self._threads:
                raise
            return False
        return True

    def _run(self) -> None:
        thread = threading.current_thread()
        while self._take_lead(thread):
            try:
                lanes = self._lead(thread)
            finally:
                self._give_up_lead()
            run_lanes(lanes)
            self._waiting.add(thread)

    def _take_lead(self, thread: threading.Thread) -> bool:
        """Wait for the lead, and return whether the loop goes on."""
        lanes_run = -1
        while not self._ended.is_set():
            with self._guard:
                since = self._lane_since
                if self._leader is None or (since is not None and time.monotonic() >= since + _LASTING_SECONDS):
                    self._leader, self._lane_since = thread, None
                    self._waiting.discard(thread)
                    return True
                self._is_watched = since is not None or self._lanes_run != lanes_run
                lanes_run = self._lanes_run
            self._pause.acquire(timeout=_LOOK_SECONDS if self._is_watched else -1)
        return False

    def _give_up_lead(self) -> None:
        """Leave the loop to the other thread, unless it has taken the lead already."""
        with self._guard:
            if self._leader is threading.current_thread():
                self._leader = self._lane_since = None
            self._wake_other()

    def _wake_other(self) -> None:
        """Wake up the thread that waits; the caller owns the guard."""
        if self._pause.locked():
            self._pause.release()

    def _lead(self, thread: threading.Thread) -> list[Lane]:
        """Run the loop until it ends, or until the other thread takes it over, and return lanes to run."""
        if not self._begun:
            self._begun = True
            self._begin()
        while not self._stopped:
            lanes = self._turn()
            if not lanes:
                continue
            if not self._waiting and not self._has_second_thread():
                for lane in lanes:
                    lane.start()
            elif len(lanes) > 1 or not lanes[0].is_quick:
                return lanes
            elif not self._leads_after(lanes[0], thread):
                return []
        if not self._ended.is_set():
            try:
                self._end()
            finally:
                self._ended.set()
        return []

    def _leads_after(self, lane: Lane, thread: threading.Thread) -> bool:
        """Run a quick lane, and return whether this thread still leads."""
        with self._guard:
            self._lane_since = time.monotonic()
            self._lanes_run += 1
            if not self._is_watched:
                self._is_watched = True
                self._wake_other()
        _led.turns = self
        if lane.run_some():
            lane.start()
        _led.turns = None
        with self._guard:
            if self._leader is not thread:
                return False
            self._lane_since = None
        return True

    def _has_second_thread(self) -> bool:
        """Return whether a second thread waits; start it if there is only one."""
        return len(self._threads) == 1 and self._start_thread()
