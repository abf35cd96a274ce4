"""Notes all that is heard of assets until each had its mark: `recorded_watcher.py RECORD UUID…`."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from functools import partial
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.events.event import AssetEvent
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting
from recording import Notes, follow_clock

follow_clock()
note = Notes(sys.argv[1])
uuids = sys.argv[2:]
marked = {uuid: threading.Event() for uuid in uuids}


def on_message(subject: str, message: Any) -> None:
    uuid, _, attribute = subject.partition(".")
    note(stream="callback", heard=[uuid, attribute, message["VALUE"]])
    if attribute == "mark":
        marked[uuid].set()


def on_event(event: AssetEvent) -> None:
    note(stream="engine", heard=[event.asset_uuid, event.id, event.value])


def noted(position: int) -> Any:
    """A position as JSON, by partition where the log has several."""
    return getattr(position, "partitions", int(position))


with ExitStack() as open_things:
    client = open_things.enter_context(KSQLDBClient(setting("KSQLDB_URL") or ""))

    def on_gap(uuid: str) -> int:
        position = client.engine.snapshot([uuid]).position
        note(gap=uuid, position=noted(position))
        return position

    assets = {uuid: open_things.enter_context(Asset(uuid, client)) for uuid in uuids}
    for uuid, asset in assets.items():
        asset.subscribe_to_messages(on_message)
        client.engine.subscribe(uuid, on_event, partial(on_gap, uuid))
    note(watching=True, assets=uuids, position=noted(client.engine.snapshot().position))
    print("watching", flush=True)
    for uuid in uuids:
        marked[uuid].wait()
    note(state={uuid: {id: asset[id].value for id in asset.attributes()} for uuid, asset in assets.items()})
