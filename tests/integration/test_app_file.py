"""An app file as users write it runs with KSQLDB_URL alone, and another process reads, watches and commands it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from openfactory.apps.__about__ import __version__
from openfactory.assets.asset_class import Asset
from openfactory.exceptions import CommandError, CommandRejected, CommandTimeout, CommandUnknown
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start, Worker

Eventually = Callable[..., None]

UUID = "GANTRY-1"


@pytest.fixture
def gantry(start: Start, file_url: str) -> Worker:
    """The app, running."""
    app = start("gantry_app.py", KSQLDB_URL=file_url, APP_UUID=UUID)
    app.until("Starting the main loop")
    return app


@pytest.fixture
def asset(file_url: str) -> Iterator[Asset]:
    """The app as this process sees it."""
    with KSQLDBClient(file_url) as client, Asset(UUID, client) as asset:
        yield asset


def test_every_standard_attribute_is_read_by_another_process(gantry: Worker, asset: Asset) -> None:
    expected = {
        "avail": ("AVAILABLE", "Events", "Availability"),
        "application_version": ("latest", "Events", "Application.Version"),
        "application_manufacturer": ("OpenFactoryIO", "Events", "Application.Manufacturer"),
        "application_license": ("BSD-3-Clause license", "Events", "Application.License"),
        "openfactory_manufacturer": ("OpenFactoryIO", "Events", "Library.Manufacturer"),
        "openfactory_license": ("Polyform Noncommercial License 1.0.0", "Events", "Library.License"),
        "openfactory_version": (__version__, "Events", "Library.Version"),
        "axis_state": ("at rest", "Events", "Axis.State"),
        "AssetType": ("OpenFactoryApp", "OpenFactory", "AssetType"),
        "references_below": ("", "OpenFactory", "AssetsReferences"),
        "references_above": ("", "OpenFactory", "AssetsReferences"),
    }
    assert asset.wait_until("avail", "AVAILABLE", timeout=60)
    read = {name: asset[name] for name in expected}
    assert {name: (one.value, one.type, one.tag) for name, one in read.items()} == expected
    assert all(one.timestamp.endswith("Z") for one in read.values())
    assert (asset["load"].type, asset["load"].tag) == ("Samples", "Axis.Load")
    assert isinstance(asset["load"].value, float)
    assert set(asset.attributes()) == {*expected, "load"}
    assert asset.type == "OpenFactoryApp"


def test_the_environment_says_who_made_the_app(start: Start, file_url: str, asset: Asset) -> None:
    app = start(
        "gantry_app.py",
        KSQLDB_URL=file_url,
        APP_UUID=UUID,
        APPLICATION_VERSION="2.1",
        APPLICATION_MANUFACTURER="Acme",
        APPLICATION_LICENSE="MIT",
    )
    app.until("Starting the main loop")
    asset.resync_state()
    said = [asset[f"application_{name}"].value for name in ("version", "manufacturer", "license")]
    assert said == ["2.1", "Acme", "MIT"]
    assert all(text in app.out for text in (UUID, "2.1", "Acme", "MIT"))  # the banner
    assert f"[{UUID}]" in app.err  # the logger's prefix


def test_the_contracts_of_the_methods_are_read_by_another_process(gantry: Worker, asset: Asset) -> None:
    methods = asset.methods()
    assert list(methods) == ["move_axis", "stop_axis"]
    assert methods["move_axis"]["description"] == "Travel to a point of the table"
    assert [argument["name"] for argument in methods["move_axis"]["arguments"]] == ["x", "y", "speed"]
    assert methods["stop_axis"] == {"description": "Bring the axis to rest.", "arguments": []}


def test_the_tables_show_the_app_as_text(gantry: Worker, file_url: str) -> None:
    with KSQLDBClient(file_url) as client:
        rows = client.query("SELECT value, type, tag FROM assets WHERE asset_uuid = ? AND id = 'avail'", UUID)
        assert rows == [{"VALUE": "AVAILABLE", "TYPE": "Events", "TAG": "Availability"}]
        assert client.query("SELECT * FROM assets_type") == [{"ASSET_UUID": UUID, "TYPE": "OpenFactoryApp"}]
        assert client.query("SELECT * FROM assets_avail") == [{"ASSET_UUID": UUID, "AVAILABILITY": "AVAILABLE"}]
        (contract,) = client.query("SELECT type, tag, value FROM assets WHERE id = 'move_axis'")
        assert (contract["TYPE"], contract["TAG"]) == ("Method", "Method")
        assert json.loads(contract["VALUE"])["description"] == "Travel to a point of the table"


def test_a_callback_hears_each_change_once_and_in_order(
    gantry: Worker, asset: Asset, eventually: Callable[..., None]
) -> None:
    heard: list[tuple[str, Any, str, str]] = []
    loads: list[float] = []

    def on_state(subject: str, message: Any) -> None:
        heard.append((subject, message["VALUE"], message["TYPE"], message["tag"]))

    asset.subscribe_to_attribute("axis_state", on_state)
    asset.subscribe_to_samples(lambda subject, message: loads.append(message["VALUE"]))
    for _ in range(3):
        asset.call("move_axis", x=1, y=2, sender_uuid="HMI")
    eventually(lambda: len(heard) == 6 and len(loads) >= 3)
    values = [value for _, value, _, _ in heard]
    assert values == ["travelling", "at rest"] * 3
    assert {one[0] for one in heard} == {f"{UUID}.axis_state"}
    assert {one[2:] for one in heard} == {("Events", "Axis.State")}
    assert loads == list(range(int(loads[0]), int(loads[0]) + len(loads)))


def test_wait_until_sees_what_the_app_comes_to(gantry: Worker, asset: Asset) -> None:
    asset.stop_axis(sender_uuid="HMI")
    assert asset.wait_until("axis_state", "stopped", timeout=60)


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": "1.5", "y": "-2", "speed": "30"},
        {"x": 1.5, "y": -2, "speed": 30},
        {"x": "1.5", "y": -2.0, "speed": "30.0"},
    ],
)
def test_call_takes_text_and_numbers_and_gives_the_result(
    gantry: Worker, asset: Asset, arguments: dict[str, Any]
) -> None:
    assert asset.call("move_axis", **arguments, sender_uuid="HMI") == {"x": 1.5, "y": -2.0, "speed": 30}
    assert "Travelling to 1.5, -2.0 with 30" in gantry.err  # a float, a float and an int


def test_a_command_without_call_is_run_with_its_defaults(
    gantry: Worker, asset: Asset, eventually: Callable[..., None]
) -> None:
    replies: list[Any] = []
    asset.subscribe_to_attribute(
        "move_axis_REPLY", lambda subject, message: replies.append(json.loads(message["VALUE"]))
    )
    as_attribute = asset.move_axis(sender_uuid="HMI", x="4", y="5")
    as_method = asset.method("move_axis", "HMI", [("x", "6"), ("y", "7")])
    eventually(lambda: len(replies) == 2)
    assert [reply["correlation_id"] for reply in replies] == [as_attribute, as_method]
    assert [reply["result"] for reply in replies] == [{"x": 4, "y": 5, "speed": 100}, {"x": 6, "y": 7, "speed": 100}]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"x": "left", "y": 2}, "'x' to float: 'left'"),
        ({"x": 1, "y": 2, "speed": 1.5}, "'speed' to int: '1.5'"),
        ({"x": 1}, "Missing required argument 'y'"),
        ({"x": 1, "y": 2, "z": 3}, "Unknown argument 'z'"),
    ],
)
def test_a_bad_argument_is_rejected_and_nothing_runs(
    gantry: Worker, asset: Asset, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CommandRejected, match=reason) as caught:
        asset.call("move_axis", **arguments, sender_uuid="HMI")
    assert (caught.value.asset_uuid, caught.value.method) == (UUID, "move_axis")
    assert asset.call("stop_axis", sender_uuid="HMI") is None  # it goes on
    assert "Travelling" not in gantry.err
    assert "rejected" in gantry.err


def test_an_unknown_method_is_rejected_with_the_known_ones(gantry: Worker, asset: Asset) -> None:
    with pytest.raises(CommandRejected, match=r"no method 'fly'. It has move_axis, stop_axis"):
        asset.call("fly", sender_uuid="HMI")


def test_a_missing_sender_is_refused_before_anything_is_sent(gantry: Worker, asset: Asset) -> None:
    for attempt in (
        lambda: asset.call("move_axis", x=1, y=2),
        lambda: asset.move_axis(x=1, y=2),
        lambda: asset.method("move_axis", "", [("x", "1")]),
    ):
        with pytest.raises(ValueError, match=r"needs a sender\. Pass sender_uuid="):
            attempt()
    assert "move_axis_CMD" not in asset


def refused(asset: Asset, timeout: float = 0.5) -> CommandError:
    """The error of a call that gets no result."""
    with pytest.raises(CommandError) as caught:
        asset.call("stop_axis", sender_uuid="HMI", timeout=timeout)
    return caught.value


def test_an_app_that_was_never_started_is_told_from_one_that_is_stopped(
    start: Start, file_url: str, asset: Asset
) -> None:
    error = refused(asset)
    assert isinstance(error, CommandTimeout)
    assert "GANTRY-1 did not reply to stop_axis within 0.5 s: nothing is known of this asset." in str(error)
    assert "Check its UUID, or start its app." in str(error)

    app = start("gantry_app.py", KSQLDB_URL=file_url, APP_UUID=UUID)
    app.until("Starting the main loop")
    app.stopped_by(signal.SIGTERM)
    error = refused(asset)
    assert isinstance(error, CommandTimeout)
    assert "it is UNAVAILABLE. Start its app." in str(error)


def test_a_killed_app_is_available_and_does_not_answer_and_comes_back(
    gantry: Worker, asset: Asset, start: Start, file_url: str
) -> None:
    gantry.kill()
    error = refused(asset)
    assert isinstance(error, CommandTimeout)
    assert "it is AVAILABLE but does not answer. Check that its app still runs" in str(error)
    start("gantry_app.py", KSQLDB_URL=file_url, APP_UUID=UUID).until("Starting the main loop")
    assert asset.call("move_axis", x=1, y=2, sender_uuid="HMI") == {"x": 1, "y": 2, "speed": 100}


@pytest.mark.parametrize(
    ("signum", "error_class"), [(signal.SIGTERM, CommandRejected), (signal.SIGKILL, CommandUnknown)]
)
def test_a_command_to_an_app_that_is_away_is_answered_at_its_next_start(
    gantry: Worker,
    asset: Asset,
    start: Start,
    file_url: str,
    eventually: Callable[..., None],
    signum: signal.Signals,
    error_class: type[CommandError],
) -> None:
    """After a stop it has not run; a killed app may have received it."""
    gantry.stopped_by(signum)
    errors: list[CommandError] = []
    caller = threading.Thread(target=lambda: errors.append(refused(asset, timeout=20)))
    caller.start()
    eventually(lambda: "stop_axis_CMD" in asset)
    asset.flush()
    start("gantry_app.py", KSQLDB_URL=file_url, APP_UUID=UUID).until("Starting the main loop")
    caller.join(20)
    (error,) = errors
    assert type(error) is error_class
    assert "The command was sent before the app's start" in str(error)
    assert asset["axis_state"].value == "at rest"  # stop_axis did not run
