"""Calls the app CELL, writes, and notes what came of each call and write: `recorded_caller.py NAME SEED RECORD`.

All callers write to one attribute of the asset BOARD. It ends when the asset GO says "end".
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.events.event import new_event
from openfactory.exceptions import CommandError
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

name, seed, record_path = sys.argv[1:]
chance = random.Random(seed)


def call(cell: Asset, token: str) -> dict[str, Any]:
    method = chance.choice(("work", "work", "rest", "fail", "argument", "unknown"))
    arguments = {"token": token}
    if method in ("work", "rest"):
        arguments["milliseconds"] = str(chance.choice((0, 1, 20)))
    elif method == "argument":
        method, arguments["milliseconds"] = "work", "long"
    try:
        result = cell.call(method, arguments, sender_uuid=name, timeout=chance.choice((0.02, 2.0)))
    except CommandError as error:
        return {"outcome": type(error).__name__, "id": error.correlation_id, "error": str(error)}
    return {"outcome": "result", "result": result}


with (
    open(record_path, "w", encoding="utf-8", buffering=1) as record,
    KSQLDBClient(setting("KSQLDB_URL") or "") as client,
    Asset("CELL", client) as cell,
    Asset("GO", client) as go,
):
    print("calling", flush=True)
    number = 0
    while go["state"].value != "end":
        number += 1
        token = f"{name}-{number}"
        said = call(cell, token)
        record.write(json.dumps({"called": token, **said}) + "\n")
        position = client.engine.publish(new_event("BOARD", "last", token, "Events", "Last")).wait()
        record.write(json.dumps({"acknowledged": token, "asset": "BOARD", "attribute": "last", "position": position}))
        record.write("\n")
        row = client.engine.history("BOARD", "last", limit=50)
        assert token in [event.value for event in row], f"{token} is acknowledged and cannot be read"
