"""`ofa doctor`: what it finds on real servers, on some that are broken, and where there are none."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from fanout_services import OwnForwarder
from forwarder import Forwarder
from ksqldb_stand_in import KsqlDBStandIn
from openfactory.apps.cli.root import ofa
from openfactory.doctor import Factory, Finding, broker, examine, forwarders
from openfactory.doctor.examination import run_checks
from openfactory.doctor.finding import fine
from openfactory.engines import open_engine
from openfactory.engines.fanout.wire import PROGRESS_SUBJECT, Progress
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.engines.ksqldb.server import KsqlDBServer
from openfactory.engines.ksqldb.setup import set_up_ksqldb
from openfactory.events.trial import TEST_ASSET
from openfactory.exceptions import ConfigurationError
from openfactory.testing import eventually
from router_stand_in import RouterStandIn
from servers import KafkaBroker, NatsServer
from workers.bare_log import append

SETTINGS = {
    "ksql.streams.producer.linger.ms": "0",
    "ksql.streams.commit.interval.ms": "2000",
    "ksql.fail.on.production.error": "false",
}


class Ksqldb(KsqlDBStandIn):
    """A server with a clock and queries, which the doctor asks for as well."""

    query_state = "RUNNING"
    ahead_ms = 0

    def __init__(self) -> None:
        super().__init__(self.select)
        self.properties = dict(SETTINGS)

    def select(self, sql: str) -> list[dict[str, Any]]:
        return [{"NOW": time.time_ns() // 1_000_000 + self.ahead_ms}] if "UNIX_TIMESTAMP" in sql else []

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if b"SHOW QUERIES" in body and not self.unavailable:
            query = {"id": "CTAS_ASSETS_3", "queryType": "PERSISTENT", "state": self.query_state}
            return 200, [{"@type": "queries", "statementText": "SHOW QUERIES;", "queries": [query]}]
        return super().answer(method, path, body)


@pytest.fixture
def ksqldb(topic_prefix: str) -> Iterator[Ksqldb]:
    """A server on which the topology of this test has been made."""
    server = Ksqldb()
    server.streams.clear()
    server.tables.clear()
    with server:
        with KsqlDBServer(server.url) as client:
            assert all(piece.made for piece in set_up_ksqldb(client, prefix=topic_prefix))
        yield server


@pytest.fixture
def topics(kafka_broker: KafkaBroker, topic_prefix: str) -> None:
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, prefix=topic_prefix, partitions=2)


@pytest.fixture
def router(nats_server: NatsServer) -> Iterator[RouterStandIn]:
    with RouterStandIn(nats_server.url) as router:
        yield router


def by_check(findings: list[Finding], status: str | None = None) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if status in (None, finding.status)}


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.status for finding in findings}


def test_kafka_alone_that_is_well(kafka_url: str, topics: None, topic_prefix: str) -> None:
    found = by_check(examine(Factory.of(kafka_url)))
    assert {check: finding.status for check, finding in found.items()} == {
        "environment": "ok",
        "broker": "ok",
        "topics": "ok",
        "test event": "ok",
        "owners": "ok",
        "clock": "unchecked",  # a broker tells its time only to those who write
        "asset router": "unchecked",
    }
    assert found["environment"].found == f"{kafka_url} uses Kafka alone"
    assert found["topics"].found == f"{len(TOPICS)} exist, partitions: 2; {topic_prefix}ofa_assets keeps 720 hours"
    assert found["clock"].remedy


def test_the_test_event_is_in_no_list(kafka_url: str, topics: None, topic_prefix: str) -> None:
    found = by_check(examine(Factory.of(kafka_url)))["test event"]
    assert found.found.startswith(f"written to {topic_prefix}ofa_assets and read in ")
    with open_engine(kafka_url) as reference:
        [event] = reference.engine.history(TEST_ASSET)
        assert (event.id, event.tag) == ("test", "Doctor.Test")
        assert reference.engine.types() == reference.engine.availability() == reference.engine.uns_map() == {}
    listed = CliRunner().invoke(ofa, ["asset", "ls", "--all", "--json", "--url", kafka_url])
    assert (listed.exit_code, json.loads(listed.stdout)) == (0, [])


def test_a_log_that_takes_no_event_is_a_failed_check(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap_servers})
    log = NewTopic(f"{topic_prefix}ofa_assets", 1, config={"max.message.bytes": "50"})
    admin.create_topics([log])[log.topic].result(60)
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, prefix=topic_prefix)
    found = by_check(examine(Factory.of(kafka_url)), "failed")["test event"]
    assert found.found == "An event was not written: Broker: Message size too large."
    assert found.remedy.startswith("Read the broker's log. Check its disk, ")


def test_kafka_alone_is_well_with_the_topics_that_its_engine_makes(kafka_url: str) -> None:
    open_engine(kafka_url).close()
    found = by_check(examine(Factory.of(kafka_url)))
    assert found["topics"].status == "ok"
    assert found["topics"].found.startswith("2 exist, partitions: 1;")


def test_a_whole_factory_that_is_well(
    monkeypatch: pytest.MonkeyPatch,
    kafka_broker: KafkaBroker,
    topics: None,
    ksqldb: Ksqldb,
    own_nats_server: NatsServer,
    kafka_url: str,
) -> None:
    monkeypatch.setenv("KAFKA_BROKER", kafka_broker.bootstrap_servers)
    monkeypatch.setenv("APP_UUID", "MILL")
    with (
        RouterStandIn(own_nats_server.url) as router,
        OwnForwarder(kafka_url, own_nats_server.url, 2),
    ):
        monkeypatch.setenv("ASSET_ROUTER_URL", router.url)
        found = by_check(examine(Factory.of(ksqldb.url)))
    assert [finding for finding in found.values() if finding.status != "ok"] == []
    assert list(found) == [
        "environment",
        "broker",
        "topics",
        "test event",
        "ksqlDB",
        "ksqlDB health",
        "streams and tables",
        "columns",
        "queries",
        "ksqlDB settings",
        "asset router",
        "NATS",
        "forwarder",
        "clock",
        "owners",
    ]
    assert found["environment"].found == f"{ksqldb.url} uses Kafka, ksqlDB and NATS"
    assert found["asset router"].found == f"{router.url} answers: MILL is at {own_nats_server.url}"
    assert found["forwarder"].found.startswith(f"{own_nats_server.url}: 2 partitions are forwarded, at most ")
    assert router.asked.count("MILL") == 1
    # The prefix is that of the stream, and nobody had to say it.
    assert ksqldb.streams["ASSETS_STREAM"] in found["topics"].found


def test_topics_that_are_missing(kafka_url: str, topic_prefix: str) -> None:
    found = by_check(examine(Factory.of(kafka_url)), "failed")
    assert list(found) == ["topics"]
    assert found["topics"].found.startswith(f"Missing: {topic_prefix}ofa_assets, ")
    assert found["topics"].remedy == f"Create them: ofa setup-kafka --prefix {topic_prefix}"


def test_a_topic_that_is_not_as_it_should_be(kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap_servers})
    others = {
        "assets_types_topic": NewTopic(f"{topic_prefix}assets_types_topic", 1, config={"cleanup.policy": "delete"}),
        "ofa_assets": NewTopic(f"{topic_prefix}ofa_assets", 1, config={"max.message.bytes": "1000"}),
        "ofa_assets_uns": NewTopic(f"{topic_prefix}ofa_assets_uns", 3),
    }
    for future in admin.create_topics(list(others.values())).values():
        future.result(60)
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, prefix=topic_prefix)
    found = [finding for finding in examine(Factory.of(kafka_url)) if finding.status == "failed"]
    assert {finding.check for finding in found} == {"topics"}
    assert sorted(finding.found.removeprefix(topic_prefix).partition(" ")[0] for finding in found) == sorted(others)
    assert all(finding.remedy.partition(" ")[0] != "" for finding in found)
    assert any("--add-config cleanup.policy=compact" in finding.remedy for finding in found)


def test_settings_of_ksqldb_are_advice(kafka_broker: KafkaBroker, ksqldb: Ksqldb) -> None:
    ksqldb.properties = {"ksql.streams.commit.interval.ms": "30000"}
    found = [one for one in examine(of(ksqldb, kafka_broker)) if one.check == "ksqlDB settings"]
    assert [one.status for one in found] == ["advice"] * 3
    for one, name in zip(found, sorted(SETTINGS, reverse=True), strict=True):
        assert one.found.startswith(f"{name} ")
        assert one.remedy.startswith("Set it ")


def test_the_handler_that_ksqldb_7_9_reports_is_the_setting(kafka_broker: KafkaBroker, ksqldb: Ksqldb) -> None:
    def settings(handler: str) -> list[Finding]:
        util = "class io.confluent.ksql.errors.ProductionExceptionHandlerUtil"
        ksqldb.properties = {name: value for name, value in SETTINGS.items() if "production" not in name}
        ksqldb.properties["ksql.streams.default.production.exception.handler"] = f"{util}${handler}"
        return [one for one in examine(of(ksqldb, kafka_broker)) if one.check == "ksqlDB settings"]

    assert [one.status for one in settings("LogAndContinueProductionExceptionHandler")] == ["ok"]
    [advice] = settings("LogAndFailProductionExceptionHandler")
    assert advice.found.startswith("ksql.fail.on.production.error is not false")


def test_a_retention_of_minutes_is_a_failed_check(kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str) -> None:
    configuration = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(configuration, prefix=topic_prefix, retention_hours=0.25)
    log = f"{topic_prefix}ofa_assets"
    [found] = [one for one in examine(Factory.of(kafka_url)) if one.check == "topics" and f"{log} " in one.found]
    assert (found.status, found.found.startswith(f"{log} keeps records for 15 minutes only")) == ("failed", True)
    assert found.remedy.endswith(f"--entity-name {log} --add-config retention.ms=2592000000")


def of(ksqldb: KsqlDBStandIn, broker: KafkaBroker) -> Factory:
    from openfactory.engines.base import Servers

    return Factory.of(ksqldb.url, Servers(broker.bootstrap_servers))


def test_tables_that_are_missing_and_queries_that_stand(
    kafka_broker: KafkaBroker, ksqldb: Ksqldb, topic_prefix: str
) -> None:
    del ksqldb.tables["ASSETS_UNS"]
    ksqldb.query_state = "ERROR"
    found = by_check(examine(of(ksqldb, kafka_broker)), "failed")
    assert found["streams and tables"].found == "Missing: ASSETS_UNS."
    assert found["streams and tables"].remedy == f"Create them: ofa setup-kafka --prefix {topic_prefix}"
    assert found["queries"].found == "Not running: CTAS_ASSETS_3."


def test_columns_that_are_not_those_of_the_existing_system(
    kafka_broker: KafkaBroker, ksqldb: Ksqldb, topic_prefix: str
) -> None:
    ksqldb.columns["ASSETS_UNS"]["UNS_KEY"] = ksqldb.columns["ASSETS_UNS"].pop("KEY")
    ksqldb.columns["METRICS_TARGETS"] = {"ASSET_UUID": "STRING", "HOST": "STRING", "PORT": "INTEGER", "PATH": "STRING"}
    ksqldb.columns["ASSET_TO_UNS_MAP"]["UPDATED_AT"] = "BIGINT"
    found = by_check(examine(of(ksqldb, kafka_broker)), "failed")["columns"]
    assert found.found == (
        "ASSET_TO_UNS_MAP.UPDATED_AT is BIGINT, not TIMESTAMP; ASSETS_UNS has no column KEY; "
        "METRICS_TARGETS has no column APPLICATION_UUID."
    )
    assert found.remedy == (
        "Stop all apps, run `DROP TABLE METRICS_TARGETS; DROP TABLE ASSETS_UNS; DROP STREAM ASSETS_STREAM_UNS; "
        "DROP TABLE ASSET_TO_UNS_MAP;` in ksqlDB (without DELETE TOPIC), then "
        f"`ofa setup-kafka --prefix {topic_prefix}`. "
        "No record is lost: the topics stay, and the new tables are filled from them."
    )


def test_a_ksqldb_that_is_starting_or_old(kafka_broker: KafkaBroker, ksqldb: Ksqldb) -> None:
    ksqldb.unavailable = True
    found = by_check(examine(of(ksqldb, kafka_broker)))
    assert found["ksqlDB"].status == "failed"
    assert found["ksqlDB"].found.startswith(f"The ksqlDB server at {ksqldb.url} is starting: ")
    assert found["ksqlDB"].remedy == "Wait until it has started, which takes half a minute."
    assert found["clock"].status == "unchecked"
    with KsqlDBStandIn(lambda sql: []) as plain:  # one that knows no SHOW QUERIES
        assert statuses(examine(of(plain, kafka_broker)))["queries"] == "unchecked"


def test_clocks_that_differ(monkeypatch: pytest.MonkeyPatch, kafka_broker: KafkaBroker, ksqldb: Ksqldb) -> None:
    ksqldb.ahead_ms = 90_000
    found = by_check(examine(of(ksqldb, kafka_broker)))["clock"]
    assert found.status == "failed"
    assert re.fullmatch(r"This machine's clock is (89|90) s behind ksqlDB's\.", found.found)
    with answering(Date="Sat, 01 Jan 2000 00:00:00 GMT") as url:
        monkeypatch.setenv("ASSET_ROUTER_URL", url)
        found = by_check(examine(of(ksqldb, kafka_broker)))["clock"]
    assert found.status == "failed"
    assert "s ahead of the asset router's." in found.found
    assert "time server" in found.remedy


class answering:  # noqa: N801 - a context manager that reads as a word
    """A web server that answers every question with an empty object and some headers."""

    def __init__(self, **headers: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response_only(200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_nats_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, kafka_broker: KafkaBroker, ksqldb: Ksqldb, nats_server: NatsServer
) -> None:
    with RouterStandIn(f"nats://app:hidden@127.0.0.1:9,{nats_server.url}") as router:
        monkeypatch.setenv("ASSET_ROUTER_URL", router.url)
        findings = examine(of(ksqldb, kafka_broker))
    assert [finding.status for finding in findings if finding.check == "NATS"] == ["failed", "ok"]
    [broken] = [finding for finding in findings if finding.check == "NATS" and finding.status == "failed"]
    assert broken.found.startswith("nats://127.0.0.1:9 cannot be used (")
    assert "NATS_CLUSTER_" in broken.remedy
    assert "hidden" not in str(findings)


def test_the_forwarders_of_all_clusters(
    monkeypatch: pytest.MonkeyPatch, kafka_broker: KafkaBroker, topics: None, kafka_url: str, topic_prefix: str
) -> None:
    """Of OpenFactory in all partitions, in one of them, another, one that is only heard, and none."""
    monkeypatch.setattr(forwarders, "_LISTEN_SECONDS", 1.5)
    factory, topic = Factory.of(kafka_url), f"{topic_prefix}ofa_assets"
    brokers = kafka_broker.bootstrap_servers

    def found(*servers: NatsServer) -> list[str]:
        clusters = [(server.url,) for server in servers]
        findings = list(forwarders.examine_forwarders(factory, topic_prefix, clusters))
        assert all(finding.remedy for finding in findings if finding.status == "failed")
        return [f"{finding.status}: {finding.found}" for finding in findings]

    with ExitStack() as stack:
        whole, part, heard, silent = (stack.enter_context(NatsServer()) for _ in range(4))
        stack.enter_context(OwnForwarder(kafka_url, whole.url, 2))
        for server, subject, text in (
            (part, f"{PROGRESS_SUBJECT}.1", msgspec.json.encode(Progress(3, 3, 0, "F", topic))),
            (part, f"{PROGRESS_SUBJECT}.0", msgspec.json.encode(Progress(3, 3, 0, "F", "of_another_factory"))),
            (heard, "MILL.x", b"{}"),
        ):
            stack.enter_context(saying(server.url, subject, text))
        assert found(whole, part, heard, silent) == [
            f"ok: {whole.url}: 2 partitions are forwarded, at most 0 records behind",
            f"failed: No forwarder to {part.url} tells its progress in partition 0.",
            f"ok: {heard.url}: another forwarder, which does not tell its progress; messages arrive",
            f"failed: No forwarder to {silent.url} was heard in 1.5 s.",
        ]
        another = stack.enter_context(Forwarder(brokers, silent.url, topic))
        eventually(lambda: "its group" in found(silent)[0])  # it has committed
        [line] = found(silent)
        assert re.fullmatch(r"ok: .* another forwarder, .* its group \w+ is at most \d+ records behind", line)
        another.freeze()
        append(brokers, topic, ("MILL", b"{}"))
        [line] = found(silent)
        assert re.fullmatch(r"failed: The group \w+ of the forwarder to .* stands still in partition \d\.", line)


def test_all_clusters_that_the_router_names_are_asked(
    monkeypatch: pytest.MonkeyPatch,
    kafka_broker: KafkaBroker,
    ksqldb: Ksqldb,
    nats_server: NatsServer,
    own_nats_server: NatsServer,
) -> None:
    with RouterStandIn(nats_server.url) as router:
        router.places[f"{TEST_ASSET}-7"] = own_nats_server.url
        monkeypatch.setenv("ASSET_ROUTER_URL", router.url)
        findings = examine(of(ksqldb, kafka_broker))
    found = [finding.found for finding in findings if finding.check == "NATS"]
    assert found == [f"{server.url} answers" for server in (nats_server, own_nats_server)]


@contextmanager
def saying(url: str, subject: str, text: bytes) -> Iterator[None]:
    """Publish a message again and again."""
    ended = threading.Event()

    async def say() -> None:
        client = await nats.connect(url)
        while not ended.is_set():
            await client.publish(subject, text)
            await client.flush()
            await asyncio.sleep(0.1)
        await client.close()

    thread = threading.Thread(target=lambda: asyncio.run(say()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


def test_a_router_that_does_not_say(monkeypatch: pytest.MonkeyPatch, kafka_broker: KafkaBroker, ksqldb: Ksqldb) -> None:
    with answering() as url:
        monkeypatch.setenv("ASSET_ROUTER_URL", url)
        found = by_check(examine(of(ksqldb, kafka_broker)))
    assert found["asset router"].status == "failed"
    assert "returned no NATS server for 'DEV-UUID'" in found["asset router"].found
    assert "NATS" not in found


def test_where_nothing_answers_it_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("KSQLDB_URL", f"http://app:hidden@{address}")
        monkeypatch.setenv("KAFKA_BROKER", address)
        monkeypatch.setenv("ASSET_ROUTER_URL", f"http://app:hidden@{address}")
        start = time.monotonic()
        found = CliRunner().invoke(ofa, ["doctor", "--json"])
        assert time.monotonic() - start < 60
    assert found.exit_code == 1
    said = {one["check"]: one for one in json.loads(found.stdout)}
    assert {check: one["status"] for check, one in said.items()} == {
        "environment": "ok",
        "broker": "failed",
        "ksqlDB": "failed",
        "asset router": "failed",
        "clock": "unchecked",
    }
    assert all(one["remedy"] for check, one in said.items() if check != "environment")
    assert "hidden" not in found.output


def test_a_test_event_that_is_not_acknowledged_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        factory = Factory.of(f"kafka://127.0.0.1:{silent.getsockname()[1]}")
        [found] = broker.examine_log(factory, "")
    assert found.status == "failed"
    assert found.found == "A published event was not acknowledged within 0.2 s."
    assert found.remedy.startswith("Read the broker's log.")
    assert not [thread for thread in threading.enumerate() if thread.name == "openfactory-delivery"]


def test_a_part_that_breaks_or_hangs_hides_nothing() -> None:
    ended = threading.Event()

    def break_down() -> Iterator[Finding]:
        raise RuntimeError("no answer from nats://app:hidden@plant:4222")

    def hang() -> Iterator[Finding]:
        ended.wait(60)
        yield fine("late", "")

    parts: dict[str, Callable[[], Iterator[Finding]]] = {
        "slow": hang,
        "broken": break_down,
        "well": lambda: iter([fine("well", "here")]),
    }
    start = time.monotonic()
    slow, broken, well = run_checks(parts, 0.2)
    assert time.monotonic() - start < 20
    ended.set()
    assert (slow.check, slow.status, slow.found) == ("slow", "failed", "The check took more than 0.2 s.")
    assert broken == Finding("broken", "failed", "The check raised RuntimeError: no answer from nats://plant:4222")
    assert well == fine("well", "here")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgres://app:hidden@plant/db", r"'postgres://plant/db' is not the URL of a factory\. Set KSQLDB_URL to "),
        ("factory.db", r"'factory\.db' is not the URL of a factory"),
        ("kafka://", r"kafka:// does not name a broker\. Write kafka://host:9092\."),
        ("kafka://plant?prefix=hall 2", r"'hall 2' is not a prefix"),
    ],
)
def test_a_url_that_means_nothing(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as raised:
        Factory.of(url)
    assert "hidden" not in str(raised.value)
    found = CliRunner().invoke(ofa, ["doctor", "--url", url])
    assert found.exit_code == 1
    assert found.stdout.startswith("✗ environment  ")
    assert "\n               → " in found.stdout


def test_settings_that_contradict_each_other_are_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hidden")
    found = CliRunner().invoke(ofa, ["doctor", "--url", f"sqlite:///{tmp_path}/factory.db", "--json"])
    assert found.exit_code == 1
    [finding] = json.loads(found.stdout)
    assert (finding["check"], finding["status"]) == ("environment", "failed")
    assert "KAFKA_SASL_PASSWORD is set" in finding["found"]
    assert "hidden" not in found.output


def test_a_factory_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSET_ROUTER_URL", "http://app:hidden@router")
    monkeypatch.setenv("KSQLDB_USERNAME", "app")
    monkeypatch.setenv("KSQLDB_PASSWORD", "hidden")
    assert "hidden" not in repr(Factory.of("http://app:hidden@ksqldb:8088"))


def test_without_a_broker_it_says_so(ksqldb: Ksqldb) -> None:
    found = by_check(examine(Factory.of(ksqldb.url)), "failed")
    assert found["broker"].found == "KAFKA_BROKER is not set."
    assert found["broker"].remedy == "Set it to host:9092."
