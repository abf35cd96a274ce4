"""A command whose caller has given up does not run: its time is over, or its caller has cancelled it."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from openfactory.apps import EventAttribute, OpenFactoryApp, command_arrival, ofa_method
from openfactory.apps.command_arrival import Arrival
from openfactory.assets import Asset
from openfactory.commands import CommandCancel, CommandReply
from openfactory.commands.envelope import CommandEnvelope
from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.exceptions import CommandCancelled, CommandExpired, CommandFailed, CommandTimeout

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]


class Mill(OpenFactoryApp):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ran: list[object] = []
        self.go_on = threading.Event()

    @ofa_method()
    def start(self, n: int = 0) -> int:
        self.ran.append(n)
        self.go_on.wait(30)
        return n

    @ofa_method(cancellable=True)
    async def travel(self, n: int = 0, stubborn: bool = False) -> int:
        self.ran.append(n)
        try:
            await asyncio.sleep(30 if n else 0)
        except asyncio.CancelledError:
            self.ran.append(f"brakes {n}")
            await asyncio.sleep(0.05)
            self.ran.append(f"stands {n}")
            if not stubborn:
                raise
        return n

    @ofa_method(cancellable=True)
    async def give_in(self) -> None:
        raise asyncio.CancelledError

    @ofa_method()
    async def wait(self) -> str:
        self.ran.append("wait")
        while not self.go_on.is_set():
            await asyncio.sleep(0.005)
        return "waited"

    @ofa_method()
    async def hold_loop(self) -> None:
        self.ran.append("hold_loop")
        self.go_on.wait(30)


@pytest.fixture
def mill(start: Start, url: str) -> Any:
    return start(Mill, url, app_uuid="MILL", stop_timeout=2.5)


def replies(engine: Engine, method: str = "start") -> dict[str, CommandReply]:
    """The replies of a method by the id of their command; of several, the last."""
    found = (CommandReply.parse(event.value) for event in engine.history("MILL", f"{method}_REPLY"))
    return {str(reply.correlation_id): reply for reply in found}


def test_a_command_that_waits_too_long_for_its_lane_does_not_run(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually, log: pytest.LogCaptureFixture
) -> None:
    first = hmi.start(sender_uuid="HMI", n=1)
    eventually(lambda: mill.ran == [1])
    late = hmi.method("start", "HMI", {"n": 2}, timeout=0.05)
    patient = hmi.method("start", "HMI", {"n": 3}, timeout=math.inf)
    threading.Event().wait(0.1)
    mill.go_on.set()
    eventually(lambda: len(replies(engine)) == 3)
    assert {key: reply.status for key, reply in replies(engine).items()} == {
        first: "succeeded",
        late: "expired",
        patient: "succeeded",
    }
    assert mill.ran == [1, 3]
    assert "waits 0.05 s" in (replies(engine)[late].error or "")
    assert mill._commands.counters["expired"] == 1
    [warning] = [record for record in log.records if late in record.getMessage()]
    assert (warning.levelname, "is not run" in warning.getMessage()) == ("WARNING", True)


def test_a_caller_that_still_listens_learns_that_its_command_came_too_late(
    hmi: Asset, mill: Mill, engine: Engine, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    hmi.start(sender_uuid="HMI", n=1)
    eventually(lambda: mill.ran == [1])
    monkeypatch.setattr(type(engine), "age", lambda self, event: 60.0)  # as a log that was slow
    with pytest.raises(CommandExpired, match=r"waits 50 s, .* 1\d\.\d s after") as caught:
        hmi.call("start", sender_uuid="HMI", timeout=50)  # the reply does not wait for the lane
    assert (caught.value.asset_uuid, caught.value.method) == ("MILL", "start")
    mill.go_on.set()
    assert mill.ran == [1]


@pytest.mark.parametrize(
    ("boot", "of_app", "status"),
    [
        ("another", "this", "expired"),
        ("", "this", "succeeded"),  # a process that may not read /proc/sys
        ("another", "", "succeeded"),
        (None, "this", "succeeded"),
    ],
)
def test_a_command_of_another_boot_is_not_run(
    hmi: Asset,
    mill: Mill,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
    boot: str | None,
    of_app: str,
    status: str,
) -> None:
    mill.go_on.set()
    monkeypatch.setattr("openfactory.engines.embedded.command_age.boot_id", lambda: of_app)
    stamp = {"timeout": "60", **engine.stamp("MILL"), "boot_id": boot or ""}
    if boot is None:
        del stamp["boot_id"]
    engine.publish(CommandEnvelope.addressed("HMI", {}).event("MILL", "start", stamp))
    eventually(lambda: len(replies(engine)) == 1)
    [reply] = replies(engine).values()
    assert reply.status == status
    if status == "expired":
        assert "sent before the machine was started again" in str(reply.error)
        assert "inf" not in str(reply.error)


@pytest.mark.parametrize("days", [-1, 1])
def test_the_wall_clocks_do_not_count(
    hmi: Asset, mill: Mill, engine: Engine, days: int, eventually: Eventually
) -> None:
    sent = datetime.now(UTC) + timedelta(days=days)
    header = {"correlation_id": str(uuid4()), "sender_uuid": "HMI", "timestamp": sent.isoformat()}
    value = {"header": header, "arguments": {"n": "1"}}
    stamp = {"timeout": "20", **engine.stamp("MILL")}
    mill.go_on.set()
    engine.publish(new_event("MILL", "start_CMD", value, "OpenFactory", "Method.Command", attributes=stamp))
    eventually(lambda: [reply.status for reply in replies(engine).values()] == ["succeeded"])


def test_a_command_without_a_time_limit_runs_whenever_its_lane_is_free(
    hmi: Asset, mill: Mill, monkeypatch: pytest.MonkeyPatch, eventually: Eventually, engine: Engine
) -> None:
    monkeypatch.setenv("COMMAND_TIMEOUT", "0")
    hmi.start(sender_uuid="HMI", n=1)
    hmi.flush()
    [event] = engine.history("MILL", "start_CMD")
    assert "timeout" not in (event.attributes or {})
    monkeypatch.setenv("COMMAND_TIMEOUT", "0.05")
    hmi.start(sender_uuid="HMI", n=2)
    threading.Event().wait(0.1)
    mill.go_on.set()
    eventually(lambda: sorted(reply.status for reply in replies(engine).values()) == ["expired", "succeeded"])
    assert mill.ran == [1]


@pytest.mark.parametrize("in_coroutine", [False, True])
def test_a_call_that_gives_up_cancels_its_command(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually, in_coroutine: bool
) -> None:
    running = hmi.start(sender_uuid="HMI", n=1)
    eventually(lambda: mill.ran == [1])

    def call(method: str, **options: Any) -> Any:
        return asyncio.run(hmi.call_async(method, **options)) if in_coroutine else hmi.call(method, **options)

    with pytest.raises(CommandTimeout) as caught:
        call("start", sender_uuid="HMI", timeout=0.05)
    eventually(lambda: caught.value.correlation_id in replies(engine))  # while the lane is busy
    assert replies(engine)[caught.value.correlation_id].status in ("cancelled", "expired")
    mill.go_on.set()
    eventually(lambda: running in replies(engine))
    assert mill.ran == [1]


def test_a_task_that_is_cancelled_cancels_its_command(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    async def give_up() -> None:
        task = asyncio.create_task(hmi.call_async("travel", sender_uuid="HMI", n=1, timeout=60))
        while mill.ran != [1]:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    eventually(lambda: [reply.status for reply in replies(engine, "travel").values()] == ["cancelled"])
    assert mill.ran == [1, "brakes 1", "stands 1"]


def test_an_interrupted_call_cancels_its_command(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    running = hmi.start(sender_uuid="HMI", n=1)
    eventually(lambda: mill.ran == [1])
    monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hmi.call("start", sender_uuid="HMI", n=2, timeout=60)
    monkeypatch.undo()
    eventually(lambda: "cancelled" in [reply.status for reply in replies(engine).values()])
    mill.go_on.set()
    eventually(lambda: running in replies(engine))
    assert mill.ran == [1]


def test_a_command_is_cancelled_by_its_id(hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually) -> None:
    with ThreadPoolExecutor() as threads:
        first = threads.submit(hmi.call, "start", sender_uuid="HMI", n=1, timeout=60)
        eventually(lambda: mill.ran == [1])
        second = threads.submit(hmi.call, "start", sender_uuid="HMI", n=2, timeout=60)
        eventually(lambda: len(engine.history("MILL", "start_CMD")) == 2)
        sent = map(CommandEnvelope.parse, (event.value for event in engine.history("MILL", "start_CMD")))
        ids = [str(envelope.header.correlation_id) for envelope in sent]
        for correlation_id in ids:
            hmi.cancel(correlation_id)
        with pytest.raises(CommandCancelled, match="cancelled it, and the method did not run"):
            second.result(60)
        mill.go_on.set()
        assert first.result(60) == 1  # it had begun, and may not be interrupted
    hmi.cancel(ids[0])  # it has ended: nothing happens
    hmi.cancel(str(uuid4()))
    assert hmi.call("start", sender_uuid="HMI", n=3, timeout=60) == 3
    assert mill.ran == [1, 3]
    assert mill._commands.counters["cancelled"] == 1
    assert engine.history("MILL", tag="Method.Reply")[-1].value.count("succeeded") == 1


def test_a_cancel_that_arrives_before_its_command_holds(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    envelope = CommandEnvelope.addressed("HMI", {"n": 1})
    engine.publish(CommandCancel(envelope.header.correlation_id).event("MILL"))
    for _ in range(2):  # and for a command that comes twice
        engine.publish(envelope.event("MILL", "start"))
    eventually(lambda: len(engine.history("MILL", "start_REPLY")) == 2)
    assert [reply.status for reply in replies(engine).values()] == ["cancelled"]
    assert mill.ran == []


def test_a_command_that_was_refused_before_its_cancel_gets_the_same_reply_when_it_comes_again(
    hmi: Asset, engine: Engine, eventually: Eventually
) -> None:
    envelope = CommandEnvelope.addressed("HMI", {})
    engine.publish(envelope.event("MILL", "unknown"))
    eventually(lambda: len(engine.history("MILL", "unknown_REPLY")) == 1)
    engine.publish(CommandCancel(envelope.header.correlation_id).event("MILL"))
    engine.publish(envelope.event("MILL", "unknown"))
    eventually(lambda: len(engine.history("MILL", "unknown_REPLY")) == 2)
    given = [CommandReply.parse(event.value) for event in engine.history("MILL", "unknown_REPLY")]
    assert [reply.status for reply in given] == ["rejected", "rejected"]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_command_that_may_have_waited_for_its_write_waits_for_a_cancel(
    start: Start,
    url: str,
    watch: Watch,
    engine: Engine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    is_cancelled: bool,
) -> None:
    """Its sender does not know the time of the log; by the clocks, which may differ, its caller has given up."""
    monkeypatch.setenv("COMMAND_WINDOW", "3600")
    mill = start(Mill, url, app_uuid="MILL")
    mill.go_on.set()
    header = {"correlation_id": str(uuid4()), "sender_uuid": "HMI"}
    late = (datetime.now(UTC) - timedelta(seconds=250)).isoformat()
    value = {"header": {**header, "timestamp": late}, "arguments": {"n": "1"}}
    if is_cancelled:
        monkeypatch.setattr("openfactory.apps.command_handler._CANCEL_SECONDS", 100.0)
    begun = time.monotonic()
    attributes = {"timeout": "240"}
    engine.publish(new_event("MILL", "start_CMD", value, "OpenFactory", "Method.Command", attributes=attributes))
    if is_cancelled:
        eventually(lambda: mill._commands.waiting == 1, timeout=60)
        watch("MILL").cancel(header["correlation_id"])
    eventually(lambda: len(replies(engine)) == 1)
    assert is_cancelled or time.monotonic() - begun >= 1
    assert replies(engine)[header["correlation_id"]].status == ("cancelled" if is_cancelled else "succeeded")
    assert mill.ran == ([] if is_cancelled else [1])


def test_a_coroutine_is_interrupted_only_if_it_permits_it(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    travels = hmi.travel(sender_uuid="HMI", n=1)
    eventually(lambda: mill.ran == [1])
    hmi.travel(sender_uuid="HMI", n=0)
    hmi.cancel(travels)
    eventually(lambda: len(replies(engine, "travel")) == 2)
    assert mill.ran == [1, "brakes 1", "stands 1", 0]  # the next one begins when it has cleaned up
    assert replies(engine, "travel")[travels].status == "cancelled"

    waits = hmi.wait(sender_uuid="HMI")
    eventually(lambda: mill.ran[-1] == "wait")
    hmi.cancel(waits)
    mill.go_on.set()
    eventually(lambda: waits in replies(engine, "wait"))
    assert replies(engine, "wait")[waits].status == "succeeded"


@pytest.mark.parametrize("method", ["wait", "travel"])
@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_coroutine_that_waits_for_its_event_loop_has_not_begun(
    hmi: Asset,
    mill: Mill,
    engine: Engine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    status: str,
) -> None:
    hmi.hold_loop(sender_uuid="HMI")
    eventually(lambda: mill.ran == ["hold_loop"])
    late = hmi.method(method, "HMI", timeout=60)
    eventually(lambda: late in mill._commands._memory.open)
    if status == "cancelled":
        hmi.cancel(late)
        eventually(lambda: late in replies(engine, method))  # while the loop is busy
    else:
        monkeypatch.setattr(command_arrival, "boot_seconds", lambda: boot_seconds() + 60)
    mill.go_on.set()
    eventually(lambda: late in replies(engine, method))
    assert replies(engine, method)[late].status == status
    hmi.call("travel", sender_uuid="HMI", timeout=60)
    assert mill.ran == ["hold_loop", 0]


def test_a_stop_answers_a_coroutine_that_waits_for_its_event_loop(
    start: Start, url: str, watch: Watch, engine: Engine, eventually: Eventually
) -> None:
    mill = start(Mill, url, app_uuid="MILL", stop_timeout=0.5)
    hmi = watch("MILL")
    hmi.hold_loop(sender_uuid="HMI")
    eventually(lambda: mill.ran == ["hold_loop"])
    waits = hmi.method("wait", "HMI", timeout=60)
    eventually(lambda: waits in mill._commands._memory.open)
    mill.shutdown()
    assert replies(engine, "wait")[waits].status == "rejected"
    mill.go_on.set()
    assert mill.ran == ["hold_loop"]


def test_a_coroutine_may_end_in_spite_of_a_cancel(
    hmi: Asset, mill: Mill, engine: Engine, eventually: Eventually
) -> None:
    travels = hmi.travel(sender_uuid="HMI", n=1, stubborn=True)
    eventually(lambda: mill.ran == [1])
    hmi.cancel(travels)
    eventually(lambda: travels in replies(engine, "travel"))
    assert replies(engine, "travel")[travels].status == "succeeded"


def test_a_coroutine_that_cancels_itself_has_failed(hmi: Asset) -> None:
    with pytest.raises(CommandFailed, match="CancelledError"):
        hmi.call("give_in", sender_uuid="HMI", timeout=60)


def test_a_stop_answers_what_waits_and_a_restart_does_not_run_it(
    start: Start, url: str, watch: Watch, engine: Engine, eventually: Eventually
) -> None:
    mill = start(Mill, url, app_uuid="MILL", stop_timeout=0.5)
    hmi = watch("MILL")
    hmi.start(sender_uuid="HMI", n=1)
    eventually(lambda: mill.ran == [1])
    late = hmi.method("start", "HMI", {"n": 2}, timeout=60)
    eventually(lambda: mill._commands.waiting == 2)
    mill.shutdown()
    mill.go_on.set()
    assert replies(engine)[late].status == "rejected"  # the app is stopping
    again = start(Mill, url, app_uuid="MILL")
    again.go_on.set()
    assert watch("MILL").call("start", sender_uuid="HMI", n=3, timeout=60) == 3
    assert again.ran == [3]


def test_an_expired_command_gets_the_same_reply_after_a_restart(
    start: Start, url: str, engine: Engine, eventually: Eventually
) -> None:
    mill = start(Mill, url, app_uuid="MILL")
    mill.go_on.set()
    envelope = CommandEnvelope.addressed("HMI", {"n": 1})
    for again in (False, True):
        if again:
            mill.shutdown()
            mill = start(Mill, url, app_uuid="MILL")
        stamp = {"timeout": "60" if again else "0", **engine.stamp("MILL")}
        engine.publish(envelope.event("MILL", "start", stamp))
        count = 1 + again
        eventually(lambda count=count: len(engine.history("MILL", "start_REPLY")) == count)
        assert [reply.status for reply in replies(engine).values()] == ["expired"]
        assert mill.ran == []


def test_a_cancel_that_is_none_is_dropped(
    hmi: Asset, mill: Mill, engine: Engine, log: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    mill.go_on.set()
    for value in ("", "{", '{"correlation_id": 7}', None, "[]"):
        engine.publish(new_event("MILL", "commands_CANCEL", value, "OpenFactory", "Method.Cancel"))
    assert hmi.call("start", sender_uuid="HMI", n=1, timeout=60) == 1
    assert len([record for record in log.records if "is not a cancel" in record.getMessage()]) == 5
    assert "commands_CANCEL" not in hmi.attributes()
    with pytest.raises(ValueError, match="Pass the correlation id"):
        hmi.cancel("start")


class Job(OpenFactoryApp):
    """An app that has used the name before the runtime did."""

    @ofa_method()
    def cancel(self, job: int) -> str:
        return f"job {job} is off"


class Order(OpenFactoryApp):
    cancel = EventAttribute(value="no", tag="Order.Cancel")


def test_a_method_may_be_called_cancel(
    start: Start, url: str, watch: Watch, engine: Engine, eventually: Eventually
) -> None:
    start(Job, url, app_uuid="MILL")
    hmi = watch("MILL")
    hmi.cancel(sender_uuid="HMI", job=7)
    eventually(lambda: [reply.result for reply in replies(engine, "cancel").values()] == ["job 7 is off"])
    Asset.cancel(hmi, str(uuid4()))
    hmi.flush()
    assert [event.tag for event in engine.history("MILL", "commands_CANCEL")] == ["Method.Cancel"]


def test_an_attribute_may_be_called_cancel(start: Start, url: str, watch: Watch, eventually: Eventually) -> None:
    order = start(Order, url, app_uuid="MILL")
    hmi = watch("MILL")
    assert hmi.cancel.value == order.cancel.value == "no"
    hmi.cancel = "yes"
    eventually(lambda: order.cancel.value == "yes")


def test_a_plain_function_cannot_be_cancellable() -> None:
    with pytest.raises(TypeError, match=r"go is a plain function, .*async def"):

        class Wrong(OpenFactoryApp):
            @ofa_method(cancellable=True)
            def go(self) -> None: ...

    with pytest.raises(TypeError, match="travel is a plain function"):

        class Overridden(Mill):
            def travel(self, n: int = 0, stubborn: bool = False) -> int:  # type: ignore[override]
                return n


def test_the_log_says_nothing_of_a_cancel_but_its_command(
    hmi: Asset, mill: Mill, engine: Engine, log: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    log.set_level(logging.INFO)
    travels = hmi.travel(sender_uuid="HMI", n=1)
    eventually(lambda: mill.ran == [1])
    hmi.cancel(travels)
    eventually(lambda: travels in replies(engine, "travel"))
    [record] = [record for record in log.records if travels in record.getMessage()]
    assert (record.levelname, "was cancelled: Its caller" in record.getMessage()) == ("INFO", True)


@pytest.mark.parametrize(
    ("timeout", "age", "is_doubtful"), [(1.0, 0.9, True), (1.0, 0.6, False), (0.2, 0.01, False), (0.2, 0.15, True)]
)
def test_a_stamped_command_that_is_nearly_too_old_waits_for_a_cancel(
    timeout: float, age: float, is_doubtful: bool
) -> None:
    """Its stamp may be a little later than its sending."""
    arrival = Arrival(age, timeout, boot_seconds() + timeout - age)
    assert arrival.is_doubtful(datetime.now(UTC)) == is_doubtful
