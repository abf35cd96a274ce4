"""Notes every event of all assets until asset END says one, then prints them as JSON: `watcher.py [pause]`.

With `pause` it says each gap and each event at once.
"""

from __future__ import annotations

import sys
import threading

import msgspec

from openfactory.engines import open_engine
from openfactory.events.event import AssetEvent
from openfactory.settings import setting

seen: list[AssetEvent] = []
ended = threading.Event()


def note(event: AssetEvent) -> None:
    seen.append(event)
    if event.asset_uuid == "END":
        ended.set()


def note_gap() -> int:
    position = reference.engine.snapshot().position
    print(f"gap, going on from {position}", flush=True)
    return position


with open_engine(setting("KSQLDB_URL") or "") as reference:
    reference.engine.subscribe(None, note, note_gap)
    print("watching", flush=True)
    ended.wait()
sys.stdout.write(msgspec.json.encode(seen).decode() + "\n")
