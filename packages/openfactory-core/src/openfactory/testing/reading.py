"""Tests of reading: snapshots, which leave out unknown assets, and the history of an attribute."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from openfactory.engines import Engine
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.period import Bound
from openfactory.exceptions import ConfigurationError

__all__ = ["ReadingConformance"]


# Bounds of a history, and the days of November 2026 that it then contains, of five.
_BEGINS: list[tuple[Bound | None, list[object]]] = [
    ("2026-11-04T00:00:00.000Z", [4, 5]),
    ("2026-11-04", [4, 5]),
    ("2026-11", [1, 2, 3, 4, 5]),
    ("2026", [1, 2, 3, 4, 5]),
    ("20261104T000000Z", [4, 5]),
    ("2026-11-04T00:00z", [4, 5]),
    ("2026-11-04 00:00:00", [4, 5]),
    ("2026-11-04T01:00:00+01:00", [4, 5]),
    ("2026-11-03T19:00:00-0500", [4, 5]),
    ("2026-11-04T02:00+01:00", [5]),
    ("2026-11-04T00:00:00,0Z", [4, 5]),
    ("2026-11-03T23:59:59.999999999Z", [4, 5]),
    ("2026-11-04T00:00:00.000000001Z", [5]),
    ("0001-01-01T00:00:00+14:00", [1, 2, 3, 4, 5]),
    ("1969-12-31T23:59:59Z", [1, 2, 3, 4, 5]),
    ("9999-12-31T23:59:59.9999-14:00", []),
    (datetime(2026, 11, 4, tzinfo=UTC), [4, 5]),
    (datetime(2026, 11, 4, 1, tzinfo=timezone(timedelta(hours=1))), [4, 5]),
    (datetime(2026, 11, 4, 0, 0, 0, 1, tzinfo=UTC), [5]),
    (datetime.min.replace(tzinfo=UTC), [1, 2, 3, 4, 5]),
    (None, [1, 2, 3, 4, 5]),
]
_ENDS: list[tuple[Bound, list[object]]] = [
    ("2026-11-04", [1, 2, 3, 4]),
    ("2026-11-04T01:00+01:00", [1, 2, 3, 4]),
    ("2026-11-03T23:59:59.999999999Z", [1, 2, 3]),
    ("2026-11-04T00:00:00.000000001Z", [1, 2, 3, 4]),
    ("0001-01-01T00:00:00+14:00", []),
    ("9999-12-31T23:59:59.9999-14:00", [1, 2, 3, 4, 5]),
    (datetime(2026, 11, 4, 1, tzinfo=timezone(timedelta(hours=1))), [1, 2, 3, 4]),
    (datetime(2026, 11, 3, 23, 59, 59, 999_999, tzinfo=UTC), [1, 2, 3]),
]
_NOT_TIMES: list[Any] = [
    "yesterday",
    "UNAVAILABLE",
    " ",
    "2026-13-01",
    "2026-11-21T25:00:00Z",
    "٢٠٢٦-11-21",
    "1795246200",
    1795246200,
    17.5,
    True,
    date(2026, 11, 21),
    datetime(2026, 11, 21),  # noqa: DTZ001 - refused, because it could be a local time
    ["2026-11-21"],
]


def _write_days(engine: Engine, asset_uuid: str) -> None:
    for day in range(1, 6):
        engine.publish(new_event(asset_uuid, "x", day, "Events", "Test", f"2026-11-0{day}T00:00:00.000Z"))
    engine.flush()


def _values(events: list[AssetEvent]) -> list[object]:
    return [event.value for event in events]


class ReadingConformance:
    """Tests of `snapshot` and `history`."""

    def test_a_snapshot_does_not_contain_unwritten_assets(self, engine: Engine, asset_uuid: str) -> None:
        assert asset_uuid not in engine.snapshot([asset_uuid]).events
        assert asset_uuid not in engine.snapshot().events

    def test_a_snapshot_has_the_last_event_of_each_attribute(self, engine: Engine, asset_uuid: str) -> None:
        for attribute_id, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)):
            engine.publish(new_event(asset_uuid, attribute_id, value, "Events", "Test"))
        engine.flush()
        events = engine.snapshot([asset_uuid]).events[asset_uuid]
        assert [(event.id, event.value) for event in events] == [("a", 3), ("c", 4), ("b", 5)]

    def test_a_snapshot_includes_methods_and_commands(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid, "move", "{}", "Method", "Method"))
        engine.publish(new_event(asset_uuid, "move_CMD", "{}", "OpenFactory", "Method.Command")).wait()
        events = engine.snapshot([asset_uuid]).events[asset_uuid]
        assert [event.id for event in events] == ["move", "move_CMD"]

    def test_a_snapshot_contains_only_the_requested_assets(self, engine: Engine, asset_uuid: str) -> None:
        assets = [f"{asset_uuid}-{number}" for number in range(200)]
        for number, asset in enumerate(assets):
            engine.publish(new_event(asset, "n", number, "Events", "Test"))
        engine.flush()
        requested = assets[:150]
        snapshot = engine.snapshot([*requested, f"{asset_uuid}-unknown"])
        assert {asset: _values(events) for asset, events in snapshot.events.items()} == {
            asset: [number] for number, asset in enumerate(requested)
        }

    def test_a_snapshot_of_all_assets_contains_every_asset(self, engine: Engine, asset_uuid: str) -> None:
        for asset in (asset_uuid, f"{asset_uuid}-2"):
            engine.publish(new_event(asset, "x", 1, "Events", "Test"))
        engine.flush()
        assert {asset_uuid, f"{asset_uuid}-2"} <= engine.snapshot().events.keys()

    def test_a_snapshot_of_zero_assets_is_empty(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid, "x", 1, "Events", "Test")).wait()
        assert engine.snapshot([]).events == {}

    def test_the_position_of_a_snapshot_covers_its_events(self, engine: Engine, asset_uuid: str) -> None:
        before = engine.snapshot([asset_uuid]).position
        position = engine.publish(new_event(asset_uuid, "x", 1, "Events", "Test")).wait()
        after = engine.snapshot([asset_uuid])
        assert before < position <= after.position
        assert after.events[asset_uuid][0].position == position

    def test_history_is_ordered_oldest_first(self, engine: Engine, asset_uuid: str) -> None:
        _write_days(engine, asset_uuid)
        assert _values(engine.history(asset_uuid, "x")) == [1, 2, 3, 4, 5]

    def test_a_limited_history_keeps_the_newest_events(self, engine: Engine, asset_uuid: str) -> None:
        _write_days(engine, asset_uuid)
        assert _values(engine.history(asset_uuid, "x", limit=2)) == [4, 5]

    def test_since_and_until_bound_the_history(self, engine: Engine, asset_uuid: str) -> None:
        _write_days(engine, asset_uuid)
        second, fourth = "2026-11-02T00:00:00.000Z", "2026-11-04T00:00:00.000Z"
        assert _values(engine.history(asset_uuid, "x", since=second)) == [2, 3, 4, 5]
        assert _values(engine.history(asset_uuid, "x", until=fourth)) == [1, 2, 3, 4]
        assert _values(engine.history(asset_uuid, "x", since=second, until=fourth)) == [2, 3, 4]
        assert _values(engine.history(asset_uuid, "x", since=second, until=fourth, limit=1)) == [4]

    def test_a_begin_is_a_time_in_any_zone_and_precision(self, engine: Engine, asset_uuid: str) -> None:
        _write_days(engine, asset_uuid)
        read = [(since, _values(engine.history(asset_uuid, "x", since=since))) for since, _ in _BEGINS]
        assert read == _BEGINS

    def test_an_end_is_a_time_in_any_zone_and_precision(self, engine: Engine, asset_uuid: str) -> None:
        _write_days(engine, asset_uuid)
        read = [(until, _values(engine.history(asset_uuid, "x", until=until))) for until, _ in _ENDS]
        assert read == _ENDS

    @pytest.mark.parametrize("name", ["since", "until"])
    def test_a_bound_that_is_not_a_time_is_refused(self, engine: Engine, asset_uuid: str, name: str) -> None:
        for bound in _NOT_TIMES:
            refusal = rf"{name}={re.escape(repr(bound))} (is not a time|has no time zone)\. Pass a datetime"
            with pytest.raises(ConfigurationError, match=refusal):
                engine.history(asset_uuid, "x", **{name: bound})

    def test_timestamps_of_other_programs_are_compared_as_times(self, engine: Engine, asset_uuid: str) -> None:
        for value, timestamp in enumerate(
            (
                "2026-11-01T23:00:00.000-02:00",
                "2026-11-02T02:00:00.5+01:00",
                "2026-11-02",
                "2026-11-02T01:00:00.000000001Z",
                "2026-11-02T01:00",
                "UNAVAILABLE",
                "9",
                "",
            )
        ):
            engine.publish(AssetEvent(asset_uuid, "x", value, "Events", "Test", timestamp))
        engine.flush()
        hour = "2026-11-02T01:00:00Z"
        assert _values(engine.history(asset_uuid, "x")) == [0, 1, 2, 3, 4, 5, 6, 7]
        assert _values(engine.history(asset_uuid, "x", since=hour)) == [0, 1, 3, 4]
        assert _values(engine.history(asset_uuid, "x", until=hour)) == [0, 2, 4]
        assert _values(engine.history(asset_uuid, "x", since=hour, until=hour)) == [0, 4]

    def test_history_contains_one_attribute_only(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid, "x", 1, "Events", "Test"))
        engine.publish(new_event(asset_uuid, "y", 2, "Events", "Test"))
        engine.publish(new_event(f"{asset_uuid}-2", "x", 3, "Events", "Test"))
        engine.flush()  # the events of two assets are not acknowledged in order
        assert _values(engine.history(asset_uuid, "x")) == [1]

    def test_the_history_of_an_unknown_asset_is_empty(self, engine: Engine, asset_uuid: str) -> None:
        assert engine.history(asset_uuid, "x") == []
