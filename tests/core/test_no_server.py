"""An `http://` URL and no ksqlDB behind it: one sentence with the address and the way out, in bounded time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from openfactory.assets import Asset
from openfactory.exceptions import ConfigurationError, EngineUnavailableError
from openfactory.kafka import KSQLDBClient

WAY_OUT = "To run without a server, set KSQLDB_URL=sqlite:///factory.db or use `ofa run` with the app's file."


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def refusal(url: str) -> str:
    with KSQLDBClient(url) as client, pytest.raises(EngineUnavailableError) as caught:
        Asset("MILL", client)
    assert caught.value.address == url
    said = str(caught.value)
    assert url in said
    assert "\n" not in said
    assert said.endswith(WAY_OUT)
    return said


def test_no_server_is_one_sentence_with_the_address_and_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{port}").startswith(f"No ksqlDB server answers at http://127.0.0.1:{port} (")


def test_a_server_that_does_not_answer_is_not_waited_for_without_end(silent: str) -> None:
    started = time.monotonic()
    assert "No ksqlDB server answers" in refusal(silent)
    assert time.monotonic() - started < 30


def test_a_name_that_nobody_knows_is_no_server() -> None:
    assert "No ksqlDB server answers" in refusal("http://nosuch.invalid:8088")


@pytest.mark.parametrize("url", ["http://:8088", "http://host:port", "http://host:99999", "https://:8088"])
def test_a_url_without_a_proper_address_says_what_to_write(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write http://host:8088\."):
        KSQLDBClient(url).tables()
