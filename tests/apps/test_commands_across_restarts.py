"""Commands over the life of several starts of one app: each is run at most once, and each is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.commands import CommandReply
from openfactory.engines import Engine
from openfactory.events.event import new_event

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]

_ran: list[float] = []  # over all starts


class Mill(OpenFactoryApp):
    @ofa_method()
    def move(self, x: float = 0) -> float:
        _ran.append(x)
        return x * 2

    @ofa_method()
    def fail(self) -> None:
        _ran.append(-1)
        raise ValueError("too far")


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    _ran.clear()


def command(x: float = 0) -> str:
    return json.dumps({"header": {"correlation_id": str(uuid4()), "sender_uuid": "HMI"}, "arguments": {"x": str(x)}})


def send(engine: Engine, text: str, method: str = "move") -> None:
    engine.publish(new_event("MILL", f"{method}_CMD", text, "OpenFactory", "Method.Command")).wait()


def replies(engine: Engine, method: str = "move") -> list[CommandReply]:
    engine.flush()
    return [CommandReply.parse(event.value) for event in engine.history("MILL", f"{method}_REPLY")]


def test_a_command_that_comes_again_after_a_restart_is_answered_again_and_not_run(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    """A broker may deliver twice, and an app may be restarted between the two."""
    text = command(3)
    for count in (1, 2, 3):
        mill = start(Mill, url, app_uuid="MILL")
        send(engine, text)
        eventually(lambda count=count: len(replies(engine)) == count)
        mill.shutdown()
    assert _ran == [3.0]
    assert {(reply.status, reply.result) for reply in replies(engine)} == {("succeeded", 6.0)}
    assert len({reply.correlation_id for reply in replies(engine)}) == 1


def test_a_command_that_failed_fails_again_after_a_restart_without_being_run(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    text = command().replace('{"x": "0"}', "{}")
    for count in (1, 2):
        mill = start(Mill, url, app_uuid="MILL")
        send(engine, text, "fail")
        eventually(lambda count=count: len(replies(engine, "fail")) == count)
        mill.shutdown()
    assert _ran == [-1]
    assert [reply.error for reply in replies(engine, "fail")] == ["ValueError: too far"] * 2


def test_a_command_that_was_rejected_while_the_app_was_away_is_not_run_when_it_comes_again(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    start(Mill, url, app_uuid="MILL").shutdown()
    text = command(3)
    send(engine, text)
    for count in (2, 3):
        mill = start(Mill, url, app_uuid="MILL")
        send(engine, text)
        eventually(lambda count=count: len(replies(engine)) == count)
        mill.shutdown()
    assert _ran == []
    assert {reply.status for reply in replies(engine)} == {"rejected"}


def test_every_command_of_several_lives_is_answered_and_run_at_most_once(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    sent: list[str] = []
    for life in range(3):
        mill = start(Mill, url, app_uuid="MILL")
        for n in range(20):
            sent.append(command(life * 100 + n))
            send(engine, sent[-1])
        mill.shutdown()  # some run, some are refused because it stops
        for n in range(5):
            sent.append(command(life * 100 + 50 + n))
            send(engine, sent[-1])
    for text in sent:  # all come a second time, to a fourth life
        send(engine, text)
    start(Mill, url, app_uuid="MILL")
    expected = {json.loads(text)["header"]["correlation_id"] for text in sent}
    eventually(lambda: {str(reply.correlation_id) for reply in replies(engine)} == expected)
    assert len(_ran) == len(set(_ran))
    statuses: dict[object, set[str]] = {}
    for reply in replies(engine):
        statuses.setdefault(reply.correlation_id, set()).add(reply.status)
    assert all(len(one) == 1 for one in statuses.values())  # nobody hears two different answers
    assert sum(one == {"succeeded"} for one in statuses.values()) == len(_ran)


def test_what_is_no_reply_in_the_log_stops_no_start(
    start: Start, url: str, engine: Engine, watch: Watch, eventually: Eventually
) -> None:
    text = command(3)
    mill = start(Mill, url, app_uuid="MILL")
    send(engine, text)
    eventually(lambda: replies(engine))
    mill.shutdown()
    for value in ("no JSON", "{}", None, 7, '{"correlation_id": "no id", "status": "succeeded"}', "[]"):
        engine.publish(new_event("MILL", "other_REPLY", value, "OpenFactory", "Method.Reply")).wait()
        engine.publish(new_event("MILL", "other_CMD", value, "OpenFactory", "Method.Command")).wait()
    start(Mill, url, app_uuid="MILL")
    assert watch("MILL").call("move", sender_uuid="HMI", x=1) == 2.0
    send(engine, text)
    eventually(lambda: len(replies(engine)) == 3)
    assert _ran == [3.0, 1.0]


def test_a_new_life_answers_new_calls(start: Start, url: str, watch: Watch) -> None:
    caller = watch("MILL")
    for x in range(3):
        mill = start(Mill, url, app_uuid="MILL")
        assert caller.call("move", sender_uuid="HMI", x=x) == x * 2
        mill.shutdown()
    assert _ran == [0.0, 1.0, 2.0]
