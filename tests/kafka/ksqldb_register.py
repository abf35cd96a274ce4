"""The register of a ksqlDB: rows that its statements derive from the log, after a lag, and the tables over them."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import Message, Producer

from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.log_reader import LogReader, key_of
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.tables import run_select
from openfactory.exceptions import OpenFactoryError
from openfactory.settings.credentials import Credentials

__all__ = ["REGISTER", "DerivedRegister"]

#: By table: its column, and its topic.
REGISTER = {
    "ASSETS_TYPE": ("TYPE", "assets_types_topic"),
    "ASSETS_AVAIL": ("AVAILABILITY", "assets_avail_topic"),
    "DOCKER_SERVICES": ("DOCKER_SERVICE", "docker_services_topic"),
}


class DerivedRegister:
    """Derives rows while it runs, and answers SELECTs on the tables.

    Args:
        existing: derive as the existing system's statements do: a type `delete` becomes a row and a tombstone, by two
            queries, of which that of the rows comes last here.
        lag: how many seconds a row is behind its event. Without a lag, a SELECT waits for all rows.
    """

    def __init__(
        self, bootstrap_servers: str, prefix: str, partitions: int, *, existing: bool = False, lag: float = 0.0
    ) -> None:
        self.existing = existing
        self.lag = lag
        self._reader = LogReader(BrokerConnection(bootstrap_servers, Credentials()))
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "partitioner": "murmur2_random"})
        self._log = [Partition(f"{prefix}ofa_assets", number) for number in range(partitions)]
        self._tables = {
            Partition(prefix + topic, number): table
            for table, (_, topic) in REGISTER.items()
            for number in range(partitions)
        }
        self._topics = {table: prefix + topic for table, (_, topic) in REGISTER.items()}
        self._next = dict.fromkeys([*self._log, *self._tables], 0)
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for table, (column, _) in REGISTER.items():
            self._connection.execute(f"CREATE TABLE {table} (ASSET_UUID TEXT PRIMARY KEY, {column} TEXT)")
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="derived-register")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._reader.close()
        self._connection.close()
        del self._producer  # it would look for the broker as long as it lives

    def select(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT on one of the tables."""
        if not self.lag:
            with suppress(OpenFactoryError):
                self._catch_up()
        return run_select(self._reading, sql, ())

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._connection

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            with suppress(OpenFactoryError):  # the broker is away
                self._catch_up()

    def _catch_up(self) -> None:
        with self._lock:
            for partition, end in self._reader.ends(self._log).items():
                for offset, message in self._reader.read(partition, self._next[partition], end):
                    if time.time() - message.timestamp()[1] / 1000 < self.lag:
                        break
                    self._derive(message)
                    self._next[partition] = offset + 1
            self._producer.flush(10)
            for partition, end in self._reader.ends(self._tables).items():
                for offset, message in self._reader.read(partition, self._next[partition], end):
                    self._apply(self._tables[partition], message)
                    self._next[partition] = offset + 1

    def _derive(self, message: Message) -> None:
        try:
            fields = {name.upper(): value for name, value in json.loads(message.value() or b"").items()}
        except (ValueError, AttributeError, RecursionError):
            return
        id, value, type = fields.get("ID"), _text(fields.get("VALUE")), fields.get("TYPE")
        if id in ("avail", "agent_avail"):
            self._write("ASSETS_AVAIL", message, None if value == "delete" else value)
        elif id == "DockerService" and type == "OpenFactory":
            self._write("DOCKER_SERVICES", message, value)
        elif id == "AssetType" and (type == "OpenFactory" or (value == "delete" and type == "UNAVAILABLE")):
            self._derive_type(message, value, type)

    def _derive_type(self, message: Message, value: str | None, type: str | None) -> None:
        if value == "delete" and (type == "OpenFactory" or not self.existing):
            self._write("ASSETS_TYPE", message, None)
            if not self.existing:
                self._write("ASSETS_AVAIL", message, None)
        if type == "OpenFactory" and (value != "delete" or self.existing):
            self._write("ASSETS_TYPE", message, value)

    def _write(self, table: str, message: Message, value: str | None) -> None:
        column = REGISTER[table][0]
        row = None if value is None else json.dumps({column: value} if self.existing else value)
        self._producer.produce(self._topics[table], row, message.key(), timestamp=message.timestamp()[1])

    def _apply(self, table: str, message: Message) -> None:
        if (value := message.value()) is None:
            self._connection.execute(f"DELETE FROM {table} WHERE ASSET_UUID = ?", (key_of(message),))  # noqa: S608
            return
        row = json.loads(value)
        content = row[REGISTER[table][0]] if isinstance(row, dict) else row
        replace = f"INSERT OR REPLACE INTO {table} VALUES (?, ?)"  # noqa: S608
        self._connection.execute(replace, (key_of(message), content))


def _text(value: Any) -> str | None:
    """A value as the text that ksqlDB's column has."""
    text = value if value is None or isinstance(value, str) else json.dumps(value)
    return None if text is None else text.encode(errors="replace").decode()
