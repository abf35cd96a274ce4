"""Timestamps: UTC, milliseconds, always of one shape."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from openfactory.assets.utils import AssetAttribute
from openfactory.assets.utils import current_timestamp as known_path
from openfactory.events.timestamp import current_timestamp, is_before, openfactory_timestamp

SHAPE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_the_time_now_has_the_shape_of_the_wire() -> None:
    before = time.time_ns() // 1_000_000
    said = current_timestamp()
    after = time.time_ns() // 1_000_000
    assert SHAPE.fullmatch(said)
    milliseconds = round(datetime.fromisoformat(said).timestamp() * 1000)
    assert before <= milliseconds <= after


def test_the_time_goes_on_over_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    start = 1_795_246_199_998  # 2026-11-21T05:29:59.998Z
    moments = iter([(start + step) * 1_000_000 for step in range(4)])
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    said = [current_timestamp() for _ in range(4)]
    first = datetime.fromtimestamp(start / 1000, UTC)
    assert said == [openfactory_timestamp(first + timedelta(milliseconds=step)) for step in range(4)]
    assert said == sorted(said)
    assert said[1].endswith(":59.999Z")
    assert said[2].endswith(":00.000Z")


def test_threads_do_not_mix_their_seconds() -> None:
    wrong: list[str] = []

    def look() -> None:
        last = ""
        for _ in range(20_000):
            said = current_timestamp()
            if not SHAPE.fullmatch(said) or said < last:
                wrong.append(f"{last} {said}")
            last = said

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (datetime(2026, 11, 21, 8, 30, tzinfo=UTC), "2026-11-21T08:30:00.000Z"),
        (datetime(2026, 11, 21, 8, 30, 1, 123_999, UTC), "2026-11-21T08:30:01.123Z"),
        (datetime(2026, 11, 21, 8, 30, tzinfo=timezone(timedelta(hours=2))), "2026-11-21T06:30:00.000Z"),
        (datetime(2026, 11, 21, 8, 30), "2026-11-21T08:30:00.000Z"),  # noqa: DTZ001 - one without a zone is UTC
        (datetime(1, 1, 1), "0001-01-01T00:00:00.000Z"),  # noqa: DTZ001
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), "0001-01-01T00:00:00.000Z"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-5))), "0001-01-01T05:00:00.000Z"),
        (datetime(800, 12, 25, tzinfo=UTC), "0800-12-25T00:00:00.000Z"),
        (datetime(1601, 1, 1, tzinfo=UTC), "1601-01-01T00:00:00.000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_moment_is_said_in_utc(moment: datetime, said: str) -> None:
    assert openfactory_timestamp(moment) == said


@pytest.mark.parametrize(
    ("first", "second", "before"),
    [
        ("2026-11-21T07:30:00.000Z", "2026-11-21T07:30:00.001Z", True),
        ("2026-11-21T07:30:00.000Z", "2026-11-21T07:30:00.000Z", False),
        ("2026-11-21T08:00:00.000+01:00", "2026-11-21T07:30:00.000Z", True),
        ("2026-11-21T07:30:00.000Z", "2026-11-21T07:30:00Z", False),
        ("2026-11-21T07:30:00Z", "2026-11-21T07:30:00.000000001Z", True),
        ("0001-01-01T00:00:00.000Z", "2026-11-21T07:30:00+00:00", True),
        ("a", "b", True),
    ],
)
def test_times_have_an_order_in_any_zone_and_precision(first: str, second: str, before: bool) -> None:
    assert is_before(first, second) is before
    assert not (before and is_before(second, first))


def test_an_attribute_has_the_time_at_which_it_was_made() -> None:
    first = AssetAttribute(id="x", value=1, type="Events", tag="Test").timestamp
    assert SHAPE.fullmatch(first)
    assert AssetAttribute(id="x", value=1, type="Events", tag="Test", timestamp="as given").timestamp == "as given"


def test_the_path_that_programs_import_it_from_is_kept() -> None:
    assert known_path is current_timestamp
