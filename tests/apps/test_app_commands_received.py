"""Commands that come again, came before the start, or are none: each is answered once, and run at most once."""

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
from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.engines import Engine
from openfactory.events.event import new_event

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]


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


def test_a_command_that_comes_again_is_run_once_and_answered_again(
    mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    text = command({"x": "1"})
    for count in (1, 2, 3):
        send(engine, text)
        eventually(lambda count=count: len(replies(engine)) == count)
    assert mill.ran == [1.0]
    assert replies(engine) == [replies(engine)[0]] * 3


def test_a_command_that_comes_again_while_it_runs_is_run_once(
    mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    text = command({"n": "1"})
    send(engine, text, "block")
    send(engine, text, "block")
    send(engine, command({"n": "2"}), "block")
    eventually(lambda: mill.ran)
    mill.go_on.set()
    eventually(lambda: "end 2" in mill.ran)
    assert mill.ran == ["begin 1", "end 1", "begin 2", "end 2"]
    eventually(lambda: {reply.result for reply in replies(engine, "block")} == {1, 2})


def test_a_command_from_before_the_start_is_rejected_and_not_run(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    start(Mill, url, app_uuid="MILL").shutdown()
    send(engine, command({"x": "1"}))
    mill = start(Mill, url, app_uuid="MILL")
    eventually(lambda: replies(engine))
    [reply] = replies(engine)
    assert reply.status == "rejected"
    assert "before the app's start" in str(reply.error)
    assert mill.ran == []


def test_a_command_from_before_the_start_is_rejected_only_once(
    start: Start, url: str, engine: Engine, watch: Watch, log: pytest.LogCaptureFixture
) -> None:
    send(engine, command({"x": "1"}))
    for _ in range(3):
        mill = start(Mill, url, app_uuid="MILL")
        assert watch("MILL").call("sleep", sender_uuid="HMI", n=7) == 7
        mill.shutdown()
    assert len(replies(engine)) == 1
    assert sum("rejected" in message for message in log.messages) == 1


def test_every_command_from_before_the_start_is_rejected(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    """Also when several to one method came while the app was away: each has a caller."""
    texts = [command({"x": str(n)}) for n in range(3)]
    for text in texts:
        send(engine, text)
    mill = start(Mill, url, app_uuid="MILL")
    expected = {CommandEnvelope.parse(text).header.correlation_id for text in texts}
    eventually(lambda: {reply.correlation_id for reply in replies(engine)} == expected)
    assert {reply.status for reply in replies(engine)} == {"rejected"}
    assert mill.ran == []


def test_a_command_that_comes_while_the_app_is_built_waits_until_it_is(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    heard: list[object] = []

    class Careful(OpenFactoryApp):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            send(engine, command({"n": "0"}), "use")
            self.subscribe_to_messages(lambda subject, message: heard.append(subject))
            send(engine, command({"n": "1"}), "use")
            eventually(lambda: "MILL.use_CMD" in heard)
            self.limit = 7

        @ofa_method()
        def use(self, n: int) -> list[int]:
            return [n, self.limit]

    start(Careful, url, app_uuid="MILL")
    eventually(lambda: len(replies(engine, "use")) == 2)
    assert [reply.result for reply in replies(engine, "use")] == [[0, 7], [1, 7]]


@pytest.mark.parametrize(
    "value",
    [
        command({"x": "1"}, extra=1),
        command(signature=7),
        command({"x": 1}),
        command(sender_uuid=None),
        command(timestamp="yesterday"),
        command()[:-1] + ', "extra": 1}',
        {"header": {"correlation_id": str(uuid4())}},
    ],
)
def test_a_malformed_command_with_an_id_is_rejected_with_the_reason(
    mill: Mill, engine: Engine, eventually: Eventually, log: pytest.LogCaptureFixture, value: Any
) -> None:
    send(engine, value)
    eventually(lambda: replies(engine))
    [reply] = replies(engine)
    assert reply.status == "rejected"
    assert "The command is malformed" in str(reply.error)
    assert sum(str(reply.correlation_id) in message for message in log.messages) == 1
    assert mill.ran == []


@pytest.mark.parametrize(
    "value", ["", "nonsense", "[]", "{}", 7, None, ["x"], command(correlation_id="7"), '{"header": 7}']
)
def test_a_malformed_command_without_an_id_is_dropped_with_a_line(
    hmi: Asset, engine: Engine, eventually: Eventually, log: pytest.LogCaptureFixture, value: Any
) -> None:
    send(engine, value)
    assert hmi.call("move", sender_uuid="HMI", x=1) == 2
    lines = [message for message in log.messages if "move_CMD" in message and "dropped" in message]
    assert len(lines) == 1
    assert len(replies(engine)) == 1
