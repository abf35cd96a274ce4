"""Lanes keep their order and hold up nobody else; coroutines and bounded calls run on other threads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path

import pytest

from openfactory.concurrency import LoopThread, OrderedExecutor
from openfactory.concurrency.bounded import call_on_thread
from openfactory.concurrency.file_lock import FileLock

Eventually = Callable[..., None]


def test_a_lane_runs_its_tasks_in_order(eventually: Eventually) -> None:
    lane, seen = OrderedExecutor("test").lane("MILL"), list[int]()
    for n in range(1000):
        lane.submit(seen.append, n)
    eventually(lambda: len(seen) == 1000)
    assert seen == list(range(1000))
    assert len(lane) == 0


def test_a_lane_runs_one_task_at_a_time(eventually: Eventually) -> None:
    lane, running, most, done = OrderedExecutor("test").lane("MILL"), list[int](), list[int](), list[int]()

    def task(n: int) -> None:
        running.append(n)
        most.append(len(running))
        running.remove(n)
        done.append(n)

    def submit(start: int) -> None:
        for n in range(start, start + 200):
            lane.submit(task, n)

    threads = [threading.Thread(target=submit, args=(start,)) for start in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(done) == 600)
    assert set(most) == {1}
    for start in (0, 1000, 2000):
        assert [n for n in done if start <= n < start + 1000] == list(range(start, start + 200))


def test_a_blocked_lane_holds_up_no_other(eventually: Eventually) -> None:
    executor, go_on = OrderedExecutor("test"), threading.Event()
    blocked = [executor.lane(f"blocked {n}") for n in range(20)]
    for lane in blocked:
        lane.submit(go_on.wait, 30)
    free, seen = executor.lane("free"), list[int]()
    free.submit(seen.append, 1)
    eventually(lambda: seen)
    go_on.set()


@pytest.mark.parametrize("blocked", [8, 60])
def test_lanes_that_block_every_thread_hold_up_no_other(
    eventually: Eventually, logged: list[logging.LogRecord], blocked: int
) -> None:
    executor, go_on = OrderedExecutor("crowded", max_threads=8, idle_seconds=0.05), threading.Event()
    for n in range(blocked):
        executor.lane(f"blocked-{n}").submit(go_on.wait)
    ran = threading.Event()
    executor.lane("another").submit(ran.set)
    assert ran.wait(60)
    eventually(lambda: any("crowded: 8 threads are blocked" in record.getMessage() for record in logged))
    go_on.set()
    eventually(lambda: not any(thread.name.startswith("crowded") for thread in threading.enumerate()))


def test_a_busy_lane_does_not_starve_the_others_when_threads_are_few(eventually: Eventually) -> None:
    executor = OrderedExecutor("test", max_threads=1)
    busy, other = executor.lane("busy"), executor.lane("other")
    stop, seen = threading.Event(), list[int]()

    def again() -> None:
        if not stop.is_set():
            busy.submit(again)

    busy.submit(again)
    other.submit(seen.append, 1)
    eventually(lambda: seen)
    stop.set()


@pytest.mark.parametrize("error", [ValueError("on purpose"), SystemExit(3), KeyboardInterrupt()])
def test_a_task_that_raises_is_logged_and_the_lane_goes_on(
    error: BaseException, eventually: Eventually, logged: list[logging.LogRecord]
) -> None:
    def fail() -> None:
        raise error

    lane, seen = OrderedExecutor("test").lane("MILL"), list[int]()
    lane.submit(fail)
    lane.submit(seen.append, 1)
    eventually(lambda: seen)
    assert "MILL" in logged[0].getMessage()
    assert logged[0].exc_info
    assert logged[0].exc_info[1] is error


def test_idle_threads_end(eventually: Eventually) -> None:
    executor = OrderedExecutor("short-lived", idle_seconds=0.05)
    lanes = [executor.lane(str(n)) for n in range(5)]

    def alive() -> int:
        return sum(thread.name.startswith("short-lived") for thread in threading.enumerate())

    for round in range(3):
        gate = threading.Barrier(6)
        for lane in lanes:
            lane.submit(gate.wait, 10)
        gate.wait(10)
        assert alive() >= 1, round
        eventually(lambda: alive() == 0)


def test_many_lanes_at_rest_need_no_thread(eventually: Eventually) -> None:
    executor, seen = OrderedExecutor("many", idle_seconds=0.05), list[int]()
    lanes = [executor.lane(str(n)) for n in range(10_000)]
    before = threading.active_count()
    for n, lane in enumerate(lanes):
        lane.submit(seen.append, n)
    eventually(lambda: len(seen) == 10_000, timeout=60)
    eventually(lambda: threading.active_count() <= before)


def test_a_lane_that_lags_is_told_once_in_a_while(eventually: Eventually, logged: list[logging.LogRecord]) -> None:
    go_on = threading.Event()
    lane = OrderedExecutor("test").lane("MILL")
    lane.submit(go_on.wait, 60)
    for _ in range(20_000):
        lane.submit(int)
    assert ["MILL: 10" in record.getMessage() for record in logged] == [True]
    go_on.set()
    eventually(lambda: len(lane) == 0)


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


def test_a_loop_thread_runs_coroutines() -> None:
    with LoopThread("test") as loop:
        assert [loop.submit(answer(n)).result(60) for n in range(5)] == list(range(5))


def test_what_a_coroutine_raises_is_in_its_future() -> None:
    async def fail() -> None:
        raise ValueError("on purpose")

    with LoopThread("test") as loop, pytest.raises(ValueError, match="on purpose"):
        loop.submit(fail()).result(60)


def test_closing_a_loop_thread_cancels_what_runs() -> None:
    ended = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    loop = LoopThread("test")
    future = loop.submit(endless())
    loop.submit(answer(1)).result(60)
    loop.close()
    loop.close()
    assert ended.is_set()
    with pytest.raises(CancelledError):
        future.result(60)


def test_a_closed_loop_thread_takes_no_more() -> None:
    loop = LoopThread("test")
    loop.close()
    with pytest.raises(RuntimeError):
        loop.submit(answer(1))
    gc.collect()  # a coroutine that was taken and never awaited would be told of now


def test_what_is_submitted_while_a_loop_thread_closes_is_settled() -> None:
    """Who waits for it would wait for ever."""
    for _ in range(50):
        loop = LoopThread("test")
        futures = [loop.submit(answer(0))]
        began = threading.Event()

        def submit(
            loop: LoopThread = loop, futures: list[Future[int]] = futures, began: threading.Event = began
        ) -> None:
            with contextlib.suppress(RuntimeError):
                for n in range(100_000):
                    futures.append(loop.submit(answer(n)))
                    began.set()

        thread = threading.Thread(target=submit)
        thread.start()
        assert began.wait(60)
        loop.close()
        thread.join(60)
        _, unsettled = wait(futures, timeout=5)
        assert unsettled == set()
    gc.collect()


def test_a_call_on_a_thread_returns_the_result() -> None:
    def multiply(number: int, *, factor: int) -> tuple[int, threading.Thread]:
        return number * factor, threading.current_thread()

    product, thread = call_on_thread("test-call", multiply, 6, factor=7).result(60)
    assert product == 42
    assert thread.name == "test-call"
    assert thread.daemon


@pytest.mark.parametrize("error", [ValueError("on purpose"), TimeoutError("on purpose"), SystemExit(3)])
def test_a_call_on_a_thread_raises_the_exception(error: BaseException) -> None:
    def fail() -> None:
        raise error

    called = call_on_thread("test-call", fail)
    assert called.exception(60) is error
    with pytest.raises(type(error)) as caught:
        called.result(60)
    assert caught.value is error


def test_a_call_on_a_thread_is_awaited_for_a_bounded_time() -> None:
    go_on = threading.Event()
    called = call_on_thread("test-call", go_on.wait, 60)
    for wait_for in (called.result, called.exception):
        with pytest.raises(TimeoutError):
            wait_for(0.01)
    assert not called.cancel()
    go_on.set()
    assert called.result(60) is True


def test_a_coroutine_can_await_a_call_on_a_thread() -> None:
    async def ask() -> int:
        return await asyncio.wrap_future(call_on_thread("test-call", pow, 2, 10))

    assert asyncio.run(ask()) == 1024


def test_a_coroutine_can_abandon_a_call_on_a_thread() -> None:
    go_on = threading.Event()

    async def give_up() -> Future[bool]:
        called = call_on_thread("test-call", go_on.wait, 60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(called), 0.01)
        return called

    called = asyncio.run(give_up())
    go_on.set()  # its event loop is closed
    assert called.result(60) is True


HANGING = """
import time
from openfactory.concurrency.bounded import call_on_thread
from openfactory.concurrency.file_lock import FileLock
call_on_thread("hanging", time.sleep, 600)
print("ended")
"""


def test_a_call_on_a_thread_does_not_keep_the_process() -> None:
    found = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (0, "ended\n", "")


def test_the_holder_of_a_lock_is_known_by_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    with lock:
        assert lock.holder() is None  # never this process
    hold = "import fcntl, sys; lock = open(sys.argv[1]); fcntl.flock(lock, fcntl.LOCK_EX); print(); sys.stdin.read()"
    command = [sys.executable, "-u", "-S", "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        assert path.read_text().strip() == str(os.getpid())  # another program does not write its id
        assert lock.holder() == holder.pid
        holder.stdin.close()
    assert lock.holder() is None
    lock.close()
