"""The time of the log, from the times at which a broker has appended records; and pauses of a process."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.concurrency import pauses
from openfactory.concurrency.pauses import Pauses
from openfactory.engines.kafka_engine import log_clock
from openfactory.engines.kafka_engine.log_clock import LogClock

# The clock of the broker shows this much more than that of the machine.
AHEAD = 1_700_000_000.0
MILLISECOND = 0.0011  # and what floats of this size lose

delays = st.floats(0, 100)


def appended(at: float) -> float:
    """The time of a record, which has whole milliseconds."""
    return int((at + AHEAD) * 1_000) / 1_000


@given(st.lists(st.tuples(st.booleans(), delays, delays, delays), min_size=1, max_size=20))
def test_the_true_time_is_between_both_bounds(records: list[tuple[bool, float, float, float]]) -> None:
    clock, now = LogClock(), 1_000.0
    for is_own, pause, queued, travelled in records:
        now += pause + queued + travelled
        if is_own:
            clock.note_written(appended(now - travelled), now, queued + travelled)
        else:
            clock.note_read(appended(now - travelled), now)
        earliest, latest = clock.earliest(now), clock.latest(now)
        assert earliest is not None
        assert earliest <= now + AHEAD + MILLISECOND
        assert latest is None or latest >= now + AHEAD - MILLISECOND


def test_a_slow_record_takes_nothing_from_a_quick_one() -> None:
    clock = LogClock()
    assert (clock.earliest(0), clock.latest(0)) == (None, None)
    clock.note_read(appended(999.0), 1_000.0)
    assert clock.latest(1_000) is None  # what was read does not tell how long it has travelled
    clock.note_written(appended(1_000.0), 1_000.002, latency=0.004)
    clock.note_read(appended(1_000.0), 1_060.0)  # after a freeze
    assert clock.earliest(1_060) == pytest.approx(1_060 + AHEAD, abs=0.01)
    assert clock.latest(1_060) == pytest.approx(1_060 + AHEAD, abs=0.02)


@pytest.mark.parametrize("by", [-86_400.0, 86_400.0])
@pytest.mark.parametrize("is_own", [False, True])
def test_a_clock_that_was_set_is_learnt_anew(by: float, is_own: bool) -> None:
    clock = LogClock()
    clock.note_read(appended(1_000.0), 1_000.001)
    clock.note_written(appended(1_000.0), 1_000.002, latency=0.004)
    if is_own:
        clock.note_written(appended(1_010.0 + by), 1_010.002, latency=0.004)
        assert clock.latest(1_010) == pytest.approx(1_010 + by + AHEAD, abs=0.02)
    else:
        clock.note_read(appended(1_010.0 + by), 1_010.001)
        assert clock.latest(1_010) is None
    assert clock.earliest(1_010) == pytest.approx(1_010 + by + AHEAD, abs=0.02)


@pytest.mark.parametrize("by", [-86_400.0, 86_400.0])
@pytest.mark.parametrize("method", ["note_read", "note_written", "earliest", "latest"])
def test_another_thread_may_use_the_clock_between_any_two_lines(method: str, by: float) -> None:
    for line in range(30):
        clock = LogClock()
        clock.note_read(appended(1_000.0), 1_000.001)
        clock.note_written(appended(1_000.0), 1_000.002, latency=0.004)
        arguments = {"note_read": (appended(1_010.0), 1_010.001), "note_written": (appended(1_010.0), 1_010.002, 0.004)}
        lines_left = line

        def trace(frame: FrameType, event: str, _: object, clock: LogClock = clock) -> Any:
            nonlocal lines_left
            if frame.f_code.co_filename != log_clock.__file__:
                return None
            lines_left -= event == "line"
            if event == "line" and lines_left == 0:
                sys.settrace(None)
                clock.note_read(appended(1_010.0 + by), 1_010.001)
                clock.note_read(appended(1_010.0 - by), 1_010.001)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            getattr(clock, method)(*arguments.get(method, (1_010.002,)))
        finally:
            sys.settrace(before)


def test_a_pause_is_counted_once_by_whichever_thread_sees_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(pauses, "boot_seconds", lambda: now)
    seen = Pauses(2.0)
    now += 1.9
    assert seen.count == 0
    now += 30
    assert [seen.count, seen.count] == [1, 1]  # before the thread ticks
    seen.tick()
    assert seen.count == 1
    now += 30
    assert seen.count == 2  # the thread still does not tick: another pause
    now += 30
    seen.tick()
    assert seen.count == 3


def test_a_pause_is_seen_during_it_and_for_a_while_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(pauses, "boot_seconds", lambda: now)
    seen = Pauses()
    for _ in range(100):
        now += 0.1
        seen.tick()
    assert seen.last == 0
    now += 30  # frozen
    assert seen.last == pytest.approx(30)
    seen.tick()
    now += 5
    for _ in range(2):
        seen.tick()
        now += 0.1
    assert seen.last == pytest.approx(5, abs=0.2)  # of several, the last
    now += 0.1
    seen.tick()
    for _ in range(110):
        now += 0.1
        seen.tick()
    assert seen.last == 0
