"""The ksqlDB server: its health, its streams, tables and queries, and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, advised, failed, fine
from openfactory.engines.base import ASSETS_STREAM, ASSETS_TOPIC
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBUnavailableError
from openfactory.engines.ksqldb.topology import statements
from openfactory.exceptions import OpenFactoryError

if TYPE_CHECKING:
    from openfactory.engines.ksqldb.server import KsqlDBServer

__all__ = ["examine_ksqldb", "examine_settings", "ksqldb_server", "prefix_of"]

# The server itself looks for a Kafka that is gone for a minute: it is not waited for.
_SECONDS = 4.0

# How the codes begin of a server that runs well and does not let us in: 401, or 40100 where it says more.
_REFUSALS = ("401", "403")

# How long a row may wait until a table shows it, in milliseconds.
_SLOWEST_COMMIT = 2000


def ksqldb_server(factory: Factory) -> KsqlDBServer:
    """The server of a factory, asked once and not for long."""
    from openfactory.engines.ksqldb.server import KsqlDBServer

    return KsqlDBServer(
        factory.ksqldb_url or "", max_retries=0, retry_delay=0.1, timeout=_SECONDS, credentials=factory.credentials
    )


def prefix_of(factory: Factory, server: KsqlDBServer) -> str:
    """What stands before the topics that the server reads; that of the URL where it does not say."""
    try:
        topic = server.topic_of(ASSETS_STREAM)
    except OpenFactoryError:
        return factory.prefix
    return topic.removesuffix(ASSETS_TOPIC) if topic.endswith(ASSETS_TOPIC) else factory.prefix


def examine_ksqldb(factory: Factory) -> Iterator[Finding]:
    """How the server is; nothing more of one that does not answer."""
    with ksqldb_server(factory) as server:
        try:
            info = server.info()
            yield fine("ksqlDB", f"{server.url} answers, version {_version(info)}")
            yield _health(server)
            yield _topology(server, prefix_of(factory, server))
            for check, look in (("queries", _queries), ("ksqlDB settings", examine_settings)):
                try:
                    yield from look(server)
                except KSQLDBUnavailableError:
                    raise
                except KSQLDBClientException as error:  # an older or newer server may have other words for it
                    yield Finding(check, "unchecked", failed(check, error).found)
        except KSQLDBUnavailableError as error:
            finding = failed("ksqlDB", error)
            if not str(error.code).startswith(_REFUSALS) and "KSQLDB_SSL" not in finding.remedy:
                finding = finding._replace(remedy="Start it, give it half a minute, or correct KSQLDB_URL.")
            yield finding
        except OpenFactoryError as error:
            yield failed("ksqlDB", error)


def examine_settings(server: KsqlDBServer) -> Iterator[Finding]:
    """Settings that only who starts the server can change."""
    properties = _entity(server, "SHOW PROPERTIES;").get("properties", [])
    values = {str(one["name"]).removeprefix("ksql.streams."): str(one.get("value")) for one in properties}
    advice: list[str] = []
    if values.get("producer.linger.ms") != "0":
        advice.append(
            "ksql.streams.producer.linger.ms is not 0, so each table lags 100 ms and more. "
            "Set it in the server's properties, KSQL_KSQL_STREAMS_PRODUCER_LINGER_MS=0 in its container."
        )
    commit = values.get("commit.interval.ms", str(_SLOWEST_COMMIT))
    if commit.isdecimal() and int(commit) > _SLOWEST_COMMIT:
        advice.append(
            f"ksql.streams.commit.interval.ms is {commit}, and tables of tables lag as long. "
            f"Set it to {_SLOWEST_COMMIT} or less."
        )
    if values.get("ksql.fail.on.production.error", "true") != "false":
        advice.append(
            "ksql.fail.on.production.error is not false, so one value of more than 512 KiB stops a table for good. "
            "Set it to false, KSQL_KSQL_FAIL_ON_PRODUCTION_ERROR=false in its container."
        )
    for text in advice:
        yield advised("ksqlDB settings", text)
    if not advice:
        yield fine("ksqlDB settings", "linger, commit interval and production errors are as they should be")


def _version(info: dict[str, Any]) -> str:
    server = info.get("KsqlServerInfo", info)
    return str(server.get("version", "unknown")) if isinstance(server, dict) else "unknown"


def _health(server: KsqlDBServer) -> Finding:
    health = server.health()
    if health.get("isHealthy"):
        return fine("ksqlDB health", str(health.get("serverState", "READY")))
    details: dict[str, Any] = health.get("details") or {}
    ill = [name for name, one in details.items() if isinstance(one, dict) and not one.get("isHealthy")]
    return failed("ksqlDB health", f"{', '.join(ill) or 'it'} is not healthy. Look into the server's log.")


def _topology(server: KsqlDBServer, prefix: str) -> Finding:
    wanted = [statement.name for statement in statements(prefix)]
    there = {*server.streams(), *server.tables()}
    missing = [name for name in wanted if name not in there]
    if missing:
        option = f" --prefix {prefix}" if prefix else ""
        return failed("streams and tables", f"{', '.join(missing)} are missing. Make them: ofa setup-kafka{option}")
    return fine("streams and tables", f"all {len(wanted)}")


def _queries(server: KsqlDBServer) -> Iterator[Finding]:
    queries = [one for one in _entity(server, "SHOW QUERIES;").get("queries", []) if isinstance(one, dict)]
    dead = [str(query.get("id")) for query in queries if query.get("state") not in ("RUNNING", None)]
    if dead:
        yield failed("queries", f"{', '.join(dead)} do not run. Look into the server's log, and start it again.")
    elif queries:
        yield fine("queries", f"all {len(queries)} run")


def _entity(server: KsqlDBServer, sql: str) -> dict[str, Any]:
    """The first object of an answer; nothing of one that cannot be read."""
    try:
        entities = msgspec.json.decode(server.statement(sql).content, type=list[dict[str, Any]])
    except msgspec.DecodeError:
        return {}
    return entities[0] if entities else {}
