"""Calls the app CELL, writes, and notes what came of it: `recorded_caller.py RECORD NAME SEED [PAUSE]`.

All callers write to one attribute of the asset BOARD. It ends when the asset GO says "end".
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import suppress
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.events.event import new_event
from openfactory.exceptions import CommandError, DeliveryError, OpenFactoryError
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting
from recording import LIFE, Notes, follow_clock

follow_clock()
record_path, name, seed, *rest = sys.argv[1:]
chance = random.Random(seed)
note = Notes(record_path)
pause = float(rest[0]) if rest else 0.0
where = {"asset": "BOARD", "attribute": "last"}


def call(cell: Asset, token: str) -> None:
    method = chance.choice(("work", "work", "rest", "fail", "argument", "unknown"))
    arguments = {"token": token}
    if method in ("work", "rest"):
        arguments["milliseconds"] = str(chance.choice((0, 1, 20)))
    elif method == "argument":
        method, arguments["milliseconds"] = "work", "long"
    timeout = chance.choice((0.02, 2.0))
    begin = time.monotonic()
    told: dict[str, Any]
    note(calls=token, at=begin)
    try:
        told = {"outcome": "result", "result": cell.call(method, arguments, sender_uuid=name, timeout=timeout)}
    except CommandError as error:
        told = {"outcome": type(error).__name__, "id": error.correlation_id, "error": str(error)}
    except OpenFactoryError as error:
        told = {"outcome": type(error).__name__, "error": str(error)}
    note(called=token, at=begin, ended=time.monotonic(), timeout=timeout, pid=os.getpid(), **told)


def write(client: KSQLDBClient, token: str) -> None:
    note(wrote=token, **where)
    begin = time.monotonic()
    try:
        position = client.engine.publish(new_event("BOARD", "last", token, "Events", "Last")).wait()
    except OpenFactoryError as error:
        note(failed=token, error=f"{type(error).__name__}: {error}"[:300], **where)
        return
    note(acknowledged=token, position=position, **where)
    if client.ksqldb_url.startswith("sqlite"):
        events = client.engine.history("BOARD", "last", limit=50)
        was_suspended = time.monotonic() - begin > 0.5  # others may have written 50 events meanwhile
        assert was_suspended or token in [event.value for event in events], f"{token} is acknowledged and not read"


# Commands whose write failed are told again when the client is closed.
with (
    suppress(DeliveryError),
    KSQLDBClient(setting("KSQLDB_URL") or "") as client,
    Asset("CELL", client) as cell,
    Asset("GO", client) as go,
):
    print("calling", flush=True)
    number = 0
    while go["state"].value != "end":
        number += 1
        token = f"{name}-{LIFE}-{number}"
        call(cell, token)
        write(client, token)
        time.sleep(pause)
