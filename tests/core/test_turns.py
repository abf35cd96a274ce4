"""A loop that two threads run by turns: who receives a task runs it, and the loop always goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, SimpleQueue

import pytest

from openfactory.concurrency import Lane, OrderedExecutor
from openfactory.concurrency.ordered_executor import CollectedLanes, run_lanes
from openfactory.concurrency.turns import Turns, leave_turn

Eventually = Callable[..., None]
Task = Callable[[], object]


class Loop:
    """A loop that puts the tasks which it receives into the lanes that they name."""

    def __init__(self) -> None:
        self.executor = OrderedExecutor("pool")
        self.arrived: SimpleQueue[list[tuple[Lane, Task]]] = SimpleQueue()
        self.received_by: list[str] = []
        self.begun = self.ended = 0
        self.turns = Turns("loop", self._begin, self._turn, self._end)
        self.turns.start()

    def send(self, *tasks: tuple[Lane, Task]) -> None:
        self.arrived.put(list(tasks))

    def _begin(self) -> None:
        self.begun += 1

    def _end(self) -> None:
        self.ended += 1

    def _turn(self) -> list[Lane]:
        assert self.turns.is_in_loop()
        with CollectedLanes() as lanes:
            try:
                tasks = self.arrived.get(timeout=0.01)
            except Empty:
                return lanes
            self.received_by.append(threading.current_thread().name)
            for lane, task in tasks:
                lane.submit(task)
        return lanes


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.turns.stop(60)
    assert (loop.begun, loop.ended) == (1, 1)
    assert not loop.turns.is_in_loop()


def loop_threads() -> int:
    return [thread.name for thread in threading.enumerate()].count("loop")


def test_a_task_runs_on_the_thread_that_has_received_it(loop: Loop, eventually: Eventually) -> None:
    lane, seen = loop.executor.lane("MILL"), list[tuple[int, str, bool]]()

    def task(number: int) -> None:
        seen.append((number, threading.current_thread().name, loop.turns.is_in_loop()))

    for number in range(200):
        loop.send((lane, partial(task, number)))
        if number % 10 == 0:
            eventually(lambda: len(seen) == number + 1)  # noqa: B023 - called at once
    eventually(lambda: len(seen) == 200)
    assert [number for number, _, _ in seen] == list(range(200))
    assert "loop" in {name for _, name, _ in seen}
    assert not any(is_in_loop for _, _, is_in_loop in seen)
    assert loop_threads() == 2


def test_a_task_that_waits_holds_up_neither_the_loop_nor_other_lanes(loop: Loop, eventually: Eventually) -> None:
    mill, press = loop.executor.lane("MILL"), loop.executor.lane("PRESS")
    go_on, seen = threading.Event(), list[object]()
    loop.send((mill, lambda: seen.append(go_on.wait(60))))
    for number in range(20):
        loop.send((press, partial(seen.append, number)))
    loop.send((mill, lambda: seen.append("after")))
    eventually(lambda: seen == list(range(20)))
    assert set(loop.received_by) == {"loop"}
    assert loop_threads() == 2
    go_on.set()
    eventually(lambda: seen[20:] == [True, "after"])


@pytest.fixture
def quick(loop: Loop, eventually: Eventually) -> Lane:
    """A lane that is known to be quick, so that the leader runs it and goes on with the loop."""
    lane = loop.executor.lane("MILL")

    def has_run_quickly() -> bool:
        loop.send((lane, lambda: None))
        return lane.is_quick

    eventually(has_run_quickly)  # a busy machine may interrupt a task
    return lane


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lane ever lasts."""
    monkeypatch.setattr("openfactory.concurrency.turns._LASTING_SECONDS", 600.0)


def test_a_quick_lane_that_lasts_for_once_holds_up_nothing(loop: Loop, quick: Lane, eventually: Eventually) -> None:
    press, seen, go_on = loop.executor.lane("PRESS"), list[object](), threading.Event()
    loop.send((quick, lambda: seen.append(go_on.wait(60))))
    loop.send((press, partial(seen.append, "press")))
    loop.send((quick, partial(seen.append, "mill")))
    eventually(lambda: seen == ["press"])
    go_on.set()
    eventually(lambda: seen == ["press", True, "mill"])


@pytest.mark.usefixtures("unwatched")
def test_a_task_may_wait_for_one_that_has_arrived_with_it(loop: Loop, quick: Lane, eventually: Eventually) -> None:
    press, done, waited = loop.executor.lane("PRESS"), threading.Event(), list[bool]()
    for _ in range(10):
        press.submit(lambda: None)
    eventually(lambda: press.is_quick)
    loop.send((quick, lambda: waited.append(done.wait(60))), (press, done.set))
    eventually(lambda: waited == [True])


@pytest.mark.usefixtures("unwatched")
def test_a_task_that_is_about_to_wait_leaves_the_loop(loop: Loop, quick: Lane, eventually: Eventually) -> None:
    replied = threading.Event()

    def call() -> None:
        leave_turn()
        assert replied.wait(60)

    loop.send((quick, call))
    loop.send((loop.executor.lane("PRESS"), replied.set))
    eventually(replied.is_set)


@pytest.mark.usefixtures("unwatched")
def test_a_quick_task_may_stop_the_loop(loop: Loop, quick: Lane, eventually: Eventually) -> None:
    stopped: list[int] = []

    def stop() -> None:
        loop.turns.stop(60)
        stopped.append(loop.ended)

    loop.send((quick, stop))
    eventually(lambda: stopped == [1])
    eventually(lambda: loop_threads() == 0)


def test_tasks_of_several_lanes_run_beside_each_other(loop: Loop, eventually: Eventually) -> None:
    both = threading.Barrier(2, timeout=60)
    done: list[object] = []
    tasks: list[tuple[Lane, Task]] = [
        (loop.executor.lane(name), lambda: done.append(both.wait())) for name in ("MILL", "PRESS")
    ]
    loop.send(*tasks)
    eventually(lambda: sorted(done, key=str) == [0, 1])


def test_a_task_may_stop_the_loop(loop: Loop, eventually: Eventually) -> None:
    stopped: list[int] = []

    def stop() -> None:
        loop.turns.stop(60)
        stopped.append(loop.ended)

    loop.send((loop.executor.lane("MILL"), stop))
    eventually(lambda: stopped == [1])
    eventually(lambda: loop_threads() == 0)


def test_a_stop_does_not_wait_for_a_task(loop: Loop, eventually: Eventually) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(60)

    loop.send((loop.executor.lane("MILL"), wait))
    assert begun.wait(60)
    loop.turns.stop(60)
    assert not go_on.is_set()
    assert loop.ended == 1
    go_on.set()
    eventually(lambda: loop_threads() == 0)


def test_without_a_second_thread_tasks_run_on_those_of_their_executor(
    loop: Loop, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "loop":
            raise RuntimeError("can't start new thread")
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    lane, seen = loop.executor.lane("MILL"), list[str]()
    for _ in range(3):
        loop.send((lane, lambda: seen.append(threading.current_thread().name)))
    eventually(lambda: seen == ["pool-1"] * 3)


def test_a_lane_with_many_tasks_goes_on_in_its_executor(eventually: Eventually) -> None:
    lane, seen = OrderedExecutor("pool").lane("MILL"), list[tuple[int, str]]()
    with CollectedLanes() as lanes:
        for number in range(200):
            lane.submit(lambda number: seen.append((number, threading.current_thread().name)), number)
    assert lanes == [lane]
    assert seen == []
    run_lanes(lanes)
    eventually(lambda: len(seen) == 200)
    assert [number for number, _ in seen] == list(range(200))
    assert {name for _, name in seen} == {threading.current_thread().name, "pool-1"}
