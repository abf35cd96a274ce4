"""The echoes of own writes are known by offset and content, and by nothing less."""

from __future__ import annotations

from typing import Any

import pytest

from openfactory.engines.kafka_engine import echoes
from openfactory.engines.kafka_engine.echoes import Echoes
from openfactory.events.decoding import MAX_DEPTH
from openfactory.events.event import CANCEL_TAG, COMMAND_TAG, OWNER_TAG, REPLY_TAG, AssetEvent, new_event
from openfactory.events.receipt import Receipt

PLACE = ("ofa_assets", 0)
PLAIN = new_event("MILL", "x", 1, "Samples", "Test")


class Record:
    """A message of confluent_kafka."""

    def __init__(self, value: bytes = b"own") -> None:
        self._value = value

    def value(self) -> bytes:
        """Return the bytes."""
        return self._value


class Reading:
    """A feed that has begun to read a partition."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Receipt]] = []  # that have arrived and are not taken
        self.echoes = Echoes(self.take_reports)
        assert self.asked(1) is None  # from now on, writes are noted

    def take_reports(self) -> None:
        while self.reports:
            self.note(*self.reports.pop(0))

    def note(self, place: int, receipt: Receipt, value: bytes = b"own") -> None:
        record: Any = Record(value)
        self.echoes.note(PLACE, place, receipt, record)

    def asked(self, place: int, value: bytes = b"own") -> Receipt | None:
        record: Any = Record(value)
        return self.echoes.written_at(PLACE, place, record)

    def run(self, place: int, count: int) -> list[Receipt]:
        records: Any = [Record() for _ in range(count)]
        return self.echoes.run_at(PLACE, place, records)


def receipt(event: AssetEvent | None = PLAIN) -> Receipt:
    return Receipt(1, lambda receipt, timeout: receipt.settled, event)


def test_the_echo_of_a_write_is_known_once() -> None:
    reading, write = Reading(), receipt()
    reading.note(5, write)
    assert reading.asked(4) is None
    assert reading.asked(5) is write
    assert reading.asked(5) is None


def test_a_report_that_has_arrived_is_taken_first() -> None:
    reading, write = Reading(), receipt()
    reading.reports.append((5, write))
    assert reading.asked(5) is write


def test_an_echo_before_its_report_is_a_record_like_any_other() -> None:
    reading, early, next_one = Reading(), receipt(), receipt()
    assert reading.asked(5) is None
    reading.note(5, early)
    reading.note(7, next_one)
    assert reading.asked(6, b"of somebody else") is None
    assert reading.asked(7) is next_one


def test_another_record_at_the_offset_is_no_echo() -> None:
    """The topic was made anew, and the report is of the former one."""
    reading = Reading()
    reading.note(5, receipt())
    assert reading.asked(5, b"of somebody else") is None


@pytest.mark.parametrize(
    "event",
    [
        *(new_event("MILL", "x", "{}", "OpenFactory", tag) for tag in (COMMAND_TAG, REPLY_TAG, CANCEL_TAG, OWNER_TAG)),
        new_event("MILL", "avail", "AVAILABLE", "Events", "Availability", attributes={"epoch": "3"}),
        new_event("MILL", "AssetType", "delete", "UNAVAILABLE", "AssetType"),
        None,
    ],
    ids=["command", "reply", "cancel", "claim", "of-an-owner", "deregistration", "no-event"],
)
def test_what_concerns_more_than_the_last_value_is_decoded(event: AssetEvent | None) -> None:
    reading = Reading()
    reading.note(5, receipt(event))
    assert reading.asked(5) is None


def test_a_run_ends_at_the_first_record_that_is_no_echo() -> None:
    reading, writes = Reading(), [receipt() for _ in range(4)]
    for place in (2, 3, 5):
        reading.note(place, writes[place - 2])
    reading.reports.append((4, writes[2]))
    assert reading.run(2, 4) == writes
    assert reading.run(2, 5) == writes
    reading.note(4, writes[2], b"of the former topic")
    assert reading.run(2, 4) == writes[:2]
    reading.echoes.forget(PLACE, 2, 2)
    assert reading.run(2, 4) == []
    assert reading.asked(5) is writes[3]
    reading = Reading()
    for place in range(2, 6):
        reading.note(place, writes[place - 2])
    assert reading.run(3, 2) == writes[1:3]


def test_own_writes_that_the_feed_has_skipped_are_forgotten_with_the_next_run() -> None:
    reading, write = Reading(), receipt()
    for place in range(2, 6):
        reading.note(place, receipt())
    reading.note(8, write)
    assert reading.run(8, 1) == [write]
    assert [*reading.echoes._partitions[PLACE].written] == [8]
    reading.note(7, receipt())  # its report comes late
    assert reading.echoes.may_come(are_queued=False)
    reading.echoes.forget(PLACE, 8, 1)
    assert not reading.echoes.may_come(are_queued=False)
    assert reading.echoes.may_come(are_queued=True)
    reading.echoes.clear()
    assert not reading.echoes.may_come(are_queued=True)


def test_a_partition_that_nobody_reads_keeps_nothing() -> None:
    known = Echoes(lambda: None)
    record: Any = Record()
    for place in range(10):
        known.note(PLACE, place, receipt(), record)
    assert not known._partitions


def test_the_bytes_of_a_large_write_are_not_kept() -> None:
    reading, large = Reading(), b"x" * 2_000
    reading.note(5, receipt(), large)
    assert reading.asked(5, large) is None


def test_a_value_that_nobody_can_decode_is_no_echo() -> None:
    reading = Reading()
    for place, depth, is_known in ((5, MAX_DEPTH, True), (6, MAX_DEPTH + 1, False)):
        value = b"[" * depth + b"]" * depth
        reading.note(place, receipt(), value)
        assert (reading.asked(place, value) is not None) == is_known


def test_reports_may_be_taken_in_any_order() -> None:
    """Several threads take them."""
    reading, writes = Reading(), [receipt() for _ in range(4)]
    for place in (3, 2, 5, 4):
        reading.note(place, writes[place - 2])
    assert [reading.asked(place) for place in (2, 3, 4, 5)] == writes


def test_a_report_that_comes_after_its_echo_is_not_kept() -> None:
    reading = Reading()
    for place in range(2, 10):
        assert reading.asked(place) is None
        reading.note(place, receipt())
    assert not reading.echoes._partitions[PLACE].written


def test_writes_that_the_feed_skips_do_not_push_out_those_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echoes, "_MAX_WRITES", 10)
    reading = Reading()
    for place in range(2, 100):
        reading.note(place, write := receipt())
        if not place % 5:
            assert reading.asked(place) is write
    assert len(reading.echoes._partitions[PLACE].written) <= 10


def test_a_record_that_has_waited_does_not_make_earlier_reports_new() -> None:
    reading = Reading()
    for place in (9, 5):
        assert reading.asked(place) is None
    reading.note(7, receipt())
    assert not reading.echoes._partitions[PLACE].written
