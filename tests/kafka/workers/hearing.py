"""Notes what callbacks hear of assets until asset END says something, then prints it as JSON: `hearing.py UUID…`."""

from __future__ import annotations

import json
import logging
import sys
import threading
from contextlib import ExitStack
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
heard: dict[str, list[Any]] = {uuid: [] for uuid in sys.argv[1:]}
ended = threading.Event()


def note(subject: str, message: Any) -> None:
    uuid, _, attribute = subject.partition(".")
    if attribute == "number":
        heard[uuid].append(message["VALUE"])
        print(f"heard {message['VALUE']}", flush=True)


with ExitStack() as open_things:
    client = open_things.enter_context(KSQLDBClient(setting("KSQLDB_URL") or ""))
    end = open_things.enter_context(Asset("END", client))
    end.subscribe_to_messages(lambda subject, message: ended.set())
    for uuid in heard:
        open_things.enter_context(Asset(uuid, client)).subscribe_to_messages(note)
    print("watching", flush=True)
    ended.wait()
print(json.dumps(heard), flush=True)
