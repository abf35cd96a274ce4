"""When a process stops reading what only it writes, and when it reads again."""

from __future__ import annotations

import pytest

from openfactory.engines.kafka_engine.own_stretch import OwnStretch
from openfactory.engines.kafka_engine.positions import Partition

PARTITION = Partition("ofa_assets", 0)


@pytest.fixture
def stretch(monkeypatch: pytest.MonkeyPatch) -> OwnStretch:
    """One whose clock the tests set."""
    stretch = OwnStretch()
    monkeypatch.setattr("openfactory.engines.kafka_engine.own_stretch.time.monotonic", lambda: clock[0])
    clock[0] = 0.0
    return stretch


clock = [0.0]


def test_it_is_due_after_some_own_records_in_a_row(stretch: OwnStretch) -> None:
    stretch.note(200, 200)
    assert not stretch.is_due
    stretch.note(100, 99)  # one is of another process
    stretch.note(200, 200)
    assert not stretch.is_due
    stretch.note(100, 100)
    assert stretch.is_due


def test_it_goes_on_while_reports_come(stretch: OwnStretch) -> None:
    stretch.begin(PARTITION)
    for look in range(20):
        clock[0] = 0.04 * look
        assert stretch.goes_on(100, are_expected=True)
    clock[0] += 0.04
    assert stretch.goes_on(0, are_expected=True)
    assert not stretch.goes_on(0, are_expected=False)
    clock[0] += 0.02
    assert not stretch.goes_on(0, are_expected=True)


def test_it_ends_at_the_record_of_another_process(stretch: OwnStretch) -> None:
    stretch.begin(PARTITION)
    assert [stretch.goes_on(passed, are_expected=True) for passed in (5, None, None, 5)] == [True] * 4
    assert [stretch.goes_on(None, are_expected=True) for _ in range(3)] == [True, True, False]


def test_after_a_short_one_the_next_begins_later(stretch: OwnStretch) -> None:
    for needed in (256, 512, 1024):
        stretch.note(needed - 1, needed - 1)
        assert not stretch.is_due
        stretch.note(1, 1)
        assert stretch.is_due
        stretch.begin(PARTITION)
        assert stretch.partition == PARTITION
        stretch.end()
        assert stretch.partition is None
    stretch.begin(PARTITION)
    clock[0] += 1.0
    stretch.end()
    stretch.note(256, 256)
    assert stretch.is_due
