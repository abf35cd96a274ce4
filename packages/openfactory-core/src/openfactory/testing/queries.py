"""Tests of queries: SELECT statements on the tables of the ksqlDB topology return the same rows on every engine."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import QueryError

__all__ = ["QueryingConformance"]

_TABLES = {"ASSETS", "ASSETS_AVAIL", "ASSETS_TYPE", "ASSETS_UNS", "ASSET_TO_UNS_MAP", "DOCKER_SERVICES"}

# The tables contain values as text: for each value, the text.
_TEXTS: dict[str, tuple[Any, str | None]] = {
    "text": ("idle", "idle"),
    "quoted": ("it's", "it's"),
    "empty": ("", ""),
    "integer": (3, "3"),
    "float": (100.0, "100.0"),
    "true": (True, "true"),
    "false": (False, "false"),
    "list": ([1, 2.5, None], "[1,2.5,null]"),
    "dictionary": ({"a": "ü"}, '{"a":"ü"}'),
    "null": (None, None),
}

_WRITES = [
    "INSERT INTO assets VALUES ('a', 'b', 'c', 'd', 'e', 'f', 'g')",
    "UPDATE assets SET value = 'changed'",
    "DELETE FROM assets",
    "DROP VIEW assets",
    "DROP TABLE assets",
    "CREATE TABLE mine (id INTEGER)",
    "ATTACH DATABASE ':memory:' AS other",
    "PRAGMA query_only = OFF",
    "VACUUM",
    "WITH one AS (SELECT 1) DELETE FROM assets",
    "SELECT 1; DELETE FROM assets",
]


class QueryingConformance:
    """Tests of `query` and `tables`."""

    def test_the_tables_of_the_topology_exist(self, engine: Engine) -> None:
        assert set(engine.tables()) >= _TABLES

    def test_every_table_can_be_queried(self, engine: Engine) -> None:
        for table in sorted(_TABLES):
            assert isinstance(engine.query(f"SELECT * FROM {table} LIMIT 1"), list)  # noqa: S608

    def test_columns_are_named_in_upper_case(self, engine: Engine, asset_uuid: str) -> None:
        event = new_event(asset_uuid, "speed", 7, "Samples", "Speed")
        engine.publish(event).wait()
        assert engine.query("SELECT * FROM assets WHERE asset_uuid = ?", asset_uuid) == [
            {
                "KEY": f"{asset_uuid}|speed",
                "ASSET_UUID": asset_uuid,
                "ID": "speed",
                "VALUE": "7",
                "TYPE": "Samples",
                "TAG": "Speed",
                "TIMESTAMP": event.timestamp,
            }
        ]
        [row] = engine.query("SELECT id AS mine FROM Assets WHERE ASSET_UUID = ?", asset_uuid)
        assert row == {"MINE": "speed"}

    def test_values_are_returned_as_text(self, engine: Engine, asset_uuid: str) -> None:
        for name, (value, _) in _TEXTS.items():
            engine.publish(new_event(asset_uuid, name, value, "Events", "Test"))
        engine.flush()
        rows = engine.query("SELECT id, value FROM assets WHERE asset_uuid = ?", asset_uuid)
        assert {row["ID"]: row["VALUE"] for row in rows} == {name: text for name, (_, text) in _TEXTS.items()}

    def test_a_table_has_the_last_value_of_an_attribute(self, engine: Engine, asset_uuid: str) -> None:
        for value in ("idle", "busy"):
            engine.publish(new_event(asset_uuid, "x", value, "Events", "Test")).wait()
        assert engine.query("SELECT value FROM assets WHERE asset_uuid = ?", asset_uuid) == [{"VALUE": "busy"}]

    def test_parameters_are_not_parsed_as_sql(self, engine: Engine, asset_uuid: str) -> None:
        uuid = f"{asset_uuid}-O'BRIEN"
        engine.publish(new_event(uuid, "x", 1, "Events", "Test")).wait()
        sql = "SELECT id FROM assets WHERE asset_uuid = ? AND id = ?"
        assert engine.query(sql, uuid, "x") == [{"ID": "x"}]
        assert engine.query(sql, "nobody' OR '1'='1", "x") == []
        with pytest.raises(QueryError):
            engine.query(sql, uuid)

    def test_the_layout_of_a_query_does_not_matter(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid, "x", 1, "Events", "Test")).wait()
        for sql in ("SELECT id FROM assets;", " \n select id\nfrom assets ; \n", "SELECT\tid FROM assets"):
            assert {"ID": "x"} in engine.query(sql)

    def test_a_query_without_matches_returns_an_empty_list(self, engine: Engine, asset_uuid: str) -> None:
        assert engine.query("SELECT * FROM assets WHERE asset_uuid = ?", asset_uuid) == []

    def test_the_register_can_be_queried(self, engine: Engine, asset_uuid: str) -> None:
        levels = {"line": "7"}
        engine.register(
            Registration(asset_uuid, "Device", docker_service="mill-7", uns_id="ACME/7/mill", uns_levels=levels)
        )
        event = new_event(asset_uuid, "avail", "AVAILABLE", "Events", "Availability")
        engine.publish(event)
        engine.flush()

        def rows(table: str) -> list[dict[str, Any]]:
            return engine.query(f"SELECT * FROM {table} WHERE asset_uuid = ?", asset_uuid)  # noqa: S608

        assert rows("assets_type") == [{"ASSET_UUID": asset_uuid, "TYPE": "Device"}]
        assert rows("assets_avail") == [{"ASSET_UUID": asset_uuid, "AVAILABILITY": "AVAILABLE"}]
        assert rows("docker_services") == [{"ASSET_UUID": asset_uuid, "DOCKER_SERVICE": "mill-7"}]
        [place] = rows("asset_to_uns_map")
        assert place["UNS_ID"] == "ACME/7/mill"
        uns_levels = place["UNS_LEVELS"]
        assert (json.loads(uns_levels) if isinstance(uns_levels, str) else uns_levels) == levels
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", place["UPDATED_AT"])  # a TIMESTAMP, in UTC
        [uns] = [row for row in rows("assets_uns") if row["ID"] == "avail"]
        assert uns == {
            "ASSET_UUID_KEY": f"{asset_uuid}|avail",
            "KEY": "ACME/7/mill|avail",
            "UNS_ID": "ACME/7/mill",
            "ASSET_UUID": asset_uuid,
            "ID": "avail",
            "VALUE": "AVAILABLE",
            "TYPE": "Events",
            "TAG": "Availability",
            "TIMESTAMP": event.timestamp,
        }
        engine.deregister(asset_uuid)
        engine.flush()
        assert [rows(table) for table in ("assets_type", "assets_avail", "docker_services", "assets_uns")] == [[]] * 4

    def test_an_invalid_query_raises_query_error(self, engine: Engine) -> None:
        for sql in ("SELECT * FROM nosuch", "SELECT nosuch FROM assets", "SELECT FROM WHERE", "", "nonsense"):
            with pytest.raises(QueryError) as caught:
                engine.query(sql)
            assert caught.value.statement == sql

    def test_a_query_cannot_build_huge_values(self, engine: Engine) -> None:
        for sql in ("SELECT hex(zeroblob(900000000))", "SELECT randomblob(900000000)"):
            with pytest.raises(QueryError):
                engine.query(sql)

    def test_a_query_cannot_write(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid, "x", "kept", "Events", "Test")).wait()
        for sql in _WRITES:
            with pytest.raises(QueryError) as caught:
                engine.query(sql)
            assert caught.value.statement == sql
        assert engine.query("SELECT value FROM assets WHERE asset_uuid = ?", asset_uuid) == [{"VALUE": "kept"}]
        engine.publish(new_event(asset_uuid, "x", "written", "Events", "Test")).wait()
