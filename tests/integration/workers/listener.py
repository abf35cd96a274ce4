"""Says each event that the callback of an asset hears: `listener.py UUID`."""

from __future__ import annotations

import sys
import threading
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting


def say(subject: str, message: Any) -> None:
    print(subject.partition(".")[2], message["VALUE"], flush=True)


with KSQLDBClient(setting("KSQLDB_URL") or "") as client, Asset(sys.argv[1], client) as asset:
    asset.subscribe_to_messages(say)
    print("listening", flush=True)
    threading.Event().wait()
