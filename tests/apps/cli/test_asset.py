"""`ofa asset`: reading, writing and commanding an app of another process."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openfactory.apps.cli.listing import age_text
from openfactory.assets import Asset, AssetAttribute
from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.events.ownership import Owner
from openfactory.events.registration import Registration
from openfactory.kafka import KSQLDBClient

Ofa = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def workshop(press_workshop: Path) -> Path:
    return press_workshop


def value_of(ofa: Ofa, attribute_id: str) -> Any:
    attributes = json.loads(ofa("asset", "inspect", "press", "--json").stdout)["attributes"]
    return next(one["value"] for one in attributes if one["id"] == attribute_id)


def failure(found: subprocess.CompletedProcess[str]) -> str:
    """The sentence of a command that failed, and nothing beside it."""
    assert found.returncode == 1, found.stdout + found.stderr
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    return found.stderr.strip()


def test_ls_lists_type_availability_and_age(ofa: Ofa, workshop: Path) -> None:
    assert ofa("asset", "set", "press", "force", "2.5").returncode == 0
    [said] = json.loads(ofa("asset", "ls", "--json").stdout)
    inspected = json.loads(ofa("asset", "inspect", "press", "--json").stdout)["attributes"]
    timestamps = {one["id"]: one["timestamp"] for one in inspected}
    assert 0 <= said.pop("age") < 3_600
    owner = said.pop("owner")
    assert 0 <= owner.pop("seen") < 3_600
    with KSQLDBClient(f"sqlite:///{workshop}/factory.db") as client, Asset("press", client) as press:
        assert press.owner is not None
        started = press.owner.started
    assert Path(f"/proc/{owner['pid']}/cwd").samefile(workshop)  # it is the process of the app
    assert owner == {
        "pid": owner["pid"],
        "host": socket.gethostname(),
        "since": started,
        "state": "lives",
        "ended": None,
    }
    assert said == {
        "asset_uuid": "press",
        "type": "OpenFactoryApp",
        "registered": True,
        "availability": "AVAILABLE",
        "since": timestamps["avail"],
        "newest": timestamps["force"],
    }
    headers, row = (line.split(maxsplit=4) for line in ofa("asset", "ls").stdout.splitlines())
    assert [*headers[:4], *headers[4].split()] == ["uuid", "type", "availability", "since", "age", "owner", "seen"]
    assert row[:4] == ["press", "OpenFactoryApp", "AVAILABLE", timestamps["avail"]]
    age, unit, *process, seen, seen_unit = row[4].split()
    assert age.isdigit()
    assert unit in ("s", "min")
    assert process == [str(owner["pid"]), "on", owner["host"]]
    assert seen.isdigit()
    assert seen_unit == "s"


def test_ls_all_lists_what_was_here_and_how_it_ended(ofa: Ofa, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/factory.db"
    app = (
        "from openfactory.apps import OpenFactoryApp\n"
        "class Saw(OpenFactoryApp):\n"
        "    def main_loop(self): raise RuntimeError('the blade is broken')\n"
        "Saw(None, app_uuid='saw').run()"
    )
    ended = subprocess.run([sys.executable, "-c", app], env={**os.environ, "KSQLDB_URL": url}, capture_output=True)
    assert ended.returncode == 1
    with KSQLDBClient(url) as client, Asset("sensor", client) as sensor, Asset("nobody", client) as nobody:
        sensor.add_attribute(AssetAttribute("t", 20.5, "Samples", "T", "2026-11-21T07:30:00.000Z"))
        nobody.method("start", sender_uuid="HMI")
        sensor.flush()
        nobody.flush()
        assert ofa("doctor", "--url", url).returncode == 0
    assert json.loads(ofa("asset", "ls", "--url", url, "--json").stdout) == []
    saw, found = json.loads(ofa("asset", "ls", "--url", url, "--all", "--json").stdout)
    assert (saw["asset_uuid"], saw["type"], saw["registered"]) == ("saw", None, False)
    assert (saw["availability"], saw["since"]) == ("UNAVAILABLE", saw["newest"])
    assert saw["owner"]["state"] == "ended"
    assert saw["owner"]["ended"] == "its main loop raised RuntimeError: the blade is broken"
    assert 0 <= saw["age"] < 3_600
    assert found.pop("age") > 0
    assert found == {
        "asset_uuid": "sensor",
        "type": None,
        "registered": False,
        "availability": "UNAVAILABLE",
        "since": None,
        "newest": "2026-11-21T07:30:00.000Z",
        "owner": None,
    }
    lines = [line.split() for line in ofa("asset", "ls", "--url", url, "--all").stdout.splitlines()]
    assert lines[0] == ["uuid", "type", "registered", "availability", "since", "age", "owner", "seen", "ended"]
    assert lines[1][:4] == ["saw", "no", "UNAVAILABLE", saw["since"]]
    assert lines[1][-4:] == ["the", "blade", "is", "broken"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119.9, "119 s"), (120, "2 min"), (7_300, "2 h"), (172_800, "2 d"), (1e9, "11574 d"), (None, "")],
)
def test_an_age_is_printed_in_one_unit(seconds: float | None, text: str) -> None:
    assert age_text(seconds) == text


def test_inspect_shows_every_attribute(ofa: Ofa) -> None:
    said = json.loads(ofa("asset", "inspect", "press", "--json").stdout)
    attributes = said.pop("attributes")
    owner = said.pop("owner")
    assert (owner["host"], owner["state"]) == (socket.gethostname(), "lives")
    assert said == {"asset_uuid": "press", "type": "OpenFactoryApp", "availability": "AVAILABLE"}
    assert all(list(one) == ["id", "value", "type", "tag", "timestamp"] for one in attributes)
    ids = [one["id"] for one in attributes]
    assert ids == sorted(ids, key=str.lower)
    assert {"avail", "application_version", "openfactory_license", "AssetType", "closed", "force"} <= set(ids)
    assert not {"press", "jam", "press_CMD", "press_REPLY"} & set(ids)
    closed = next(one for one in attributes if one["id"] == "closed")
    assert (closed["value"], closed["type"], closed["tag"]) == (True, "Events", "Press.Closed")

    lines = ofa("asset", "inspect", "press").stdout.splitlines()
    process = f"process {owner['pid']} on host {owner['host']} since {owner['since']}"
    assert lines[0] == f"press  OpenFactoryApp  AVAILABLE  {process}"
    assert lines[2].split() == ["id", "value", "type", "tag", "timestamp"]
    line = next(line for line in lines if line.startswith("closed "))
    assert line.split() == ["closed", "true", "Events", "Press.Closed", closed["timestamp"]]


def test_a_value_cannot_steer_the_terminal(ofa: Ofa) -> None:
    shown = ofa("asset", "inspect", "press").stdout
    assert "\x1b" not in shown
    assert r"two\nlines \x1b[31mred" in shown
    assert value_of(ofa, "note") == "two\nlines \x1b[31mred"


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--all"], ["inspect", "robot"]])
def test_an_owner_or_a_type_cannot_steer_the_terminal(ofa: Ofa, tmp_path: Path, arguments: list[str]) -> None:
    url = f"sqlite:///{tmp_path}/other.db"
    claim = Owner("other", 1, 0, "m3\x1b[31m", 4711, "2026-11-21T07:30:00.000Z", observable=False).event("robot")
    values = {"AssetType": ("Device\x1b[2J", "AssetType"), claim.id: (claim.value, claim.tag)}
    with KSQLDBClient(url) as client:
        row = {"asset_uuid": "robot", "type": "OpenFactory"}
        rows = [row | {"id": name, "value": value, "tag": tag} for name, (value, tag) in values.items()]
        client.insert_into_stream("assets_stream", rows)
    shown = ofa("asset", *arguments, "--url", url).stdout
    assert "\x1b" not in shown
    assert r"Device\x1b[2J" in shown
    assert re.search(r"4711 on (host )?m3\\x1b\[31m", shown)


def test_methods_shows_their_arguments(ofa: Ofa) -> None:
    methods = json.loads(ofa("asset", "methods", "press", "--json").stdout)
    assert methods["asset_uuid"] == "press"
    by_name = {one["name"]: one for one in methods["methods"]}
    assert list(by_name) == ["press", "release", "jam", "sleep"]
    assert by_name["release"] == {"name": "release", "description": "Open the press.", "arguments": []}
    assert by_name["press"]["arguments"] == [
        {"name": "force", "description": "in newton", "type": "float", "required": True},
        {"name": "times", "description": "", "type": "int", "required": False, "default": 1},
    ]
    shown = ofa("asset", "methods", "press").stdout
    assert "press    force: float, times: int = 1  Press; force: in newton\n" in shown
    assert "release                                Open the press\n" in shown


@pytest.mark.parametrize(
    ("attribute_id", "text", "options", "value"),
    [
        ("force", "3", [], 3.0),
        ("force", "-4.5", [], -4.5),
        ("force", "1e3", [], 1000.0),
        ("force", "UNAVAILABLE", [], "UNAVAILABLE"),
        ("closed", "false", [], False),
        ("force", "worn", ["--text"], "worn"),
        ("closed", "UNAVAILABLE", [], "UNAVAILABLE"),
        ("closed", "-7", ["--as-json"], -7),
        ("closed", "true", ["--text"], "true"),
        ("count", "-7", [], -7),
        ("count", "2.5", [], 2.5),
        ("count", "12", ["--text"], "12"),
        ("axes", '["x", "y"]', [], ["x", "y"]),
        ("place", '{"hall": [1, 2.5]}', [], {"hall": [1, 2.5]}),
        ("status", "5", [], "5"),  # its value is text
        ("status", "007", [], "007"),
        ("status", "true", ["--as-json"], True),
        ("strokes", "12", [], 12),  # it has no value yet, so that nothing is known of its kind
        ("strokes", "null", [], None),
        ("strokes", '"quoted"', [], '"quoted"'),
        ("strokes", "many", [], "many"),
    ],
)
def test_set_writes_a_value_of_the_kind_that_is_wanted(
    ofa: Ofa, attribute_id: str, text: str, options: list[str], value: Any
) -> None:
    set_back(ofa)
    found = ofa("asset", "set", "press", attribute_id, text, *options, "--json")
    assert found.returncode == 0, found.stderr
    written = json.loads(found.stdout)
    assert list(written) == ["asset_uuid", "id", "value", "type", "tag", "timestamp"]
    assert written["value"] == value
    assert type(written["value"]) is type(value)
    read = value_of(ofa, attribute_id)
    assert read == value
    assert type(read) is type(value)


def set_back(ofa: Ofa) -> None:
    """Give the attributes the kinds that the press declares."""
    kinds = {"closed": "true", "count": "0", "axes": "[]", "place": "{}", "status": '"idle"', "strokes": "null"}
    for attribute_id, value in kinds.items():
        assert ofa("asset", "set", "press", attribute_id, value, "--as-json").returncode == 0


def test_set_keeps_type_and_tag_and_says_what_it_wrote(ofa: Ofa) -> None:
    assert ofa("asset", "set", "press", "force", "7").stdout == "press.force = 7.0\n"
    written = json.loads(ofa("asset", "set", "press", "force", "8", "--json").stdout)
    assert (written["type"], written["tag"]) == ("Samples", "Press.Force")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["force", "hard"], "press.force is a sample, and 'hard' is not a number. Give a number or UNAVAILABLE, or "),
        (["force", "nan"], "press.force is a sample, and 'nan' is not a number. Give a number or UNAVAILABLE, or "),
        (["force", "1_000"], "press.force is a sample, and '1_000' is not a number. Give a number or UNAVAILABLE, or "),
        (["force", "٣"], "press.force is a sample, and '٣' is not a number. Give a number or UNAVAILABLE, or "),
        (["force", "007"], "press.force is a sample, and '007' has leading zeros, as text may have. Give 7."),
        (["count", "007"], "press.count is a number, and '007' has leading zeros, as text may have. Give 7, or write "),
        (["count", "abc"], "press.count is a number, and 'abc' is not a number. Give a number or UNAVAILABLE, or "),
        (["count", "true"], "press.count is a number, and 'true' is not a number. Give a number or UNAVAILABLE, or "),
        (["count", ""], "press.count is a number, and '' is not a number. Give a number or UNAVAILABLE, or "),
        (["closed", "1"], "press.closed is true or false, and '1' is not. Give true or false or UNAVAILABLE, or "),
        (["axes", "x"], "press.axes is a list in JSON, and 'x' is not. Give a list in JSON or UNAVAILABLE, or "),
        (["place", "[]"], "press.place is an object in JSON, and '[]' is not. Give an object in JSON or "),
        (["strokes", "007"], "press.strokes has no value yet, and '007' has leading zeros, as text may have. Give 7, "),
        (["strokes", "+7"], "press.strokes has no value yet, and '+7' may be a number or text. Give 7, or write "),
        (["closed", "ajar", "--as-json"], "'ajar' is not JSON "),
        (["color", "red"], "press has no attribute 'color'. It has "),
        (["press", "1"], "'press' is a method of press and has no value. Call it with `ofa asset call press press`."),
        (["press_CMD", "{}"], "press has no attribute 'press_CMD'. It has "),
    ],
)
def test_set_refuses_what_makes_no_sense(ofa: Ofa, workshop: Path, arguments: list[str], sentence: str) -> None:
    set_back(ofa)
    before = last_values(workshop)
    assert failure(ofa("asset", "set", "press", *arguments)).startswith(sentence)
    assert last_values(workshop) == before


def last_values(folder: Path) -> dict[tuple[str, str], object]:
    """What the factory says, but for its availability and its replies, which may still come from before."""
    with KSQLDBClient(f"sqlite:///{folder}/factory.db") as client:
        events = client.engine.snapshot().events
    late = ("Availability", "Method.Reply")
    return {(asset, event.id): event.value for asset, said in events.items() for event in said if event.tag not in late}


def test_call_prints_the_result(ofa: Ofa) -> None:
    found = ofa("asset", "call", "press", "press", "force=12.5", "times= 3 ")
    assert found.returncode == 0, found.stderr
    assert found.stdout == '{"force":12.5,"times":3}\n'
    assert value_of(ofa, "force") == 12.5
    said = json.loads(ofa("asset", "call", "press", "press", "force=1", "--json").stdout)
    assert said == {"asset_uuid": "press", "method": "press", "result": {"force": 1.0, "times": 1}}
    assert ofa("asset", "call", "press", "release").stdout == "press.release succeeded.\n"
    assert json.loads(ofa("asset", "call", "press", "release", "--json").stdout)["result"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["press", "force=hard"], "press.press was rejected: Failed to convert argument 'force' to float: 'hard'"),
        (["press"], "press.press was rejected: Missing required argument 'force'."),
        (["press", "force=1", "speed=2"], "press.press was rejected: Unknown argument 'speed'."),
        (["jam"], "press.jam failed: RuntimeError: it is jammed"),
        (["fly"], "press has no method 'fly'. It has press, release, jam, sleep."),
        (["sleep", "seconds=1.2", "--timeout", "0.2"], "press did not reply to sleep within 0.2 s: "),
    ],
)
def test_a_command_that_gives_no_result_is_one_sentence(ofa: Ofa, arguments: list[str], sentence: str) -> None:
    assert failure(ofa("asset", "call", "press", *arguments)).startswith(sentence)


def test_a_command_that_may_have_run_has_status_3(ofa: Ofa, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/lathe.db"
    with KSQLDBClient(url) as client:
        lathe = Asset("lathe", client)
        lathe.add_attribute(AssetAttribute("turn", '{"description":"","arguments":[]}', "Method", "Method"))
        client.engine.register(Registration("lathe", "Device"))
        client.engine.flush()

        def answer(subject: str, message: Any) -> None:
            correlation_id = CommandEnvelope.parse(message["VALUE"]).header.correlation_id
            reply = CommandReply(correlation_id, "unknown", error="The app stopped before the method ended.")
            lathe.add_attribute(reply.event("lathe", "turn").attribute())

        lathe.subscribe_to_attribute("turn_CMD", answer)
        found = ofa("asset", "call", "lathe", "turn", "--url", url)
        lathe.close()
    assert found.returncode == 3
    assert found.stderr == "lathe.turn may have run: The app stopped before the method ended.\n"


def test_a_command_to_a_program_that_does_not_reply_is_sent_without_waiting(ofa: Ofa, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/lathe.db"
    with KSQLDBClient(url) as client, Asset("lathe", client) as lathe:
        lathe.add_attribute(AssetAttribute("turn", '{"description":"","arguments":[]}', "Method", "Method"))
        found = ofa("asset", "call", "lathe", "turn", "speed=3", "--no-wait", "--url", url, "--json")
        printed = ofa("asset", "call", "lathe", "turn", "--no-wait", "--url", url)
        commands = [json.loads(event.value) for event in client.engine.history("lathe", "turn_CMD")]
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert (list(answer), answer["method"]) == (["asset_uuid", "method", "correlation_id"], "turn")
    assert commands[0]["arguments"] == {"speed": "3"}
    first, second = (command["header"]["correlation_id"] for command in commands)
    assert answer["correlation_id"] == first
    assert printed.stdout == f"lathe.turn is sent, with the correlation id {second}.\n"


def test_the_sender_of_a_command_can_be_named(ofa: Ofa, workshop: Path) -> None:
    for options, sender in ([], "ofa"), (["--sender", "HMI-1"], "HMI-1"):
        ofa("asset", "call", "press", "release", *options)
        with KSQLDBClient(f"sqlite:///{workshop}/factory.db") as client:
            sent = client.engine.history("press", "release_CMD", limit=1)[0]
        assert json.loads(sent.value)["header"]["sender_uuid"] == sender


@pytest.mark.parametrize(
    "arguments",
    [
        ["call", "press", "press", "12"],
        ["call", "press", "press", "=12"],
        ["call", "press", "press", "force=1", "force=2"],
        ["call", "press", "press", "force=1", "--timeout", "-1"],
        ["call", "press", "press", "force=1", "--sender", ""],
        ["inspect"],
        ["watch", "press", "--count", "0"],
        ["ls", "--everything"],
    ],
)
def test_a_mistake_of_usage_has_status_2(ofa: Ofa, arguments: list[str]) -> None:
    found = ofa("asset", *arguments)
    assert found.returncode == 2
    assert "Usage: ofa asset " in found.stderr


@pytest.mark.parametrize(
    "arguments", [["inspect", "lathe"], ["methods", "lathe"], ["set", "lathe", "x", "1"], ["call", "lathe", "go"]]
)
def test_an_asset_that_nobody_knows_is_an_error_at_once(ofa: Ofa, workshop: Path, arguments: list[str]) -> None:
    before, begun = last_values(workshop), time.monotonic()
    sentence = failure(ofa("asset", *arguments))
    assert sentence.startswith("The asset 'lathe' was not found in sqlite:///")
    assert sentence.endswith("Use a registered asset: press.")
    assert last_values(workshop) == before
    assert time.monotonic() - begun < 20


def test_another_factory_is_named_by_url_or_by_environment(ofa: Ofa, workshop: Path, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    with KSQLDBClient(other) as client:
        row = {"asset_uuid": "robot", "id": "AssetType", "value": "Device", "type": "OpenFactory", "tag": "AssetType"}
        client.insert_into_stream("assets_stream", [row])
    robot = {"asset_uuid": "robot", "type": "Device", "registered": True, "availability": "UNAVAILABLE"}
    expected = [{**robot, "since": None, "newest": None, "age": None, "owner": None}]
    assert json.loads(ofa("asset", "ls", "--json", "--url", other).stdout) == expected
    assert json.loads(ofa("asset", "ls", "--json", KSQLDB_URL=other).stdout) == expected
    here = f"sqlite:///{workshop}/factory.db"
    assert json.loads(ofa("asset", "ls", "--json", "--url", here, KSQLDB_URL=other).stdout)[0]["asset_uuid"] == "press"


def test_a_contract_of_another_program_has_the_same_shape(ofa: Ofa, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/other.db"
    contracts = {"go": '{"description": "Go", "arguments": [{"name": "x", "description": "where"}]}', "raw": "Do it"}
    with KSQLDBClient(url) as client:
        rows = [
            {"asset_uuid": "robot", "id": name, "value": value, "type": "Method", "tag": "Method"}
            for name, value in contracts.items()
        ]
        client.insert_into_stream("assets_stream", rows)
    assert json.loads(ofa("asset", "methods", "robot", "--json", "--url", url).stdout)["methods"] == [
        {"name": "go", "description": "Go", "arguments": [{"name": "x", "description": "where"}]},
        {"name": "raw", "description": "Do it", "arguments": []},
    ]
    assert "go      x          Go; x: where\n" in ofa("asset", "methods", "robot", "--url", url).stdout
