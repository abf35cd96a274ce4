"""The lag of a partition: 0 where NATS has all records, else a bound that holds."""

from __future__ import annotations

import time

import pytest

from openfactory.fanout.progress import PartitionProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_a_partition_whose_records_are_all_forwarded_has_no_lag(clock: list[float]) -> None:
    one = PartitionProgress(position=10, end=10)
    clock[0] += 3_600  # an idle hour
    assert (one.lag_events, one.lag_seconds) == (0, 0)
    one.note_end(10)
    clock[0] += 0.5
    one.note_end(12)
    assert (one.lag_events, one.lag_seconds) == (2, 0.5)  # not an hour: a moment ago it had all of them


def test_the_lag_grows_while_nats_takes_nothing_and_shrinks_with_the_log(clock: list[float]) -> None:
    one = PartitionProgress(position=0, end=0)
    one.note_end(0)
    clock[0] += 20
    one.note_end(100)
    assert (one.lag_events, one.lag_seconds) == (100, 20)
    one.advance(50, log_time=1_015)
    assert (one.lag_events, one.lag_seconds) == (50, 5)
    one.advance(100, log_time=1_020)
    assert (one.lag_events, one.lag_seconds) == (0, 0)


def test_the_end_is_never_before_the_position(clock: list[float]) -> None:
    one = PartitionProgress(position=5, end=5)
    one.advance(9, log_time=1_000)
    one.note_end(7)  # known from an earlier answer
    assert (one.position, one.end) == (9, 9)


def test_an_end_that_is_not_known_yet_tells_nothing(clock: list[float]) -> None:
    one = PartitionProgress(position=5, end=5)
    one.note_end(5)
    one.note_end(9)
    clock[0] += 20
    one.note_end(-1001)  # librdkafka says so until the first records have arrived
    assert (one.lag_events, one.lag_seconds) == (4, 20)
