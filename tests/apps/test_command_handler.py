"""Commands: each is run once and answered, whatever comes, and none disturbs another."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.commands import CommandReply
from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.exceptions import CommandFailed, CommandRejected

Start = Callable[..., Any]
Eventually = Callable[..., None]
Watch = Callable[..., Asset]


class Mill(OpenFactoryApp):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ran: list[object] = []
        self.go_on = threading.Event()

    @ofa_method()
    def move(self, x: float = 0) -> float:
        self.ran.append(x)
        return x * 2

    @ofa_method()
    def block(self, n: int = 0) -> int:
        self.ran.append(f"begin {n}")
        self.go_on.wait(30)
        self.ran.append(f"end {n}")
        return n

    @ofa_method()
    async def sleep(self, n: int = 0) -> int:
        self.ran.append(f"begin {n}")
        await asyncio.sleep(0.01)
        self.ran.append(f"end {n}")
        return n

    @ofa_method()
    def fail(self, how: str) -> None:
        errors = {
            "value": ValueError("too far"),
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "bare": KeyError(),
            "long text": ValueError("x" * 300_000),
        }
        raise errors[how]

    @ofa_method()
    def measure(self, what: str) -> Any:
        self.ran.append(what)
        results = {
            "object": object(),
            "image": {"width": 2, "pixels": b"bytes"},
            "nan": [1.5, float("nan")],
            "large": "x" * 300_000,
            "nearly too large": "x" * (256 * 1024 - 30),
        }
        return results[what]

    @ofa_method()
    def start_task(self) -> None:
        asyncio.create_task(asyncio.sleep(0))  # noqa: RUF006 - it does not come so far

    @ofa_method()
    async def start_task_on_loop(self) -> str:
        async def say() -> str:
            return "done"

        return await asyncio.create_task(say())


@pytest.fixture
def mill(start: Start, url: str) -> Any:
    return start(Mill, url, app_uuid="MILL", stop_timeout=2.5)


def send(engine: Engine, value: object, method: str = "move") -> None:
    """A command as any program may write it."""
    engine.publish(new_event("MILL", f"{method}_CMD", value, "OpenFactory", "Method.Command")).wait()


def command(arguments: dict[str, Any] | None = None, **header: Any) -> str:
    correlation_id = header.pop("correlation_id", str(uuid4()))
    return json.dumps(
        {"header": {"correlation_id": correlation_id, "sender_uuid": "HMI"} | header, "arguments": arguments or {}}
    )


def replies(engine: Engine, method: str = "move") -> list[CommandReply]:
    return [CommandReply.parse(event.value) for event in engine.history("MILL", f"{method}_REPLY")]


def test_a_command_is_answered_with_the_result(hmi: Asset, mill: Mill) -> None:
    assert hmi.call("move", sender_uuid="HMI", x="1.5") == 3.0
    assert mill.ran == [1.5]


def test_a_command_that_nobody_waits_for_is_answered_too(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    correlation_id = hmi.move(sender_uuid="HMI", x=1)
    eventually(lambda: replies(engine))
    [reply] = replies(engine)
    assert (str(reply.correlation_id), reply.status, reply.result, reply.error) == (
        correlation_id,
        "succeeded",
        2.0,
        None,
    )
    [event] = engine.history("MILL", "move_REPLY")
    assert (event.type, event.tag) == ("OpenFactory", "Method.Reply")


def test_an_unknown_method_is_rejected_with_those_that_are_known(hmi: Asset, log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CommandRejected, match=r"MILL has no method 'nosuch'\. It has move, block, sleep"):
        hmi.call("nosuch", sender_uuid="HMI")
    assert sum("nosuch" in message for message in log.messages) == 1


def test_a_bad_argument_is_rejected_and_logged_once(hmi: Asset, mill: Mill, log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CommandRejected, match="Failed to convert argument 'x' to float: 'far'") as caught:
        hmi.call("move", sender_uuid="HMI", x="far")
    assert mill.ran == []
    assert sum(caught.value.correlation_id in message for message in log.messages) == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("value", "ValueError: too far"),
        ("bare", "KeyError"),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("long text", "ValueError: x"),
    ],
)
def test_a_method_that_fails_is_answered_and_the_app_goes_on(
    hmi: Asset, log: pytest.LogCaptureFixture, how: str, said: str
) -> None:
    with pytest.raises(CommandFailed) as caught:
        hmi.call("fail", sender_uuid="HMI", how=how, timeout=3)
    assert said in str(caught.value)
    lines = [record for record in log.records if caught.value.correlation_id in record.getMessage()]
    assert len(lines) == 1
    assert "fail" in lines[0].getMessage()
    assert lines[0].exc_info is not None
    assert hmi.call("move", sender_uuid="HMI", x=1) == 2
    with pytest.raises(CommandFailed):
        hmi.call("fail", sender_uuid="HMI", how="value")


@pytest.mark.parametrize(
    ("what", "carried", "missing"),
    [
        ("object", None, "type object"),
        ("image", {"width": 2, "pixels": None}, "type bytes"),
        ("nan", [1.5, None], "nan"),
        ("large", None, "262,144"),
        ("nearly too large", None, "262,144"),
    ],
)
def test_a_method_that_ran_has_succeeded_even_if_its_result_cannot_be_carried(
    hmi: Asset, mill: Mill, engine: Engine, log: pytest.LogCaptureFixture, what: str, carried: Any, missing: str
) -> None:
    assert hmi.call("measure", sender_uuid="HMI", what=what) == carried
    assert mill.ran == [what]
    [reply] = replies(engine, "measure")
    assert reply.status == "succeeded"
    assert "The method ran, and its result is not carried in full" in str(reply.error)
    assert missing in str(reply.error)
    lines = [record for record in log.records if str(reply.correlation_id) in record.getMessage()]
    assert {record.name for record in lines} == {"MILL", "openfactory.commands"}  # both sides say it


def test_methods_run_beside_each_other(hmi: Asset, mill: Mill, eventually: Eventually) -> None:
    hmi.block(sender_uuid="HMI")
    eventually(lambda: mill.ran == ["begin 0"])
    assert hmi.call("move", sender_uuid="HMI", x=1) == 2
    assert hmi.call("sleep", sender_uuid="HMI") == 0
    mill.go_on.set()
    eventually(lambda: "end 0" in mill.ran)


@pytest.mark.parametrize("method", ["block", "sleep"])
def test_the_calls_of_one_method_run_in_order(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually, method: str
) -> None:
    mill.go_on.set()
    for n in range(10):
        hmi.method(method, "HMI", {"n": n})
    eventually(lambda: len(replies(engine, method)) == 10)
    assert mill.ran == [f"{what} {n}" for n in range(10) for what in ("begin", "end")]
    assert [reply.result for reply in replies(engine, method)] == list(range(10))


def test_a_command_does_not_hold_up_callbacks_and_state(hmi: Asset, mill: Mill, eventually: Eventually) -> None:
    heard: list[str] = []
    mill.subscribe_to_attribute("avail", lambda subject, message: heard.append(subject))
    hmi.block(sender_uuid="HMI")
    eventually(lambda: mill.ran)
    hmi.avail = "AVAILABLE"
    assert mill.wait_until("avail", "AVAILABLE", timeout=60)
    eventually(lambda: heard)
    mill.go_on.set()


def test_an_async_method_may_start_tasks(hmi: Asset) -> None:
    assert hmi.call("start_task_on_loop", sender_uuid="HMI") == "done"


@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited:RuntimeWarning")
def test_a_plain_method_that_starts_a_task_is_told_to_be_async(hmi: Asset, log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CommandFailed, match="no running event loop"):
        hmi.call("start_task", sender_uuid="HMI")
    assert any("make it an async def" in message for message in log.messages)


def test_an_async_callback_of_an_app_runs_on_its_loop(mill: Mill, hmi: Asset, eventually: Eventually) -> None:
    loops: list[object] = []

    async def hear(subject: str, message: Any) -> None:
        loops.append(asyncio.get_running_loop())

    mill.subscribe_to_attribute("avail", hear)
    hmi.avail = "AVAILABLE"
    eventually(lambda: loops)


def test_an_app_can_command_itself(mill: Mill) -> None:
    assert mill.call("move", sender_uuid="MILL", x=1) == 2


def test_while_an_app_stops_commands_are_rejected_and_those_that_run_are_answered(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    for n in range(2):
        hmi.block(sender_uuid="HMI", n=n)
    eventually(lambda: mill.ran == ["begin 0"] and mill._commands.waiting == 2)
    stopping = threading.Thread(target=mill.shutdown)
    stopping.start()

    def is_rejected() -> bool:
        try:
            hmi.call("move", sender_uuid="HMI", x=1)
        except CommandRejected as error:
            return "The app is stopping. Call again when it is AVAILABLE." in str(error)
        return False

    eventually(is_rejected)
    stopping.join()
    began, waited = replies(engine, "block")
    assert began.status == "unknown"
    assert "stopped before the method ended" in str(began.error)
    assert waited.status == "rejected"  # it had not begun, and does not begin
    mill.go_on.set()
    eventually(lambda: "end 0" in mill.ran)
    assert mill.ran == ["begin 0", "end 0"]
    assert len(replies(engine, "block")) == 2


class Patient(Mill):
    @ofa_method()
    async def pause(self) -> None:
        self.ran.append("pause")
        await asyncio.sleep(600)


def test_an_async_method_that_has_not_begun_at_the_stop_has_not_failed(
    start: Start, url: str, watch: Watch, engine: Engine, eventually: Eventually, log: pytest.LogCaptureFixture
) -> None:
    patient, hmi = start(Patient, url, app_uuid="MILL", stop_timeout=0.5), watch("MILL")
    for _ in range(3):
        hmi.pause(sender_uuid="HMI")
    eventually(lambda: patient.ran == ["pause"] and patient._commands.waiting == 3)
    patient.shutdown()
    eventually(lambda: not patient._commands._lanes["pause"]._active)
    assert [reply.status for reply in replies(engine, "pause")] == ["unknown", "rejected", "rejected"]
    assert log.text.count("Method pause failed") == 1  # the one that had begun


def test_a_command_that_ends_in_time_is_answered_before_the_app_is_gone(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    for n in range(3):
        hmi.sleep(sender_uuid="HMI", n=n)
    eventually(lambda: "begin 0" in mill.ran)
    mill.shutdown()
    answered = {reply.status for reply in replies(engine, "sleep")}
    assert len(replies(engine, "sleep")) == 3
    assert "succeeded" in answered
    assert answered <= {"succeeded", "rejected"}
