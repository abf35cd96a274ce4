"""AppClient and its fixtures: what people who test their own apps are given."""

from __future__ import annotations

import asyncio
import json
import textwrap
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest

from openfactory.apps import EventAttribute, OpenFactoryApp, SampleAttribute, ofa_method
from openfactory.assets import Asset
from openfactory.exceptions import CommandFailed, CommandRejected, CommandTimeout
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient
from openfactory.testing import AppClient

RunApp = Callable[..., AppClient[Any]]
Eventually = Callable[..., None]

pytest_plugins = ["pytester"]


class Mill(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="App.Status")
    speed = SampleAttribute(value=100, tag="Speed")

    def __init__(self, *args: Any, crash: BaseException | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.go_on = threading.Event()
        self.crash = crash
        self.door = Asset("DOOR", self.ksql)
        self.door.subscribe_to_attribute("state", self.on_door)

    def on_door(self, subject: str, message: CaseInsensitiveDict) -> None:
        if message["VALUE"] == "open":
            self.status = "stopped"

    @ofa_method()
    def move(self, x: float, speed: int = 100) -> dict[str, float]:
        self.status = "moving"
        self.speed = speed
        return {"x": x}

    @ofa_method()
    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("too far")

    @ofa_method()
    def block(self) -> None:
        self.go_on.wait(30)

    def main_loop(self) -> None:
        self.status = "running"
        self.go_on.wait(30)
        if self.crash is not None:
            raise self.crash
        self.status = "ended"

    def app_event_loop_stopped(self) -> None:
        self.go_on.set()
        self.door.close()


@pytest.fixture
def client() -> Iterator[AppClient[Mill]]:
    with AppClient(Mill, app_uuid="MILL") as client:
        yield client


def test_it_runs_the_app_itself_with_the_arguments_it_is_given(client: AppClient[Mill]) -> None:
    assert type(client.app) is Mill
    assert client.app.asset_uuid == client.asset.asset_uuid == "MILL"
    assert client.asset is not client.app
    assert client.asset.type == "OpenFactoryApp"
    assert client.asset.status.value == "idle"


def test_a_command_gives_its_result(client: AppClient[Mill]) -> None:
    assert client.call("move", x="1.5") == {"x": 1.5}
    assert client.call("move", {"x": 2}, speed=7) == {"x": 2.0}
    assert client.said("status") == ["idle", "moving", "moving"]
    assert client.said("speed") == [100.0, 100.0, 7.0]


def test_a_command_without_a_result_says_what_came_of_it(client: AppClient[Mill]) -> None:
    with pytest.raises(CommandRejected, match="Missing required argument 'x'"):
        client.call("move")
    with pytest.raises(CommandFailed, match="ValueError: too far"):
        client.call("fail")
    with pytest.raises(CommandTimeout, match=r"did not reply to block within 0\.05 s"):
        client.call("block", timeout=0.05)
    client.app.go_on.set()


def test_a_command_comes_from_whom_the_test_says(client: AppClient[Mill]) -> None:
    client.call("move", x=1)
    client.call("move", sender_uuid="HMI", x=1)
    senders = [CaseInsensitiveDict(_header(value))["sender_uuid"] for value in client.said("move_CMD")]
    assert senders == ["TEST", "HMI"]


def _header(command: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(command)["header"]
    return header


def test_what_another_asset_says_reaches_the_app(client: AppClient[Mill]) -> None:
    client.deliver("DOOR", "state", "open")
    client.wait_until("status", "stopped")


def test_what_is_delivered_has_its_type_and_tag_and_is_written(client: AppClient[Mill]) -> None:
    client.deliver("DOOR", "angle", "30", type="Samples", tag="Angle")
    angle = client.other("DOOR").angle
    assert (angle.value, angle.type, angle.tag) == (30.0, "Samples", "Angle")


def test_a_test_may_play_another_asset(client: AppClient[Mill]) -> None:
    client.deliver("DOOR", "state", "closed")
    client.other("DOOR").state = "open"
    client.wait_until("status", "stopped")


def test_waiting_in_vain_tells_what_it_was_instead(client: AppClient[Mill]) -> None:
    client.call("move", x=1)
    with pytest.raises(AssertionError) as caught:
        client.wait_until("status", "broken", timeout=0.05)
    assert str(caught.value) == "MILL.status did not become 'broken' within 0.05 s. It was 'idle', 'moving'."


def test_waiting_in_vain_for_what_was_never_said_anew_tells_what_it_is(client: AppClient[Mill]) -> None:
    with pytest.raises(AssertionError, match=r"within 0 s\. It was 'idle'\.$"):
        client.wait_until("status", "moving", timeout=0)


def test_the_main_loop_runs_beside_the_test(client: AppClient[Mill]) -> None:
    client.run()
    client.wait_until("avail", "AVAILABLE")
    client.wait_until("status", "running")
    client.app.go_on.set()
    client.wait_until("status", "ended")
    client.wait_until("avail", "UNAVAILABLE")
    assert client.said("avail") == ["UNAVAILABLE", "AVAILABLE", "UNAVAILABLE"]


def test_a_main_loop_that_goes_on_is_stopped_with_the_test(eventually: Eventually) -> None:
    with AppClient(Mill, app_uuid="MILL") as client:
        client.run()
        client.wait_until("status", "running")
    eventually(lambda: not [one for one in threading.enumerate() if one.name == "openfactory-test-MILL"])


@pytest.mark.parametrize("error", [ValueError("no tool"), SystemExit(3)], ids=["raises", "exits"])
def test_an_app_that_crashes_fails_the_test_at_its_end(error: BaseException, eventually: Eventually) -> None:
    client = AppClient(Mill, app_uuid="MILL", crash=error).__enter__()
    client.run()
    client.wait_until("status", "running")
    client.app.go_on.set()
    eventually(lambda: not [one for one in threading.enumerate() if one.name == "openfactory-test-MILL"])
    with pytest.raises(AssertionError) as caught:
        client.__exit__(None, None, None)
    assert str(caught.value) == f"MILL crashed: {error!r}. Its traceback is in the log."
    assert caught.value.__cause__ is error


def test_the_error_of_the_test_itself_is_not_hidden_by_a_crash(eventually: Eventually) -> None:
    def test() -> None:
        with AppClient(Mill, app_uuid="MILL", crash=ValueError()) as client:
            client.run()
            client.app.go_on.set()
            eventually(lambda: not [one for one in threading.enumerate() if one.name == "openfactory-test-MILL"])
            raise KeyError("of the test")

    with pytest.raises(KeyError, match="of the test"):
        test()


def test_what_the_main_loop_raises_because_the_test_is_over_is_no_crash() -> None:
    """The stop sets `go_on`, and the loop finds everything closed."""
    with AppClient(Mill, app_uuid="MILL", crash=ValueError("after the end")) as client:
        client.run()
        client.wait_until("status", "running")


def test_behind_it_the_app_is_stopped_and_all_is_closed() -> None:
    with AppClient(Mill, app_uuid="MILL") as client:
        app = client.app
    assert app._lifecycle.done
    assert app.go_on.is_set()  # its hook was called


def test_an_app_that_cannot_be_built_says_why() -> None:
    class Broken(OpenFactoryApp):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            raise ValueError("no licence")

    with pytest.raises(ValueError, match="no licence"), AppClient(Broken):
        pass


def test_apps_of_one_test_do_not_see_each_other(run_app: RunApp) -> None:
    one, other = run_app(Mill, app_uuid="MILL"), run_app(Mill, app_uuid="MILL")
    one.call("move", x=1)
    assert one.said("status") == ["idle", "moving"]
    assert other.said("status") == ["idle"]


def test_each_test_gets_a_factory_of_its_own(factory_client: KSQLDBClient, run_app: RunApp) -> None:
    assert factory_client.ksqldb_url.startswith("memory://")
    assert factory_client.query("SELECT * FROM assets") == []
    run_app(Mill, app_uuid="MILL")
    with Asset("MILL", factory_client) as mill:
        assert "status" not in mill


_TESTS_OF_A_USER = """
import pytest
from openfactory.apps import OpenFactoryApp, EventAttribute
from openfactory.assets import Asset, AssetAttribute

class Lamp(OpenFactoryApp):
    status = EventAttribute(value="off", tag="Status")

    def main_loop(self):
        self.status = "on"
        raise ValueError("the bulb is broken")

@pytest.mark.parametrize("n", range(2))
def test_the_factory_is_new(factory_client, n):
    with Asset("DOOR", factory_client) as door:
        assert door.attributes() == []
        door.add_attribute(AssetAttribute("state", "open", "Events", "State"))

def test_it_is_off(run_app):
    assert run_app(Lamp, app_uuid="LAMP").asset.status.value == "off"

def test_it_crashes(run_app):
    lamp = run_app(Lamp, app_uuid="LAMP")
    lamp.run()
    lamp.wait_until("status", "on")
    lamp.wait_until("avail", "UNAVAILABLE")
"""


def test_the_plugin_imports_nothing_of_ours_until_a_fixture_is_used(pytester: pytest.Pytester) -> None:
    """The tests of others may replace our modules before they are imported."""
    pytester.makeconftest("""
        import sys
        OWN = ("openfactory", "openfactory.testing", "openfactory.testing.fixtures")
        LOADED = sorted(name for name in sys.modules if name.partition(".")[0] == "openfactory" and name not in OWN)
    """)
    pytester.makepyfile("""
        import sys, types
        from conftest import LOADED

        def test_modules_can_be_replaced(monkeypatch):
            assert LOADED == []
            assert "confluent_kafka" not in sys.modules
            monkeypatch.setitem(sys.modules, "openfactory.kafka", types.SimpleNamespace(KSQLDBClient="theirs"))
            from openfactory.kafka import KSQLDBClient
            assert KSQLDBClient == "theirs"
    """)
    installed = any(one.value == "openfactory.testing.fixtures" for one in entry_points(group="pytest11"))
    by_name = () if installed else ("-p", "openfactory.testing.fixtures")
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *by_name)
    result.assert_outcomes(passed=1)


def test_the_fixtures_are_there_for_the_tests_of_a_user(pytester: pytest.Pytester) -> None:
    """As somebody sees them who has installed the distributions and written nothing into a conftest.py."""
    pytester.makepyfile(textwrap.dedent(_TESTS_OF_A_USER))
    installed = any(one.value == "openfactory.testing.fixtures" for one in entry_points(group="pytest11"))
    by_name = () if installed else ("-p", "openfactory.testing.fixtures")
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *by_name)
    result.assert_outcomes(passed=4, errors=1)  # the last fails behind its last line
    result.stdout.fnmatch_lines(["*AssertionError: LAMP crashed: ValueError('the bulb is broken')*"])
