"""The way of messages to librdkafka: at once, under load in batches, in order, and no thread waits for another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from openfactory.engines.kafka_engine import outbox
from openfactory.engines.kafka_engine.outbox import Outbox
from openfactory.events.event import COMMAND_TAG, new_event
from openfactory.events.receipt import Receipt
from openfactory.testing import eventually

EVENT = new_event("MILL", "x", 1, "Samples", "Test")
COMMAND = new_event("MILL", "run_CMD", "{}", "OpenFactory", COMMAND_TAG)
MANY = outbox._MANY  # so many messages at once are a load


class Refused(Exception):
    """As librdkafka refuses a message that is too large."""


class FakeProducer:
    """A queue of librdkafka, with room for some messages."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.room = 1_000_000
        self.refused: int | None = None
        self.on_produce: Callable[[int], object] = lambda number: None

    def produce(self, _topic: str, _value: bytes, _key: str, _partition: int, receipt: Receipt) -> None:
        """Take a message, unless there is no room."""
        if len(self.taken) >= self.room:
            raise BufferError
        if receipt.number == self.refused:
            raise Refused("too large")
        self.on_produce(receipt.number)
        self.taken.append(receipt.number)


class Sending:
    """An outbox, and the receipts that it has taken."""

    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.rejected: list[tuple[Any, Any]] = []
        self.loads = 0
        producer: Any = self.producer
        self.outbox = Outbox(producer, Refused, lambda *refusal: self.rejected.append(refusal), self.count_load)
        self.receipts: list[Receipt] = []

    def count_load(self) -> None:
        self.loads += 1

    def put(self, event: Any = EVENT) -> bool:
        receipt = Receipt(len(self.receipts) + 1, lambda receipt, timeout: receipt.settled)
        self.receipts.append(receipt)
        return self.outbox.put("t", b"", "MILL", receipt, event)

    def put_many(self, count: int) -> None:
        for _ in range(count):
            assert self.put()


@pytest.fixture
def sending() -> Sending:
    return Sending()


@pytest.fixture
def loaded(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> Sending:
    monkeypatch.setattr(outbox, "_MANY_SECONDS", 1_000_000.0)
    sending.put_many(MANY)
    assert sending.outbox.is_under_load
    assert sending.loads == 1
    return sending


def test_a_message_does_not_wait_for_others(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_MANY_SECONDS", 0.0)  # there is never a load
    for number in range(1, 3 * MANY):
        sending.put()
        assert sending.producer.taken[-1] == number
    assert not sending.loads


def test_under_load_messages_are_handed_over_in_batches(loaded: Sending) -> None:
    loaded.put_many(outbox._BATCH - 1)
    assert len(loaded.producer.taken) == MANY
    loaded.put()
    assert loaded.producer.taken == list(range(1, MANY + outbox._BATCH + 1))


def test_a_batch_that_does_not_become_full_is_handed_over_by_the_clock(loaded: Sending) -> None:
    loaded.put_many(outbox._FEW)
    loaded.outbox.tick()
    assert len(loaded.producer.taken) == MANY + outbox._FEW
    assert loaded.outbox.is_under_load


def test_the_load_ends_with_few_messages(loaded: Sending) -> None:
    loaded.put()
    loaded.outbox.tick()
    assert not loaded.outbox.is_under_load
    loaded.put()
    assert loaded.producer.taken == list(range(1, MANY + 3))


def test_the_load_lasts_while_batches_become_full(loaded: Sending) -> None:
    loaded.put_many(outbox._BATCH)
    loaded.outbox.tick()
    assert loaded.outbox.is_under_load


def test_nothing_waits_while_no_thread_looks_at_the_clock(loaded: Sending) -> None:
    loaded.put()
    with loaded.outbox.at_once():
        assert len(loaded.producer.taken) == MANY + 1
        loaded.put_many(2 * MANY)
        assert len(loaded.producer.taken) == 3 * MANY + 1
    assert loaded.loads == 1
    loaded.put_many(MANY)
    assert loaded.outbox.is_under_load


@pytest.mark.parametrize("event", [COMMAND, None], ids=["command", "registration"])
def test_what_somebody_waits_for_does_not_wait(loaded: Sending, event: Any) -> None:
    loaded.put_many(3)
    loaded.put(event)
    assert loaded.producer.taken == list(range(1, MANY + 5))


def test_a_thread_does_not_wait_while_another_hands_over(sending: Sending) -> None:
    entered, released = threading.Event(), threading.Event()

    def stop_at_the_first(number: int) -> None:
        if number == 1:
            entered.set()
            assert released.wait(60)

    sending.producer.on_produce = stop_at_the_first
    first = threading.Thread(target=sending.put)
    first.start()
    assert entered.wait(60)
    sending.put()  # returns, and leaves its message to the first thread
    assert sending.producer.taken == []
    released.set()
    first.join(60)
    assert sending.producer.taken == [1, 2]


def test_many_threads_lose_nothing_and_each_keeps_its_order() -> None:
    producer: Any = FakeProducer()
    shared = Outbox(producer, Refused, lambda *_: None, lambda: None)
    ended = threading.Event()

    def write(thread: int) -> None:
        for number in range(2_000):
            shared.put("t", b"", "MILL", Receipt(thread * 10_000 + number, lambda *_: True), EVENT)

    def tick() -> None:
        while not ended.wait(0.001):
            shared.tick()

    ticking = threading.Thread(target=tick)
    writers = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for one in (ticking, *writers):
        one.start()
    for one in writers:
        one.join(60)
    eventually(lambda: not len(shared) and len(producer.taken) == 8_000)
    ended.set()
    ticking.join(60)
    for thread in range(4):
        own = [number for number in producer.taken if number // 10_000 == thread]
        assert own == [thread * 10_000 + number for number in range(2_000)]


def test_a_message_without_room_stays_until_there_is_room_or_it_is_withdrawn(sending: Sending) -> None:
    sending.producer.room = 1
    assert sending.put()
    assert not sending.put()
    assert not sending.put()
    assert sending.outbox.withdraw(sending.receipts[1])
    assert not sending.outbox.withdraw(sending.receipts[1])
    sending.producer.room = 2
    assert sending.outbox.hand_over()
    assert sending.producer.taken == [1, 3]
    assert not sending.outbox.withdraw(sending.receipts[2])


def test_a_message_that_is_refused_does_not_stop_those_behind_it(loaded: Sending) -> None:
    loaded.producer.refused = MANY + 2
    loaded.put_many(3)
    loaded.outbox.hand_over()
    assert loaded.producer.taken == [*range(1, MANY + 2), MANY + 3]
    assert loaded.rejected == [(loaded.receipts[MANY + 1], "too large")]


class Stopped(BaseException):
    """As the handler of a signal raises it in the main thread."""


def test_a_stop_in_the_middle_loses_no_message_and_sends_none_twice(
    loaded: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce, stops = loaded.producer.produce, [MANY + 2]

    def produce_and_stop(*arguments: Any) -> None:
        produce(*arguments)
        if stops == [arguments[-1].number]:
            stops.clear()
            raise Stopped

    monkeypatch.setattr(loaded.producer, "produce", produce_and_stop)
    loaded.put_many(4)
    with pytest.raises(Stopped):
        loaded.outbox.hand_over()
    loaded.outbox.hand_over()
    assert loaded.producer.taken == list(range(1, MANY + 5))


def test_a_stop_before_the_first_message_lets_the_thread_go_on(loaded: Sending) -> None:
    loaded.outbox._handing_over.acquire()  # and no release: a signal came in between
    loaded.put_many(2)
    assert loaded.outbox.hand_over()
    assert loaded.producer.taken == list(range(1, MANY + 3))


def test_a_handler_of_a_signal_that_writes_keeps_the_order(sending: Sending) -> None:
    sending.producer.on_produce = lambda number: sending.put() if number == 1 else None
    sending.put()
    assert sending.producer.taken == [1, 2]
