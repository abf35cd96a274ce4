"""test_mode: the app as it is in earnest, on a private engine, with no server and no set-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openfactory.apps import EventAttribute, OpenFactoryApp, SampleAttribute, ofa_method
from openfactory.assets import Asset, AssetAttribute
from openfactory.exceptions import CommandRejected
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient

Start = Callable[..., Any]
Eventually = Callable[..., None]


class Mill(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="App.Status")
    speed = SampleAttribute(value=100, tag="Speed")

    @ofa_method(description="Move")
    def move(self, x: float, y: float, speed: int = 100) -> str:
        self.status = "moving"
        return f"{x} {y} {speed}"


def test_attributes_callbacks_and_commands_work(start: Start, eventually: Eventually) -> None:
    mill = start(Mill)
    heard: list[object] = []

    def note(subject: str, message: CaseInsensitiveDict) -> None:
        heard.append(message["VALUE"])

    mill.subscribe_to_attribute("status", note)
    assert mill.call("move", sender_uuid="HMI", x="1", y=2.5) == "1.0 2.5 100"
    assert mill.status.value == "moving"
    assert mill.wait_until("status", "moving", timeout=0)
    eventually(lambda: "moving" in heard)
    with pytest.raises(CommandRejected, match="'x'"):
        mill.call("move", sender_uuid="HMI", x="far", y=1)


def test_its_methods_are_plain_methods_too(start: Start) -> None:
    assert start(Mill).move(1, 2, speed=3) == "1 2 3"


def test_the_client_may_be_none_and_is_then_one_of_the_private_engine(start: Start) -> None:
    mill = start(Mill)
    assert isinstance(mill.ksql, KSQLDBClient)
    assert mill.ksql.query("SELECT type FROM assets_type") == [{"TYPE": "OpenFactoryApp"}]
    assert mill.ksql.query("SELECT value FROM assets WHERE id = ?", "status") == [{"VALUE": "idle"}]
    with Asset(mill.asset_uuid, mill.ksql) as seen:
        assert seen.status.value == "idle"


def test_a_client_that_is_given_is_kept_and_not_used() -> None:
    for client in (KSQLDBClient("http://127.0.0.1:1"), object()):
        mill = Mill(client, test_mode=True)  # type: ignore[arg-type]
        try:
            assert mill.ksql is client
            assert mill.type == "OpenFactoryApp"
        finally:
            mill.shutdown()


def test_apps_in_test_mode_do_not_see_each_other(start: Start) -> None:
    one, other = start(Mill), start(Mill)
    one.status = "busy"
    one.flush()
    assert other.status.value == "idle"
    assert other.ksql.query("SELECT * FROM assets WHERE value = 'busy'") == []


def test_nothing_of_the_machine_is_needed_or_read(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSQLDB_URL", "sqlite:////nowhere/factory.db")
    assert start(Mill).status.value == "idle"


def test_attributes_can_be_added_and_python_attributes_set(start: Start) -> None:
    mill = start(Mill)
    mill.add_attribute(AssetAttribute(id="tool", value="T1", type="Events", tag="Tool"))
    mill.helper = object
    assert mill.tool.value == "T1"
    assert mill.helper is object
    assert {"ID": "tool", "VALUE": "T1", "TAG": "Tool"} in mill.events()
    assert mill.samples() == [{"ID": "speed", "VALUE": 100.0, "TAG": "Speed"}]


def test_a_command_that_is_sent_can_be_read_back(start: Start, eventually: Eventually) -> None:
    mill = start(Mill)
    correlation_id = mill.method("move", sender_uuid="HMI", args=[("x", "1"), ("y", "2")])
    assert mill["move_CMD"].tag == "Method.Command"
    assert correlation_id in mill["move_CMD"].value
    eventually(lambda: correlation_id in str(mill["move_REPLY"].value))


def test_it_runs_and_stops_as_in_earnest(start: Start) -> None:
    said: list[object] = []

    class Short(Mill):
        def main_loop(self) -> None:
            said.append(self.avail.value)

        def app_event_loop_stopped(self) -> None:
            said.append(self.avail.value)
            said.append(self.type)
            said.append(self.ksql.tables()[0])

    start(Short).run()
    assert said == ["AVAILABLE", "UNAVAILABLE", "UNAVAILABLE", "ASSETS"]
