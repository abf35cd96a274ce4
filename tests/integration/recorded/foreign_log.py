"""The log as a program reads it that knows nothing of OpenFactory: by sqlite3, or by a bare Kafka consumer."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from history import Note, Row
from workers.bare_log import read_topic

__all__ = ["read_file_log", "read_notes", "read_topic_log"]


def read_file_log(file: Path) -> list[Row]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT id, asset, attr, value, type, tag FROM log ORDER BY id").fetchall()
    return [Row(id, asset, attr, json.loads(value), type, tag) for id, asset, attr, value, type, tag in rows]


def read_topic_log(bootstrap_servers: str, epoch: int = 0) -> list[Row]:
    """All events of `ofa_assets`, partition by partition."""
    rows = []
    for record in read_topic(bootstrap_servers, "ofa_assets"):
        said: dict[str, Any] = record.said
        asset = (record.key or b"").decode()
        rows.append(
            Row(
                *(record.offset + 1, asset, said["ID"], said["VALUE"], said["TYPE"], said["TAG"]),
                partition=record.partition,
                epoch=epoch,
            )
        )
    return rows


def read_notes(file: Path) -> list[Note]:
    """The notes of a process; a kill tears the line that it writes, where that crosses a page of memory."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]
