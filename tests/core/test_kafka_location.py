"""The URL of Kafka alone is understood, or refused with what to write."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.engines.kafka_engine.location import KafkaLocation
from openfactory.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://broker", "broker:9092"),
        ("kafka://broker:19092/", "broker:19092"),
        ("kafka://one,two:9093", "one:9092,two:9093"),
        ("kafka://one:1, two", "one:1,two:9092"),
        ("kafka://[::1]:9092", "[::1]:9092"),
        ("kafka://[::1]", "[::1]:9092"),
        ("kafka://10.0.0.1", "10.0.0.1:9092"),
    ],
)
def test_brokers(url: str, servers: str) -> None:
    assert KafkaLocation.of(url).bootstrap_servers == servers


def test_options(tmp_path: Path) -> None:
    location = KafkaLocation.of(f"kafka://b?prefix=plant2_&linger_ms=2.5&state={tmp_path}/a%20b%25.db")
    assert location == KafkaLocation("b:9092", "plant2_", tmp_path.resolve() / "a b%.db", 2.5)


@pytest.mark.parametrize("option", ["", "?linger_ms=5", "?state=/x/y.db"])
def test_place_is_the_cluster_and_the_prefix(option: str) -> None:
    assert KafkaLocation.of(f"kafka://b{option}").place == KafkaLocation.of("kafka://b:9092/").place
    assert KafkaLocation.of("kafka://b?prefix=p_").place != KafkaLocation.of("kafka://b").place


@pytest.mark.parametrize(
    "url",
    [
        "kafka://",
        "kafka:///topic",
        "kafka://b/topic",
        "kafka://b:port",
        "kafka://b:999999",
        "kafka://a,,b",
        "kafka://a b",
        "kafka://[::1",
        "kafka://b?prefix=a/b",
        "kafka://b?linger_ms=-1",
        "kafka://b?linger_ms=nan",
        "kafka://b?linger_ms=soon",
        "kafka://b?state=",
        "kafka://b?state=/folder/",
        "kafka://b?topic=x",
        "kafka://b?bootstrap_servers=x",
    ],
)
def test_what_is_not_understood_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write kafka://|Use state="):
        KafkaLocation.of(url)


def test_password_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="KAFKA_SASL_PASSWORD") as refused:
        KafkaLocation.of("kafka://me:secret@broker")
    assert "secret" not in str(refused.value)


@given(st.text(max_size=30), st.text(max_size=30))
def test_nothing_but_a_configuration_error_is_raised(netloc: str, query: str) -> None:
    with suppress(ConfigurationError):
        assert KafkaLocation.of(f"kafka://{netloc}?{query}").bootstrap_servers
