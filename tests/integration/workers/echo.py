"""Answers each `ping` of asset ECHO with how long it took to arrive, in nanoseconds."""

from __future__ import annotations

import threading
import time
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

with KSQLDBClient(setting("KSQLDB_URL") or "") as client, Asset("ECHO", client) as asset:
    asset.add_attribute(AssetAttribute(id="delay", value=0, type="Events", tag="Delay"))

    def answer(subject: str, message: Any) -> None:
        asset["delay"] = time.monotonic_ns() - message["VALUE"]

    asset.subscribe_to_attribute("ping", answer)
    print("listening", flush=True)
    threading.Event().wait()
