"""The facts of the factory: who owns an asset, what it has, who uses it now."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import msgspec
import pytest

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.deploy.registered import Argument, RegisteredAsset, registered_assets
from openfactory.engines import Engine
from openfactory.engines.registry import open_engine
from openfactory.events.event import new_event
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from openfactory.utils.registering import register_asset

go_on = threading.Event()


class Mill(OpenFactoryApp):
    """An app whose method waits."""

    status = EventAttribute(value="idle", tag="Mill.Status")

    @ofa_method()
    def start(self, speed: int, program: str = "") -> str:
        """Start."""
        go_on.wait(60)
        return "done"


@pytest.fixture
def memory_url() -> str:
    return f"memory://{uuid4().hex}"


@pytest.fixture
def engine(memory_url: str) -> Iterator[Engine]:
    with open_engine(memory_url) as reference:
        yield reference.engine


@pytest.fixture
def mill(memory_url: str, engine: Engine) -> Iterator[Mill]:
    go_on.clear()
    with KSQLDBClient(memory_url) as client:
        app = Mill(client, app_uuid="MILL")
        app["avail"] = "AVAILABLE"
        app.flush()
        yield app
        go_on.set()
        app.shutdown()


def facts(engine: Engine) -> RegisteredAsset:
    return registered_assets(engine, ["MILL"])["MILL"]


def test_an_asset_that_the_log_does_not_know_is_not_included(engine: Engine) -> None:
    assert registered_assets(engine, ["MILL"]) == {}


def test_an_app_that_runs(engine: Engine, mill: Mill) -> None:
    known = facts(engine)
    assert (known.type, known.availability, known.is_up, known.has_owner) == ("OpenFactoryApp", "AVAILABLE", True, True)
    assert known.owner is not None
    assert known.epoch == known.owner.epoch > 0
    assert known.attributes == {"status"}
    assert known.methods == {"start": (Argument("speed", True), Argument("program", False))}
    assert (known.users, known.in_flight) == ((), ())


def test_an_app_that_has_stopped(engine: Engine, mill: Mill) -> None:
    mill.shutdown()
    known = facts(engine)
    assert (known.type, known.availability, known.is_up, known.has_owner) == (None, "UNAVAILABLE", False, False)


def test_methods_and_attributes_of_an_earlier_version_do_not_count(engine: Engine, mill: Mill) -> None:
    for name, kind in (("jog", "Method"), ("angle", "Events")):
        event = new_event("MILL", name, "{}", kind, kind, timestamp="2020-01-01T00:00:00.000Z")
        engine.publish(event).wait()
    known = facts(engine)
    assert set(known.attributes) == {"status"}
    assert list(known.methods) == ["start"]


def test_who_refers_and_who_commands(engine: Engine, mill: Mill, memory_url: str) -> None:
    register_asset("CELL", None, "Cell", KSQLDBClient(memory_url))
    mill.add_reference_above("CELL")
    mill.flush()
    mill.method("start", "HMI", {"speed": "x"})  # it is rejected
    mill.method("start", "HMI", {"speed": "5"})
    mill.flush()
    users = {user.uuid: user for user in facts(engine).users}
    assert (users["CELL"].refers, users["CELL"].commands) == (True, 0)
    assert (users["HMI"].refers, users["HMI"].methods, users["HMI"].commands) == (False, ("start",), 2)
    assert users["HMI"].age is not None
    assert users["HMI"].age == round(users["HMI"].age, 3)
    eventually(lambda: len(facts(engine).in_flight) == 1)
    (waiting,) = facts(engine).in_flight
    assert (waiting.method, waiting.sender, waiting.age) == ("start", "HMI", round(waiting.age, 3))
    go_on.set()
    eventually(lambda: facts(engine).in_flight == ())


def test_a_command_to_a_program_without_claims_is_forgotten_after_a_minute(engine: Engine, memory_url: str) -> None:
    register_asset("MILL", None, "Device", KSQLDBClient(memory_url))
    with KSQLDBClient(memory_url) as client, Asset("MILL", client) as device:
        device.method("start", "HMI", {})
        device.flush()
    assert [command.sender for command in facts(engine).in_flight] == ["HMI"]
    old = engine.history("MILL", tag="Method.Command")[0]
    past = msgspec.structs.replace(old, position=None, timestamp="2020-01-01T00:00:00.000Z", attributes=None)
    engine.publish(past).wait()
    assert len(facts(engine).in_flight) == 1
