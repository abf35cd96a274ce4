"""Notes what callbacks hear of assets until each had its mark, then prints it as JSON: `recorded_watcher.py UUID…`."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import ExitStack
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

heard: dict[str, list[tuple[str, Any]]] = {uuid: [] for uuid in sys.argv[1:]}
marked = threading.Semaphore(0)


def note(subject: str, message: Any) -> None:
    uuid, _, attribute = subject.partition(".")
    heard[uuid].append((attribute, message["VALUE"]))
    if attribute == "mark":
        marked.release()


with ExitStack() as open_things:
    client = open_things.enter_context(KSQLDBClient(setting("KSQLDB_URL") or ""))
    for uuid in heard:
        open_things.enter_context(Asset(uuid, client)).subscribe_to_messages(note)
    print("watching", flush=True)
    for _ in heard:
        marked.acquire(timeout=60)
print(json.dumps(heard), flush=True)
