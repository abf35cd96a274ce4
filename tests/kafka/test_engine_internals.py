"""The engines of Kafka under what seldom happens: callbacks that ask, many threads, errors of librdkafka, forks."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import confluent_kafka
import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.engines.base import Engine, Servers
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.delivery import Delivery, KafkaReceipt
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.interest import Interest
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import LogReader, Partition
from openfactory.engines.kafka_engine.presence import GroupPresence
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.engines.ksqldb.engine import KsqlDBEngine
from openfactory.engines.room import waiting_for_room
from openfactory.events.event import AssetEvent, new_event
from openfactory.exceptions import (
    DeliveryError,
    DeliveryTimeout,
    EngineClosedError,
    EngineUnavailableError,
    OpenFactoryError,
)
from openfactory.settings.credentials import Credentials
from openfactory.testing import eventually
from servers import KafkaBroker

pytestmark = pytest.mark.timeout(60)

_INVALID_PRODUCER_EPOCH = 47
_DUPLICATE_SEQUENCE_NUMBER = 46
_PRODUCE, _LIST_OFFSETS = 0, 2


def event(value: object, asset_uuid: str = "MILL") -> AssetEvent:
    return new_event(asset_uuid, "x", value, "Events", "Test")


@pytest.fixture
def engine(kafka_url: str) -> Iterator[KafkaEngine]:
    engine = KafkaEngine(kafka_url)
    yield engine
    engine.close()


@pytest.fixture
def written(engine: KafkaEngine) -> KafkaEngine:
    """An engine whose log holds 0 to 4."""
    for value in range(5):
        engine.publish(event(value))
    engine.flush()
    engine.snapshot()
    return engine


def within(seconds: float, *works: Callable[[], object]) -> None:
    """All of it ends in time, and nothing of it raises."""
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    assert not any(thread.is_alive() for thread in threads), f"it did not end within {seconds:g} s"
    if failures:
        raise failures[0]


def librdkafka() -> ctypes.CDLL:
    """The library that confluent_kafka brings along, for the faults that it can be made to show."""
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka*"))
    if not found or sys.implementation.name != "cpython":
        pytest.skip(reason="librdkafka cannot be reached here. Install confluent-kafka as a wheel for Linux")
    return ctypes.CDLL(str(found[0]))


def handle_of(client: object) -> ctypes.c_void_p:
    """The `rd_kafka_t *` of a client, which stands behind the head of the object."""
    return ctypes.c_void_p.from_address(id(client) + object.__basicsize__)


# What subscribers do inside their calls


@pytest.mark.parametrize("verb", ["history", "snapshot", "query", "publish", "subscribe", "close"])
def test_subscriber_may_use_the_engine_while_it_catches_up(written: KafkaEngine, verb: str) -> None:
    heard: list[object] = []
    verbs: dict[str, Callable[[], object]] = {
        "history": lambda: written.history("MILL"),
        "snapshot": lambda: written.snapshot(),
        "query": lambda: written.query("SELECT * FROM assets"),
        "publish": lambda: written.publish(event("other", "OTHER")),
        "subscribe": lambda: written.subscribe("MILL", lambda _: None, None, 0),
        "close": lambda: written.close(),
    }

    def on_event(one: AssetEvent) -> None:
        verbs[verb]()
        heard.append(one.value)

    within(8, lambda: written.subscribe("MILL", on_event, None, 0))
    assert heard == [0, 1, 2, 3, 4]


def test_subscriber_that_holds_a_lock_does_not_stop_those_who_read(written: KafkaEngine) -> None:
    """A callback waits for a lock, whose holder reads the log."""
    lock, begun = threading.Lock(), threading.Event()

    def on_event(_: AssetEvent) -> None:
        begun.set()
        with lock:
            pass

    def read() -> None:
        assert begun.wait(60)
        assert len(written.history("MILL")) == 5
        lock.release()

    lock.acquire()
    within(8, read, lambda: written.subscribe("MILL", on_event, None, 0))


def test_deregistration_is_no_event_of_the_asset(written: KafkaEngine) -> None:
    written.deregister("MILL")
    written.publish(event("last"))
    written.flush()
    heard: list[object] = []
    written.subscribe("MILL", lambda one: heard.append(one.value), None, 0)
    eventually(lambda: heard[-1:] == ["last"])
    assert heard == [0, 1, 2, 3, 4, "last"]
    assert [one.value for one in written.history("MILL")] == heard


def test_piece_of_the_log_that_is_not_read_on_stops_nobody(written: KafkaEngine) -> None:
    partition = written._partitions[0]
    begun = written._reader.read(partition, 0, 5)
    assert next(begun)[0] == 0
    other = written._reader.read(partition, 2, 5)
    assert [offset for offset, _ in other] == [2, 3, 4]
    assert [offset for offset, _ in begun] == [1, 2, 3, 4]


# Many threads


def test_many_threads_at_once(engine: KafkaEngine) -> None:
    """They publish, subscribe, read and ask; each subscription hears each event once and in order."""
    ended = threading.Event()
    heard: dict[str, list[object]] = {f"A{number}": [] for number in range(4)}
    for asset_uuid, values in heard.items():
        engine.subscribe(asset_uuid, lambda one, values=values: values.append(one.value))  # type: ignore[misc]

    def write(asset_uuid: str) -> None:
        for value in range(500):
            engine.publish(event(value, asset_uuid))
        engine.flush()

    def watch() -> None:
        while not ended.is_set():
            values: list[AssetEvent] = []
            engine.subscribe("A0", values.append, None, 0).close()
            assert [one.value for one in values] == list(range(len(values)))

    def read() -> None:
        while not ended.is_set():
            engine.snapshot()
            engine.query("SELECT * FROM assets")
            values = [one.value for one in engine.history("A1", limit=1_000)]
            assert values == list(range(len(values)))

    def end() -> None:
        eventually(lambda: all(len(values) == 500 for values in heard.values()), 25)
        ended.set()

    writers = [lambda one=one: write(one) for one in heard]
    within(30, *writers, watch, watch, read, read, end)
    assert all(values == list(range(500)) for values in heard.values())


def test_closing_under_load_ends_soon_and_all_are_told(kafka_url: str) -> None:
    for _ in range(5):
        engine = KafkaEngine(kafka_url)
        for value in range(2_000):
            engine.publish(event(value))
        engine.flush()
        within(20, *([lambda: use_until_closed(engine)] * 4), lambda: close_soon(engine))  # noqa: B023


def use_until_closed(engine: Engine) -> None:
    with suppress(EngineClosedError):
        while True:
            engine.publish(event(-1))
            engine.snapshot()
            engine.history("MILL", since="2026-01-01T00:00:00.000Z")
            engine.subscribe("MILL", lambda _: None, None, 0).close()


def close_soon(engine: Engine) -> None:
    begun = threading.Event()
    engine.subscribe("MILL", lambda _: begun.set(), None, 0)
    assert begun.wait(60)
    started = time.monotonic()
    engine.close()
    assert time.monotonic() < started + 20


def test_engine_that_is_opened_again_and_again_leaves_nothing_behind(kafka_url: str) -> None:
    def counted() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    def open_and_close() -> None:
        engine = KafkaEngine(kafka_url)
        engine.subscribe("MILL", lambda _: None)
        engine.publish(event(1))
        engine.snapshot()
        engine.close()

    open_and_close()
    before = counted()
    for _ in range(30):
        open_and_close()
    eventually(lambda: all(now <= then + 5 for now, then in zip(counted(), before, strict=True)))


def test_engine_that_cannot_be_opened_leaves_no_thread(kafka_broker: KafkaBroker) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory:
        before = threading.active_count()
        for _ in range(3):
            with pytest.raises(OpenFactoryError):
                KsqlDBEngine(factory.url, Servers(factory.bootstrap_servers, "no-url at all"))
        eventually(lambda: threading.active_count() <= before)


# What librdkafka tells


def test_producer_that_cannot_go_on_is_made_anew(engine: KafkaEngine) -> None:
    engine.publish(event(1)).wait()
    fail = librdkafka().rd_kafka_test_fatal_error
    fail.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    old = engine._delivery._producer
    assert fail(handle_of(old), _INVALID_PRODUCER_EPOCH, b"on purpose") == 0
    eventually(lambda: engine._delivery._producer is not old)
    engine.publish(event(2)).wait()
    engine.flush()
    assert [one.value for one in engine.history("MILL")] == [1, 2]


class _NoAnswerAtFirst:
    """A consumer whose first requests fail, as while a broker starts again."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.failures = 3

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def list_topics(self, *arguments: Any, **keywords: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TRANSPORT))
        return self._consumer.list_topics(*arguments, **keywords)


def test_a_new_log_is_followed_although_the_broker_does_not_answer_at_first(
    engine: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[AssetEvent] = []
    engine.subscribe("MILL", heard.append)
    former = engine._feed._consumer.client
    consumer = _NoAnswerAtFirst(engine._feed._consumer._new_client())
    monkeypatch.setattr(engine._feed._consumer, "_new_client", lambda: consumer)
    engine._read_anew(engine._identity, "The log is taken for another one")
    eventually(lambda: not consumer.failures)
    assert engine._feed._consumer.client is not former  # which knows the leaders of the former log
    engine.publish(event(1)).wait()
    eventually(lambda: [one.value for one in heard] == [1])


@pytest.fixture
def mock_cluster(request: pytest.FixtureRequest) -> tuple[str, Callable[..., None]]:
    """A broker inside librdkafka, and how its next answer, to a writer if nothing else is said, is made an error."""
    rtt = getattr(request, "param", 0)
    host = confluent_kafka.Producer(
        {"bootstrap.servers": "x", "test.mock.num.brokers": 1, "test.mock.broker.rtt": rtt, "log_level": 0}
    )
    library = librdkafka()
    library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
    library.rd_kafka_handle_mock_cluster.argtypes = [ctypes.c_void_p]
    library.rd_kafka_mock_push_request_errors.argtypes = [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t]
    (broker,) = host.list_topics(timeout=5).brokers.values()

    def answer(code: int, to: int = _PRODUCE) -> None:
        cluster = library.rd_kafka_handle_mock_cluster(handle_of(host))
        library.rd_kafka_mock_push_request_errors(cluster, to, 1, ctypes.c_int(code))

    return f"{broker.host}:{broker.port}", answer


@pytest.fixture
def delivery(mock_cluster: tuple[str, Callable[..., None]]) -> Iterator[Delivery]:
    delivery = Delivery(BrokerConnection(mock_cluster[0], Credentials()))
    yield delivery
    delivery.close(10)


def test_write_that_the_broker_had_already_is_acknowledged(
    delivery: Delivery, mock_cluster: tuple[str, Callable[..., None]]
) -> None:
    """Its place is not told then; the thread for reports goes on."""
    first = delivery.publish("t", "MILL", b"1", event(1)).wait()
    mock_cluster[1](_DUPLICATE_SEQUENCE_NUMBER)
    second = delivery.publish("t", "MILL", b"2", event(2)).wait()
    assert second == first + 1
    delivery.flush(timeout=60)


def test_a_write_is_acknowledged_even_if_the_time_of_the_log_cannot_be_learnt(
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    eventually: Callable[..., None],
) -> None:
    def fail(*_: object) -> None:
        raise TypeError("no time")

    monkeypatch.setattr(delivery._connection.clocks, "note_written", fail)
    delivery.publish("t", "MILL", b"1", event(1)).wait(60)
    eventually(lambda: any("The time of the log" in message for message in caplog.messages))
    delivery.publish("t", "MILL", b"2", event(2)).wait(60)


@pytest.mark.parametrize("code", [5, 6, 9, 56, 74, 75, 78])
def test_an_error_that_passes_by_itself_is_retried(
    delivery: Delivery, mock_cluster: tuple[str, Callable[..., None]], code: int
) -> None:
    """Brokers answer so while the leader of a partition changes, and soon after a topic was created."""
    delivery.publish("t", "MILL", b"1", event(1)).wait()
    reader = LogReader(BrokerConnection(mock_cluster[0], Credentials()))
    try:
        partition = Partition("t", delivery.furthest.popitem()[0][1])
        mock_cluster[1](code, _LIST_OFFSETS)
        assert reader.ends([partition]) == {partition: 1}
    finally:
        reader.close()


def test_flush_waits_for_a_report_that_another_thread_still_handles(delivery: Delivery) -> None:
    """Several threads take reports, so the last message of a key may be settled before an earlier one."""
    entered, released = threading.Event(), threading.Event()
    report = delivery.report

    def slow_report(receipt: KafkaReceipt, error: Any, message: Any) -> None:
        if receipt.number == 1:
            entered.set()
            assert released.wait(60)
        report(receipt, error, message)

    delivery.report = slow_report  # type: ignore[method-assign]
    first = delivery.publish("t", "MILL", b"1", event(1))
    assert entered.wait(60)
    second = delivery.publish("t", "MILL", b"2", event(2))
    try:
        while not second.settled:
            delivery._poll(0.1)
        with pytest.raises(DeliveryTimeout) as told:
            delivery.flush(timeout=0.1)
        assert told.value.pending == 1
    finally:
        released.set()
    delivery.flush(timeout=60)
    assert first.settled


@pytest.mark.parametrize("mock_cluster", [200], indirect=True, ids=["far-away"])
def test_flush_does_not_wait_for_what_others_go_on_writing(delivery: Delivery) -> None:
    """The way to the broker is long, so that some message is always on it."""
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.02):
            delivery.publish("t", "OTHER", b"1", event(1, "OTHER"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        receipt = delivery.publish("t", "MILL", b"1", event(1))
        delivery.flush(timeout=60)
        assert receipt.settled
        assert delivery.queued
    finally:
        ended.set()
        writer.join()


def test_publisher_that_waits_for_room_is_told_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openfactory.engines.kafka_engine.delivery._QUEUE_MESSAGES", 10)
    delivery = Delivery(BrokerConnection("127.0.0.1:1", Credentials()))
    for number in range(10):
        delivery.publish("t", "MILL", b"1", event(number))
    refused: list[BaseException] = []

    def publish() -> None:
        try:
            delivery.publish("t", "MILL", b"1", event(10))
        except OpenFactoryError as error:
            refused.append(error)

    waiting = threading.Thread(target=publish)
    waiting.start()
    eventually(lambda: delivery.queued == 11)
    with pytest.raises(OpenFactoryError):
        delivery.close(0.2)
    waiting.join(60)
    assert [type(error) for error in refused] == [EngineClosedError]
    eventually(lambda: not delivery._thread.is_alive())


def test_closing_writes_what_waits_for_a_batch(kafka_url: str) -> None:
    with closing(KafkaEngine(kafka_url)) as engine:
        engine._delivery._outbox.is_under_load = True
        receipts = [engine.publish(event(value)) for value in range(3)]
    assert all(receipt.position is not None for receipt in receipts)
    with closing(KafkaEngine(kafka_url)) as engine:
        assert [one.value for one in engine.history("MILL")] == [0, 1, 2]


def test_a_flush_does_not_wait_for_a_batch(engine: KafkaEngine) -> None:
    engine.publish(event(0)).wait()
    engine._delivery._outbox.is_under_load = True
    receipt = engine.publish(event(1))
    engine.flush()
    assert receipt.position is not None


def test_a_full_queue_refuses_what_is_too_much_and_an_end_fails_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write is either refused by the call, or settled, also if it waits for a batch."""
    monkeypatch.setattr("openfactory.engines.kafka_engine.delivery._QUEUE_MESSAGES", 10)
    delivery = Delivery(BrokerConnection("127.0.0.1:1", Credentials()))
    receipts: list[KafkaReceipt] = []
    with waiting_for_room(0.1), pytest.raises(DeliveryTimeout):
        receipts.extend(delivery.publish("t", "MILL", b"1", event(number)) for number in range(1_000))
    assert 10 <= len(receipts) == delivery.queued < 1_000
    with pytest.raises(OpenFactoryError):
        delivery.close(0.1)
    delivery.join()
    assert all(receipt.error is not None for receipt in receipts)
    assert not delivery.queued


class RefusingProducer:
    """A producer with a fatal error, whose refusal comes while it is being replaced."""

    def __init__(self) -> None:
        self.refuses, self.is_replaced = threading.Event(), threading.Event()

    def __len__(self) -> int:
        return 0

    def produce(self, *_: object) -> None:
        """Refuse a message."""
        self.refuses.set()
        assert self.is_replaced.wait(60)
        raise confluent_kafka.KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._FATAL))

    def poll(self, *_: float) -> int:
        """Return 0, the number of callbacks."""
        return 0

    purge = flush = poll


def test_a_thread_that_is_refused_while_the_producer_is_replaced_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delivery = Delivery(BrokerConnection("127.0.0.1:1", Credentials()))
    refusing: Any = RefusingProducer()
    new_producer = delivery._new_producer

    def replaced() -> Any:
        producer = new_producer()
        refusing.is_replaced.set()
        return producer

    monkeypatch.setattr(delivery, "_new_producer", replaced)
    delivery._producer = refusing
    delivery._outbox.replace(refusing)
    receipts: list[KafkaReceipt] = []

    def publish() -> None:
        receipts.append(delivery.publish("t", "MILL", b"1", event(1)))

    first, second = threading.Thread(target=publish), threading.Thread(target=publish)
    first.start()
    assert refusing.refuses.wait(60)
    delivery._fatal = True
    second.start()
    for thread in (first, second):
        thread.join(60)
        assert not thread.is_alive()
    assert [receipt.error is not None for receipt in receipts].count(True) == 1
    with pytest.raises(OpenFactoryError):
        delivery.close(0.1)
    delivery.join()
    assert all(receipt.error is not None for receipt in receipts)


def test_a_publish_that_a_stop_interrupts_holds_no_flush_up(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Delivery(BrokerConnection("127.0.0.1:1", Credentials()))

    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(delivery._outbox, "put", stop)
        with pytest.raises(KeyboardInterrupt):
            delivery.publish("t", "MILL", b"1", event(1))
    delivery.flush(0.1)
    delivery.close(0.1)
    delivery.join()


def test_what_is_published_while_the_delivery_ends_is_settled() -> None:
    delivery = Delivery(BrokerConnection("127.0.0.1:1", Credentials()))
    failed: list[AssetEvent] = []
    delivery.on_delivery_error(lambda event, _: failed.append(event))
    receipt = delivery.publish("t", "MILL", b"1", event(1))
    waiting = threading.Thread(target=receipt.settles, args=(600,), daemon=True)
    waiting.start()
    eventually(lambda: bool(delivery._awaited))
    delivery._closed = True
    delivery._producer = delivery._new_producer()  # as if the message had come after the end of `close`
    delivery.join()
    assert isinstance(receipt.error, DeliveryError)
    waiting.join(60)
    assert not waiting.is_alive()
    assert [one.value for one in failed] == [1]
    assert delivery.counters["failed"] == 1
    assert delivery.queued == 0


def test_hook_for_failed_deliveries_may_close() -> None:
    delivery = Delivery(BrokerConnection("127.0.0.1:1", Credentials()))
    closed: list[str] = []

    def close(_: AssetEvent, __: OpenFactoryError) -> None:
        with suppress(OpenFactoryError):
            delivery.close(0.1)
        closed.append(threading.current_thread().name)

    delivery.on_delivery_error(close)
    delivery.publish("t", "MILL", b"1", event(1))
    delivery._producer.purge()
    eventually(lambda: closed)
    assert closed == ["openfactory-delivery"]
    eventually(lambda: not delivery._thread.is_alive())


def test_a_hook_that_flushes_does_so_outside_of_the_callbacks_of_librdkafka() -> None:
    """A nested call ended the process as soon as another callback followed: here the next message's."""
    delivery = Delivery(BrokerConnection("127.0.0.1:1", Credentials()))
    told: list[object] = []

    def flush(failed: AssetEvent, _: OpenFactoryError) -> None:
        told.append(failed.value)
        with suppress(OpenFactoryError):
            delivery.flush(0.01)

    delivery.on_delivery_error(flush)
    for number in range(200):
        delivery.publish("t", "MILL", b"1", event(number))
    delivery._outbox.hand_over()
    delivery._producer.purge()
    eventually(lambda: len(told) == 200)
    assert told == [event(number).value for number in range(200)]
    with suppress(OpenFactoryError):
        delivery.close(1)


class FaultyReader(LogReader):
    """One that cannot be asked a first time."""

    failures = 1

    def bounds(self, partitions: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise EngineUnavailableError("No broker answers: a fault on purpose. Try again.", address="here")
        return super().bounds(partitions)


def test_a_process_may_seem_to_live_as_long_as_its_session_at_the_broker_lasts() -> None:
    presence = GroupPresence(BrokerConnection("127.0.0.1:1", Credentials()), "ofa_assets", timeout=1.0)
    assert presence.lag > 1.0  # the shortest session


def test_following_goes_on_where_the_log_begins_although_nobody_says_where_at_first(kafka_broker: KafkaBroker) -> None:
    prefix = f"lost{uuid4().hex[:8]}_"
    topic = f"{prefix}ofa_assets"
    partition = Partition(topic, 0)
    configuration: dict[str, Any] = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(configuration, [one for one in TOPICS if one.name == "ofa_assets"], prefix=prefix)
    connection = BrokerConnection(kafka_broker.bootstrap_servers, Credentials())
    delivery = Delivery(connection)
    for value in range(10):
        delivery.publish(topic, "MILL", b"%d" % value)
    delivery.flush(60)
    delivery.close(5)
    from confluent_kafka.admin import AdminClient

    admin = AdminClient(configuration)
    for future in admin.delete_records([confluent_kafka.TopicPartition(topic, 0, 5)]).values():
        future.result(60)
    lock = threading.RLock()
    heard: list[int] = []
    lost: list[Partition] = []
    reader = FaultyReader(connection)
    interest = Interest()
    interest.add_everything({partition: 0})
    feed = LogFeed(
        connection,
        reader,
        lambda: lock,
        lambda *record: heard.append(record[1]),
        lost.append,
        lost.append,
        lambda: interest,
    )
    feed.start({partition: 0})
    try:
        eventually(lambda: heard == [5, 6, 7, 8, 9])
        assert lost == [partition]
    finally:
        feed.close(5)
        reader.close()


class FeedOfOwnWrites:
    """A feed that stops reading after each record for as long as `own` is true, and what it has heard."""

    def __init__(self, broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("openfactory.engines.kafka_engine.own_stretch._SILENT_SECONDS", 600.0)
        monkeypatch.setattr("openfactory.engines.kafka_engine.log_feed._RUN", 1)
        prefix = f"own{uuid4().hex[:8]}_"
        self.partition = Partition(f"{prefix}ofa_assets", 0)
        configuration: dict[str, Any] = {"bootstrap.servers": broker.bootstrap_servers}
        create_topics(configuration, [one for one in TOPICS if one.name == "ofa_assets"], prefix=prefix)
        self.connection = BrokerConnection(broker.bootstrap_servers, Credentials())
        self.delivery = Delivery(self.connection)
        self.lock = threading.RLock()
        self.own = True
        self.heard: list[int] = []
        self.on_look: Callable[[], object] = lambda: None
        self.reader = LogReader(self.connection)
        interest = Interest()
        interest.add_everything({self.partition: 0})
        self.feed = LogFeed(
            self.connection,
            self.reader,
            lambda: self.lock,
            lambda *record: self.heard.append(record[1]),
            lambda _: None,
            lambda _: None,
            lambda: interest,
            expects_own=lambda: self.own,
            on_reported=self._look,
            is_behind=lambda _, offset: self.own and offset > 0,
        )
        self.feed.start({self.partition: 0})
        self.write()
        eventually(lambda: self.heard == [0] and self.feed._stretch.partition == self.partition)

    def _look(self, *_: object) -> int:
        self.on_look()
        return 0

    def write(self) -> None:
        self.delivery.publish(self.partition.topic, "MILL", b"x").wait(60)

    def close(self) -> None:
        self.feed.close(5)
        self.reader.close()
        self.delivery.close(5)


@pytest.fixture
def feed_of_own_writes(kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[FeedOfOwnWrites]:
    feed = FeedOfOwnWrites(kafka_broker, monkeypatch)
    yield feed
    feed.close()


def test_a_partition_that_is_let_go_while_it_is_not_read_is_read_when_it_is_followed_again(
    feed_of_own_writes: FeedOfOwnWrites,
) -> None:
    own = feed_of_own_writes
    with own.lock:
        own.feed.unfollow([own.partition])
    eventually(lambda: own.feed.followed == 0)
    own.own = False
    with own.lock:
        own.feed.follow({own.partition: 1})
    own.write()
    own.write()
    eventually(lambda: own.heard == [0, 1, 2])


@pytest.mark.parametrize("within", [False, True], ids=["between two looks", "within a look"])
def test_a_restart_while_a_partition_is_not_read_reads_it_anew(
    feed_of_own_writes: FeedOfOwnWrites, within: bool
) -> None:
    own = feed_of_own_writes

    def restart() -> None:
        own.own, own.on_look = False, lambda: None
        with own.lock:
            own.feed.restart({own.partition: 0})
        own.own = within  # the stretch goes on for a moment

    if within:
        own.on_look = restart
    else:
        restart()
    eventually(lambda: own.heard[:2] == [0, 0])
    own.own = False
    own.write()
    eventually(lambda: own.heard == [0, 0, 1])


def test_an_error_while_a_partition_is_not_read_has_it_read_again(feed_of_own_writes: FeedOfOwnWrites) -> None:
    own = feed_of_own_writes

    def fail() -> None:
        own.own = False
        raise RuntimeError("a fault on purpose")

    own.on_look = fail
    own.write()
    eventually(lambda: own.heard == [0, 1])


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork. Run it on Linux")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_leaves_the_parent_as_it_was_and_the_child_says_so(written: KafkaEngine, tmp_path: Path) -> None:
    said = tmp_path / "said"
    written.subscribe("MILL", lambda _: None)
    verbs: list[Callable[[], object]] = [
        lambda: written.publish(event(-1)),
        written.flush,
        written.snapshot,
        lambda: written.history("MILL"),
    ]
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends a child that hangs
        with open(said, "w") as file:
            for verb in verbs:
                try:
                    verb()
                except Exception as error:  # noqa: BLE001 - told to the parent
                    file.write(f"{type(error).__name__}: {error}\n")
            file.write(f"{written.health().connected}\n")
        written.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    lines = said.read_text().splitlines()
    assert len(lines) == 5
    assert all("EngineClosedError" in line and "forked" in line for line in lines[:4])
    assert lines[4] == "False"
    written.publish(event(5)).wait()
    assert [one.value for one in written.history("MILL")] == [0, 1, 2, 3, 4, 5]


_FORKING = """
import os, signal, sys
from openfactory.events.event import new_event
from openfactory.engines.kafka_engine.engine import KafkaEngine

engine = KafkaEngine(sys.argv[1])
engine.publish(new_event("MILL", "x", 1, "Events", "Test")).wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    sys.exit(0)  # as a program ends, with all that comes after
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
engine.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork. Run it on Linux")
def test_forked_child_ends_as_a_program_ends(kafka_url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKING, kafka_url], capture_output=True, text=True, timeout=30
    )
    assert ended.stdout.strip() == "0", ended.stderr
    assert ended.returncode == 0
