"""What a process writes comes back to it from the log: it is not decoded again, and nobody misses or doubles it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.assets import Asset, AssetAttribute
from openfactory.engines.base import Engine
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.events.event import AssetEvent, new_event
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from servers import KafkaBroker

pytestmark = pytest.mark.timeout(120)


class Writing:
    """An asset of a process that writes, and the records that its engine decodes."""

    def __init__(self, client: KSQLDBClient, elsewhere: Engine, mill: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = client
        self.elsewhere = elsewhere  # as another process has it
        self.mill = mill
        engine: Any = client.engine
        self.engine = engine
        self.decoded: list[object] = []
        event_of = engine._records.event_of

        def decode(*record: Any) -> AssetEvent | None:
            event: AssetEvent | None = event_of(*record)
            self.decoded.append(event and event.value)
            return event

        monkeypatch.setattr(engine._records, "event_of", decode)

    @property
    def subscription(self) -> Any:
        return self.mill._feed._subscription

    def write(self, value: object) -> int:
        """Write a value, and wait until it has come back, after its report."""
        with self.engine._dispatcher.lock:  # nothing is delivered meanwhile
            position = self.mill._write("x", value).wait(60)
        eventually(lambda: self.subscription.position >= position)
        return position

    def write_elsewhere(self, value: object) -> int:
        position = self.elsewhere.publish(new_event("MILL", "x", value, "Samples", "Test")).wait(60)
        eventually(lambda: self.subscription.position >= position)
        return position


# Both engines follow the log by the same code, and a ksqlDB for each test takes seconds.
@pytest.fixture(params=["kafka", pytest.param("http", marks=pytest.mark.thorough)])
def writing(
    request: pytest.FixtureRequest, kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Writing]:
    with ExitStack() as stack:
        factory = stack.enter_context(KsqlDBFactory(kafka_broker.bootstrap_servers))
        url = f"kafka://{factory.bootstrap_servers}?prefix={factory.prefix}"
        own = url if request.param == "kafka" else factory.url
        client = stack.enter_context(KSQLDBClient(own, bootstrap_servers=factory.bootstrap_servers))
        elsewhere = stack.enter_context(closing(KafkaEngine(url)))
        mill = stack.enter_context(Asset("MILL", client))
        mill.add_attribute(AssetAttribute(id="x", value=0.0, type="Samples", tag="Test"))
        one = Writing(client, elsewhere, mill, monkeypatch)
        one.write(0.5)  # the partition is followed from now on
        one.decoded.clear()
        yield one


def test_an_own_write_is_not_decoded(writing: Writing) -> None:
    positions = [writing.write(value) for value in (1.5, "UNAVAILABLE", {"a": [1, None]})]
    assert writing.decoded == []
    assert positions == sorted(set(positions))
    assert writing.subscription.position == positions[-1]
    assert writing.mill.x.value == {"a": [1, None]}
    last = writing.engine.snapshot(["MILL"]).events["MILL"]
    assert [(event.value, event.position) for event in last if event.id == "x"] == [({"a": [1, None]}, positions[-1])]


def test_a_process_that_writes_much_decodes_none_of_it(writing: Writing) -> None:
    with writing.engine._dispatcher.lock:
        for number in range(5_000):
            writing.mill.x = float(number)
        writing.mill.flush(60)
    last = writing.write(-1.0)
    assert writing.decoded == []
    assert writing.subscription.position == last
    assert writing.mill.x.value == -1.0


def test_a_record_of_another_process_between_many_own_writes_is_heard_in_its_place(writing: Writing) -> None:
    heard: list[object] = []
    with writing.engine._dispatcher.lock:
        for number in range(100):
            writing.mill.x = float(number)
        writing.mill.flush(60)
        writing.elsewhere.publish(new_event("MILL", "x", "other", "Samples", "Test")).wait(60)
        writing.mill.subscribe_to_attribute("y", lambda _, message: heard.append(message["VALUE"]))
        writing.mill.add_attribute(AssetAttribute(id="y", value=0.5, type="Samples", tag="Test"), False)
        for number in range(100):
            writing.mill.y = float(number)
        writing.mill.flush(60)
    eventually(lambda: heard == [0.5, *map(float, range(100))])
    assert writing.decoded == ["other"]
    assert writing.mill.x.value == "other"


def test_a_process_that_writes_as_fast_as_it_can_does_not_read_it_back_and_hears_others(writing: Writing) -> None:
    writing.mill.add_attribute(AssetAttribute(id="y", value=0.0, type="Samples", tag="Test"))
    written, end = [0.0], threading.Event()

    def write() -> None:
        while not end.is_set():
            for _ in range(100):
                written.append(written[-1] + 1)
                writing.mill.x = written[-1]
        writing.mill.flush(60)

    def read() -> int:
        return int(writing.engine.health().counters["records_read"])

    def skips_most(before: int, begun: int) -> bool:
        return len(written) > begun + 5_000 and read() - before < (len(written) - begun) / 2

    def has_heard(number: int) -> bool:
        return bool(writing.mill.y.value == float(number))

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            for number in range(1, 3):
                before, begun = read(), len(written)
                eventually(partial(skips_most, before, begun))
                writing.elsewhere.publish(new_event("MILL", "y", float(number), "Samples", "Test")).wait(60)
                eventually(partial(has_heard, number))
        finally:
            end.set()
        writer.result(60)
    assert writing.write(-1.0) == writing.subscription.position
    assert writing.mill.x.value == -1.0
    eventually(lambda: writing.elsewhere.snapshot(["MILL"]) == writing.engine.snapshot(["MILL"]))


def test_who_subscribes_while_a_process_writes_as_fast_as_it_can_hears_the_rest_in_order(writing: Writing) -> None:
    heard: list[float] = []
    for number in range(20_000):
        writing.mill.x = float(number)
        if number == 10_000:
            writing.mill.subscribe_to_attribute("x", lambda _, message: heard.append(message["VALUE"]))
    writing.mill.flush(60)
    eventually(lambda: heard[-1:] == [19_999.0])
    assert heard == [float(number) for number in range(20_000 - len(heard), 20_000)]
    assert len(heard) >= 9_999


def test_an_own_write_yields_to_what_stands_after_it_and_only_to_that(writing: Writing) -> None:
    writing.write_elsewhere(1.5)
    writing.write(2.5)
    assert writing.mill.x.value == 2.5
    writing.write_elsewhere(3.5)
    assert writing.mill.x.value == 3.5
    assert writing.decoded == [1.5, 3.5]


def test_callbacks_hear_own_writes_once_and_in_order(writing: Writing) -> None:
    heard: list[object] = []
    writing.mill.subscribe_to_attribute("x", lambda _, message: heard.append(message["VALUE"]))
    writing.write(1.5)
    writing.write_elsewhere(2.5)
    writing.write(3.5)
    eventually(lambda: heard[-1:] == [3.5])
    writing.mill.stop_attribute_subscription("x")
    writing.write(4.5)
    assert heard == [1.5, 2.5, 3.5]
    assert writing.mill.x.value == 4.5


def test_subscriptions_to_all_assets_hear_own_writes_once(writing: Writing) -> None:
    heard: list[object] = []
    writing.engine.subscribe(None, lambda event: heard.append((event.id, event.value, event.position)))
    positions = [writing.write(value) for value in (1.5, 2.5)]
    eventually(lambda: len(heard) >= 2)
    assert heard == [("x", 1.5, positions[0]), ("x", 2.5, positions[1])]


def test_another_object_of_the_asset_hears_the_writes_of_the_first(writing: Writing) -> None:
    with Asset("MILL", writing.client) as other:
        writing.write(1.5)
        eventually(lambda: other.x.value == 1.5)
        other.x = 2.5
        eventually(lambda: writing.mill.x.value == 2.5)


def test_an_echo_that_comes_before_its_report_is_decoded(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def take_none(seconds: float) -> None:
        looks.append(seconds)
        time.sleep(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(writing.engine._delivery, "_serve", take_none)
        eventually(lambda: looks)  # no thread takes reports any more
        receipt = writing.mill._write("x", 1.5)
        eventually(lambda: writing.decoded == [1.5])
        assert not receipt.settled
        assert writing.mill.x.value == 1.5
    position = receipt.wait(60)
    assert writing.subscription.position == position
    writing.write_elsewhere(2.5)
    assert writing.mill.x.value == 2.5


def test_commands_to_an_own_asset_are_heard(writing: Writing) -> None:
    heard: list[str] = []
    writing.mill.subscribe_to_messages(lambda subject, _: heard.append(subject))
    writing.elsewhere.publish(new_event("MILL", "run", "{}", "Method", "Method")).wait(60)
    eventually(lambda: "run" in writing.mill)
    writing.mill.method("run", "HMI")
    eventually(lambda: heard == ["MILL.run_CMD"])
