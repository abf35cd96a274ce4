"""What is heard of an asset on NATS and from the log, in any interleaving: each event once, in the order of the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from openfactory.engines.base import LogPosition, Subscription
from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.fanout import content_memory, expected_echoes
from openfactory.engines.fanout.live_asset import LiveAsset, Place
from openfactory.engines.kafka_engine.log_reader import Partition
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt

PARTITION = Partition("ofa_assets", 0)


def event(number: int, position: int | None = None) -> AssetEvent:
    return AssetEvent("MILL", "x", number, "Events", "Test", "2026-01-01T00:00:00.000Z", position)


def unsettled(number: int) -> Receipt:
    return Receipt(number, lambda receipt, _: receipt.settled)


@pytest.fixture
def asset() -> LiveAsset:
    """One that is live, whose log has ended at offset 0."""
    asset = LiveAsset("MILL", PARTITION, {PARTITION: 0})
    asset.begin_reading(PARTITION)
    asset.note_log_end(PARTITION, 0)
    asset.note_all_read()
    asset.end_repair()
    return asset


def hear(asset: LiveAsset, message: AssetEvent) -> AssetEvent | None:
    """What is delivered of a message from NATS."""
    asset.hear(message)
    return due(asset)


def due(asset: LiveAsset) -> AssetEvent | None:
    """The next event that is delivered."""
    found = asset.next_due()
    return None if found is None else found.event


def show(asset: LiveAsset, record: AssetEvent, recorded_at: float | None = None) -> bool:
    """A reading of the log shows a record; whether it is new."""
    at = time.time() if recorded_at is None else recorded_at
    return not asset.mark_delivered(record, at, PARTITION, record.position or 0)


class Watched(RuleBasedStateMachine):
    """A log, a NATS that lags and is cut, and the asset between them, used as `NatsLive` uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[AssetEvent] = []  # None of other assets is in it, but their places
        self.end = 0
        self.on_the_way: list[tuple[AssetEvent, Place | None]] = []
        self.forwarded: list[AssetEvent] = []
        self.connected = True
        self.is_placing = False
        self.held_back: list[tuple[AssetEvent, Place | None]] | None = None  # by a forwarder that stands still
        self.dispatcher = Dispatcher()
        self.asset = LiveAsset("MILL", PARTITION, {PARTITION: 0})
        self.heard: list[list[AssetEvent]] = []
        self.starts: list[int] = []
        self.owed: list[tuple[Receipt, int]] = []
        self.read: tuple[list[AssetEvent], int] | None = None
        self.number = 0
        self.state = event(0, 0)  # what an asset would show that takes in what it hears and its snapshots
        self.subscribe()

    # The world

    @rule(others=st.integers(0, 3))
    def somebody_writes(self, others: int) -> None:
        self.append(others)

    @rule(others=st.integers(0, 3), is_late=st.booleans())
    def this_process_writes(self, others: int, is_late: bool) -> None:
        self.number += 1
        written = event(self.number)
        write = self.asset.own.expect(written)
        receipt = unsettled(self.number)
        position = self.append(others, self.number)
        if is_late:
            self.owed.append((receipt, position))
        else:
            receipt.position = position
        self.asset.own.note_receipt(write, receipt)

    @precondition(lambda self: self.owed)
    @rule()
    def a_receipt_is_settled(self) -> None:
        receipt, position = self.owed.pop(0)
        receipt.position = position

    @rule(most=st.integers(1, 4))
    def nats_delivers(self, most: int) -> None:
        for _ in range(most):
            if self.on_the_way:
                self.asset.hear(*self.on_the_way.pop(0))
                self.hand_on_due()

    @precondition(lambda self: self.connected)
    @rule()
    def nats_is_cut(self) -> None:
        self.connected = self.asset.on_nats = self.asset.placed = False
        self.on_the_way.clear()
        self.asset.begin_repair(time.time())

    @precondition(lambda self: not self.connected)
    @rule()
    def nats_is_back(self) -> None:
        self.connected = True

    @precondition(lambda self: self.connected and self.forwarded)
    @rule(back=st.integers(1, 4))
    def the_forwarder_crashes_and_starts_over(self, back: int) -> None:
        self.on_the_way += [self.message(one) for one in self.forwarded[-back:]]

    @rule()
    def a_forwarder_that_tells_places_takes_over(self) -> None:
        self.is_placing = True

    @precondition(lambda self: self.held_back is None)
    @rule()
    def the_forwarder_stands_still(self) -> None:
        self.held_back = []

    @precondition(lambda self: self.held_back is not None)
    @rule()
    def it_is_noticed_that_the_forwarder_stands_still(self) -> None:
        self.asset.begin_late(time.time())

    @precondition(lambda self: self.held_back is not None)
    @rule()
    def the_forwarder_goes_on(self) -> None:
        assert self.held_back is not None
        if self.connected:
            self.on_the_way += self.held_back
        self.held_back = None

    @precondition(lambda self: self.held_back is None and not self.on_the_way and self.asset.late)
    @rule()
    def it_is_noticed_that_the_forwarder_has_gone_on(self) -> None:
        self.asset.late = False

    @precondition(lambda self: self.is_placing and not (self.held_back or self.on_the_way or self.asset.pending))
    @rule()
    def a_forwarder_that_tells_no_places_takes_over(self) -> None:
        """It is noticed that the other has stopped; what that has published does not come again."""
        self.is_placing = self.asset.placed = False
        self.forwarded.clear()
        self.asset.begin_repair(time.time())

    # This process

    @rule(back=st.integers(0, 6))
    def one_more_subscribes(self, back: int) -> None:
        start = max(self.end - back, 0)
        subscription = self.subscribe(start)
        self.asset.catch_up(subscription, {PARTITION: start})

    @rule(fails_after=st.none() | st.integers(0, 3), meanwhile=st.integers(0, 2))
    def the_log_is_read(self, fails_after: int | None, meanwhile: int) -> None:
        asset = self.asset
        if asset.live:
            return
        asset.on_nats = self.connected
        asset.note_waiting()
        asset.begin_reading(PARTITION)
        start = asset.log_from.get(PARTITION, 0)
        end = self.end
        for _ in range(meanwhile):
            self.append(0)
        records = [one for one in self.log if start < (one.position or 0) <= end]
        for record in records[:fails_after]:
            if show(asset, record):
                self.dispatcher.deliver(asset.with_newest_position(record), 0, record.position)
            else:
                for subscription in asset.fresh:
                    self.dispatcher.call(subscription, record, 0, record.position)
        if fails_after is not None and fails_after < len(records):
            return
        asset.note_log_end(PARTITION, end)
        asset.note_all_read()
        if asset.on_nats and not asset.late:
            asset.end_repair()
            self.hand_on_due()

    @precondition(lambda self: self.read is None)
    @rule(back=st.integers(0, 8))
    def a_snapshot_begins(self, back: int) -> None:
        """It reads at least what is still on its way."""
        self.asset.readers += 1
        first = min([len(self.log) - back, *(self.log.index(one) for one in self.log if self.is_on_the_way(one))])
        self.read = self.log[max(first, 0) :], self.end

    @precondition(lambda self: self.read is not None)
    @rule()
    def a_snapshot_ends(self) -> None:
        assert self.read is not None
        self.asset.readers -= 1
        self.asset.note_snapshot(self.read[0], {PARTITION: self.read[1]})
        self.hand_on_due()
        for one in self.read[0]:
            self.take(one)
        self.read = None

    # Inside

    def append(self, others: int, number: int | None = None) -> int:
        self.end += others + 1
        if number is None:
            self.number += 1
            number = self.number
        self.log.append(event(number, self.end))
        message = self.message(self.log[-1])
        if self.held_back is not None:
            self.held_back.append(message)
        elif self.connected:
            self.on_the_way.append(message)
            self.forwarded.append(self.log[-1])
        return self.end

    def message(self, record: AssetEvent) -> tuple[AssetEvent, Place | None]:
        place = Place(PARTITION, record.position or 0) if self.is_placing else None
        return event(record.value), place

    def is_on_the_way(self, record: AssetEvent) -> bool:
        return any(
            one.value == record.value
            for one in (
                *(event for event, _ in (*self.on_the_way, *(self.held_back or ()))),
                *(message.event for message in self.asset.pending),
            )
        )

    def subscribe(self, start: int = 0) -> Subscription:
        calls: list[AssetEvent] = []
        self.heard.append(calls)
        self.starts.append(start)

        def hear(one: AssetEvent) -> None:
            calls.append(one)
            self.take(one)

        return self.dispatcher.add("MILL", hear, None, LogPosition.of({0: start}))

    def take(self, one: AssetEvent) -> None:
        if (one.position or 0) >= (self.state.position or 0):
            self.state = one

    def hand_on_due(self) -> None:
        while (found := self.asset.next_due()) is not None:
            self.dispatcher.deliver(*found)

    @invariant()
    def each_hears_each_event_once_and_in_order(self) -> None:
        for start, calls in zip(self.starts, self.heard, strict=True):
            wanted = [one.value for one in self.log if (one.position or 0) > start]
            values = [one.value for one in calls]
            assert values == wanted[: len(values)], f"from {start}"

    @invariant()
    def no_position_is_more_than_the_true_one(self) -> None:
        true = {one.value: one.position or 0 for one in self.log}
        for calls in self.heard:
            for one in calls:
                assert (one.position or 0) <= true[one.value]

    def teardown(self) -> None:
        """In the end all is heard by all."""
        if self.read is not None:
            self.a_snapshot_ends()
        if self.held_back is not None:
            self.the_forwarder_goes_on()
        self.asset.late = False
        while self.on_the_way:
            self.nats_delivers(4)
        self.connected = True
        for _ in range(3):  # a message that came twice is looked up in the log
            self.the_log_is_read(None, 0)
        self.each_hears_each_event_once_and_in_order()
        for start, calls in zip(self.starts, self.heard, strict=True):
            assert len(calls) == sum((one.position or 0) > start for one in self.log)
        assert self.state.value == (self.log[-1].value if self.log else 0)


def test_each_subscription_hears_each_event_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_echoes, "_REPORT_SECONDS", 0.0)
    monkeypatch.setattr(content_memory, "_TWIN_SECONDS", -1.0)  # each repetition comes late
    run_state_machine_as_test(Watched, settings=settings(stateful_step_count=40))


def test_message_with_a_place_is_delivered_by_it_whatever_its_content(asset: LiveAsset) -> None:
    found = []
    for content, place in ((1, 5), (1, 6), (2, 6), (3, 4), (1, 9)):
        asset.hear(event(content), Place(PARTITION, place))
        found.append(due(asset))
    assert [one and (one.value, one.position) for one in found] == [(1, 5), (1, 6), None, None, (1, 9)]
    assert asset.live


def test_event_outside_of_its_partition_is_delivered_by_its_place(asset: LiveAsset) -> None:
    """Its position is the newest of the asset."""
    stray = Partition("ofa_assets", 1)
    found = []
    for place in (Place(PARTITION, 5), Place(stray, 90), Place(stray, 90), Place(PARTITION, 6), Place(stray, 91)):
        asset.hear(event(1), place)
        found.append(asset.next_due())
    assert [one and (one.partition, one.place, one.event.position) for one in found] == [
        (0, 5, 5), (1, 90, 5), None, (0, 6, 6), (1, 91, 6)
    ]  # fmt: skip
    asset.note_snapshot([], {PARTITION: 20, stray: 92})
    for offset, position in ((92, 6), (93, 20)):  # the first was in the snapshot
        asset.hear(event(1), Place(stray, offset))
        after = due(asset)
        assert after is not None
        assert after.position == position


def test_messages_of_a_second_forwarder_without_places_are_ignored(asset: LiveAsset) -> None:
    asset.hear(event(1), Place(PARTITION, 5))
    assert due(asset) is not None
    assert hear(asset, event(1)) is None
    assert hear(asset, event(2)) is None
    assert asset.live


def test_own_write_that_comes_back_has_its_place(asset: LiveAsset) -> None:
    receipt = unsettled(1)
    asset.own.note_receipt(asset.own.expect(event(1)), receipt)
    receipt.position = 50
    placed = hear(asset, event(1))
    assert placed is not None
    assert placed.position == 50
    behind = hear(asset, event(2))
    assert behind is not None
    assert behind.position == 51


def test_own_write_that_comes_back_before_publish_has_returned_has_its_place(asset: LiveAsset) -> None:
    write = asset.own.expect(event(1))
    receipt = unsettled(1)
    receipt.position = 50
    later = threading.Timer(0.05, asset.own.note_receipt, (write, receipt))
    later.start()
    placed = hear(asset, event(1))
    later.join()
    assert placed is not None
    assert placed.position == 50


def test_own_writes_may_come_back_in_another_order(asset: LiveAsset) -> None:
    """Two threads wrote at once."""
    first, second = asset.own.expect(event(1)), asset.own.expect(event(2))
    for write, position in ((first, 60), (second, 50)):
        receipt = unsettled(position)
        receipt.position = position
        asset.own.note_receipt(write, receipt)
    placed = [hear(asset, event(2)), hear(asset, event(1))]
    assert [one.position for one in placed if one] == [50, 60]


def test_own_write_that_was_refused_is_not_expected(asset: LiveAsset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_echoes, "_REPORT_SECONDS", 60.0)
    asset.own.note_receipt(asset.own.expect(event(1)), None)
    started = time.monotonic()
    placed = hear(asset, event(1))
    assert placed is not None
    assert placed.position == 1
    assert time.monotonic() < started + 20


def test_event_that_a_snapshot_has_read_keeps_its_place(asset: LiveAsset) -> None:
    """It is still on its way when the log is read."""
    asset.note_snapshot([event(1, 90), event(2, 100)], {PARTITION: 100})
    placed = [hear(asset, event(number)) for number in (1, 2, 3)]
    assert [one.position for one in placed if one] == [90, 100, 101]


def test_event_that_comes_while_a_snapshot_reads_waits_until_its_place_is_known(asset: LiveAsset) -> None:
    """Else what the snapshot has read would seem newer."""
    asset.readers += 1
    asset.hear(event(2))
    assert due(asset) is None
    asset.readers -= 1
    asset.note_snapshot([event(1, 90)], {PARTITION: 100})
    placed = due(asset)
    assert placed is not None
    assert placed.position == 101


def test_what_was_missed_is_told_although_its_writers_clock_is_behind(
    asset: LiveAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_memory, "_REMEMBERED_SECONDS", 0.05)
    assert hear(asset, event(1)) is not None
    time.sleep(0.1)
    assert hear(asset, event(2)) is not None  # now the first is forgotten
    an_hour_ago = time.time() - 3_600
    asset.begin_repair(time.time())
    asset.begin_reading(PARTITION)
    told = [show(asset, event(number, number + 10), an_hour_ago) for number in (1, 2, 3)]
    assert told == [False, False, True]


def test_what_a_forwarder_repeats_waits_for_the_log_and_is_left_out(
    asset: LiveAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_memory, "_TWIN_SECONDS", -1.0)
    for number in (1, 2, 3):
        assert hear(asset, event(number)) is not None
    for number in (2, 3, 4):
        asset.hear(event(number))
    assert due(asset) is None
    assert not asset.live
    asset.note_waiting()
    asset.begin_reading(PARTITION)
    assert [number for number in (1, 2, 3, 4) if show(asset, event(number, number))] == [4]
    asset.note_log_end(PARTITION, 4)
    asset.note_all_read()
    asset.end_repair()
    assert due(asset) is None
    assert asset.live
    heard = hear(asset, event(5))
    assert heard is not None
    assert heard.value == 5


def test_event_that_a_writer_writes_twice_is_heard_twice(asset: LiveAsset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal is on, off and on again within a millisecond, and the second message comes late."""
    monkeypatch.setattr(content_memory, "_TWIN_SECONDS", -1.0)
    assert hear(asset, event(1)) is not None
    assert hear(asset, event(0)) is not None
    assert hear(asset, event(1)) is None
    asset.note_waiting()
    asset.begin_reading(PARTITION)
    log = [event(1, 1), event(0, 2), event(1, 3)]
    assert [record.position for record in log if show(asset, record)] == [3]
    asset.note_log_end(PARTITION, 3)
    asset.note_all_read()
    asset.end_repair()
    assert due(asset) is None
    assert asset.live


def test_two_equal_events_at_once_are_both_delivered_at_once(asset: LiveAsset) -> None:
    assert [heard is not None for heard in (hear(asset, event(1)), hear(asset, event(1)))] == [True, True]
    assert asset.live


@given(st.integers(1, 4), st.integers(200, 400))
@settings(max_examples=5)
def test_many_threads_may_write_while_events_come(threads: int, writes: int) -> None:
    asset = LiveAsset("MILL", PARTITION, {PARTITION: 0})
    asset.note_all_read()
    asset.end_repair()
    ended = threading.Event()

    def write(offset: int) -> None:
        for number in range(offset, offset + writes):
            receipt = unsettled(number)
            receipt.position = number + 1
            asset.own.note_receipt(asset.own.expect(event(number)), receipt)

    def listen(failures: list[BaseException]) -> None:
        try:
            number = -1
            while not ended.is_set():
                hear(asset, event(number))  # what others wrote
                number -= 1
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    failures: list[BaseException] = []
    hearer = threading.Thread(target=listen, args=(failures,))
    hearer.start()
    run_all([partial(write, one * writes) for one in range(threads)])
    ended.set()
    hearer.join(60)
    assert not failures


def run_all(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
