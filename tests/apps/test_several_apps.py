"""Several apps in one process: each is what it would be alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.engines import Engine

Start = Callable[..., Any]
Watch = Callable[..., Asset]


class Mill(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="App.Status")

    @ofa_method()
    def start(self) -> str:
        self.status = "busy"
        return f"{self.asset_uuid} started"


class Robot(OpenFactoryApp):
    grip = EventAttribute(value="open", tag="App.Grip")

    @ofa_method()
    async def close_grip(self) -> str:
        self.grip = "closed"
        return f"{self.asset_uuid} closed"


def test_each_has_its_own_attributes_and_methods(start: Start, url: str, watch: Watch) -> None:
    for name, app_class in {"MILL-1": Mill, "MILL-2": Mill, "ROBOT": Robot}.items():
        start(app_class, url, app_uuid=name)
    assert watch("MILL-1").call("start", sender_uuid="HMI") == "MILL-1 started"
    assert watch("ROBOT").call("close_grip", sender_uuid="HMI") == "ROBOT closed"
    assert watch("MILL-2").status.value == "idle"
    assert watch("MILL-1").status.value == "busy"
    assert list(watch("ROBOT").methods()) == ["close_grip"]
    assert list(watch("MILL-2").methods()) == ["start"]
    assert "grip" not in watch("MILL-1")


def test_one_that_stops_leaves_the_others_at_work(start: Start, url: str, watch: Watch, engine: Engine) -> None:
    apps = [start(Mill, url, app_uuid=f"MILL-{n}") for n in range(3)]
    apps[2].shutdown()  # the one that was built last
    apps[0].shutdown()
    assert engine.types() == {"MILL-1": "OpenFactoryApp"}
    assert watch("MILL-1").call("start", sender_uuid="HMI") == "MILL-1 started"
    assert apps[1].status.value == "busy"


def test_one_may_command_another_of_its_process(start: Start, url: str) -> None:
    class Cell(OpenFactoryApp):
        @ofa_method()
        def start_all(self) -> list[str]:
            said = []
            for name in ("MILL-1", "MILL-2"):
                with Asset(name, self.ksql) as mill:
                    said.append(mill.call("start", sender_uuid=self.asset_uuid))
            return said

    for n in (1, 2):
        start(Mill, url, app_uuid=f"MILL-{n}")
    cell = start(Cell, url, app_uuid="CELL")
    assert cell.call("start_all", sender_uuid="HMI") == ["MILL-1 started", "MILL-2 started"]
