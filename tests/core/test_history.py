"""History: what was said of an attribute, for as long as the log holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.kafka import KSQLDBClient

Open = Callable[..., Asset]


def at(second: int) -> str:
    return f"2026-11-21T07:30:{second:02d}.000Z"


@pytest.fixture
def mill(open_asset: Open) -> Asset:
    """An asset whose `n` has said 0 to 9, a second apart, and whose `m` has said something between them."""
    mill = open_asset()
    for n in range(10):
        mill.add_attribute(AssetAttribute("n", n, "Events", "Number", at(n)))
        mill.add_attribute(AssetAttribute("m", -n, "Samples", "Other", at(n)))
    return mill


def values(mill: Asset, **bounds: str | int) -> list[object]:
    return [attribute.value for attribute in mill.history("n", **bounds)]  # type: ignore[arg-type]


def test_the_newest_stands_last(mill: Asset, open_asset: Open) -> None:
    assert values(mill) == list(range(10))
    assert values(open_asset()) == list(range(10))


def test_it_is_made_of_attributes_as_they_were_said(mill: Asset) -> None:
    history = mill.history("n", limit=2)
    assert history == [AssetAttribute("n", n, "Events", "Number", at(n)) for n in (8, 9)]
    assert all(dataclasses.is_dataclass(attribute) for attribute in history)


def test_samples_read_as_floats(mill: Asset) -> None:
    assert [repr(attribute.value) for attribute in mill.history("m", limit=2)] == ["-8.0", "-9.0"]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"since": at(7)}, [7, 8, 9]),
        ({"until": at(2)}, [0, 1, 2]),
        ({"since": at(3), "until": at(5)}, [3, 4, 5]),
        ({"since": at(5), "until": at(5)}, [5]),
        ({"since": at(6), "until": at(5)}, []),
        ({"since": at(10)}, []),
        ({"limit": 3}, [7, 8, 9]),
        ({"until": at(5), "limit": 2}, [4, 5]),
        ({"since": at(2), "until": at(8), "limit": 3}, [6, 7, 8]),
        ({"limit": 0}, []),
        ({"limit": -1}, []),
        ({"since": "", "until": ""}, list(range(10))),
        ({"since": "2026-11-21"}, list(range(10))),
        ({"until": "2026-11-21T07:30:03"}, [0, 1, 2, 3]),
    ],
    ids=str,
)
def test_it_is_bounded_by_timestamps_and_a_limit(
    mill: Asset, bounds: dict[str, str | int], expected: list[int]
) -> None:
    assert values(mill, **bounds) == expected


def test_it_stands_in_the_order_of_the_log_whatever_the_clocks_said(open_asset: Open) -> None:
    mill = open_asset()
    for value, second in (("first", 30), ("second", 10), ("third", 20)):
        mill.add_attribute(AssetAttribute("n", value, "Events", "Number", at(second)))
    assert values(mill) == ["first", "second", "third"]
    assert values(mill, since=at(20)) == ["first", "third"]


def test_it_tells_the_last_thousand_unless_it_is_told_otherwise(open_asset: Open) -> None:
    mill = open_asset()
    for n in range(1_005):
        mill.add_attribute(AssetAttribute("n", n, "Events", "Number"), wait_to_become_available=False)
    mill.flush()
    assert values(mill) == list(range(5, 1_005))
    assert len(values(mill, limit=2_000)) == 1_005


def test_it_is_of_one_asset_and_one_attribute(mill: Asset, open_asset: Open) -> None:
    open_asset("ROBOT").add_attribute(AssetAttribute("n", "other", "Events", "Number"))
    assert values(mill) == list(range(10))
    assert mill.history("unknown") == []
    assert open_asset("UNKNOWN").history("n") == []


def test_an_asset_that_has_changed_the_type_of_an_attribute_keeps_what_it_said(open_asset: Open) -> None:
    mill = open_asset()
    mill.add_attribute(AssetAttribute("n", "7", "Events", "Number"))
    mill.add_attribute(AssetAttribute("n", "7", "Samples", "Speed"))
    assert [(one.value, one.type, one.tag) for one in mill.history("n")] == [
        ("7", "Events", "Number"),
        (7.0, "Samples", "Speed"),
    ]


@pytest.mark.parametrize("tag", ["Method.Command", "Method.Reply", "Status"])
def test_an_engine_tells_the_history_of_a_tag_over_all_attributes(engine: Engine, tag: str) -> None:
    for n in range(4):
        engine.publish(new_event("MILL", f"move-{n}", n, "OpenFactory", tag, at(n)))
        engine.publish(new_event("MILL", f"move-{n}", "other", "OpenFactory", "Other", at(n)))
        engine.publish(new_event("ROBOT", f"move-{n}", "other", "OpenFactory", tag, at(n)))
    engine.flush()

    def told(**bounds: str | int) -> list[object]:
        return [event.value for event in engine.history("MILL", tag=tag, **bounds)]  # type: ignore[arg-type]

    assert told() == [0, 1, 2, 3]
    assert told(limit=2) == [2, 3]
    assert told(since=at(1), until=at(2)) == [1, 2]
    assert [event.value for event in engine.history("MILL", "move-2", tag=tag)] == [2]


def test_it_outlives_the_programs_that_said_it(file_url: str) -> None:
    for n in range(3):
        with Asset("MILL", KSQLDBClient(file_url)) as mill:
            mill.add_attribute(AssetAttribute("n", n, "Events", "Number"))
    with Asset("MILL", KSQLDBClient(file_url)) as mill:
        assert values(mill) == [0, 1, 2]
