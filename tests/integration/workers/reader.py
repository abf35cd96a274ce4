"""Reads without a pause, so that at every moment somebody has a read under way."""

from __future__ import annotations

from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

with KSQLDBClient(setting("KSQLDB_URL") or "") as client:
    print("reading", flush=True)
    while True:
        client.engine.snapshot()
        client.query("SELECT count(*) AS n FROM assets")
        client.engine.history("FIREHOSE", "number", limit=100)
