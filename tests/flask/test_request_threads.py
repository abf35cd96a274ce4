"""The threads of requests: kept for the next call, and never shared by two."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from openfactory.flaskapp.http import threads
from openfactory.flaskapp.http.threads import RequestThreads


class Calls:
    """What was called, on which thread, and what it found."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, int]] = []
        self.go_on = threading.Event()
        self.threads = RequestThreads(self.answer)

    def answer(self, what: object) -> None:
        if what == "wait":
            assert self.go_on.wait(30)
        self.seen.append((what, threading.get_ident()))


def request_threads_alive() -> int:
    return sum(thread.name == "openfactory-request" for thread in threading.enumerate())


@pytest.fixture
def calls(eventually: Callable[..., None]) -> Iterator[Calls]:
    made = Calls()
    yield made
    made.go_on.set()
    made.threads.close()
    eventually(lambda: request_threads_alive() == 0)


def test_a_thread_that_is_done_answers_the_next_call(calls: Calls, eventually: Callable[..., None]) -> None:
    for number in range(20):
        calls.threads.call(number)
        eventually(lambda n=number: len(calls.seen) == n + 1 and calls.threads._free == 1)
    assert len({thread for _, thread in calls.seen}) == 1


def test_no_call_waits_for_another(calls: Calls, eventually: Callable[..., None]) -> None:
    for _ in range(50):
        calls.threads.call("wait")
    calls.threads.call("quick")
    eventually(lambda: calls.seen)
    assert [what for what, _ in calls.seen] == ["quick"]


def test_what_a_call_got_is_let_go_while_its_thread_waits(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 600)

    class Request:
        pass

    request = Request()
    gone = weakref.ref(request)
    calls.threads.call(request)
    del request
    eventually(lambda: calls.seen)
    calls.seen.clear()
    eventually(lambda: gone() is None)


def test_only_some_threads_wait_for_more(calls: Calls, eventually: Callable[..., None]) -> None:
    for _ in range(100):
        calls.threads.call("wait")
    assert request_threads_alive() == 100
    calls.go_on.set()
    eventually(lambda: len(calls.seen) == 100 and request_threads_alive() == 32)


def test_none_is_lost_when_threads_give_up_as_calls_come(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.0005)
    for number in range(3000):
        calls.threads.call(number)
        time.sleep(0.0005)
    eventually(lambda: len(calls.seen) == 3000)
    eventually(lambda: request_threads_alive() == 0)


def test_a_thread_whose_call_another_thread_took_gives_up_too(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, eventually: Callable[..., None]
) -> None:
    monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.05)
    calls.threads.call("wait")
    begin = threading.Event()
    run = calls.threads._run

    def run_later() -> None:
        assert begin.wait(30)
        run()

    monkeypatch.setattr(calls.threads, "_run", run_later)
    calls.threads.call("one")
    calls.go_on.set()
    eventually(lambda: len(calls.seen) == 2)  # the thread of the first call has taken the second
    begin.set()
    eventually(lambda: request_threads_alive() == 0)


def test_threads_end_after_a_close(calls: Calls, eventually: Callable[..., None]) -> None:
    calls.threads.call("wait")
    calls.threads.call("one")
    eventually(lambda: calls.threads._free == 1)
    calls.threads.close()
    eventually(lambda: request_threads_alive() == 1)
    calls.go_on.set()
    eventually(lambda: request_threads_alive() == 0)
