"""A loop that two threads run by turns, so that the thread which has received an event also handles it.

On a busy machine it takes long to wake up another thread for each event. Here the thread that has received an event
leaves the loop to the other one, and runs the lanes itself: the pattern of leader and followers, from the second volume
of Pattern-Oriented Software Architecture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from openfactory.concurrency.ordered_executor import Lane, run_lanes

__all__ = ["Turns"]


class Turns:
    """A loop, and the two threads that run it. The second one starts when there is something to run beside the loop.

    Args:
        name: name of the threads.
        begin: called first.
        turn: one turn of the loop. It returns the lanes that it has made busy, as `collected_lanes` yields them.
        end: called after the last turn.
    """

    def __init__(
        self, name: str, begin: Callable[[], object], turn: Callable[[], list[Lane]], end: Callable[[], object]
    ) -> None:
        self._name = name
        self._begin = begin
        self._turn = turn
        self._end = end
        self._loop = threading.Lock()  # whoever holds it runs the loop
        self._leader: threading.Thread | None = None
        self._threads: list[threading.Thread] = []
        self._waiting: set[threading.Thread] = set()  # threads that run no lane
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
        return threading.current_thread() is self._leader

    def stop(self, timeout: float) -> None:
        """End the loop after the present turn, and wait for it and for the threads that run no lane.

        Args:
            timeout: seconds to wait.
        """
        deadline = time.monotonic() + timeout
        self._stopped = True
        if self.is_in_loop() or not self.are_started:
            return
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
        while not self._ended.is_set():
            with self._loop:
                self._leader = thread
                try:
                    lanes = self._lead()
                finally:
                    self._leader = None
                    self._waiting.discard(thread)
            run_lanes(lanes)
            self._waiting.add(thread)

    def _lead(self) -> list[Lane]:
        """Run the loop until it ends, or until there are lanes to run and the other thread can go on."""
        if not self._begun:
            self._begun = True
            self._begin()
        while not self._stopped:
            lanes = self._turn()
            if lanes:
                if self._other_goes_on():
                    return lanes
                for lane in lanes:
                    lane.start()
        if not self._ended.is_set():
            try:
                self._end()
            finally:
                self._ended.set()
        return []

    def _other_goes_on(self) -> bool:
        """Return whether another thread runs the loop when this one leaves it."""
        return len(self._waiting) > 1 or (len(self._threads) == 1 and self._start_thread())
