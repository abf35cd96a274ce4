"""URLs of engines, and the servers of an engine: from its URL, from its caller or the environment."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory import doctor
from openfactory.engines import open_engine
from openfactory.engines.embedded.bounds import Bounds
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.engines.kafka_engine.location import KafkaLocation
from openfactory.engines.location import Location, Servers, scheme_of
from openfactory.exceptions import ConfigurationError
from openfactory.kafka import KSQLDBClient
from openfactory.settings.credentials import Credentials

# Servers and credentials

PASSED, CLIENTS, OWN = (Credentials(nats_token=token) for token in ("passed", "client", "environment"))


@pytest.mark.parametrize(
    ("url", "argument", "client", "environment", "expected"),
    [
        ("http://k", "argument:1", "client:1", "environment:1", "argument:1"),
        ("http://k", None, "client:1", "environment:1", "client:1"),
        ("http://k", None, None, "environment:1", "environment:1"),
        ("http://k", None, None, None, None),
        ("http://k", "", "", "", None),
        ("kafka://url", "argument:1", "client:1", "environment:1", "url:9092"),
        ("kafka://url:1,two", None, None, None, "url:1,two:9092"),
        ("sqlite:///factory.db", "argument:1", None, "environment:1", "argument:1"),
        ("other://place", None, "client:1", "environment:1", "client:1"),
        ("", None, None, "environment:1", "environment:1"),
    ],
)
def test_the_broker_is_the_first_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    argument: str | None,
    client: str | None,
    environment: str | None,
    expected: str | None,
) -> None:
    monkeypatch.setenv("KAFKA_BROKER", environment or "")
    given = Servers.of(KSQLDBClient(url, bootstrap_servers=client), argument)
    assert given.resolve(url).bootstrap_servers == expected


@pytest.mark.parametrize("url", ["http://k", "kafka://url", "memory://", ""])
@pytest.mark.parametrize(
    ("argument", "client", "environment", "expected"),
    [
        ("http://argument", "http://client", "http://environment", "http://argument"),
        (None, "http://client", "http://environment", "http://client"),
        (None, None, "http://environment", "http://environment"),
        (None, None, None, None),
    ],
)
def test_the_router_is_the_first_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    argument: str | None,
    client: str | None,
    environment: str | None,
    expected: str | None,
) -> None:
    monkeypatch.setenv("ASSET_ROUTER_URL", environment or "")
    given = Servers.of(KSQLDBClient(url, asset_router_url=client), asset_router_url=argument)
    assert given.resolve(url).asset_router_url == expected


@pytest.mark.parametrize("url", ["memory://client", "http://ksqldb:8088"])
def test_a_client_in_the_place_of_an_address_is_told_where_it_belongs(url: str) -> None:
    client = KSQLDBClient(url)
    with pytest.raises(ConfigurationError, match=r"bootstrap_servers is a KSQLDBClient.*Pass the client as ksql"):
        Servers.of(None, client)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"asset_router_url is a KSQLDBClient"):
        Servers.of(client, None, client)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"The client is 'MILL', a text\. Pass an object, such as KSQL"):
        Servers.of("MILL", "plant:9092")


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        (Servers(credentials=PASSED), PASSED),
        (Servers.of(KSQLDBClient("http://k", credentials=CLIENTS)), CLIENTS),
        (Servers.of(KSQLDBClient("http://k")), OWN),
        (Servers.of(None), OWN),
        (Servers(), OWN),
    ],
)
def test_credentials_are_those_passed_or_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, servers: Servers, expected: Credentials
) -> None:
    monkeypatch.setenv("NATS_TOKEN", "environment")
    assert servers.resolve("http://k").credentials == expected


def test_credentials_of_the_environment_are_read_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hidden")
    resolved = Servers().resolve("sqlite:///factory.db")
    with pytest.raises(ConfigurationError, match="KAFKA_SASL_PASSWORD is set"):
        _ = resolved.credentials


# URLs


@pytest.mark.parametrize(
    ("url", "scheme"),
    [("SQLITE:///a.db", "sqlite"), ("a.db", ""), ("sqlite:a.db", ""), ("://", ""), ("h:8088", ""), ("a+b://c", "a+b")],
)
def test_the_scheme_stands_before_two_slashes(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme
    assert Location.of(url).scheme == scheme


@pytest.mark.parametrize(
    ("url", "server", "login"),
    [
        ("http://ksqldb", "http://ksqldb:8088", None),
        ("HTTPS://KsqlDB:443/", "https://ksqldb:443", None),
        ("http://[::1]/path/?prefix=a#b", "http://[::1]:8088/path", None),
        ("http://me:s%40crit@ksqldb:80", "http://ksqldb:80", ("me", "s@crit")),
        ("http://me@ksqldb", "http://ksqldb:8088", ("me", "")),
    ],
)
def test_a_url_names_a_ksqldb_server(url: str, server: str, login: tuple[str, str] | None) -> None:
    location = Location.of(url)
    assert (location.server, location.login) == (server, login)
    assert "crit" not in repr(location)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://", "http:// has no host. Write http://host:8088."),
        ("http://:8088", "http://:8088 has no host. Write http://host:8088."),
        ("http://host:port", "http://host:port has an invalid host or port. Write http://host:8088."),
        ("http://host:99999", "http://host:99999 has an invalid host or port. Write http://host:8088."),
        ("http://[::1", "http://[::1 has an invalid host or port. Write http://host:8088."),
        ("http://me:secret@host:port", "http://host:port has an invalid host or port. Write http://host:8088."),
        ("ftp://host", "ftp://host is not the address of a ksqlDB server. Write http://host:8088."),
    ],
)
def test_a_url_that_names_no_server_is_refused(url: str, error: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        _ = Location.of(url).server
    assert str(refused.value) == error
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://me:s@k:1/p?prefix=a", "http://me:s@k:1/p"), ("kafka://b", None), ("sqlite:///f?x=1", None), ("", None)],
)
def test_a_ksqldb_url_is_without_its_options(url: str, expected: str | None) -> None:
    assert Location.of(url).ksqldb_url == expected


def test_a_repeated_option_has_its_last_value() -> None:
    assert Location.of("other://x?a=1&b=&a=%202").options == {"a": " 2", "b": ""}


# Files and names in memory


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///factory.db", "{cwd}/factory.db"),
        ("sqlite:///data/factory.db", "{cwd}/data/factory.db"),
        ("sqlite:///./a/../factory.db", "{cwd}/factory.db"),
        ("sqlite:////srv/factory.db", "/srv/factory.db"),
        ("sqlite:///~/factory.db", "{home}/factory.db"),
        ("sqlite:////srv/two%20words.db", "/srv/two words.db"),
        ("sqlite:////srv/two words.db", "/srv/two words.db"),
        ("sqlite:////srv/%3F%23.db", "/srv/?#.db"),
        ("sqlite:////srv/größe-🏭.db", "/srv/größe-🏭.db"),
        ("SQLITE:////srv/factory.db?synchronous=full", "/srv/factory.db"),
    ],
)
def test_a_url_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    location = EmbeddedLocation.of(url)
    assert str(location.path) == path.format(cwd=tmp_path.resolve(), home=Path.home())


def test_a_name_with_a_hash_names_that_file_or_is_refused() -> None:
    """The part behind a `#` is not dropped without a word."""
    try:
        location = EmbeddedLocation.of("sqlite:////srv/line#7.db")
    except ConfigurationError:
        return
    assert str(location.path) == "/srv/line#7.db"


@pytest.mark.parametrize(
    ("url", "name"),
    [("memory://", ""), ("memory://cell-1", "cell-1"), ("memory://Cell/a%20b?keep_events=1", "Cell/a b")],
)
def test_a_url_names_a_place_in_memory(url: str, name: str) -> None:
    location = EmbeddedLocation.of(url)
    assert location.path is None
    assert location.name == name


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {"synchronous": "normal", "bounds": None}),
        ("?synchronous=full", {"synchronous": "full", "bounds": None}),
        ("?synchronous=FULL", {"synchronous": "full"}),
        ("?keep_events=5&keep_days=0.5", {"bounds": Bounds(5, 0.5, 5, 0.5)}),
        ("?keep_events=5&keep_samples=7&keep_samples_days=inf", {"bounds": Bounds(5, None, 7, math.inf)}),
        ("?keep_samples=7&keep_days=3", {"bounds": Bounds(1_000_000, 3, 7, 3)}),
    ],
)
def test_options_stand_behind_a_question_mark(query: str, options: dict[str, Any]) -> None:
    location = EmbeddedLocation.of(f"sqlite:///factory.db{query}")
    assert {name: getattr(location, name) for name in options} == options


@pytest.mark.parametrize(
    "option",
    [
        "keep_events=0",
        "keep_events=-1",
        "keep_events=many",
        "keep_events=",
        "keep_samples=0",
        "keep_samples_days=-1",
        "keep_days=0",
        "keep_days=nan",
        "keep_days=x",
        "synchronous=off",
        "nosuch=1",
        "Keep_events=1",
        "synchronous",
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_those_that_do(option: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"has the invalid option .* The options are synchronous=normal\|full, keep_events=N"
    ):
        EmbeddedLocation.of(f"memory://?{option}")


# Kafka


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
def test_a_kafka_url_names_brokers(url: str, servers: str) -> None:
    assert KafkaLocation.of(url).bootstrap_servers == servers


def test_options_of_a_kafka_url(tmp_path: Path) -> None:
    location = KafkaLocation.of(f"kafka://b?prefix=plant2_&linger_ms=2.5&state={tmp_path}/a%20b%25.db")
    assert location == KafkaLocation("b:9092", "plant2_", tmp_path.resolve() / "a b%.db", 2.5)


@pytest.mark.parametrize("option", ["", "?linger_ms=5", "?state=/x/y.db"])
def test_place_of_a_kafka_url_is_the_cluster_and_the_prefix(option: str) -> None:
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
def test_an_invalid_kafka_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write kafka://|The options are state="):
        KafkaLocation.of(url)


def test_password_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="KAFKA_SASL_PASSWORD") as refused:
        KafkaLocation.of("kafka://me:secret@broker")
    assert "secret" not in str(refused.value)


@given(st.text(max_size=30), st.text(max_size=30))
def test_nothing_but_a_configuration_error_is_raised(netloc: str, query: str) -> None:
    with suppress(ConfigurationError):
        assert KafkaLocation.of(f"kafka://{netloc}?{query}").bootstrap_servers
    for scheme in ("http", "sqlite", "memory", "other"):
        with suppress(ConfigurationError):
            assert Location.of(f"{scheme}://{netloc}?{query}").scheme == scheme
    with suppress(ConfigurationError):
        assert Location.of(f"http://{netloc}").server
    with suppress(ConfigurationError):
        assert EmbeddedLocation.of(f"sqlite:///{netloc}?{query}").path


@pytest.mark.parametrize(
    "url",
    [
        "kafka://plant?sasl.password=topsecret",
        "kafka://plant?token=topsecret",
        "kafka://:x?password=topsecret",
        "sqlite://topsecret@host/factory.db",
        "sqlite://topsecret@/",
        "sqlite:///?password=topsecret",
        "sqlite:///factory.db?password=topsecret",
        "sqlite://topsecret@/:memory:",
        "http://plant:x?password=topsecret",
        "http://app:topsecret@:8088",
        "mysql://app:topsecret@plant?key=topsecret",
        "'sqlite:///factory.db?password=topsecret'",
    ],
)
def test_no_error_of_a_url_shows_its_secret(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_engine(url)
    assert "topsecret" not in str(caught.value)


def test_no_repr_shows_a_secret() -> None:
    servers = Servers("plant:9092", "http://app:topsecret@router?key=topsecret")
    url = "http://app:topsecret@plant:8088?password=topsecret"
    for value in (servers, servers.resolve(url), Location.of(url), doctor.Factory.of(url, servers), KSQLDBClient(url)):
        assert "topsecret" not in repr(value)


def test_a_login_in_the_address_of_a_broker_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="address of a broker must not contain a user or a password") as caught:
        Servers("app:topsecret@plant:9092").resolve("http://plant:8088")
    assert "topsecret" not in str(caught.value)
