"""Commands run at most once, and never late: what is told as rejected was not run, and memory is bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from openfactory.apps import OpenFactoryApp, command_handler, command_memory, ofa_method, ofaapp
from openfactory.apps.command_arrival import Arrival
from openfactory.apps.command_memory import CommandMemory, OpenCommand
from openfactory.assets import Asset
from openfactory.commands import CommandEnvelope, CommandHeader, CommandReply
from openfactory.engines import Engine, open_engine
from openfactory.events.event import new_event
from openfactory.exceptions import CommandRejected, ConfigurationError

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]


class Mill(OpenFactoryApp):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ran: list[str] = []
        self.go_on = threading.Event()

    @ofa_method()
    def move(self, to: str = "") -> str:
        self.ran.append(to)
        return to

    @ofa_method()
    def block(self, to: str = "") -> str:
        self.ran.append(to)
        self.go_on.wait(30)
        return to

    @ofa_method()
    def turn(self, speed: int) -> None:
        self.ran.append(str(speed))


@pytest.fixture
def mill(start: Start, url: str) -> Any:
    mill = start(Mill, url, app_uuid="MILL", stop_timeout=2.5)
    yield mill
    mill.go_on.set()


def command(seconds_old: float = 0.0, **arguments: Any) -> CommandEnvelope:
    sent = datetime.now(UTC) - timedelta(seconds=seconds_old)
    return CommandEnvelope(CommandHeader(uuid4(), "HMI", sent), arguments)


def send(engine: Engine, envelope: CommandEnvelope, method: str = "move") -> None:
    engine.publish(envelope.event("MILL", method)).wait()


def replies(engine: Engine, method: str = "move") -> list[CommandReply]:
    engine.flush()
    return [CommandReply.parse(event.value) for event in engine.history("MILL", f"{method}_REPLY", limit=10_000)]


def test_commands_of_unknown_methods_push_no_command_out_of_the_memory(
    mill: Mill, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_memory, "_MAX_ANSWERED", 10)
    done, running = command(to="a"), command(to="b")
    send(engine, done)
    send(engine, running, "block")
    eventually(lambda: sorted(mill.ran) == ["a", "b"])  # two methods, which run beside each other
    for _ in range(50):
        send(engine, command(), "nosuch")
    send(engine, done)
    send(engine, running, "block")
    eventually(lambda: len(replies(engine, "nosuch")) == 50 and len(replies(engine)) == 2)
    assert replies(engine)[0] == replies(engine)[1]
    mill.go_on.set()
    eventually(lambda: replies(engine, "block"))
    assert sorted(mill.ran) == ["a", "b"]


def test_a_running_command_is_not_forgotten_however_many_follow(
    mill: Mill, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_memory, "_MAX_ANSWERED", 10)
    running = command(to="first")
    send(engine, running, "block")
    for n in range(30):
        send(engine, command(to=str(n)))
    eventually(lambda: len(replies(engine)) == 30)
    send(engine, running, "block")
    mill.go_on.set()
    eventually(lambda: replies(engine, "block"))
    assert mill.ran.count("first") == 1


def test_a_command_that_the_app_has_forgotten_is_not_run_again(
    mill: Mill, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_memory, "_MAX_ANSWERED", 10)
    first = command(to="first")
    send(engine, first)
    for n in range(30):
        send(engine, command(to=str(n)))
    eventually(lambda: len(replies(engine)) == 31)
    send(engine, first)
    eventually(lambda: len(replies(engine)) == 32)
    assert mill.ran.count("first") == 1
    assert replies(engine)[-1].status == "unknown"  # the app does not know any more that it ran


def test_a_command_that_arrives_late_is_rejected_and_not_run(
    mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    """A suspended app does not carry out a command whose caller has given up."""
    late = command(seconds_old=12, to="late")
    send(engine, late)
    send(engine, command(seconds_old=0, to="in time"))
    eventually(lambda: len(replies(engine)) == 2)
    time.sleep(1.1)  # after it, the command is older by a full second
    send(engine, late)
    eventually(lambda: len(replies(engine)) == 3)
    assert mill.ran == ["in time"]
    refused, again = (reply for reply in replies(engine) if reply.status == "rejected")
    assert refused.error == again.error
    assert "by the app's clock more than COMMAND_WINDOW, 10 s, ago" in str(refused.error)


def test_the_window_is_a_setting(
    start: Start, url: str, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMAND_WINDOW", "3600")
    mill = start(Mill, url, app_uuid="MILL")
    send(engine, command(seconds_old=1800, to="patient"))
    eventually(lambda: mill.ran == ["patient"])
    monkeypatch.setenv("COMMAND_WINDOW", "0")
    with pytest.raises(ConfigurationError, match="COMMAND_WINDOW=0 is not above 0"):
        start(Mill, url, app_uuid="MILL-2")


def test_a_command_that_waits_for_an_earlier_call_is_not_late(
    mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    send(engine, command(to="1"), "block")
    waiting = command(seconds_old=8, to="2")
    send(engine, waiting, "block")
    eventually(lambda: mill._commands.waiting == 2 and mill.ran == ["1"])
    eventually(lambda: (datetime.now(UTC) - waiting.header.timestamp).total_seconds() > 10)
    mill.go_on.set()
    eventually(lambda: mill.ran == ["1", "2"])


class Killed(Mill, is_runtime=True):
    """An app that is killed: it has no time to stop."""

    def _stop(self, seconds: float) -> None:
        self._disconnect(seconds)


@pytest.mark.parametrize(("app_class", "status"), [(Killed, "unknown"), (Mill, "rejected")])
def test_a_command_that_may_have_run_is_not_told_as_rejected(
    start: Start, url: str, engine: Engine, eventually: Eventually, app_class: type[Mill], status: str
) -> None:
    """A stop answers all its commands, and tells when it ended; after a kill, any command may have been received."""
    start(app_class, url, app_uuid="MILL").shutdown()
    send(engine, command(to="while it was away"))
    mill = start(Mill, url, app_uuid="MILL")
    eventually(lambda: replies(engine))
    [reply] = replies(engine)
    assert reply.status == status
    assert ("may have run it: check the asset" in str(reply.error)) == (status == "unknown")
    assert mill.ran == []


def test_a_command_whose_reply_stands_before_those_that_a_start_reads_is_not_answered_again(
    start: Start, url: str, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some starts of an app that is killed, its newest replies are not those to its newest commands."""
    monkeypatch.setattr(command_handler, "REMEMBERED", 8)
    monkeypatch.setattr(ofaapp, "REMEMBERED", 8)
    earlier = start(Mill, url, app_uuid="MILL")
    for n in range(8):
        send(engine, command(to=str(n)))
    eventually(lambda: len(replies(engine)) == 8)
    earlier.shutdown()
    for _ in range(8):
        engine.publish(replies(engine)[0].event("MILL", "move"))
    send(engine, command(to="while it was away"))
    start(Mill, url, app_uuid="MILL").call("turn", speed=1, sender_uuid="HMI")
    assert [reply.status for reply in replies(engine)] == ["succeeded"] * 16 + ["rejected"]


def test_a_command_that_came_again_while_the_app_was_away_gets_its_reply_again_once(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    earlier = start(Mill, url, app_uuid="MILL")
    once, twice = command(to="once"), command(to="twice")
    for one in (once, twice):
        send(engine, one)
    eventually(lambda: len(replies(engine)) == 2)
    earlier.shutdown()
    send(engine, twice)
    for _ in range(2):  # the second start finds nothing to answer
        start(Mill, url, app_uuid="MILL").shutdown()
        assert [reply.result for reply in replies(engine)] == ["once", "twice", "twice"]


def test_a_late_command_of_an_earlier_run_may_have_run(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    """Its reply may be gone from the log, as others' events push it out."""
    start(Killed, url, app_uuid="MILL").shutdown()
    mill = start(Mill, url, app_uuid="MILL")
    send(engine, command(seconds_old=60))
    eventually(lambda: replies(engine))
    assert [reply.status for reply in replies(engine)] == ["unknown"]
    assert mill.ran == []


def test_a_wrong_argument_is_answered_and_logged_shortened(
    mill: Mill, watch: Watch, log: pytest.LogCaptureFixture
) -> None:
    for method, arguments in (("turn", {"speed": "z" * 100_000}), ("turn", {"y" * 100_000: "1"}), ("move", {})):
        if method == "move":
            arguments = {"n" * 100_000: "1"}
        with pytest.raises(CommandRejected, match="characters") as caught:
            watch("MILL").call(method, arguments, sender_uuid="HMI")
        assert len(str(caught.value)) < 2_500
    assert mill.ran == []
    assert all(len(message) < 2_500 for message in log.messages)


def test_waiting_commands_are_bounded_by_bytes_and_more_are_rejected(
    mill: Mill, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_memory, "_MAX_OPEN_BYTES", 50_000)
    commands = [command(to="x" * 10_000) for _ in range(10)]
    for one in commands:
        send(engine, one, "block")
    eventually(lambda: len(replies(engine, "block")) == 6)
    assert {reply.status for reply in replies(engine, "block")} == {"rejected"}
    assert "4 commands wait already" in str(replies(engine, "block")[0].error)
    assert mill._commands.waiting == 4
    mill.go_on.set()
    eventually(lambda: len(replies(engine, "block")) == 10)
    send(engine, commands[-1], "block")  # there is room now, but its caller was told that it does not run
    eventually(lambda: len(replies(engine, "block")) == 11)
    assert replies(engine, "block")[-1].status == "rejected"
    assert len(mill.ran) == 4


def test_commands_that_arrive_while_the_app_is_built_are_bounded_by_bytes(
    start: Start, url: str, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_memory, "_MAX_OPEN_BYTES", 50_000)

    class Slow(Mill):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for n in range(10):
                send(engine, command(to=f"{n}" + "x" * 10_000))
            eventually(lambda: len(replies(engine)) == 5)

    mill = start(Slow, url, app_uuid="MILL")
    eventually(lambda: len(replies(engine)) == 10)
    assert sum(reply.status == "rejected" for reply in replies(engine)) == 10 - len(mill.ran)
    assert 4 <= len(mill.ran) <= 5


def test_remembered_replies_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_memory, "_MAX_REPLY_BYTES", 50_000)
    memory = CommandMemory()
    given = [CommandReply(uuid4(), "succeeded", f"{n}" + "x" * 10_000) for n in range(20)]
    for reply in given:
        memory.open_command(str(reply.correlation_id), OpenCommand("move", datetime.now(UTC), 0, Arrival()))
        memory.answer(str(reply.correlation_id), reply)
        memory.close(str(reply.correlation_id))
    kept = [memory.reply_to(str(reply.correlation_id)) for reply in given]
    assert kept[-4:] == given[-4:]
    assert all(reply is not None and reply.status == "succeeded" for reply in kept)  # none runs again
    assert kept[0] is not None
    assert kept[0].result is None
    assert "a repetition without its result" in str(kept[0].error)


def test_a_file_that_has_lost_the_replies_of_the_app_runs_no_late_command_again(
    start: Start, tmp_path: Path, eventually: Eventually
) -> None:
    """The log keeps the last reply only."""
    url = f"sqlite:///{tmp_path}/small.db?keep_events=1"
    with open_engine(url) as reference:
        engine = reference.engine
        late = command(seconds_old=8)
        first = start(Mill, url, app_uuid="MILL")
        send(engine, late)
        eventually(lambda: replies(engine))
        send(engine, command())
        eventually(lambda: len(replies(engine)) == 2)
        first.shutdown()
        for n in range(5_000):
            engine.publish(new_event("NEIGHBOUR", "n", n, "Events", "Test"))
        engine.flush()
        eventually(lambda: late.header.correlation_id not in {reply.correlation_id for reply in replies(engine)})
        second = start(Mill, url, app_uuid="MILL")
        eventually(lambda: (datetime.now(UTC) - late.header.timestamp).total_seconds() > 10)
        send(engine, late)
        eventually(lambda: replies(engine)[-1].correlation_id == late.header.correlation_id)
        assert replies(engine)[-1].status == "unknown"
        assert second.ran == []
