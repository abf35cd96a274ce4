"""The settings of the asset forwarder, and its error and that of the state keeper at a start without a Kafka."""

from __future__ import annotations

import subprocess
import sys

import pytest

from openfactory.exceptions import ConfigurationError
from openfactory.fanout.settings import begins_at_begin, log_url, session_seconds
from running_services import FANOUT

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
    ("arguments", "name"), [(("forwarder", "--port", "0"), "asset forwarder"), (("keeper",), "state keeper")]
)
def test_without_a_kafka_the_start_names_the_remedy(arguments: tuple[str, ...], name: str) -> None:
    command = [sys.executable, *FANOUT, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 1
    assert found.stderr == (
        f"The {name} needs a Kafka. Set KSQLDB_URL to kafka://host:9092, or KAFKA_BROKER to host:9092.\n"
    )


def test_the_log_is_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSQLDB_URL", "http://ksqldb:8088?prefix=plant2_")
    monkeypatch.setenv("KAFKA_BROKER", "kafka:9092")
    assert log_url("asset forwarder") == "kafka://kafka:9092?prefix=plant2_"


def test_a_new_forwarder_begins_at_the_end_unless_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not begins_at_begin()
    monkeypatch.setenv("KAFKA_AUTO_OFFSET_RESET", "earliest")
    assert begins_at_begin()
    monkeypatch.setenv("KAFKA_AUTO_OFFSET_RESET", "newest")
    with pytest.raises(ConfigurationError, match="Write latest or earliest"):
        begins_at_begin()


@pytest.mark.parametrize("value", ["0", "0.1", "301", "soon"])
def test_the_session_timeout_is_checked(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert session_seconds() == 6
    monkeypatch.setenv("ASSET_FORWARDER_SESSION_TIMEOUT", value)
    with pytest.raises(ConfigurationError, match=r"from 0\.5 to 300"):
        session_seconds()
