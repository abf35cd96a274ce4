"""An app's files beside a Kafka: on each of its engines a command reads and writes them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient
from servers import KafkaBroker, NatsServer


class Recorder(OpenFactoryApp):
    """Keeps what it is told in a file."""

    @ofa_method(description="Keep a line")
    def keep(self, line: str) -> str:
        with self.storage.open("book/lines.txt", "a") as book:
            book.write(f"{line}\n")
        return str(self.storage.read_text("book/lines.txt"))


@pytest.mark.parametrize("engine", ["kafka", pytest.param("ksqldb", marks=pytest.mark.thorough), "nats"])
def test_a_command_writes_a_file(
    engine: str,
    kafka_broker: KafkaBroker,
    nats_server: NatsServer,
    kafka_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"type": "local", "local_path": str(tmp_path), "mount_point": "/nowhere/mounted"}
    monkeypatch.setenv("STORAGE", json.dumps(settings))
    with ExitStack() as stack:
        url = kafka_url
        if engine != "kafka":
            nats_url = nats_server.url if engine == "nats" else None
            url = stack.enter_context(KsqlDBFactory(kafka_broker.bootstrap_servers, nats_url)).entered(monkeypatch)
        client = stack.enter_context(KSQLDBClient(url))
        app = Recorder(client, app_uuid="RECORDER")
        stack.callback(app.shutdown)
        recorder = stack.enter_context(Asset("RECORDER", client))
        assert recorder.call("keep", line="one", sender_uuid="HMI", timeout=30) == "one\n"
        assert recorder.call("keep", line="two", sender_uuid="HMI", timeout=30) == "one\ntwo\n"
    assert (tmp_path / "book" / "lines.txt").read_text() == "one\ntwo\n"
