"""Promises of an asset that other implementations are known to break."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from openfactory.assets import Asset, AssetAttribute, AssetUNS
from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.exceptions import EngineClosedError
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient
from openfactory.utils import deregister_asset, register_asset

Open = Callable[..., Asset]
Eventually = Callable[..., None]

HARD_NAMES = ["app-scheduler", "Mill_7", "o'brien", 'say"hi"', "100%", "größe-🏭", "a;--", "/x", "$1", "{x}"]


def test_an_added_attribute_is_in_the_tables_when_the_call_returns(url: str) -> None:
    with KSQLDBClient(url) as client, Asset("MILL", client) as mill:
        for n in range(20):
            mill.add_attribute(AssetAttribute(f"n{n}", n, "Events", "Number"))
            assert client.query("SELECT value FROM assets WHERE id = ?", f"n{n}") == [{"VALUE": str(n)}]


@pytest.mark.parametrize("asset_uuid", HARD_NAMES)
def test_an_asset_is_read_heard_and_commanded_however_its_uuid_is_spelled(
    open_asset: Open, asset_uuid: str, eventually: Eventually
) -> None:
    said, reader = open_asset(asset_uuid), open_asset(asset_uuid)
    other_spelling = open_asset(asset_uuid.swapcase())
    heard: list[tuple[str, object]] = []
    reader.subscribe_to_messages(lambda subject, message: heard.append((subject, message["VALUE"])))
    said.add_attribute(AssetAttribute("status", "idle", "Events", "Status"))
    eventually(lambda: heard == [(f"{asset_uuid}.status", "idle")])
    assert reader.wait_until("status", "idle", timeout=60)
    correlation_id = said.method("move", sender_uuid="HMI", args={"x": 1})
    eventually(lambda: len(heard) == 2)
    subject, command = heard[1]
    assert subject == f"{asset_uuid}.move_CMD"
    assert json.loads(str(command))["header"]["correlation_id"] == correlation_id
    if asset_uuid.swapcase() != asset_uuid:
        assert other_spelling.attributes() == []


@pytest.mark.parametrize("text", [*HARD_NAMES, "line 1\nline 2", '{"name": "it\'s"}', "", "NULL", "null", "'; DROP--"])
def test_text_with_quotes_goes_through_writing_tables_and_the_register(url: str, text: str) -> None:
    attribute_id = text if text in HARD_NAMES else "status"
    with KSQLDBClient(url) as client, Asset("MILL", client) as mill:
        mill.add_attribute(AssetAttribute(attribute_id, text, "Events", "Status"))
        assert mill[attribute_id].value == text
        assert client.query("SELECT id, value FROM assets WHERE value = ?", text) == [
            {"ID": attribute_id, "VALUE": text}
        ]
        assert [one.value for one in mill.history(attribute_id)] == [text]
        uns_id = text or "x"
        register_asset("MILL", {"levels": {attribute_id: text}, "uns_id": uns_id}, "Device", client)
        with AssetUNS(uns_id, client) as here:
            assert here.asset_uuid == "MILL"
        deregister_asset("MILL", client)
        assert mill.type == "UNAVAILABLE"


def test_a_number_is_the_same_whichever_way_it_is_read(open_asset: Open, eventually: Eventually) -> None:
    """Written, heard, read at the opening, waited for and in the history: one type, and comparable as one."""
    writer, hearing = open_asset(), open_asset()
    for said in ("7", 7, 7.0):
        writer.add_attribute(AssetAttribute("speed", said, "Samples", "Speed"))
        writer.add_attribute(AssetAttribute("count", said, "Events", "Count"))
        mark = str(uuid4())
        writer.add_attribute(AssetAttribute("mark", mark, "Events", "Mark"))
        assert hearing.wait_until("mark", mark, timeout=60)
        for asset in (writer, hearing, open_asset()):
            assert repr(asset.speed.value) == "7.0"
            assert repr(asset.history("speed")[-1].value) == "7.0"
            assert asset.samples() == [{"ID": "speed", "VALUE": 7.0, "TAG": "Speed"}]
            assert asset.wait_until("speed", 7, timeout=0, use_ksqlDB=True)
            assert asset.wait_until("speed", 6, lambda value, bound: value > bound, timeout=0)
            assert repr(asset["count"].value) == repr(said)  # an event says what it says
            assert asset.wait_until("count", said, timeout=0, use_ksqlDB=True)


def test_an_own_write_is_never_replaced_by_what_stands_before_it(open_asset: Open, engine: Engine) -> None:
    """While the echoes of older writes come back, and while everything is read anew."""
    mill, other = open_asset(), open_asset()
    mill.add_attribute(AssetAttribute("n", -1, "Events", "Number"))
    for n in range(300):
        mill["n"] = n
        if n % 10 == 0:
            mill.resync_state()
        assert mill["n"].value == n
    engine.flush()
    assert other.wait_until("n", 299, timeout=60)
    assert mill["n"].value == 299


def test_reading_anew_never_goes_back_behind_what_was_heard(open_asset: Open) -> None:
    writer, reader = open_asset(), open_asset()
    writer.add_attribute(AssetAttribute("n", 0, "Events", "Number"))
    ended = threading.Event()

    def write() -> None:
        for n in range(1, 2_000):
            writer["n"] = n
        writer.flush()
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = [0]
    while not ended.is_set():
        reader.resync_state()
        seen.append(reader["n"].value)
    thread.join(60)
    assert seen == sorted(seen)
    assert reader.wait_until("n", 1_999, timeout=60)


@pytest.mark.parametrize("type", ["Samples", "samples", "SAMPLES", "Condition", "CONDITION", "events", "openfactory"])
def test_the_type_of_a_message_is_read_in_any_case(
    open_asset: Open, engine: Engine, type: str, eventually: Eventually
) -> None:
    mill = open_asset()
    heard: list[str] = []
    mill.subscribe_to_messages(lambda subject, message: heard.append(message["TYPE"]))
    mill.producer.produce("ofa_assets", "MILL", json.dumps({"id": "x", "value": "1", "type": type}))
    eventually(lambda: heard)
    assert heard == [mill.x.type]
    assert mill.x.type.lower() == type.lower()
    assert mill.x.type in ("Samples", "Condition", "Events", "OpenFactory")


def test_each_asset_writes_where_its_client_says(tmp_path: Path) -> None:
    """Also when another of the process was first."""
    urls = [f"memory://{uuid4().hex}", f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"]
    with ExitStack() as stack:
        clients = [stack.enter_context(KSQLDBClient(url)) for url in urls]
        mills = [stack.enter_context(Asset("MILL", client)) for client in clients]
        for mill, url in zip(mills, urls, strict=True):
            mill.add_attribute(AssetAttribute("url", url, "Events", "Test"))
            mill.producer.send_asset_attribute("ROBOT", AssetAttribute("url", url, "Events", "Test")).wait()
        for client, url in zip(clients, urls, strict=True):
            rows = client.query("SELECT asset_uuid, value FROM assets ORDER BY asset_uuid")
            assert rows == [{"ASSET_UUID": name, "VALUE": url} for name in ("MILL", "ROBOT")]


def test_a_producer_ends_with_its_engine(open_asset: Open) -> None:
    mill = open_asset()
    producer = mill.producer
    mill.close()
    with pytest.raises(EngineClosedError, match="Open it again"):
        producer.send_asset_attribute("MILL", AssetAttribute("n", 1, "Events", "Number"))


def test_an_asset_in_test_mode_closes_as_any_other() -> None:
    mill = Asset("MILL", None, test_mode=True)
    mill.add_attribute(AssetAttribute("n", 1, "Events", "Number"))
    mill.close()
    mill.close()


def test_assets_that_are_found_by_references_cost_no_thread_and_give_all_back(open_asset: Open, url: str) -> None:
    cell = open_asset("CELL")
    for n in range(20):
        cell.add_reference_below(f"MILL-{n}")
    before = threading.active_count()
    mills = cell.get_references_below()
    assert len(mills) == 20
    assert threading.active_count() == before
    for mill in mills:
        mill.close()
    cell.close()
    if url.startswith("memory"):  # with the last of them the memory has ended
        assert open_asset("CELL").get_references_below_uuid() == []


def test_a_callback_may_close_the_asset_that_it_hears(open_asset: Open, eventually: Eventually) -> None:
    mill, writer = open_asset(), open_asset()
    heard: list[object] = []

    def end(subject: str, message: CaseInsensitiveDict) -> None:
        heard.append(message["VALUE"])
        mill.close()

    mill.subscribe_to_messages(end)
    for n in range(5):
        writer.add_attribute(AssetAttribute("n", n, "Events", "Number"))
    eventually(lambda: heard)
    assert heard[0] == 0
    assert writer["n"].value == 4  # the engine is that of both


def test_an_event_of_another_writer_without_a_tag_is_read(open_asset: Open, engine: Engine) -> None:
    engine.publish(new_event("MILL", "status", None, "Events", "")).wait()
    mill = open_asset()
    assert (mill.status.value, mill.status.tag) == (None, "")
    assert mill.events() == [{"ID": "status", "VALUE": None, "TAG": ""}]


def test_an_asset_router_that_never_answers_holds_nobody_up(url: str) -> None:
    """The embedded engine needs no router, and asks none."""
    with socket.create_server(("127.0.0.1", 0)) as silent, KSQLDBClient(url) as client:
        router = f"http://127.0.0.1:{silent.getsockname()[1]}/a path?that=must&be quoted"
        begun = time.monotonic()
        with Asset("MILL", client, asset_router_url=router) as mill:
            mill.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Test"))
            assert mill.status.value == "idle"
            assert mill.asset_router_url == router
        assert time.monotonic() - begun < 20
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):
            silent.accept()
