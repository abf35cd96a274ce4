"""Records that others wrote: understood where they can be, else skipped with their place, and nothing stops."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from confluent_kafka import Producer

from ksqldb_factory import KsqlDBFactory
from openfactory.assets.asset_class import Asset
from openfactory.engines.base import Engine
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.engines.ksqldb.engine import KsqlDBEngine
from openfactory.events.event import AssetEvent
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from servers import KafkaBroker, NatsServer
from workers.bare_log import append

DEEP = 20_000
T = "2026-01-02T03:04:05.678Z"


def text(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def good(value: Any = 1, attribute_id: str = "x") -> bytes:
    return text(ID=attribute_id, VALUE=value, TAG="X", TYPE="Events", attributes={"timestamp": T})


def with_value(value: str) -> bytes:
    """A message whose value is this JSON text, which json.dumps would not write."""
    return b'{"ID": "x", "VALUE": %s, "TAG": "X", "TYPE": "Events", "attributes": {"timestamp": "t"}}' % value.encode()


#: What is no event, and a piece of the reason that is logged; of so many each one is.
NO_EVENTS: dict[str, tuple[bytes | None, str]] = {
    "no JSON": (b"machine is on fire", "not JSON"),
    "half of it": (good()[:-9], "not JSON"),
    "empty": (b"", "not JSON"),
    "null value": (None, "no value"),
    "JSON null": (b"null", "it is"),
    "a list": (b'[{"ID": "x"}]', "it is"),
    "a number": (b"7", "it is"),
    "invalid UTF-8": (b'{"ID": "x", "VALUE": "\xff\xfe", "TYPE": "Events"}', "not JSON"),
    "bytes of another format": (b"\x00\x00\x00\x00\x01\x02x", "not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf" + good(), "not JSON"),
    "NaN": (with_value("NaN"), "not JSON"),
    "Infinity": (with_value("-Infinity"), "not JSON"),
    "deep": (with_value("[" * DEEP + "]" * DEEP), "not JSON"),
    "no id": (text(VALUE=1, TAG="X", TYPE="Events", attributes={}), "lacks an ID"),
    "empty id": (text(ID="", VALUE=1, TAG="X", TYPE="Events", attributes={}), "lacks an ID"),
    "empty id of a whole message": (
        text(ID="", VALUE=1, TAG="X", TYPE="Events", attributes={"timestamp": T}),
        "lacks an ID",
    ),
    "id is a number": (text(ID=7, VALUE=1, TAG="X", TYPE="Events", attributes={}), "lacks an ID"),
    "no type": (text(ID="x", VALUE=1), "lacks an ID or a TYPE"),
    "type is null": (text(ID="x", VALUE=1, TYPE=None), "its type is None"),
    "attributes are a list": (text(ID="x", VALUE=1, TYPE="Events", attributes=["timestamp"]), "it is"),
}

#: What is understood, and the value, type, tag and time that it says.
EVENTS: dict[str, tuple[bytes, tuple[Any, ...]]] = {
    "lower-case keys": (
        text(id="x", value=1, type="Events", tag="X", attributes={"timestamp": T}),
        (1, "Events", "X", T),
    ),
    "upper-case keys": (
        text(ID="x", VALUE="1", TAG="X", TYPE="Events", ATTRIBUTES={"timestamp": T}),
        ("1", "Events", "X", T),
    ),
    "mixed keys": (text(Id="x", Value=1, Tag="X", Type="Events", Attributes={"Timestamp": T}), (1, "Events", "X", T)),
    "upper-case time": (
        text(ID="x", VALUE=1, TAG="X", TYPE="Events", ATTRIBUTES={"TIMESTAMP": T}),
        (1, "Events", "X", T),
    ),
    "ATTRIBUTES null": (text(ID="x", VALUE=1, TAG="X", TYPE="Events", ATTRIBUTES=None), (1, "Events", "X", None)),
    "no attributes": (text(ID="x", VALUE=1, TAG="X", TYPE="Events"), (1, "Events", "X", None)),
    "no time": (text(ID="x", VALUE=1, TAG="X", TYPE="Events", attributes={}), (1, "Events", "X", None)),
    "time null": (
        text(ID="x", VALUE=1, TAG="X", TYPE="Events", attributes={"timestamp": None}),
        (1, "Events", "X", None),
    ),
    "tag null": (text(ID="x", VALUE=1, TAG=None, TYPE="Events", attributes={"timestamp": T}), (1, "Events", "", T)),
    "no tag": (text(ID="x", VALUE=1, TYPE="Events", attributes={"timestamp": T}), (1, "Events", "", T)),
    "no value": (text(ID="x", TAG="X", TYPE="Events", attributes={"timestamp": T}), (None, "Events", "X", T)),
    "type in capitals": (
        text(ID="x", VALUE=1, TAG="X", TYPE="SAMPLES", attributes={"timestamp": T}),
        (1.0, "Samples", "X", T),
    ),
    "type in small": (
        text(ID="x", VALUE=1, TAG="X", TYPE="condition", attributes={"timestamp": T}),
        (1, "Condition", "X", T),
    ),
    "unknown type": (
        text(ID="x", VALUE=1, TAG="X", TYPE="Colour", attributes={"timestamp": T}),
        (1, "UNAVAILABLE", "X", T),
    ),
    "more fields": (
        text(ID="x", VALUE=1, TAG="X", TYPE="Events", attributes={"timestamp": T, "n": 1}, more=[1]),
        (1, "Events", "X", T),
    ),
    "a value that is a list": (good([1, {"a": [None]}]), ([1, {"a": [None]}], "Events", "X", T)),
    "a long value": (good("x" * 900_000), ("x" * 900_000, "Events", "X", T)),
}

#: What some readers of JSON take and others do not: it must not stop anything.
ODD = {
    "number too big for a double": with_value("1e999"),
    "whole number too big": with_value("9" * 400),
    "a whole number of 20 digits": with_value("9" * 20),
    "a key twice": b'{"ID": "x", "ID": "y", "VALUE": 1, "VALUE": 2, "TAG": "X", "TYPE": "Events"}',
    "both spellings": b'{"ID": "x", "id": "y", "VALUE": 1, "value": 2, "TAG": "X", "TYPE": "Events"}',
    "a lone surrogate": with_value('"\\ud800"'),
    "a lone surrogate as id": b'{"ID": "\\ud800", "VALUE": 1, "TAG": "X", "TYPE": "Events"}',
    "a null character": with_value('"a\\u0000b"'),
    "a null character as id": b'{"ID": "a\\u0000", "VALUE": 1, "TAG": "X", "TYPE": "Events"}',
    "an id with a blank": good(attribute_id="a b"),
    "an id of dots": good(attribute_id="..."),
    "a very long id": good(attribute_id="x" * 100_000),
    "a tag that is a list": text(ID="x", VALUE=1, TAG=[1], TYPE="Events"),
    "a time that is a number": text(ID="x", VALUE=1, TAG="X", TYPE="Events", attributes={"timestamp": 1_700_000}),
    "deep": with_value("[" * 900 + "]" * 900),
    "AssetType is a list": text(ID="AssetType", VALUE=["a"], TAG="AssetType", TYPE="OpenFactory"),
    "AssetType is null": text(ID="AssetType", VALUE=None, TAG="AssetType", TYPE="OpenFactory"),
    "avail is a number": text(ID="avail", VALUE=1, TAG="Availability", TYPE="Events"),
    "a command that is none": text(ID="cut_CMD", VALUE="cut it", TAG="Method.Command", TYPE="OpenFactory"),
    "a reply that is none": text(ID="cut_REPLY", VALUE=7, TAG="Method.Reply", TYPE="OpenFactory"),
    "a method without contract": text(ID="cut", VALUE=[7], TAG="Method", TYPE="Method"),
    "references that are a number": text(ID="references_below", VALUE=7, TAG="AssetsReferences", TYPE="OpenFactory"),
}

KEYS: dict[str, str | bytes] = {
    "dot": "a.b",
    "blank": "a b",
    "wildcard": "*",
    "pipe": "a|b",
    "long": "x" * 5_000,
    "no UTF-8": b"\xff\xfe",
    "null character": "a\0b",
    "quote": "a'b",
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings of the engine so far."""
    caplog.set_level(logging.INFO, "openfactory")
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class Place:
    """A factory, and a foreign program that writes to its topics."""

    def __init__(self, broker: str, prefix: str, engine: Engine) -> None:
        self.broker, self.prefix, self.engine = broker, prefix, engine
        self.topic = f"{prefix}ofa_assets"
        self.heard: list[AssetEvent] = []
        engine.subscribe(None, self.heard.append)

    def write(self, *records: tuple[str | bytes | None, bytes | None], topic: str = "ofa_assets") -> list[int]:
        return append(self.broker, self.prefix + topic, *records)

    def hears_the_next(self, uuid: str = "NEXT") -> None:
        """What comes behind all that was written is still heard and read."""
        before = sum(event.asset_uuid == uuid for event in self.heard)
        self.write((uuid, good()))
        eventually(lambda: sum(event.asset_uuid == uuid for event in self.heard) == before + 1)
        assert [event.value for event in self.engine.snapshot([uuid]).events[uuid]] == [1]


@pytest.fixture(params=["kafka", "ksqldb"])
def place(
    request: pytest.FixtureRequest, kafka_broker: KafkaBroker, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A fresh one on Kafka alone, and with a ksqlDB."""
    servers = kafka_broker.bootstrap_servers
    if request.param == "kafka":
        engine: Engine = KafkaEngine(f"kafka://{servers}?prefix={topic_prefix}")
        try:
            yield Place(servers, topic_prefix, engine)
        finally:
            engine.close()
        return
    with KsqlDBFactory(servers) as factory:
        engine = KsqlDBEngine(factory.entered(monkeypatch))
        try:
            yield Place(servers, factory.prefix, engine)
        finally:
            engine.close()


# In the topic of all events


def test_what_is_no_event_is_skipped_and_logged_with_its_place(place: Place, logged: Callable[[], list[str]]) -> None:
    for name, (value, reason) in NO_EVENTS.items():
        uuid = f"bad-{name.replace(' ', '-')}"
        before = len(logged())
        [offset] = place.write((uuid, value))
        place.hears_the_next()
        [line] = [line for line in logged()[before:] if f"{place.topic}, partition 0, offset {offset} " in line][:1]
        assert reason in line, f"{name}: {line}"
        assert len(line) < 600, name
        assert place.engine.history(uuid) == [], name
    assert {event.asset_uuid for event in place.heard} == {"NEXT"}
    assert place.engine.health().connected
    assert place.engine.health().counters["unreadable"] >= len(NO_EVENTS)


def test_what_others_spell_in_their_way_is_understood(place: Place, logged: Callable[[], list[str]]) -> None:
    for name, (value, (said, type, tag, timestamp)) in EVENTS.items():
        uuid = f"other-{name.replace(' ', '-')}"
        place.write((uuid, value))
        eventually(lambda: place.heard)
        event = place.heard.pop().normalized()
        attribute = event.attribute()
        assert (event.asset_uuid, event.id) == (uuid, "x"), name
        assert (attribute.value, attribute.type, attribute.tag) == (said, type, tag), name
        assert event.timestamp == (timestamp or "UNAVAILABLE"), name
        [read] = place.engine.snapshot([uuid]).events[uuid]
        assert str(read.value) == str(event.value), name
    assert not logged()


def test_what_is_odd_stops_neither_the_engine_nor_its_watchers(place: Place, logged: Callable[[], list[str]]) -> None:
    for name, value in ODD.items():
        uuid = f"odd-{name.replace(' ', '-')}"
        [offset] = place.write((uuid, value))
        place.hears_the_next()
        heard = any(event.asset_uuid == uuid for event in place.heard)
        said = any(f"{place.topic}, partition 0, offset {offset} " in line for line in logged())
        assert heard != said, f"{name}: it is heard or logged, {heard=} {said=}"
        place.engine.history(uuid)
    # Of all at once: a ksqlDB is asked again and again for a while before an asset counts as unknown.
    uuids = [f"odd-{name.replace(' ', '-')}" for name in ODD]
    place.engine.types(uuids)
    place.engine.availability(uuids)
    place.engine.snapshot(uuids)
    place.engine.query("SELECT * FROM assets")
    place.engine.query("SELECT * FROM assets_avail")
    assert not [line for line in logged() if "Traceback" in line or "raised an exception" in line]


def test_keys_that_we_would_not_write_stop_nothing(place: Place, logged: Callable[[], list[str]]) -> None:
    for key in KEYS.values():
        place.write((key, good()))
        place.hears_the_next()
    [offset] = place.write((None, good()))
    [other] = place.write((b"", good()))
    place.hears_the_next()
    for one in (offset, other):
        assert any(f"{place.topic}, partition 0, offset {one} " in line and "no key" in line for line in logged())
    heard = [event.asset_uuid for event in place.heard if event.asset_uuid != "NEXT"]
    assert "a.b" in heard
    assert "a b" in heard
    assert len(place.engine.query("SELECT * FROM assets WHERE asset_uuid = ?", "a'b")) <= 1


def test_assets_live_with_what_others_write(place: Place, logged: Callable[[], list[str]]) -> None:
    values: list[Any] = []
    with KSQLDBClient(place.engine.url) as client, Asset("MILL", client) as mill:
        mill.subscribe_to_messages(lambda subject, message: values.append(message["VALUE"]))
        for value, _ in NO_EVENTS.values():
            place.write(("MILL", value))
        place.write(*(("MILL", value) for value in ODD.values()))
        place.write(("MILL", text(id="x", value="last", type="events", attributes=None)))
        eventually(lambda: "last" in values)
        assert mill.x.value == "last"
        mill.get_references_below_uuid()
        mill.attributes()
        mill.methods()
        mill.x = "mine"
        mill.flush()
        eventually(lambda: values[-1] == "mine")
    assert not [line for line in logged() if "failed at position" in line]


def test_ten_thousand_bad_records_do_not_fill_the_log(place: Place, logged: Callable[[], list[str]]) -> None:
    place.write(*((f"bad-{number % 7}", b"no JSON") for number in range(10_000)))
    place.hears_the_next()
    assert 1 <= len(logged()) <= 200
    assert place.engine.health().counters["unreadable"] >= 10_000


def test_a_start_reads_past_what_is_no_event(
    kafka_broker: KafkaBroker, topic_prefix: str, logged: Callable[[], list[str]]
) -> None:
    servers = kafka_broker.bootstrap_servers
    create_topics({"bootstrap.servers": servers}, TOPICS, prefix=topic_prefix)
    records = [("MILL", value) for value, _ in NO_EVENTS.values()]
    append(servers, f"{topic_prefix}ofa_assets", *records, *(("MILL", one) for one in ODD.values()), ("MILL", good(7)))
    with KSQLDBClient(f"kafka://{servers}?prefix={topic_prefix}") as client:
        said = {event.id: event.value for event in client.engine.snapshot(["MILL"]).events["MILL"]}
    assert said["x"] == 7
    assert any("partition 0, offset 0 " in line for line in logged())


# In the map of places

PLACES: dict[str, bytes | None] = {
    "no JSON": b"somewhere",
    "empty": b"",
    "a list": b"[1]",
    "a number": b"7",
    "JSON null": b"null",
    "invalid UTF-8": b"\xff",
    "id is a number": text(ASSET_UUID="u", UNS_ID=7, UNS_LEVELS={}, UPDATED_AT=1),
    "id is a list": text(ASSET_UUID="u", UNS_ID=["a"], UNS_LEVELS={}, UPDATED_AT=1),
    "levels are a text": text(ASSET_UUID="u", UNS_ID="a", UNS_LEVELS="a/b", UPDATED_AT=1),
    "levels hold null": text(ASSET_UUID="u", UNS_ID="a", UNS_LEVELS={"line": None}, UPDATED_AT=1),
    "time is a text": text(ASSET_UUID="u", UNS_ID="a", UNS_LEVELS={}, UPDATED_AT="yesterday"),
    "time is too big": b'{"UNS_ID": "a", "UNS_LEVELS": {}, "UPDATED_AT": 99999999999999999999999}',
    "time is infinite": b'{"UNS_ID": "a", "UNS_LEVELS": {}, "UPDATED_AT": 1e999}',
    "deep": b"[" * DEEP + b"]" * DEEP,
}


def test_a_bad_place_is_logged_with_its_place_and_hides_no_other(place: Place, logged: Callable[[], list[str]]) -> None:
    said = {"ASSET_UUID": "MILL", "UNS_ID": "acme/mill", "UNS_LEVELS": {"line": "L1"}, "UPDATED_AT": 1}
    place.write(("MILL", text(**said)), topic="asset_to_uns_map_topic")
    offsets = {name: place.write((name, value), topic="asset_to_uns_map_topic")[0] for name, value in PLACES.items()}
    place.write(("LATHE", text(**said)), topic="asset_to_uns_map_topic")
    eventually(lambda: "LATHE" in place.engine.uns_map())
    known = place.engine.uns_map()
    assert known["MILL"] == known["LATHE"] == "acme/mill"
    assert all(isinstance(uns_id, str) for uns_id in known.values())
    for name in ("no JSON", "empty", "a list", "a number", "invalid UTF-8", "deep"):
        where = f"{place.prefix}asset_to_uns_map_topic, partition 0, offset {offsets[name]} "
        assert any(where in line for line in logged()), name
        assert name not in known
    place.write(("MILL", None), topic="asset_to_uns_map_topic")
    eventually(lambda: "MILL" not in place.engine.uns_map())
    assert not [line for line in logged() if "Traceback" in line]


def test_a_start_reads_past_bad_places(
    kafka_broker: KafkaBroker, topic_prefix: str, logged: Callable[[], list[str]]
) -> None:
    servers = kafka_broker.bootstrap_servers
    create_topics({"bootstrap.servers": servers}, TOPICS, prefix=topic_prefix)
    topic = f"{topic_prefix}asset_to_uns_map_topic"
    append(servers, topic, *((name, value) for name, value in PLACES.items()), ("MILL", text(uns_id="acme/mill")))
    engine = KafkaEngine(f"kafka://{servers}?prefix={topic_prefix}")
    try:
        assert engine.uns_map()["MILL"] == "acme/mill"
    finally:
        engine.close()


# On NATS


def say_on_nats(url: str, *messages: tuple[bytes, bytes]) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as connection:
        said = b"".join(b"PUB %s %d\r\n%s\r\n" % (subject, len(data), data) for subject, data in messages)
        connection.sendall(b"CONNECT {}\r\n" + said + b"PING\r\n")
        answer = b""
        while b"PONG" not in answer:
            answer += connection.recv(65536)


def test_what_is_no_event_on_nats_is_skipped(
    kafka_broker: KafkaBroker,
    nats_server: NatsServer,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], list[str]],
) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url) as factory:
        engine = KsqlDBEngine(factory.entered(monkeypatch))
        heard: list[AssetEvent] = []
        try:
            engine.subscribe("MILL", heard.append)
            eventually(lambda: nats_server.subscriptions() and not engine.health().reason)
            append(kafka_broker.bootstrap_servers, f"{factory.prefix}ofa_assets", ("MILL", good("first")))
            eventually(lambda: [event.value for event in heard] == ["first"])
            for name, (value, _) in NO_EVENTS.items():
                if "id" not in name.split():
                    say_on_nats(nats_server.url, (b"MILL.bad", value or b""))
            for value in ODD.values():
                say_on_nats(nats_server.url, (b"MILL.odd", value))
            say_on_nats(
                nats_server.url,
                (b"MILL.", good()),
                (b"MILL...", good()),
                (b"MILL.last", text(value=1, type="EVENTS")),
            )
            eventually(lambda: any(event.id == "last" for event in heard))
            assert not [event for event in heard if event.id == "bad"]
            assert any("MILL.bad" in line for line in logged())
            append(kafka_broker.bootstrap_servers, f"{factory.prefix}ofa_assets", ("MILL", good("again")))
            eventually(lambda: heard[-1].value == "again")
            assert not [line for line in logged() if "Traceback" in line]
        finally:
            engine.close()


def test_an_open_transaction_of_another_program_costs_one_short_wait_and_is_told_once(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "openfactory")
    with KSQLDBClient(kafka_url) as client, Asset("MILL", client) as mill:
        client.engine.produce("ofa_assets", "MILL", good("before")).wait()
        configuration: dict[str, Any] = {
            "bootstrap.servers": kafka_broker.bootstrap_servers,
            "transactional.id": topic_prefix,
            "log_level": 0,
        }
        foreign = Producer(configuration)
        foreign.init_transactions()
        foreign.begin_transaction()
        foreign.produce(f"{topic_prefix}ofa_assets", good("undone"), "OTHER")
        foreign.flush()
        mill["x"] = "behind"
        mill.flush()
        begin = time.monotonic()
        for _ in range(20):
            assert client.query("SELECT value FROM assets WHERE id = 'x'") == [{"VALUE": "before"}]
        assert time.monotonic() - begin < 8  # a wait for the missing record takes 10 s, each time
        assert mill["x"].value == "behind"
        foreign.abort_transaction()
        eventually(lambda: client.query("SELECT value FROM assets WHERE id = 'x'") == [{"VALUE": "behind"}])
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "transaction" in line]) == 1
    assert "The log can be read up to its end again." in lines
