"""Checks of the ksqlDB server: its health, its streams, tables and queries, and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, advised, failed, fine, unchecked
from openfactory.engines.base import ASSETS_STREAM, ASSETS_TOPIC
from openfactory.engines.ksqldb.answers import STARTING
from openfactory.engines.ksqldb.columns import COLUMNS, foreign_columns
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBUnavailableError
from openfactory.engines.ksqldb.setup import check_server
from openfactory.engines.ksqldb.topology import statements
from openfactory.events.decoding import decode_json
from openfactory.exceptions import OpenFactoryError

if TYPE_CHECKING:
    from openfactory.engines.ksqldb.server import KsqlDBServer

__all__ = ["examine_ksqldb", "examine_settings", "ksqldb_server", "prefix_of"]

# The server waits a minute for a Kafka that does not answer. The check does not wait that long.
_SECONDS = 4.0

# First digits of the error codes for a refused login: 401, or the more detailed 40100.
_REFUSALS = ("401", "403")

# Longest acceptable time until a table shows a new row, in milliseconds.
_SLOWEST_COMMIT = 2000

_decode_entities = msgspec.json.Decoder(list[dict[str, Any]]).decode


def ksqldb_server(factory: Factory) -> KsqlDBServer:
    """Return a client of the ksqlDB server that does not retry, with a short timeout."""
    from openfactory.engines.ksqldb.server import KsqlDBServer

    return KsqlDBServer(
        factory.ksqldb_url or "", max_retries=0, retry_delay=0.1, timeout=_SECONDS, credentials=factory.credentials
    )


def prefix_of(factory: Factory, server: KsqlDBServer) -> str:
    """Return the prefix of the topics that the server reads, or that of the URL if the server does not report it."""
    try:
        topic = server.topic_of(ASSETS_STREAM)
    except OpenFactoryError:
        return factory.prefix
    return topic.removesuffix(ASSETS_TOPIC) if topic.endswith(ASSETS_TOPIC) else factory.prefix


def examine_ksqldb(factory: Factory) -> Iterator[Finding]:
    """Check the server. If it does not answer, that is the only finding."""
    with ksqldb_server(factory) as server:
        try:
            info = server.info()
            yield fine("ksqlDB", f"{server.url} answers, version {_version(info)}")
            yield _health(server)
            if factory.prefix:
                check_server(server, factory.prefix)
            yield _topology(server, prefix_of(factory, server))
            yield _columns(server, prefix_of(factory, server))
            for name, check in (("queries", _queries), ("ksqlDB settings", examine_settings)):
                try:
                    yield from check(server)
                except KSQLDBUnavailableError:
                    raise
                except KSQLDBClientException as error:  # another version of the server may not know the statement
                    yield Finding(name, "unchecked", failed(name, error).found)
        except KSQLDBUnavailableError as error:
            finding = failed("ksqlDB", error)
            if error.code != STARTING and not str(error.code).startswith(_REFUSALS) and "SSL" not in finding.remedy:
                finding = finding._replace(remedy="Start it and wait half a minute, or correct KSQLDB_URL.")
            yield finding
        except OpenFactoryError as error:
            yield failed("ksqlDB", error)


def examine_settings(server: KsqlDBServer) -> Iterator[Finding]:
    """Check the settings that can be changed only where the server is started."""
    properties = _entity(server, "SHOW PROPERTIES;").get("properties", [])
    values = {str(entry["name"]).removeprefix("ksql.streams."): str(entry.get("value")) for entry in properties}
    advice: list[str] = []
    if values.get("producer.linger.ms") != "0":
        advice.append(
            "ksql.streams.producer.linger.ms is not 0, so each table lags by at least 100 ms. "
            "Set it in the server's properties, or KSQL_KSQL_STREAMS_PRODUCER_LINGER_MS=0 in its container."
        )
    commit = values.get("commit.interval.ms", str(_SLOWEST_COMMIT))
    if commit.isdecimal() and int(commit) > _SLOWEST_COMMIT:
        advice.append(
            f"ksql.streams.commit.interval.ms is {commit}, so a table that reads another table lags as long. "
            f"Set it to {_SLOWEST_COMMIT} or less."
        )
    # ksqlDB 7.9 reports the handler that it has chosen by the setting, and not the setting itself.
    handler = values.get("default.production.exception.handler", "")
    if values.get("ksql.fail.on.production.error") != "false" and "LogAndContinue" not in handler:
        advice.append(
            "ksql.fail.on.production.error is not false, so one value of more than 512 KiB stops a table permanently. "
            "Set it to false, or KSQL_KSQL_FAIL_ON_PRODUCTION_ERROR=false in its container."
        )
    for text in advice:
        yield advised("ksqlDB settings", text)
    if not advice:
        yield fine("ksqlDB settings", "linger, commit interval and handling of production errors are correct")


def _version(info: dict[str, Any]) -> str:
    server = info.get("KsqlServerInfo", info)
    return str(server.get("version", "unknown")) if isinstance(server, dict) else "unknown"


def _health(server: KsqlDBServer) -> Finding:
    health = server.health()
    if health.get("isHealthy"):
        return fine("ksqlDB health", str(health.get("serverState", "READY")))
    details: dict[str, Any] = health.get("details") or {}
    unhealthy = [name for name, part in details.items() if isinstance(part, dict) and not part.get("isHealthy")]
    return failed("ksqlDB health", f"Not healthy: {', '.join(unhealthy) or 'the server'}. Read the server's log.")


def _topology(server: KsqlDBServer, prefix: str) -> Finding:
    needed = [statement.name for statement in statements(prefix)]
    existing = {*server.streams(), *server.tables()}
    missing = [name for name in needed if name not in existing]
    if missing:
        option = f" --prefix {prefix}" if prefix else ""
        return failed("streams and tables", f"Missing: {', '.join(missing)}. Create them: ofa setup-kafka{option}")
    return fine("streams and tables", f"all {len(needed)} exist")


def _columns(server: KsqlDBServer, prefix: str) -> Finding:
    existing = {*server.streams(), *server.tables()}
    try:
        columns = {name: server.columns(name) for name in COLUMNS if name in existing}
    except KSQLDBClientException as error:  # without its Kafka, the server does not answer
        return unchecked("columns", str(error))
    if text := foreign_columns(columns, prefix):
        return failed("columns", text)
    return fine("columns", f"{len(columns)} streams and tables have the names and types that other programs expect")


def _queries(server: KsqlDBServer) -> Iterator[Finding]:
    queries = [query for query in _entity(server, "SHOW QUERIES;").get("queries", []) if isinstance(query, dict)]
    stopped = [str(query.get("id")) for query in queries if query.get("state") not in ("RUNNING", None)]
    if stopped:
        yield failed("queries", f"Not running: {', '.join(stopped)}. Read the server's log, then restart the server.")
    elif queries:
        yield fine("queries", f"all {len(queries)} run")


def _entity(server: KsqlDBServer, sql: str) -> dict[str, Any]:
    """Return the first object of the reply to a statement, or an empty one if the reply cannot be decoded."""
    try:
        entities = decode_json(server.statement(sql).content, _decode_entities)
    except msgspec.DecodeError:
        return {}
    return entities[0] if entities else {}
