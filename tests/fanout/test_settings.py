"""The Kafka and the UUID that the environment gives a service."""

from __future__ import annotations

import os

import pytest

from openfactory.fanout.settings import kafka_url, service_uuid


@pytest.mark.parametrize(
    ("url", "broker", "found"),
    [
        ("kafka://plant:9092?prefix=hall2_", "other:9092", "kafka://plant:9092?prefix=hall2_"),
        ("http://ksqldb:8088", "plant:9092", "kafka://plant:9092"),
        ("https://user:secret@ksqldb?prefix=hall2_", "one:9092,two:9092", "kafka://one:9092,two:9092?prefix=hall2_"),
        ("", "plant:9092", "kafka://plant:9092"),
        ("", "", None),
        ("http://ksqldb:8088", "", None),
        ("sqlite:///factory.db", "plant:9092", None),  # a factory in a file has no log on a Kafka
    ],
)
def test_the_kafka_is_that_of_the_factory(
    monkeypatch: pytest.MonkeyPatch, url: str, broker: str, found: str | None
) -> None:
    monkeypatch.setenv("KSQLDB_URL", url)
    monkeypatch.setenv("KAFKA_BROKER", broker)
    assert kafka_url() == found


def test_a_service_without_a_uuid_has_one_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "hall2.plant.example")
    assert service_uuid("state-keeper") == f"state-keeper-hall2-{os.getpid()}"
    monkeypatch.setenv("APP_UUID", "keeper-1")
    assert service_uuid("state-keeper") is None
