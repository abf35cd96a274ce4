"""Random histories against a dictionary: what was said is read back, whoever says it or turns the clock."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.assets import Asset, AssetAttribute
from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.engines import open_engine
from openfactory.events.attribute import sample_value
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import openfactory_timestamp
from openfactory.exceptions import CommandFailed, CommandRejected, CommandTimeout
from openfactory.kafka import KSQLDBClient

CLIENTS = (0, 1, 2)
UUIDS = ("MILL", "ROBOT-Ü")
ATTRIBUTES = ("status", "speed", "a.b", "type", "états")
TYPES = ("Events", "Samples", "Condition", "OpenFactory")
KINDS = {"messages": None, "events": "Events", "samples": "Samples", "conditions": "Condition"}
TICK = "tick"  # written to see that everything before it has arrived

clients = st.sampled_from(CLIENTS)
uuids = st.sampled_from(UUIDS)
attributes = st.sampled_from(ATTRIBUTES)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["1", "1.50", "UNAVAILABLE", "true", "{}", "ü" * 500])
)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=3)


class Said(NamedTuple):
    """One statement in the dictionary."""

    value: Any
    type: str
    tag: str
    timestamp: str


class Counter(OpenFactoryApp):
    """Adds up; what it ran is noted outside of it, so that it outlives the app."""

    total = EventAttribute(value=0, tag="Total")
    ran: list[str]

    @ofa_method()
    def add(self, token: str, n: int) -> int:
        self.ran.append(token)
        self.total = self.total.value + n
        return int(self.total.value)

    @ofa_method()
    async def refuse(self, token: str) -> None:
        self.ran.append(token)
        raise ValueError(f"not {token}")


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1, 1.0, true and "1" are four values, and 0.0 is not -0.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def soon(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10  # far more than it takes
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.001)


class Factory(RuleBasedStateMachine):
    """Clients of one place of data, an app, and the dictionary that knows what they must read."""

    keeps = True

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.url = f"sqlite:///{folder}/factory.db" if self.keeps else f"memory://{uuid4().hex}"
        self.clock = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
        self.log: dict[tuple[str, str], list[Said]] = {}
        self.heard: dict[tuple[int, str, str], list[tuple[str, Any]]] = {}
        self.expected: dict[tuple[int, str, str], list[tuple[str, Any]]] = {}
        self.stopped: list[tuple[list[tuple[str, Any]], int]] = []  # what was heard, and how much when it was stopped
        self.ran: list[str] = []
        self.total = 0
        self.tokens = self.ticks = 0
        self.sent: dict[str, AssetEvent] = {}  # correlation id → command
        self.outcome: dict[str, tuple[str, Any]] = {}  # of those that are answered: status, and result or error
        self.open()

    # The place and its clients

    def open(self) -> None:
        self.reference = open_engine(self.url)
        self.engine = self.reference.engine
        self.assets: dict[tuple[int, str], Asset] = {}
        self.app: Counter | None = None
        for client in CLIENTS:
            self.open_client(client)

    def open_client(self, client: int) -> None:
        for uuid in (*UUIDS, "COUNTER"):
            self.assets[client, uuid] = Asset(uuid, KSQLDBClient(self.url), clock=self.now)

    def close_client(self, client: int) -> None:
        for uuid in (*UUIDS, "COUNTER"):
            self.assets.pop((client, uuid)).close()

    def now(self) -> str:
        return openfactory_timestamp(self.clock)

    def settle(self) -> None:
        """Every asset has taken in and handed on all that was written."""
        self.ticks += 1
        for uuid in UUIDS:
            self.engine.publish(AssetEvent(uuid, TICK, self.ticks, "Events", "Tick", self.now()))
        for client in CLIENTS:
            for uuid in UUIDS:
                self.arrives(self.assets[client, uuid])

    def arrives(self, asset: Asset) -> None:
        soon(lambda: same(asset[TICK].value, self.ticks))

    def note(self, uuid: str, attribute: str, said: Said) -> None:
        self.log.setdefault((uuid, attribute), []).append(said)
        for (client, watched, topic), events in self.expected.items():
            del client
            if watched == uuid and topic in ("messages", "." + attribute, said.type):
                value = sample_value(said.value) if said.type == "Samples" else said.value
                events.append((f"{uuid}.{attribute}", value))

    # What clients do

    @rule(
        client=clients, uuid=uuids, attribute=attributes, value=values, type=st.sampled_from(TYPES), own=st.booleans()
    )
    def declare(self, client: int, uuid: str, attribute: str, value: Any, type: str, own: bool) -> None:
        said = Said(value, type, f"{type}.Tag", "2020-01-01T00:00:00.000Z" if own else self.now())
        self.assets[client, uuid].add_attribute(AssetAttribute(attribute, *said))
        self.note(uuid, attribute, said)
        self.settle()  # a bare value keeps the type that its writer knows

    @precondition(lambda self: self.log)
    @rule(client=clients, data=st.data(), writes=st.lists(values, min_size=1, max_size=4))
    def write(self, client: int, data: st.DataObject, writes: list[Any]) -> None:
        uuid, attribute = data.draw(st.sampled_from(sorted(self.log)))
        asset = self.assets[client, uuid]
        for value in writes:
            if attribute == "status":
                asset.status = value
            else:
                asset[attribute] = value
            last = self.log[uuid, attribute][-1]
            self.note(uuid, attribute, Said(value, last.type, last.tag, self.now()))
            read = asset[attribute]
            assert same(read.value, sample_value(value) if last.type == "Samples" else value)
            assert read.timestamp == self.now()

    @rule(hours=st.floats(-1e4, 1e4), seconds=st.sampled_from([0.001, 1.0]))
    def turn_the_clock(self, hours: float, seconds: float) -> None:
        self.clock += timedelta(hours=hours, seconds=seconds)

    # Who watches

    @rule(client=clients, uuid=uuids, topic=st.sampled_from([*KINDS, *("." + attribute for attribute in ATTRIBUTES)]))
    def watch(self, client: int, uuid: str, topic: str) -> None:
        self.settle()
        heard: list[tuple[str, Any]] = []

        def hear(subject: str, message: Any) -> None:
            if not subject.endswith("." + TICK):
                heard.append((subject, message["value"]))

        key = (client, uuid, KINDS.get(topic) or topic)
        if key in self.heard:
            return
        asset = self.assets[client, uuid]
        if topic in KINDS:
            getattr(asset, f"subscribe_to_{topic}")(hear)
        else:
            asset.subscribe_to_attribute(topic[1:], hear)
        self.heard[key], self.expected[key] = heard, []

    @precondition(lambda self: self.heard)
    @rule(data=st.data())
    def watch_no_more(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.heard)))
        self.settle()
        self.check_heard(key)
        client, uuid, topic = key
        asset = self.assets[client, uuid]
        if topic.startswith("."):
            asset.stop_attribute_subscription(topic[1:])
        else:
            names = {type: kind for kind, type in KINDS.items()}
            getattr(asset, f"stop_{names.get(topic, topic)}_subscription")()
        self.stopped.append((self.heard.pop(key), len(self.expected.pop(key))))
        attribute, type = (
            (topic[1:], "Events") if topic.startswith(".") else ("status", topic if topic in TYPES else "Events")
        )
        self.declare(client, uuid, attribute, "unheard", type, False)

    def check_heard(self, key: tuple[int, str, str]) -> None:
        soon(lambda: len(self.heard[key]) >= len(self.expected[key]))
        assert same(self.heard[key], self.expected[key]), f"{key} heard {self.heard[key]}, not {self.expected[key]}"

    # What is read

    @rule()
    def read(self) -> None:
        self.settle()
        for (uuid, attribute), said in self.log.items():
            for client in CLIENTS:
                self.check_attribute(self.assets[client, uuid], attribute, said[-1])
            rows = [Said(*row) for row in self.history(uuid, attribute)]
            assert same(rows, said)
        for key in self.heard:
            self.check_heard(key)
        assert [len(heard) for heard, _ in self.stopped] == [count for _, count in self.stopped]
        for client, uuid in self.assets:
            if uuid in UUIDS:
                known = {attribute for known, attribute in self.log if known == uuid}
                assert set(self.assets[client, uuid].attributes()) == {*known, TICK}

    def check_attribute(self, asset: Asset, attribute: str, last: Said) -> None:
        read = asset[attribute]
        assert same(read.value, sample_value(last.value) if last.type == "Samples" else last.value)
        assert (read.type, read.tag, read.timestamp) == last[1:]

    def history(self, uuid: str, attribute: str, **limits: Any) -> list[tuple[Any, str, str, str]]:
        events = self.engine.history(uuid, attribute, **limits)
        positions = [event.position or 0 for event in events]
        assert positions == sorted(set(positions))
        return [(event.value, event.type, event.tag, event.timestamp) for event in events]

    @precondition(lambda self: self.log)
    @rule(data=st.data(), limit=st.integers(1, 5))
    def read_a_part(self, data: st.DataObject, limit: int) -> None:
        self.engine.flush()
        uuid, attribute = data.draw(st.sampled_from(sorted(self.log)))
        said = self.log[uuid, attribute]
        since, until = (data.draw(st.sampled_from([one.timestamp for one in said])) for _ in range(2))
        within = [one for one in said if since <= one.timestamp <= until]
        assert same(self.history(uuid, attribute, since=since, until=until, limit=limit), within[-limit:])

    # What ends and starts again

    @rule(client=clients)
    def reopen(self, client: int) -> None:
        """A client that opens reads at once what was written before, whoever wrote it."""
        self.settle()
        for key in [key for key in self.heard if key[0] == client]:
            self.check_heard(key)
            self.stopped.append((self.heard.pop(key), len(self.expected.pop(key))))
        self.close_client(client)
        self.open_client(client)
        for (uuid, attribute), said in self.log.items():
            self.check_attribute(self.assets[client, uuid], attribute, said[-1])

    @rule()
    def restart(self) -> None:
        """Everything is closed without a flush; a file keeps it all, a memory nothing."""
        self.close_all()
        self.heard.clear()
        self.expected.clear()
        if not self.keeps:
            self.log.clear()
            self.sent.clear()
            self.outcome.clear()
        self.open()
        self.read()

    def close_all(self) -> None:
        self.stop_app()
        for client in CLIENTS:
            self.close_client(client)
        self.reference.close()

    # Commands

    @precondition(lambda self: self.app is None)
    @rule()
    def start_app(self) -> None:
        """What was sent before is refused, not run."""
        before = {id for id in self.sent if id not in self.outcome}
        self.app = Counter(KSQLDBClient(self.url), loglevel="CRITICAL", app_uuid="COUNTER")
        self.app.ran = self.ran
        self.total = 0
        self.engine.flush()
        for correlation_id in before:
            [(status, error)] = {(reply.status, reply.error) for reply in self.replies(correlation_id)}
            assert status == "rejected"
            assert "before the app's start" in str(error)
            self.outcome[correlation_id] = ("rejected", error)

    @precondition(lambda self: self.app is not None)
    @rule()
    def stop_app(self) -> None:
        if self.app is not None:
            self.app.shutdown()
            self.app = None

    @precondition(lambda self: self.app is not None)
    @rule(client=clients, n=st.integers(-100, 100))
    def call(self, client: int, n: int) -> None:
        token = self.token()
        self.total += n
        counter = self.assets[client, "COUNTER"]
        assert counter.call("add", token=token, n=n, sender_uuid="HMI") == self.total
        self.expect(token, "succeeded", self.total)
        assert counter.wait_until("total", self.total, timeout=60)

    @precondition(lambda self: self.app is not None)
    @rule(client=clients, how=st.sampled_from(["fail", "argument", "name"]))
    def call_in_vain(self, client: int, how: str) -> None:
        token = self.token()
        counter = self.assets[client, "COUNTER"]
        if how == "fail":
            with pytest.raises(CommandFailed, match=f"ValueError: not {token}$"):
                counter.call("refuse", token=token, sender_uuid="HMI")
            self.expect(token, "failed", None)
            return
        method, arguments = ("add", {"n": "many"}) if how == "argument" else ("subtract", {"n": "1"})
        with pytest.raises(CommandRejected):
            counter.call(method, arguments, token=token, sender_uuid="HMI")
        self.expect(token, "rejected", None, ran=0)

    @precondition(lambda self: self.app is None)
    @rule(client=clients)
    def call_nobody(self, client: int) -> None:
        token = self.token()
        reasons = r"it is UNAVAILABLE|nothing is known of this asset|has not been written yet"
        with pytest.raises(CommandTimeout, match=reasons):
            self.assets[client, "COUNTER"].call("add", token=token, n=1, sender_uuid="HMI", timeout=0.02)
        assert token not in self.ran
        self.engine.flush()
        self.take_in()

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """The same command, delivered a second time, is not run a second time; a running app answers it again."""
        correlation_id = data.draw(st.sampled_from(sorted(self.sent)))
        ran = list(self.ran)
        before = len(self.replies(correlation_id))
        self.engine.publish(self.sent[correlation_id]).wait()
        if self.app is not None:
            soon(lambda: len(self.replies(correlation_id)) > before)
        assert self.ran == ran
        self.check_outcome(correlation_id)

    def token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    def expect(self, token: str, status: str, result: Any, ran: int = 1) -> None:
        assert self.ran.count(token) == ran
        self.engine.flush()
        self.take_in()
        [correlation_id] = [id for id, event in self.sent.items() if token_of(event) == token]
        self.outcome[correlation_id] = (status, result)
        self.check_outcome(correlation_id)

    def take_in(self) -> None:
        for event in self.engine.history("COUNTER", tag="Method.Command"):
            self.sent.setdefault(str(CommandEnvelope.parse(event.value).header.correlation_id), event)

    def replies(self, correlation_id: str) -> list[CommandReply]:
        said = self.engine.history("COUNTER", tag="Method.Reply")
        found = [CommandReply.parse(event.value) for event in said]
        return [reply for reply in found if str(reply.correlation_id) == correlation_id]

    def check_outcome(self, correlation_id: str) -> None:
        """One outcome, however often it is told."""
        told = {(reply.status, json.dumps(reply.result), reply.error) for reply in self.replies(correlation_id)}
        if correlation_id not in self.outcome:
            assert not told
            return
        [(status, result, error)] = told
        expected_status, expected = self.outcome[correlation_id]
        assert status == expected_status
        if status == "succeeded":
            assert (json.loads(result), error) == (expected, None)

    @invariant()
    def nothing_runs_twice(self) -> None:
        assert len(self.ran) == len(set(self.ran))

    def teardown(self) -> None:
        with self.stack:
            try:
                self.read()
                for correlation_id in self.sent:
                    self.check_outcome(correlation_id)
            finally:
                self.close_all()


class FactoryInMemory(Factory):
    """The same, of which nothing is left when the last client is gone."""

    keeps = False


def token_of(event: AssetEvent) -> str:
    return CommandEnvelope.parse(event.value).arguments["token"]


@pytest.mark.parametrize("factory", [FactoryInMemory, Factory], ids=["memory", "sqlite"])
def test_any_history_reads_as_a_dictionary_would_have_it(
    factory: type[Factory], rounds: Callable[[int, int], int]
) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    bounds = settings(
        max_examples=rounds(12, 400),
        stateful_step_count=30,
        phases=[Phase.generate],  # what never arrives is waited for: to shrink that takes longer than a test may
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    try:
        run_state_machine_as_test(factory, settings=bounds)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
