"""The apps of examples/, unchanged, on a real Kafka: alone, beside a ksqlDB, and with NATS. Only URLs differ."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from app_processes import AppProcess
from distributions import ROOT
from ksqldb_factory import KsqlDBFactory
from openfactory.assets import Asset, AssetAttribute, AssetUNS
from openfactory.exceptions import CommandRejected, CommandTimeout, UnknownAssetError
from openfactory.kafka import KSQLDBClient
from openfactory.utils import deregister_asset, register_asset

Eventually = Callable[..., None]

EXAMPLES = ROOT / "examples"


class Place(NamedTuple):
    """Where the data of a factory is, as this process and those it starts are told."""

    environment: dict[str, str]

    @property
    def url(self) -> str:
        return self.environment["KSQLDB_URL"]


Start = Callable[..., AppProcess]


@pytest.fixture
def start(tmp_path: Path, place: Place) -> Iterator[Start]:
    """Start an app: `start("mill", "MILL-7")`, with more variables as keywords."""
    with ExitStack() as stack:

        def start_app(name: str, uuid: str, **environment: str) -> AppProcess:
            told = {"PYTHONWARNINGS": "error", **place.environment, "APP_UUID": uuid, **environment}
            app = AppProcess(tmp_path, [sys.executable, EXAMPLES / f"{name}.py"], told)
            stack.callback(app.kill)
            return app

        yield start_app


@pytest.fixture(params=["kafka", pytest.param("ksqldb", marks=pytest.mark.thorough), "nats"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A fresh factory on a real broker."""
    with ExitStack() as stack:
        if request.param == "kafka":
            place = Place({"KSQLDB_URL": request.getfixturevalue("kafka_url")})
        else:
            broker = request.getfixturevalue("kafka_broker")
            nats_url = None if request.param == "ksqldb" else request.getfixturevalue("nats_server").url
            place = Place(stack.enter_context(KsqlDBFactory(broker.bootstrap_servers, nats_url)).environment)
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        yield place


@pytest.fixture
def client(place: Place) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(place.url) as client:
        yield client


@pytest.fixture
def mill_uuid() -> str:
    """A UUID that no other test has: they share a nats-server."""
    return f"MILL-{uuid4().hex[:8]}"


# A restarted app shows in each run that events come over NATS; the engine's own tests show the rest.
log_only = pytest.mark.parametrize(
    "place",
    ["kafka", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("ksqldb", "nats"))],
    indirect=True,
)


@log_only
def test_the_example_apps_run_and_speak_to_each_other(
    start: Start, client: KSQLDBClient, mill_uuid: str, eventually: Eventually
) -> None:
    leader_uuid = f"LEADER-{mill_uuid}"
    mill_app = start("mill", mill_uuid)
    mill_app.until("Starting the main loop")
    with Asset(mill_uuid, client) as mill, Asset(leader_uuid, client) as leader:
        eventually(lambda: mill.avail.value == "AVAILABLE")
        assert mill.type == "OpenFactoryApp"
        assert set(mill.methods()) == {"start", "set_speed", "stop"}

        speeds: list[float] = []
        statuses: list[object] = []
        mill.subscribe_to_attribute("spindle_speed", lambda _, message: speeds.append(message["VALUE"]))
        mill.subscribe_to_attribute("status", lambda _, message: statuses.append(message["VALUE"]))
        leader_app = start("shift_leader", leader_uuid, MILL_UUID=mill_uuid)
        leader_app.until("the mill says: milling at 1800")  # one app has commanded the other
        eventually(lambda: leader.avail.value == "AVAILABLE" and leader.decision.value.startswith("start"))
        eventually(lambda: statuses == ["milling"])
        eventually(lambda: speeds[-1:] == [1800.0])
        rising = [speed for speed in speeds if speed]
        assert rising[:6] == [300.0, 600.0, 900.0, 1200.0, 1500.0, 1800.0]

        assert mill.call("set_speed", speed=900, sender_uuid="HMI") == "milling at 900 turns a minute"
        with pytest.raises(CommandRejected, match="speed"):
            mill.call("set_speed", speed="fast", sender_uuid="HMI")

        assert leader_app.stop() == 0, leader_app.said
        assert mill_app.stop() == 0, mill_app.said
        eventually(lambda: (mill.avail.value, leader.avail.value) == ("UNAVAILABLE", "UNAVAILABLE"))
        eventually(lambda: (mill.type, leader.type) == ("UNAVAILABLE", "UNAVAILABLE"))
        with pytest.raises(CommandTimeout, match="UNAVAILABLE"):
            mill.call("start", sender_uuid="HMI", timeout=0.5)
    for app in (mill_app, leader_app):
        assert "ERROR" not in app.said
        assert "Traceback" not in app.said


def test_a_restarted_app_is_back_with_its_place_and_its_references(
    start: Start, client: KSQLDBClient, mill_uuid: str, eventually: Eventually
) -> None:
    uns_id = f"plant/hall-1/{mill_uuid}"
    uns = {"levels": {"site": "plant", "area": "hall-1"}, "uns_id": uns_id}
    register_asset(mill_uuid, uns, "OpenFactoryApp", client, docker_service="mill-service")
    with Asset(mill_uuid, client) as mill:
        mill.add_reference_below("SPINDLE-7")
        mill.add_reference_above("CELL-1")
        mill.flush()

        def is_there() -> bool:
            return bool(mill.avail.value == "AVAILABLE") and client.engine.uns_map().get(mill_uuid) == uns_id

        for stop in (AppProcess.stop, AppProcess.kill, AppProcess.stop):
            app = start("mill", mill_uuid)
            app.until("Starting the main loop")
            eventually(is_there)
            with AssetUNS(uns_id, client) as by_place:
                assert by_place.asset_uuid == mill_uuid
                assert by_place.call("start", sender_uuid="HMI") == "milling at 1200 turns a minute"
            mill.resync_state()
            assert mill.get_references_below_uuid() == ["SPINDLE-7"]
            assert mill.get_references_above_uuid() == ["CELL-1"]
            assert mill["DockerService"].value == "mill-service"
            assert (mill["site"].value, mill["area"].value) == ("plant", "hall-1")
            stop(app)
            if stop is AppProcess.stop:
                eventually(lambda: mill.avail.value == "UNAVAILABLE")
                eventually(lambda: mill_uuid not in client.engine.uns_map())
                assert mill.type == "UNAVAILABLE"


def test_tools_register_and_deregister(client: KSQLDBClient, mill_uuid: str, eventually: Eventually) -> None:
    uns = {"levels": {"site": "plant"}, "uns_id": f"plant/{mill_uuid}"}
    register_asset(mill_uuid, uns, "Device", client, docker_service="mill-service")
    other = f"SPINDLE-{mill_uuid}"
    register_asset(other, None, "Device", client)
    with Asset(mill_uuid, client) as mill, AssetUNS(f"plant/{mill_uuid}", client) as by_place:
        assert (mill.type, by_place.type) == ("Device", "Device")
        heard: list[object] = []
        by_place.subscribe_to_attribute("status", lambda _, message: heard.append(message["VALUE"]))
        mill.add_attribute(AssetAttribute("status", "busy", "Events", "Status"))
        eventually(lambda: heard == ["busy"])
        by_place.add_reference_below(other)
        eventually(lambda: mill.get_references_below_uuid() == [other])
        with mill.get_references_below()[0] as spindle:
            assert spindle.asset_uuid == other
        deregister_asset(mill_uuid, client)
        assert mill.type == "UNAVAILABLE"
        assert mill.status.value == "busy"  # what it said stays
        eventually(lambda: by_place["status"].value == "UNAVAILABLE")  # and nobody stands there
    with pytest.raises(UnknownAssetError):
        AssetUNS(f"plant/{mill_uuid}", client)
    assert list(client.engine.types([mill_uuid, other])) == [other]


@log_only
def test_the_command_line_speaks_to_it(
    start: Start, place: Place, client: KSQLDBClient, mill_uuid: str, tmp_path: Path, eventually: Eventually
) -> None:
    def ofa(*arguments: str) -> str:
        """What a command prints for programs."""
        found = subprocess.run(
            [sys.executable, "-P", "-m", "openfactory.apps.cli", *arguments, "--json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "error", **place.environment},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    start("mill", mill_uuid).until("Starting the main loop")
    with Asset(mill_uuid, client) as mill:
        eventually(lambda: mill.avail.value == "AVAILABLE")
    [listed] = json.loads(ofa("asset", "ls"))
    assert (listed["asset_uuid"], listed["type"], listed["availability"]) == (mill_uuid, "OpenFactoryApp", "AVAILABLE")
    assert 0 <= listed["age"] < 3_600

    def values() -> dict[str, object]:
        inspected = json.loads(ofa("asset", "inspect", mill_uuid))
        return {one["id"]: one["value"] for one in inspected["attributes"]}

    ofa("asset", "set", mill_uuid, "parts", "40")  # before it counts: it would write over what it has not heard yet
    assert values()["parts"] == 40
    reply = json.loads(ofa("asset", "call", mill_uuid, "start", "speed=1500"))
    assert reply["result"] == "milling at 1500 turns a minute"
    assert (values()["status"], values()["avail"]) == ("milling", "AVAILABLE")
    methods = json.loads(ofa("asset", "methods", mill_uuid))["methods"]
    assert {one["name"] for one in methods} == {"start", "set_speed", "stop"}
    watched = ofa("asset", "watch", mill_uuid, "temperature", "--count", "3", "--seconds", "20")
    assert [json.loads(line)["id"] for line in watched.splitlines()] == ["temperature"] * 3
    assert not list(tmp_path.glob("factory.db*"))  # nothing of it went elsewhere


DEMO = [sys.executable, str(EXAMPLES / "factory_demo.py"), "--kafka"]


@pytest.mark.usefixtures("kafka_broker")  # what it needs is there, and fetched
@pytest.mark.thorough  # in each run it runs on a file, and test_ctrl_c_while_its_kafka_starts_ends_the_demo on a Kafka
def test_the_demo_runs_on_a_kafka_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    found = subprocess.run([*DEMO, "--seconds", "4"], env=environment, capture_output=True, text=True, timeout=90)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("Starting a Kafka")
    assert "mill  succeeded: milling at 1800 turns a minute" in found.stdout
    assert found.stdout.endswith("Stopped.\nThe factory has stopped.\n")
    assert list(tmp_path.iterdir()) == []
    assert _running_in(tmp_path) == []


@pytest.mark.usefixtures("kafka_broker")
def test_the_demo_of_a_cluster_shows_what_comes_over_nats_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "factory_demo.py"), "--cluster", "--seconds", "4"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert (found.returncode, found.stderr) == (0, "")
    assert "Starting two NATS servers, a router, two forwarders and a keeper.\n" in found.stdout
    assert "mill  succeeded: milling at 1800 turns a minute" in found.stdout
    # The hash places the mill on another cluster than the shift leader, so both carry events.
    counted = re.search(r"C1: (?:dashboard \d+, )?shift_leader (\d+); C2: mill (\d+)\.\n", found.stdout)
    assert counted is not None, found.stdout
    assert all(int(count) >= 10 for count in counted.groups())
    assert found.stdout.endswith("The factory has stopped.\n")
    assert list(tmp_path.iterdir()) == []
    assert _running_in(tmp_path) == []


@pytest.mark.usefixtures("kafka_broker")
def test_ctrl_c_while_its_kafka_starts_ends_the_demo(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        DEMO, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    assert demo.stdout.readline().startswith("Starting a Kafka")
    demo.send_signal(signal.SIGINT)
    said, complaint = demo.communicate(timeout=30)
    assert (demo.returncode, said, complaint) == (130, "", "")
    assert list(tmp_path.iterdir()) == []
    assert _running_in(tmp_path) == []


def test_where_there_is_no_java_the_demo_says_so(tmp_path: Path) -> None:
    found = subprocess.run(DEMO, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, timeout=180)
    assert found.returncode == 1
    assert found.stderr.startswith("The demo cannot run on a Kafka here. ")
    assert "apt-get install" in found.stderr
    assert "Traceback" not in found.stderr


def _running_in(folder: Path) -> list[str]:
    """The commands of those processes that were told of a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if str(folder) in (process / "environ").read_text(errors="replace"):
                    found.append((process / "cmdline").read_text(errors="replace").replace("\0", " "))
            except OSError:
                continue  # it has ended, or is somebody else's
    return found
