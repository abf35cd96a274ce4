"""Asset: sending commands and waiting for their replies, with the other side played by hand."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.engines import Engine
from openfactory.engines.embedded import writer
from openfactory.events.event import new_event
from openfactory.exceptions import (
    CommandError,
    CommandFailed,
    CommandRejected,
    CommandTimeout,
    CommandUnknown,
    DeliveryTimeout,
    UnknownAttributeError,
)
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient

Open = Callable[..., Asset]
Eventually = Callable[..., None]


def answer_by(app: Asset, reply: Callable[[CommandEnvelope], dict[str, Any]]) -> None:
    """Have each command to `move` answered, as an app would."""

    def answer(subject: str, message: CaseInsensitiveDict) -> None:
        envelope = CommandEnvelope.parse(message["VALUE"])
        answer = CommandReply(envelope.header.correlation_id, **reply(envelope))
        event = answer.event(app.asset_uuid, "move")
        app.add_attribute(event.attribute())

    app.subscribe_to_attribute("move_CMD", answer)


def commands_in(engine: Engine) -> list[CommandEnvelope]:
    engine.flush()
    return [CommandEnvelope.parse(event.value) for event in engine.history("MILL", "move_CMD")]


def test_a_method_is_sent_and_not_waited_for(mill: Asset, engine: Engine) -> None:
    correlation_id = mill.method(method="move", sender_uuid="HMI", args=[("x", "1"), ("y", 2.5)])
    [envelope] = commands_in(engine)
    assert str(envelope.header.correlation_id) == correlation_id == str(UUID(correlation_id))
    assert envelope.header.sender_uuid == "HMI"
    assert envelope.arguments == {"x": "1", "y": "2.5"}


def test_the_first_command_may_be_assigned_in_its_wire_format(mill: Asset, open_asset: Open, engine: Engine) -> None:
    first, second = (CommandEnvelope.addressed("HMI", {"x": x}).event("MILL", "move").value for x in (1, 2))
    mill.move_CMD = first
    open_asset()["move_CMD"] = second
    assert [envelope.arguments for envelope in commands_in(engine)] == [{"x": "1"}, {"x": "2"}]
    assert {(event.type, event.tag) for event in engine.history("MILL", "move_CMD")} == {
        ("OpenFactory", "Method.Command")
    }


def test_a_command_that_is_assigned_to_an_unknown_method_is_refused(mill: Asset, engine: Engine) -> None:
    with pytest.raises(UnknownAttributeError, match=r"no method 'turn', so the command is not sent\. It has move"):
        mill.turn_CMD = "{}"
    mill.last_CMD = 7  # not in the wire format: an attribute of the Python object
    assert (mill.last_CMD, engine.history("MILL", "last_CMD")) == (7, [])


def test_a_method_is_an_attribute_that_can_be_called(mill: Asset, engine: Engine) -> None:
    correlation_id = mill.move(sender_uuid="HMI", x=1, fast=True, name="left", path=[1, 2])
    [envelope] = commands_in(engine)
    assert str(envelope.header.correlation_id) == correlation_id
    assert envelope.arguments == {"x": "1", "fast": "true", "name": "left", "path": "[1,2]"}


def test_arguments_have_names(mill: Asset) -> None:
    with pytest.raises(TypeError, match="by name"):
        mill.move(1, sender_uuid="HMI")


def test_what_is_no_method_cannot_be_called(mill: Asset) -> None:
    with pytest.raises(TypeError):
        mill.status(sender_uuid="HMI")
    with pytest.raises(TypeError):
        mill.nosuch(sender_uuid="HMI")


def test_a_command_has_a_sender(mill: Asset, engine: Engine) -> None:
    ways: tuple[Callable[[], object], ...] = (
        lambda: mill.move(x=1),
        lambda: mill.method("move", sender_uuid=""),
        lambda: mill.call("move", x=1),
        lambda: asyncio.run(mill.call_async("move", x=1)),
    )
    for send in ways:
        with pytest.raises(ValueError, match="sender_uuid"):
            send()
    assert commands_in(engine) == []


def test_the_sender_of_a_call_may_come_from_the_environment(
    mill: Asset, open_asset: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_by(open_asset(), lambda envelope: {"status": "succeeded", "result": envelope.header.sender_uuid})
    monkeypatch.setenv("APP_UUID", "MY-APP")
    assert mill.call("move") == "MY-APP"
    assert mill.call("move", sender_uuid="HMI") == "HMI"


@pytest.mark.parametrize("result", [None, 1, 1.5, True, "text", [1, {"a": None}]])
def test_a_call_gives_the_result(mill: Asset, open_asset: Open, result: Any) -> None:
    answer_by(open_asset(), lambda _: {"status": "succeeded", "result": result})
    assert repr(mill.call("move", sender_uuid="HMI")) == repr(result)
    assert repr(asyncio.run(mill.call_async("move", sender_uuid="HMI"))) == repr(result)


def test_a_call_takes_what_a_keyword_cannot(mill: Asset, open_asset: Open) -> None:
    answer_by(open_asset(), lambda envelope: {"status": "succeeded", "result": envelope.arguments})
    given = {"timeout": 3, "sender_uuid": "x", "method": "m", "args": "a", "not an identifier": 1}
    result = mill.call("move", given, sender_uuid="HMI", timeout=10, y=2)
    assert result == {
        "timeout": "3",
        "sender_uuid": "x",
        "method": "m",
        "args": "a",
        "not an identifier": "1",
        "y": "2",
    }
    assert mill.call("move", method="m", args="a", sender_uuid="HMI") == {"method": "m", "args": "a"}


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        ("rejected", CommandRejected, "MILL.move was rejected: too far"),
        ("failed", CommandFailed, "MILL.move failed: too far"),
        ("unknown", CommandUnknown, "MILL.move may have run: too far"),
    ],
)
def test_a_reply_without_success_is_an_error(
    mill: Asset, open_asset: Open, engine: Engine, status: str, error: type[CommandError], text: str
) -> None:
    answer_by(open_asset(), lambda _: {"status": status, "error": "too far"})
    with pytest.raises(error, match=text) as caught:
        mill.call("move", sender_uuid="HMI", x=1)
    assert (caught.value.asset_uuid, caught.value.method) == ("MILL", "move")
    assert caught.value.correlation_id == str(commands_in(engine)[0].header.correlation_id)


def test_calls_at_the_same_time_get_each_its_reply(mill: Asset, open_asset: Open) -> None:
    answer_by(open_asset(), lambda envelope: {"status": "succeeded", "result": envelope.arguments["n"]})

    async def main() -> list[Any]:
        return await asyncio.gather(*(mill.call_async("move", sender_uuid="HMI", n=n) for n in range(50)))

    assert asyncio.run(main()) == [str(n) for n in range(50)]


@pytest.mark.parametrize("is_async", [False, True])
def test_no_answer_is_a_timeout_with_its_facts(mill: Asset, engine: Engine, is_async: bool) -> None:
    mill.add_attribute(AssetAttribute(id="avail", value="AVAILABLE", type="Events", tag="Availability"))

    def call() -> Any:
        if is_async:
            return asyncio.run(mill.call_async("move", sender_uuid="HMI", timeout=0.2))
        return mill.call("move", sender_uuid="HMI", timeout=0.2)

    with pytest.raises(CommandTimeout, match="AVAILABLE but does not answer") as caught:
        call()
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.asset_uuid, caught.value.method, caught.value.timeout) == ("MILL", "move", 0.2)
    assert caught.value.correlation_id == str(commands_in(engine)[0].header.correlation_id)
    assert "0.2 s" in str(caught.value)


def test_a_timeout_says_what_may_be_the_cause(mill: Asset, open_asset: Open) -> None:
    with pytest.raises(CommandTimeout, match=r"nothing is known of this asset\. Check its UUID"):
        open_asset("NOBODY").call("move", sender_uuid="HMI", timeout=0.2)
    with pytest.raises(CommandTimeout, match=r"no method of this name\. It has move"):
        mill.call("nosuch", sender_uuid="HMI", timeout=0.2)
    mill.add_attribute(AssetAttribute(id="avail", value="UNAVAILABLE", type="Events", tag="Availability"))
    with pytest.raises(CommandTimeout, match=r"it is UNAVAILABLE\. Start its app\."):
        mill.call("move", sender_uuid="HMI", timeout=0.2)


def test_a_result_that_is_not_carried_in_full_is_returned_with_a_line(
    mill: Asset, open_asset: Open, logged: list[logging.LogRecord]
) -> None:
    answer_by(open_asset(), lambda _: {"status": "succeeded", "result": [1, None], "error": "The method ran, but …"})
    assert mill.call("move", sender_uuid="HMI") == [1, None]
    [line] = [record.getMessage() for record in logged if record.name == "openfactory.commands"]
    assert line.startswith("MILL.move (command ")
    assert line.endswith("The method ran, but …")


@pytest.fixture
def full_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asset]:
    """An asset in a file that another program has locked, and in whose queue there is no room."""
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(writer, "_QUEUE_BYTES", 1_000)
    with KSQLDBClient(f"sqlite:///{tmp_path}/f.db") as client, Asset("MILL", client) as asset:
        asset.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
        with (tmp_path / "f.db.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            asset.status = "x" * 2_000
            yield asset
            fcntl.flock(lock, fcntl.LOCK_UN)
        asset.flush(60)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_keeps_its_timeout_while_the_queue_is_full(full_queue: Asset, is_async: bool) -> None:
    def call() -> Any:
        if is_async:
            return asyncio.run(full_queue.call_async("move", sender_uuid="HMI", timeout=0.5))
        return full_queue.call("move", sender_uuid="HMI", timeout=0.5)

    begun = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"within 0\.5 s: the command was not sent: The queue is full"):
        call()
    assert 0.4 < time.monotonic() - begun < 2.5  # 3 s is the patience of a write


async def ticks_while_calling(asset: Asset, timeout: float) -> int:
    """How often the loop goes round while a coroutine waits for a reply that does not come."""
    ticks = 0
    call = asyncio.create_task(asset.call_async("move", sender_uuid="HMI", timeout=timeout))
    while not call.done():
        ticks += 1
        await asyncio.sleep(0.01)
    with pytest.raises(CommandTimeout):
        call.result()
    return ticks


def test_the_loop_goes_on_while_a_call_waits_for_room(full_queue: Asset) -> None:
    assert asyncio.run(ticks_while_calling(full_queue, 0.5)) > 5


def test_a_write_in_a_coroutine_does_not_block_the_loop_for_seconds(full_queue: Asset) -> None:
    async def write() -> float:
        begun = time.monotonic()
        with pytest.raises(DeliveryTimeout, match="The queue is full"):
            full_queue.status = "busy"
        return time.monotonic() - begun

    assert asyncio.run(write()) < 2.5


def test_a_loop_goes_on_while_a_coroutine_waits(mill: Asset) -> None:
    assert asyncio.run(ticks_while_calling(mill, 0.3)) > 5


def test_a_waiting_call_can_be_cancelled(mill: Asset) -> None:
    async def main() -> None:
        call = asyncio.create_task(mill.call_async("move", sender_uuid="HMI", timeout=30))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())


def test_what_is_no_reply_harms_nobody(mill: Asset, open_asset: Open, engine: Engine) -> None:

    def reply(envelope: CommandEnvelope) -> dict[str, Any]:
        for value in ("nonsense", "{}", "[]", None, 7, json.dumps({"correlation_id": "x"})):
            engine.publish(new_event("MILL", "move_REPLY", value, "OpenFactory", "Method.Reply"))
        return {"status": "succeeded", "result": "in spite of it"}

    answer_by(open_asset(), reply)
    assert mill.call("move", sender_uuid="HMI") == "in spite of it"


def test_an_argument_that_json_cannot_say_is_refused_before_it_is_sent(mill: Asset, engine: Engine) -> None:
    with pytest.raises(TypeError):
        mill.move(sender_uuid="HMI", x=object())
    with pytest.raises(TypeError):
        mill.call("move", sender_uuid="HMI", x=object())
    assert commands_in(engine) == []


def test_a_thread_that_waits_does_not_hold_up_others(mill: Asset, open_asset: Open) -> None:
    answer_by(open_asset(), lambda envelope: {"status": "succeeded", "result": envelope.arguments["n"]})
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(CommandTimeout):
            mill.call("nosuch", sender_uuid="HMI", timeout=0.5)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert mill.call("move", sender_uuid="HMI", n=1) == "1"
    assert not ended.is_set()
    thread.join()
