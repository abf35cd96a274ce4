"""Columns of the streams and tables: those that all programs of a factory expect, and those that a server has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from openfactory.engines.ksqldb.topology import statements

__all__ = ["COLUMNS", "column_differences", "foreign_columns"]


def _columns(names: str, **types: str) -> dict[str, str]:
    """Return the type of each column; columns without a type are texts."""
    return dict.fromkeys(names.split(), "STRING") | {name.upper(): type for name, type in types.items()}


_EVENT = _columns("ASSET_UUID ID VALUE TAG TYPE", attributes="MAP")
_STATE = _columns("ASSET_UUID ID VALUE TYPE TAG TIMESTAMP")
_TYPE = _columns("ASSET_UUID TYPE")
_AVAILABILITY = _columns("ASSET_UUID AVAILABILITY")
_SERVICE = _columns("ASSET_UUID DOCKER_SERVICE")
_PLACE = _columns("ASSET_UUID UNS_ID", uns_levels="MAP", updated_at="TIMESTAMP")
_CONNECTOR = _columns("ASSET_UUID CONNECTOR_CONFIG")
_METRICS = _columns("APPLICATION_UUID HOST PATH", port="INTEGER")

#: By stream or table, the type of each column, as DESCRIBE names it. Connectors and tools of others rely on them.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "ASSETS_STREAM": _EVENT,
    "ENRICHED_ASSETS_STREAM": {"KEY": "STRING"} | _STATE,
    "ASSETS": {"KEY": "STRING"} | _STATE,
    "ASSETS_TYPE_STREAM": _TYPE,
    "ASSETS_TYPE": _TYPE,
    "ASSETS_AVAIL_STREAM": _AVAILABILITY,
    "ASSETS_AVAIL": _AVAILABILITY,
    "DOCKER_SERVICES_STREAM": _SERVICE,
    "DOCKER_SERVICES": _SERVICE,
    "ASSET_TO_UNS_MAP_RAW": _PLACE,
    "ASSET_TO_UNS_MAP": _PLACE,
    "ASSETS_STREAM_UNS": {"UNS_ID": "STRING"} | _EVENT,
    "ASSETS_UNS": _columns("ASSET_UUID_KEY KEY UNS_ID") | _STATE,
    "DEVICE_CONNECTOR_SOURCE": _CONNECTOR,
    "DEVICE_CONNECTOR": _CONNECTOR,
    "METRICS_TARGETS_SOURCE": _METRICS,
    "METRICS_TARGETS": _METRICS,
    "ASSETS_AGGREGATED_BY_ASSET_UUID": _columns("ASSET_UUID", readings="ARRAY"),
}


def column_differences(name: str, columns: Mapping[str, str]) -> list[str]:
    """Return the differences of a stream or table from the expected columns, each as a sentence without its stop.

    Further columns are not a difference.

    >>> column_differences("DEVICE_CONNECTOR", {"DEVICE_UUID": "STRING", "CONNECTOR_CONFIG": "BYTES"})
    ['DEVICE_CONNECTOR has no column ASSET_UUID', 'DEVICE_CONNECTOR.CONNECTOR_CONFIG is BYTES, not STRING']
    """
    expected = COLUMNS[name]
    missing = [f"{name} has no column {column}" for column in expected if column not in columns]
    return missing + [
        f"{name}.{column} is {columns[column]}, not {type}"
        for column, type in expected.items()
        if columns.get(column, type) != type
    ]


def foreign_columns(columns: Mapping[str, Mapping[str, str]], prefix: str = "") -> str:
    """Return the differences of a server from the expected columns, and how it gets those without losing data.

    Args:
        columns: the columns of each existing stream and table.
        prefix: prefix of the names of all topics.

    Returns:
        One sentence with the differences and the steps after it; empty if there are no differences.
    """
    differences = {name: found for name in columns if (found := column_differences(name, columns[name]))}
    if not differences:
        return ""
    problems = "; ".join(text for found in differences.values() for text in found)
    option = f" --prefix {prefix}" if prefix else ""
    return (
        f"{problems}. Stop all apps, run `{_drops(differences, columns)}` in ksqlDB (without DELETE TOPIC), then "
        f"`ofa setup-kafka{option}`. No record is lost: the topics stay, and the new tables are filled from them."
    )


def _drops(different: Collection[str], existing: Collection[str]) -> str:
    """Return the statements that drop some streams and tables, after those that read from them."""
    dropped: list[str] = []
    names: set[str] = set()
    for statement in statements():
        if statement.name in existing and (statement.name in different or statement.sources & names):
            names.add(statement.name)
            dropped.insert(0, f"DROP {statement.kind} {statement.name};")
    return " ".join(dropped)
