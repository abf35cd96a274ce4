"""Rows that a foreign program writes into the file: what can be read is read, and the rest hurts nobody."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from logging import LogRecord
from pathlib import Path
from typing import Any

import pytest

from openfactory.assets import Asset, AssetEvent
from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.events.ownership import Owner, owned

Open = Callable[..., Asset]
Eventually = Callable[..., None]

TIME = "2026-11-21T07:30:00.000Z"
MEGABYTE = "x" * 2**20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "factory.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def heard(engine: Engine) -> list[tuple[str, Any]]:
    """What a watcher of ROBOT and a watcher of all hear, each once."""
    heard: list[tuple[str, Any]] = []

    def note(event: AssetEvent) -> None:
        heard.append((f"{event.asset_uuid}.{event.id}", event.value))

    engine.subscribe("ROBOT", note)
    engine.subscribe(None, note)
    return heard


@pytest.fixture
def goes_on(
    engine: Engine, heard: list[tuple[str, Any]], eventually: Eventually, logged: list[LogRecord]
) -> Callable[[], None]:
    """Assert that both watchers hear what is written next, that snapshots are read, and that one line is logged."""

    def check() -> None:
        engine.publish(new_event("ROBOT", "after", "it", "Events", "Test")).wait()
        eventually(lambda: heard.count(("ROBOT.after", "it")) == 2)
        assert "ROBOT" in engine.snapshot().events
        assert engine.history("ROBOT", "after")[-1].value == "it"
        assert len(logged) <= 1, [record.getMessage() for record in logged]

    return check


def insert(path: Path, **fields: Any) -> int:
    """Write a row as a foreign program would, past everything of ours; bytes are taken as text."""
    row = {"asset": "ROBOT", "attr": "x", "value": "1", "type": "Events", "tag": "Test", "ts": TIME} | fields
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as connection:
        places = ", ".join("CAST(? AS TEXT)" if isinstance(value, bytes) else "?" for value in row.values())
        cursor = connection.execute(f"INSERT INTO log ({', '.join(row)}) VALUES ({places})", tuple(row.values()))  # noqa: S608
        assert cursor.lastrowid is not None
        return cursor.lastrowid


UNREADABLE: dict[str, dict[str, Any]] = {
    "number out of range": {"value": "1e400"},
    "number of 5000 digits": {"value": "1" * 5000},
    "half a surrogate pair": {"value": '"\\ud800"'},
    "value no UTF-8": {"value": b'"\xff"'},
    "attribute no UTF-8": {"attr": b"\xff"},
    "tag no UTF-8": {"tag": b"\xff"},
}


@pytest.mark.parametrize("fields", UNREADABLE.values(), ids=UNREADABLE)
def test_a_foreign_row_that_cannot_be_read_is_logged_once_with_its_place_and_passed_over(
    engine: Engine,
    heard: list[tuple[str, Any]],
    goes_on: Callable[[], None],
    logged: list[LogRecord],
    open_asset: Open,
    path: Path,
    fields: dict[str, Any],
) -> None:
    engine.publish(new_event("ROBOT", "before", "it", "Events", "Test")).wait()
    position = insert(path, **fields)
    goes_on()
    assert ("ROBOT.before", "it") in heard
    robot = open_asset("ROBOT")  # also one that opens later reads what can be read
    assert (robot.before.value, robot.after.value) == ("it", "it")
    robot.resync_state()
    assert engine.history("ROBOT")[-1].id == "after"
    assert [str(position) in record.getMessage() for record in logged] == [True]
    assert engine.health().counters["unreadable"] == 1


@pytest.mark.parametrize("asset", [b"\xff", b"a\xc3"], ids=ascii)
def test_a_foreign_row_of_an_unreadable_asset_hurts_no_other(
    engine: Engine, goes_on: Callable[[], None], open_asset: Open, path: Path, asset: bytes
) -> None:
    insert(path, asset=asset)
    goes_on()
    assert open_asset("ROBOT").after.value == "it"
    assert engine.types() == {}


def test_the_owner_of_an_asset_writes_on_after_a_foreign_row_of_its_availability_that_cannot_be_read(
    engine: Engine, open_asset: Open, path: Path
) -> None:
    owner = Owner("some", 1, 0, "m3", 4711, TIME)
    engine.publish(owner.event("ROBOT")).wait()
    insert(path, attr="avail", value=b'"\xff"')
    engine.publish(owned(new_event("ROBOT", "avail", "AVAILABLE", "Events", "Availability"), 1)).wait()
    insert(path, attr="avail", value=b'"\xff"')
    engine.publish(owned(new_event("ROBOT", "avail", "later", "Events", "Availability"), 1))
    engine.publish(new_event("ROBOT", "after", "it", "Events", "Test")).wait()  # in the same transaction
    robot = open_asset("ROBOT")
    assert (robot.avail.value, robot.after.value) == ("later", "it")


def test_a_foreign_row_nested_deeper_than_some_can_read_hurts_no_other(
    goes_on: Callable[[], None], open_asset: Open, path: Path
) -> None:
    insert(path, value="[" * 1000 + "]" * 1000)  # the deepest that SQLite takes for JSON
    goes_on()
    assert open_asset("ROBOT").after.value == "it"


READABLE: dict[str, tuple[dict[str, Any], str, Any]] = {
    "null": ({"value": "null"}, "x", None),
    "1 MB": ({"value": f'"{MEGABYTE}"'}, "x", MEGABYTE),
    "large number": ({"value": "1" * 40}, "x", int("1" * 40)),
    "nested": ({"value": "[[[[]]]]"}, "x", [[[[]]]]),
    "key twice": ({"value": '{"a": 1, "a": 2}'}, "x", {"a": 2}),
    "control character": ({"value": '"\\u0000"'}, "x", "\x00"),
    "no tag, no time": ({"tag": "", "ts": ""}, "x", 1),
    "strange id": ({"attr": "a b.'c\"😀|*> .."}, "a b.'c\"😀|*> ..", 1),
}


@pytest.mark.parametrize(("fields", "attribute_id", "read"), READABLE.values(), ids=READABLE)
def test_a_foreign_row_that_can_be_read_is_read(
    engine: Engine,
    open_asset: Open,
    goes_on: Callable[[], None],
    path: Path,
    fields: dict[str, Any],
    attribute_id: str,
    read: Any,
) -> None:
    robot = open_asset("ROBOT")
    insert(path, **fields)
    goes_on()
    assert robot.wait_until("after", "it", timeout=60)
    assert robot[attribute_id].value == open_asset("ROBOT")[attribute_id].value == read
    assert [event.value for event in engine.history("ROBOT", attribute_id)] == [read]


@pytest.mark.parametrize(
    "fields", [{"asset": None}, {"attr": None}, {"value": "{"}, {"value": None}, {"type": None}, {"ts": None}], ids=repr
)
def test_a_foreign_row_without_a_field_is_refused_to_its_writer(
    goes_on: Callable[[], None], path: Path, fields: dict[str, Any]
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        insert(path, **fields)
    goes_on()
