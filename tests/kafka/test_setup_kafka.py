"""`ofa setup-kafka`: topics on a real broker, streams and tables on a server that answers as a real one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from distributions import ROOT
from ksqldb_stand_in import KsqlDBStandIn
from openfactory.apps.cli.root import ofa
from openfactory.engines.kafka_engine.topics import STATE_TOPIC, TOPICS, create_topics, describe_topics
from openfactory.engines.ksqldb.columns import COLUMNS
from openfactory.engines.ksqldb.errors import KSQLDBClientException
from openfactory.engines.ksqldb.server import KsqlDBServer
from openfactory.engines.ksqldb.setup import set_up_ksqldb
from openfactory.engines.ksqldb.topology import statements
from servers import KafkaBroker

STREAMS = {
    "ASSETS_AVAIL_STREAM",
    "ASSETS_STREAM",
    "ASSETS_STREAM_UNS",
    "ASSETS_TYPE_STREAM",
    "DOCKER_SERVICES_STREAM",
    "ENRICHED_ASSETS_STREAM",
}
TABLES = {
    "ASSETS",
    "ASSETS_AGGREGATED_BY_ASSET_UUID",
    "ASSETS_AVAIL",
    "ASSETS_TYPE",
    "ASSETS_UNS",
    "ASSET_TO_UNS_MAP",
    "ASSET_TO_UNS_MAP_RAW",
    "DEVICE_CONNECTOR",
    "DEVICE_CONNECTOR_SOURCE",
    "DOCKER_SERVICES",
    "METRICS_TARGETS",
    "METRICS_TARGETS_SOURCE",
}

Setup = Callable[..., Result]


@pytest.fixture
def ksqldb() -> Iterator[KsqlDBStandIn]:
    """A server on which nobody has made anything."""
    server = KsqlDBStandIn(lambda sql: [])
    server.streams.clear()
    server.tables.clear()
    server.properties = {"ksql.streams.producer.linger.ms": "0", "ksql.fail.on.production.error": "false"}
    with server:
        yield server


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, kafka_broker: KafkaBroker, topic_prefix: str) -> Setup:
    """Run the command for a factory of this test."""

    def run(*options: str, **environment: str) -> Result:
        for name, value in {"KAFKA_BROKER": kafka_broker.bootstrap_servers, **environment}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(ofa, ["setup-kafka", "--prefix", topic_prefix, *options])

    return run


def posted(server: KsqlDBStandIn) -> list[str]:
    """The statements that make something, in their order."""
    return [sql for _, path, sql in server.requests if path == "/ksql" and sql.startswith("CREATE")]


def rows(found: Result) -> list[list[str]]:
    """What is said of each topic, stream and table."""
    return [
        line.split(maxsplit=2) for line in found.stdout.splitlines() if line.startswith(("topic ", "stream ", "table "))
    ]


def test_the_streams_and_tables_are_those_that_others_rely_on() -> None:
    made = statements()
    assert {one.name for one in made if one.kind == "STREAM"} == STREAMS
    assert {one.name for one in made if one.kind == "TABLE"} == TABLES
    assert len(made) == len(STREAMS) + len(TABLES)


def test_each_statement_is_one_and_may_be_repeated() -> None:
    for one in statements():
        assert one.sql.startswith(
            ("CREATE STREAM IF NOT EXISTS", "CREATE TABLE IF NOT EXISTS", "CREATE SOURCE TABLE IF")
        )
        assert one.sql.endswith(";")
        assert one.sql.count(";") == 1
        assert "--" not in one.sql
        assert "${" not in one.sql
        assert one.sql.count("(") == one.sql.count(")")


def test_what_a_statement_reads_is_made_before() -> None:
    made: set[str] = set()
    for one in statements():
        read = {name.upper() for name in re.findall(r"\b(?:FROM|JOIN) (\w+)", one.sql)}
        assert read <= made
        made.add(one.name)


def test_every_topic_has_the_prefix_and_all_topics_are_used() -> None:
    topics = {one.topic for one in statements("hall2_")}
    assert all(topic.startswith("hall2_") for topic in topics)
    assert {f"hall2_{topic.name}" for topic in TOPICS} <= topics
    for one in statements("hall2_"):
        assert f"KAFKA_TOPIC = '{one.topic}'" in one.sql


def test_a_retention_is_named_where_it_is_not_that_of_the_log() -> None:
    # The server refuses to fill a topic whose retention is another than the one it inherits.
    def named(retention_ms: dict[str, int] | None = None) -> dict[str, str]:
        found = {one.name: re.search(r"RETENTION_MS = (-?\d+)", one.sql) for one in statements("", retention_ms)}
        return {name: match[1] for name, match in found.items() if match}

    assert named() == {"DOCKER_SERVICES_STREAM": "3153600000000"}
    same = dict.fromkeys((topic.name for topic in TOPICS), 604_800_000)
    assert named(same) == {}
    assert named(same | {"assets_types_topic": 5, "asset_to_uns_map_topic": 7}) == {"ASSETS_TYPE_STREAM": "5"}
    assert named(same | {"ofa_assets": -1}).keys() == STREAMS - {"ASSETS_STREAM"}


def test_topics_streams_and_tables_are_made(setup: Setup, ksqldb: KsqlDBStandIn, topic_prefix: str) -> None:
    found = setup("--ksqldb-server", ksqldb.url, "--partitions", "2")
    assert found.exit_code == 0, found.output
    assert found.stderr == ""
    assert {tuple(row[:2]) for row in rows(found)} == (
        {("topic", topic_prefix + topic.name) for topic in TOPICS}
        | {("stream", name) for name in STREAMS}
        | {("table", name) for name in TABLES}
    )
    assert {row[2] for row in rows(found)} == {"created"}
    assert "27 created, 0 unchanged, on " in found.stdout
    assert ksqldb.streams.keys() == STREAMS
    assert ksqldb.tables.keys() == TABLES
    assert ksqldb.streams["ASSETS_STREAM"] == f"{topic_prefix}ofa_assets"
    # One by one: statements of one request are checked together, before the first has run.
    assert [sql.count(";") for sql in posted(ksqldb)] == [1] * (len(STREAMS) + len(TABLES))


def test_once_more_changes_nothing(
    setup: Setup, ksqldb: KsqlDBStandIn, kafka_broker: KafkaBroker, topic_prefix: str
) -> None:
    configuration = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    assert setup("--ksqldb-server", ksqldb.url).exit_code == 0
    before = describe_topics(configuration, prefix=topic_prefix)
    ksqldb.requests.clear()
    found = setup("--ksqldb-server", ksqldb.url)
    assert found.exit_code == 0
    assert {row[2] for row in rows(found)} == {"unchanged"}
    assert "0 created, 27 unchanged" in found.stdout
    assert posted(ksqldb) == []
    assert describe_topics(configuration, prefix=topic_prefix) == before


def test_a_dry_run_makes_nothing(
    setup: Setup, ksqldb: KsqlDBStandIn, kafka_broker: KafkaBroker, topic_prefix: str
) -> None:
    found = setup("--ksqldb-server", ksqldb.url, "--dry-run")
    assert found.exit_code == 0
    assert {row[2] for row in rows(found)} == {"to be created"}
    assert posted(ksqldb) == []
    assert describe_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, prefix=topic_prefix) == {}


def test_without_a_ksqldb_there_are_topics_only(setup: Setup) -> None:
    found = setup()
    assert found.exit_code == 0
    assert {row[0] for row in rows(found)} == {"topic"}


def test_the_topic_of_the_state_keeper_is_made_on_request(
    setup: Setup, kafka_broker: KafkaBroker, topic_prefix: str
) -> None:
    name = f"{topic_prefix}ofa_assets_state"
    assert name not in setup("--partitions", "3").stdout
    assert ["topic", name, "created"] in rows(setup("--state"))
    assert ["topic", name, "unchanged"] in rows(setup())
    made = describe_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, [STATE_TOPIC], prefix=topic_prefix)
    assert (made[name].cleanup_policy, made[name].partitions) == ("compact", 3)


def test_a_kafka_url_names_broker_and_prefix(
    monkeypatch: pytest.MonkeyPatch, kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str
) -> None:
    monkeypatch.setenv("KSQLDB_URL", kafka_url)
    monkeypatch.setenv("KAFKA_BROKER", "127.0.0.1:9")  # the URL wins
    found = CliRunner().invoke(ofa, ["setup-kafka"])
    assert found.exit_code == 0, found.output
    made = describe_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, prefix=topic_prefix)
    assert len(made) == len(TOPICS)


def test_the_ksqldb_of_the_environment_is_set_up(setup: Setup, ksqldb: KsqlDBStandIn) -> None:
    assert setup(KSQLDB_URL=ksqldb.url).exit_code == 0
    assert ksqldb.tables.keys() == TABLES


def test_new_topics_have_as_many_partitions_as_those_that_are_there(
    setup: Setup, kafka_broker: KafkaBroker, topic_prefix: str
) -> None:
    configuration = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(configuration, TOPICS[:1], prefix=topic_prefix, partitions=3)
    found = setup("--partitions", "5", "--retention-hours", "24")
    assert found.exit_code == 0
    there = describe_topics(configuration, prefix=topic_prefix)
    assert {state.partitions for state in there.values()} == {3}
    log = f"{topic_prefix}ofa_assets"
    address = kafka_broker.bootstrap_servers
    assert [line for line in found.stderr.splitlines() if log in line] == [
        (
            f"Warning: {log} keeps records for 2592000000 ms and should keep them for 86400000 ms: kafka-configs.sh "
            f"--bootstrap-server {address} --alter --entity-type topics --entity-name {log} "
            "--add-config retention.ms=86400000"
        ),
        (
            f"Warning: {log} has 3 partitions and should have 5 like the other topics; assets move to other "
            f"partitions, so stop all writers first: kafka-topics.sh --bootstrap-server {address} --alter "
            f"--topic {log} --partitions 5"
        ),
    ]


def test_fewer_partitions_are_left_alone_and_no_topic_is_to_be_deleted(
    setup: Setup, kafka_broker: KafkaBroker, topic_prefix: str
) -> None:
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, prefix=topic_prefix, partitions=3)
    found = setup("--partitions", "1")
    assert found.exit_code == 0
    assert found.stderr == (
        f"Warning: {topic_prefix}ofa_assets has 3 partitions, and partitions cannot be removed. "
        "Leave out --partitions 1.\n"
    )


@pytest.mark.parametrize(
    ("other", "remedy"), [("", "Leave out the prefix, or"), ("hall2_", "Use the prefix hall2_, or")]
)
def test_a_ksqldb_with_another_factory_gets_no_second_one(
    setup: Setup, ksqldb: KsqlDBStandIn, kafka_broker: KafkaBroker, topic_prefix: str, other: str, remedy: str
) -> None:
    ksqldb.streams["ASSETS_STREAM"] = f"{other}ofa_assets"
    found = setup("--ksqldb-server", ksqldb.url)
    assert found.exit_code == 1
    assert found.stderr == (
        f"The ksqlDB at {ksqldb.url} has a factory already: its ASSETS_STREAM is on the topic {other}ofa_assets and "
        f"not on {topic_prefix}ofa_assets. {remedy} use another ksqlDB for another factory.\n"
    )
    assert describe_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, prefix=topic_prefix) == {}
    assert posted(ksqldb) == []


def test_other_columns_are_brought_over_by_dropping_what_reads_them(
    setup: Setup, ksqldb: KsqlDBStandIn, topic_prefix: str
) -> None:
    assert setup("--ksqldb-server", ksqldb.url).exit_code == 0
    present = ksqldb.columns["DEVICE_CONNECTOR_SOURCE"]
    ksqldb.columns["DEVICE_CONNECTOR_SOURCE"] = {"DEVICE_UUID": "STRING", "CONNECTOR_CONFIG": "STRING"}
    found = setup("--ksqldb-server", ksqldb.url)
    assert found.exit_code == 0
    drops = ["DROP TABLE DEVICE_CONNECTOR;", "DROP TABLE DEVICE_CONNECTOR_SOURCE;"]
    assert found.stderr == (
        "Warning: DEVICE_CONNECTOR_SOURCE has no column ASSET_UUID. "
        f"Stop all apps, run `{' '.join(drops)}` in ksqlDB (without DELETE TOPIC), then `ofa setup-kafka --prefix "
        f"{topic_prefix}`. No record is lost: the topics stay, and the new tables are filled from them.\n"
    )
    with KsqlDBServer(ksqldb.url) as server:
        for drop in drops:
            server.statement(drop)
    ksqldb.columns["DEVICE_CONNECTOR_SOURCE"] = present
    found = setup("--ksqldb-server", ksqldb.url)
    assert [row[1] for row in rows(found) if row[2] == "created"] == ["DEVICE_CONNECTOR_SOURCE", "DEVICE_CONNECTOR"]
    assert found.stderr == ""


def test_the_columns_are_those_that_the_statements_make() -> None:
    made = {one.name: one.sql.upper() for one in statements()}
    assert COLUMNS.keys() == made.keys()
    for name, columns in COLUMNS.items():
        assert [column for column in columns if not re.search(rf"\b{column}\b", made[name])] == []
    # As the existing system has them.
    assert COLUMNS["DEVICE_CONNECTOR"].keys() == {"ASSET_UUID", "CONNECTOR_CONFIG"}
    assert COLUMNS["METRICS_TARGETS"].keys() == {"APPLICATION_UUID", "HOST", "PORT", "PATH"}
    assert "KEY" in COLUMNS["ASSETS_UNS"]
    assert COLUMNS["ASSET_TO_UNS_MAP"]["UPDATED_AT"] == COLUMNS["ASSET_TO_UNS_MAP_RAW"]["UPDATED_AT"] == "TIMESTAMP"


def test_a_stream_on_another_topic_is_said(setup: Setup, ksqldb: KsqlDBStandIn, topic_prefix: str) -> None:
    ksqldb.streams["ENRICHED_ASSETS_STREAM"] = "enriched_assets_stream_topic"
    found = setup("--ksqldb-server", ksqldb.url)
    assert found.exit_code == 0
    assert found.stderr == (
        f"Warning: ENRICHED_ASSETS_STREAM is on the topic enriched_assets_stream_topic, not on "
        f"{topic_prefix}enriched_assets_stream_topic. Use the prefix of that topic, or another ksqlDB for this "
        "factory.\n"
    )


def test_the_retention_of_topics_that_are_there_is_told_to_ksqldb(
    setup: Setup, ksqldb: KsqlDBStandIn, kafka_broker: KafkaBroker, topic_prefix: str
) -> None:
    configuration = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(configuration, TOPICS[:1], prefix=topic_prefix, retention_hours=1)
    assert setup("--ksqldb-server", ksqldb.url).exit_code == 0
    [enriched] = [sql for sql in posted(ksqldb) if "STREAM IF NOT EXISTS enriched_assets_stream" in sql]
    assert f"KAFKA_TOPIC = '{topic_prefix}enriched_assets_stream_topic', RETENTION_MS = 2592000000," in enriched


def test_settings_of_the_server_that_are_not_as_they_should_be(setup: Setup, ksqldb: KsqlDBStandIn) -> None:
    ksqldb.properties.clear()
    found = setup("--ksqldb-server", ksqldb.url)
    assert found.exit_code == 0
    linger, production = found.stderr.splitlines()
    assert linger.startswith("Warning: ksql.streams.producer.linger.ms is not 0")
    assert linger.endswith("KSQL_KSQL_STREAMS_PRODUCER_LINGER_MS=0 in its container.")
    assert production.startswith("Warning: ksql.fail.on.production.error is not false")


class Refusing(KsqlDBStandIn):
    """A server that refuses to make one table."""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if b"CREATE TABLE IF NOT EXISTS assets " in body:
            text = "A Kafka topic with the name 'ASSETS' already exists, with different partition configuration."
            return 500, {"@type": "statement_error", "error_code": 50000, "message": text, "statementText": ""}
        return super().answer(method, path, body)


def test_what_the_server_refuses_is_named(setup: Setup) -> None:
    with Refusing(lambda sql: []) as server:
        server.streams.clear()
        server.tables.clear()
        found = setup("--ksqldb-server", server.url)
        assert found.exit_code == 1
        assert found.stderr.startswith("The table ASSETS cannot be created. ")
        assert "already exists, with different partition configuration" in found.stderr
        assert found.stderr.count("\n") == 1
        assert found.stdout == ""
        assert server.streams.keys() == {"ASSETS_STREAM", "ENRICHED_ASSETS_STREAM"}
        with KsqlDBServer(server.url, max_retries=0) as client, pytest.raises(KSQLDBClientException) as raised:
            list(set_up_ksqldb(client))
        assert raised.value.code == 50000


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ([], {}, "The Kafka broker is not set. Give --broker host:9092, or set KAFKA_BROKER."),
        ([], {"KSQLDB_URL": "sqlite:///factory.db"}, "The Kafka broker is not set. Give --broker host:9092"),
        (["--broker", "127.0.0.1:9"], {}, "No Kafka broker answers at 127.0.0.1:9: the connection is refused. "),
        ([], {"KSQLDB_URL": "kafka://"}, "kafka:// does not name a broker. Write kafka://host:9092."),
        (["--broker", "b:1", "--prefix", "plant 2"], {}, "'plant 2' is not a prefix of topic names"),
        (
            ["--broker", "b:1", "--ksqldb-server", "sqlite:///f.db"],
            {},
            "--ksqldb-server 'sqlite:///f.db' is not the URL of a ksqlDB server",
        ),
        (["--broker", "b:1"], {"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL='TLS' is not a known"),
    ],
)
def test_a_failure_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = CliRunner().invoke(ofa, ["setup-kafka", *arguments])
    assert found.exit_code == 1
    assert found.stderr.startswith(sentence)
    assert found.stderr.count("\n") == 1
    assert found.stdout == ""


def test_a_ksqldb_that_is_not_there_is_one_sentence(kafka_broker: KafkaBroker, topic_prefix: str) -> None:
    # A process of its own: what is logged goes to standard error there.
    server = "http://user:hidden@127.0.0.1:9"
    options = ["--broker", kafka_broker.bootstrap_servers, "--prefix", topic_prefix, "--ksqldb-server", server]
    found = subprocess.run(
        [sys.executable, "-m", "openfactory.apps.cli", "setup-kafka", *options],
        capture_output=True,
        encoding="utf-8",
        timeout=180,
    )
    assert found.returncode == 1
    assert found.stderr.startswith("No ksqlDB server answers at http://127.0.0.1:9 ")
    assert found.stderr.count("\n") == 1
    assert found.stdout == ""
    assert "hidden" not in found.stderr


COMPOSE = (ROOT / "compose.yml").read_text(encoding="utf-8")


def test_the_containers_have_the_names_and_the_settings_that_all_this_is_about() -> None:
    # A look at its lines: nothing here reads YAML, and no container is started.
    lines = [line for line in COMPOSE.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert all((len(line) - len(line.lstrip(" "))) % 2 == 0 and "\t" not in line for line in lines)
    services = COMPOSE[COMPOSE.index("\nservices:") : COMPOSE.index("\nnetworks:")]
    assert re.findall(r"^  (\w+):$", services, re.MULTILINE) == [
        *("kafka", "ksqldb", "nats"),
        *("setup", "router", "forwarder", "keeper"),
        "traefik",
    ]
    # Four have the lines of `x-fanout`, and `setup` has no health page.
    assert services.count("<<: *fanout") == services.count("networks: [factory-net]") == 4
    assert services.count("healthcheck:") == 5
    assert re.findall(r'command: \["fanout", "(\w+)"\]', services) == ["router", "forwarder", "keeper"]
    for image in re.findall(r"image: (\S+)", services):
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+[\w.-]*", image)
    for address in re.findall(r'- "([\d.:]+)"', services):
        assert address.startswith("127.0.0.1:")
    for setting in (
        'KAFKA_AUTO_CREATE_TOPICS_ENABLE: "false"',
        "KSQL_KSQL_SERVICE_ID: ofa_",
        'KSQL_KSQL_STREAMS_PRODUCER_LINGER_MS: "0"',
        'KSQL_KSQL_FAIL_ON_PRODUCTION_ERROR: "false"',
        "- --providers.docker.exposedbydefault=false",
        "- --api.dashboard=false",
        "- --entrypoints.web.address=:80",
    ):
        assert setting in services


def test_several_partitions_come_with_what_other_writers_need(setup: Setup) -> None:
    for options, is_told in ((["--partitions", "3"], True), (["--partitions", "1"], False), ([], False)):
        assert ("set partitioner=murmur2_random" in setup("--dry-run", *options).output) is is_told
