"""Writes to an asset of its own and watches others, all at once: `peer.py NUMBER PEERS EVENTS`.

Prints as JSON what it has seen of each asset. Even ones watch all assets by one subscription, odd ones three of them
by callbacks.
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import ExitStack
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

number, peers, events = map(int, sys.argv[1:])
watched = [f"PEER-{other % peers}" for other in (range(peers) if number % 2 == 0 else range(number + 1, number + 4))]
seen: dict[str, list[Any]] = {uuid: [] for uuid in watched}
complete = threading.Event()


def note(uuid: str, value: Any) -> None:
    seen[uuid].append(value)
    if value == events and all(values and values[-1] == events for values in seen.values()):
        complete.set()


def note_event(event: AssetEvent) -> None:
    if event.id == "number":
        note(event.asset_uuid, event.value)


def note_message(subject: str, message: Any) -> None:
    note(subject.partition(".")[0], message["VALUE"])


with ExitStack() as open_things:
    client = open_things.enter_context(KSQLDBClient(setting("KSQLDB_URL") or ""))
    own = open_things.enter_context(Asset(f"PEER-{number}", client))
    go = open_things.enter_context(Asset("GO", client))
    if number % 2 == 0:
        client.engine.subscribe(None, note_event)
    else:
        for uuid in watched:
            other = open_things.enter_context(Asset(uuid, client))
            other.subscribe_to_attribute("number", note_message)
    print("ready", flush=True)
    go.wait_until("state", "go", timeout=60)
    own.add_attribute(AssetAttribute(id="number", value=1, type="Events", tag="Number"))
    for value in range(2, events + 1):
        own["number"] = value
        if value % 7 == 0:
            own.flush()
    own.flush()
    complete.wait(60)
print(json.dumps(seen), flush=True)
