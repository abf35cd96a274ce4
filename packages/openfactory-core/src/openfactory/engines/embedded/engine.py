"""The embedded engine: the engine interface on top of a SQLite database."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from typing import Any

import msgspec

from openfactory.engines.base import (
    EngineHealth,
    OnDeliveryError,
    OnEvent,
    OnGap,
    Servers,
    Snapshot,
    Subscription,
)
from openfactory.engines.embedded import command_age
from openfactory.engines.embedded.database import Database, FileDatabase, MemoryDatabase
from openfactory.engines.embedded.files import owners_folder_of
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.engines.embedded.presence import FilePresence
from openfactory.engines.embedded.queries import read_all, read_history, read_snapshot, unreadable_rows
from openfactory.engines.embedded.tail import Tail
from openfactory.engines.embedded.upkeep import Upkeep
from openfactory.engines.embedded.writer import Writer
from openfactory.engines.liveness import Liveness, liveness_timeout
from openfactory.engines.presence import LocalPresence, Presence
from openfactory.engines.shared import HistoryQuery, SharedEngine
from openfactory.engines.tables import TABLES, read_pairs, read_places, run_select
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import OWNER_ID, owned
from openfactory.events.receipt import Receipt
from openfactory.events.registration import Registration, deregistration_event

__all__ = ["EmbeddedEngine"]

_DEREGISTER = """
INSERT INTO deregistered VALUES (?, (SELECT coalesce(max(id), 0) FROM log))
ON CONFLICT (asset) DO UPDATE SET id = excluded.id
"""
_SET_UNS = """
INSERT INTO uns VALUES (?, ?, ?, ?) ON CONFLICT (asset_uuid) DO UPDATE
SET uns_id = excluded.uns_id, uns_levels = excluded.uns_levels, updated_at = excluded.updated_at
"""


class EmbeddedEngine(SharedEngine):
    """Engine for a factory in one SQLite file, `sqlite:///factory.db`, or in this process, `memory://name`.

    Options in the URL: `synchronous=full` keeps the newest commits after a power cut too. `keep_events=N` and
    `keep_days=N` limit the log, `keep_samples=N` and `keep_samples_days=N` do so for samples apart; the last value of
    each attribute is always kept.

    Raises:
        ConfigurationError: the URL is not valid.
        EngineUnavailableError: the file cannot be opened, or is not a database of OpenFactory.
    """

    liveness: Liveness

    def __init__(self, url: str, servers: Servers = Servers()) -> None:  # noqa: ARG002, B008 - has no servers
        super().__init__(url)
        location = EmbeddedLocation.of(url)
        self._database: Database = MemoryDatabase() if location.path is None else FileDatabase(location)
        self._file = "" if location.path is None else str(location.path)
        self._tail = Tail(self._database)
        self._writer = Writer(self._database, Upkeep(self._database, location), self._tail.note_written)
        self.liveness = self._new_liveness(location)

    @classmethod
    def location(cls, url: str, servers: Servers = Servers()) -> str:  # noqa: ARG003, B008 - has no servers
        return EmbeddedLocation.of(url).place

    def publish(self, event: AssetEvent) -> Receipt:
        self._check_open()
        return self._writer.publish(event)

    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        self._writer.on_delivery_error(callback)

    def flush(self, timeout: float = 10.0) -> None:
        self._check_open()
        self._writer.flush(timeout)

    def snapshot(self, asset_uuids: Collection[str] | None = None) -> Snapshot:
        self._check_open()
        with self._database.reading() as connection:
            return read_snapshot(connection, asset_uuids)

    def subscribe(
        self,
        asset_uuid: str | None,
        on_event: OnEvent,
        on_gap: OnGap | None = None,
        from_position: int | None = None,
    ) -> Subscription:
        self._check_open()
        self.liveness.start()
        return self._tail.subscribe(asset_uuid, on_event, on_gap, from_position)

    def stamp(self, asset_uuid: str) -> dict[str, str]:  # noqa: ARG002 - all assets share one log
        return command_age.stamp()

    def age(self, event: AssetEvent) -> float | None:
        return command_age.age(event)

    def register(self, registration: Registration) -> list[Receipt]:
        receipts = [self.publish(event) for event in registration.events()]
        if registration.uns_id is not None:
            levels = msgspec.json.encode(registration.uns_levels).decode()
            place = (registration.asset_uuid, registration.uns_id, levels, _now_ms())
            receipts.append(self._writer.execute(_SET_UNS, *place))
        return receipts

    def deregister(self, asset_uuid: str, epoch: int | None = None) -> list[Receipt]:
        self._check_open()
        event = None if epoch is None else owned(deregistration_event(asset_uuid), epoch)
        return [
            self._writer.execute(_DEREGISTER, asset_uuid, only_with=event),
            self._writer.execute(_SET_UNS, asset_uuid, None, None, _now_ms(), only_with=event),
        ]

    def types(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        return self._pairs("assets_type", "type", asset_uuids)

    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        return self._pairs("assets_avail", "availability", asset_uuids)

    def uns_map(self) -> dict[str, str]:
        self._check_open()
        with self._database.reading() as connection:
            return read_places(connection)

    def _history(self, query: HistoryQuery) -> list[AssetEvent]:
        with self._database.reading() as connection:
            return read_history(connection, query)

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        self._check_open()
        return run_select(self._database.querying, sql, parameters)

    def tables(self) -> list[str]:
        self._check_open()
        return list(TABLES)

    def _health(self) -> EngineHealth:
        problem = self._database.write_problem()
        counters = self._writer.counters | self._tail.counters | self.liveness.counters
        counters["unreadable"] = unreadable_rows(self._file)
        return EngineHealth(not problem, problem, self._writer.queued, counters)

    def _end_writing(self, timeout: float) -> None:
        self._writer.close(timeout)

    def _end_reading(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self.liveness.close()
        self._tail.close(timeout)
        self._database.close(max(deadline - time.monotonic(), 0.1))

    def _new_liveness(self, location: EmbeddedLocation) -> Liveness:
        timeout = liveness_timeout()
        presence: Presence = LocalPresence(secrets.token_hex(8))
        if location.path is not None:
            presence = FilePresence(owners_folder_of(location.path), timeout)
        return Liveness(
            presence,
            lambda assets: self.snapshot(assets).events,
            self.publish,
            self._claims,
            timeout,
            self._tail.announce,
        )

    def _claims(self) -> list[AssetEvent]:
        with self._database.reading() as connection:
            return read_all(connection, OWNER_ID)

    def _pairs(self, view: str, column: str, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        self._check_open()
        with self._database.reading() as connection:
            return read_pairs(connection, view, column, asset_uuids)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
