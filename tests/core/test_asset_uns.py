"""AssetUNS: whatever asset stands at a place of the namespace, also when that changes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from logging import LogRecord
from pathlib import Path
from uuid import uuid4

import pytest

from openfactory.assets import Asset, AssetAttribute, AssetUNS, asset_uns_class
from openfactory.engines import Engine
from openfactory.exceptions import UnknownAssetError
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient
from openfactory.utils import deregister_asset, register_asset

Open = Callable[..., Asset]
Stand = Callable[..., AssetUNS]
Place = Callable[[str], Asset]
Eventually = Callable[..., None]

PLACE = "ACME/7/mill"


@pytest.fixture
def place(url: str, open_asset: Open) -> Place:
    """Registers an asset at the place, with an attribute `status` that tells which it is."""

    def put(asset_uuid: str) -> Asset:
        asset = open_asset(asset_uuid)
        asset.add_attribute(AssetAttribute(id="status", value=f"of {asset_uuid}", type="Events", tag="Status"))
        uns = {"levels": {"enterprise": "ACME", "line": "7"}, "uns_id": PLACE}
        _next_millisecond()  # the map tells times to the millisecond
        register_asset(asset_uuid, uns, "Device", KSQLDBClient(url))
        return asset

    return put


@pytest.fixture
def stand(url: str) -> Iterator[Stand]:
    """Opens what stands at the place."""
    with ExitStack() as stack:

        def open_one(**options: object) -> AssetUNS:
            asset = AssetUNS(PLACE, KSQLDBClient(url), **options)  # type: ignore[arg-type]
            stack.callback(asset.close)
            return asset

        yield open_one


def _next_millisecond() -> None:
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == now:
        time.sleep(0.0002)


def map_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "openfactory-uns-map"]


def test_it_is_the_asset_that_stands_there(place: Place, stand: Stand, eventually: Eventually) -> None:
    mill = place("MILL")
    here = stand()
    assert (here.asset_uuid, here.uns_id, here.type) == ("MILL", PLACE, "Device")
    assert repr(here) == f"AssetUNS({PLACE!r})"
    assert here.status.value == "of MILL"
    here.status = "written here"
    eventually(lambda: mill.status.value == "written here")


def test_a_place_where_nobody_stands_is_refused_with_the_remedy(place: Place, url: str) -> None:
    place("MILL")
    with pytest.raises(UnknownAssetError, match=r"'ACME/8/mill' in the namespace\. Register an asset there") as caught:
        AssetUNS("ACME/8/mill", KSQLDBClient(url))
    assert caught.value.uns_id == "ACME/8/mill"


def test_of_two_assets_at_one_place_the_one_that_came_last_stands_there(place: Place, stand: Stand) -> None:
    for asset_uuid in ("MILL-2", "MILL-1", "MILL-3", "MILL-1"):
        place(asset_uuid)
        assert stand(start_mapping_watcher=False).asset_uuid == asset_uuid


@pytest.mark.parametrize("is_freed", [True, False], ids=["the place is freed first", "the place is taken over"])
def test_it_follows_the_place_and_drops_what_the_former_asset_said(
    place: Place, stand: Stand, url: str, is_freed: bool, eventually: Eventually
) -> None:
    former = place("MILL-1")
    former.add_attribute(AssetAttribute(id="coolant", value="low", type="Condition", tag="Coolant"))
    here = stand()
    assert "coolant" in here
    if is_freed:
        deregister_asset("MILL-1", KSQLDBClient(url))
    latter = place("MILL-2")
    eventually(lambda: here.asset_uuid == "MILL-2" and "status" in here)
    assert here.status.value == "of MILL-2"
    assert "coolant" not in here
    assert here.coolant.value == "UNAVAILABLE"
    latter.status = "said later"
    eventually(lambda: here.status.value == "said later")
    here.status = "written here"
    eventually(lambda: latter.status.value == "written here")
    assert former.status.value == "of MILL-1"


def test_callbacks_hear_the_new_asset_and_no_longer_the_former(
    place: Place, stand: Stand, eventually: Eventually
) -> None:
    former = place("MILL-1")
    here = stand()
    heard: list[tuple[str, object]] = []

    def note(subject: str, message: CaseInsensitiveDict) -> None:
        heard.append((subject, message["VALUE"]))

    here.subscribe_to_attribute("status", note)
    former.status = "busy"
    eventually(lambda: heard == [("MILL-1.status", "busy")])
    latter = place("MILL-2")
    eventually(lambda: len(heard) == 2)
    former.status = "heard by nobody"
    former.flush()
    latter.status = "busy"
    eventually(lambda: len(heard) == 3)
    assert heard[1:] == [("MILL-2.status", "of MILL-2"), ("MILL-2.status", "busy")]


def test_the_order_holds_while_the_new_asset_goes_on_speaking(
    place: Place, stand: Stand, eventually: Eventually
) -> None:
    place("MILL-1")
    here = stand()
    heard: list[int] = []
    here.subscribe_to_attribute("n", lambda subject, message: heard.append(message["VALUE"]))
    latter = place("MILL-2")
    latter.add_attribute(AssetAttribute(id="n", value=0, type="Events", tag="Number"))
    deadline = time.monotonic() + 10
    count = 0
    while len(heard) < 100 and time.monotonic() < deadline:
        count += 1
        latter["n"] = count
        latter.flush()
    eventually(lambda: heard and heard[-1] == count)
    assert heard == list(range(heard[0], count + 1))


def test_while_nobody_stands_there_it_reads_as_unavailable_and_cannot_be_written(
    place: Place, stand: Stand, url: str, logged: list[LogRecord], eventually: Eventually
) -> None:
    place("MILL-1")
    here = stand()
    deregister_asset("MILL-1", KSQLDBClient(url))
    eventually(lambda: any("No asset has the place" in record.getMessage() for record in logged))
    assert here.status.value == "UNAVAILABLE"
    assert here.type == "UNAVAILABLE"
    assert here.attributes() == []
    with pytest.raises(UnknownAssetError, match="Register an asset there"):
        here.status = "lost"
    place("MILL-2")
    eventually(lambda: here.status.value == "of MILL-2")


def test_without_the_watcher_it_stays_with_its_asset(place: Place, stand: Stand, eventually: Eventually) -> None:
    place("MILL-1")
    stays, follows = stand(start_mapping_watcher=False), stand()
    place("MILL-2")
    eventually(lambda: follows.asset_uuid == "MILL-2")
    assert stays.asset_uuid == "MILL-1"
    assert stays.status.value == "of MILL-1"


def test_one_thread_follows_all_places_and_ends_with_the_last(
    place: Place, stand: Stand, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    place("MILL")
    eventually(lambda: not map_threads())
    count = threading.active_count()
    some = [stand() for _ in range(10)]
    assert len(map_threads()) == 1
    assert threading.active_count() <= count + 1
    monkeypatch.setattr(asset_uns_class, "_POLL_SECONDS", 600.0)
    for asset in some[:-1]:
        asset.close()
    assert len(map_threads()) == 1
    some[-1].close()
    eventually(lambda: not map_threads())  # at once, not with the next look
    stand()
    assert len(map_threads()) == 1


def test_after_its_close_it_follows_and_hears_nothing(
    place: Place, stand: Stand, engine: Engine, eventually: Eventually
) -> None:
    place("MILL-1")
    here, other = stand(), stand()
    heard: list[str] = []
    here.subscribe_to_attribute("status", lambda subject, message: heard.append(subject))
    here.close()
    here.close()
    place("MILL-2").status = "busy"
    eventually(lambda: other.asset_uuid == "MILL-2" and other.status.value == "busy")
    assert here.asset_uuid == "MILL-1"
    assert heard == []


def test_the_watcher_outlives_a_place_of_data_that_cannot_be_read(
    tmp_path: Path, logged: list[LogRecord], eventually: Eventually
) -> None:
    """The map of one factory breaks for a while; the place in it, and that in another, are followed all the same."""
    urls = [f"sqlite:///{tmp_path}/broken.db", f"memory://{uuid4().hex}"]
    with ExitStack() as stack:
        clients = [stack.enter_context(KSQLDBClient(url)) for url in urls]
        for client in clients:
            assert client.engine.tables()  # holds the memory open
            register_asset("MILL-1", {"levels": {}, "uns_id": PLACE}, "Device", client)
        broken, well = (stack.enter_context(AssetUNS(PLACE, client)) for client in clients)
        _alter(tmp_path, _RENAME.format("uns", "hidden"))
        eventually(lambda: [record for record in logged if "cannot be read" in record.getMessage()])
        _next_millisecond()
        register_asset("MILL-2", {"levels": {}, "uns_id": PLACE}, "Device", clients[1])
        eventually(lambda: well.asset_uuid == "MILL-2")
        _alter(tmp_path, _RENAME.format("hidden", "uns"))
        register_asset("MILL-2", {"levels": {}, "uns_id": PLACE}, "Device", clients[0])
        eventually(lambda: broken.asset_uuid == "MILL-2")
    assert sum("cannot be read" in record.getMessage() for record in logged) == 1  # it is said once


def test_a_move_that_fails_half_way_is_tried_again(
    tmp_path: Path, logged: list[LogRecord], eventually: Eventually
) -> None:
    """The map can be read, and what the new asset has said cannot."""
    url = f"sqlite:///{tmp_path}/broken.db"
    with ExitStack() as stack:
        client = stack.enter_context(KSQLDBClient(url))
        for asset_uuid in ("MILL-2", "MILL-1"):
            _next_millisecond()
            register_asset(asset_uuid, {"levels": {}, "uns_id": PLACE}, "Device", client)
        latter = stack.enter_context(Asset("MILL-2", client))
        latter.add_attribute(AssetAttribute(id="status", value="of MILL-2", type="Events", tag="Status"))
        here = stack.enter_context(AssetUNS(PLACE, client))
        _alter(tmp_path, "UPDATE uns SET uns_id = NULL WHERE asset_uuid = 'MILL-1'", _RENAME.format("latest", "hidden"))
        eventually(lambda: any("Reading is retried" in record.getMessage() for record in logged))
        assert here.status.value == "UNAVAILABLE"
        _alter(tmp_path, _RENAME.format("hidden", "latest"))
        eventually(lambda: here.status.value == "of MILL-2")
        latter.status = "busy"
        eventually(lambda: here.status.value == "busy")


_RENAME = "ALTER TABLE {} RENAME TO {}"


def _alter(folder: Path, *statements: str) -> None:
    """What a disk error does to a reader, done from outside."""
    with closing(sqlite3.connect(folder / "broken.db", timeout=10, isolation_level=None)) as connection:
        connection.execute("PRAGMA legacy_alter_table = ON")  # which leaves views and triggers as they are
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")
