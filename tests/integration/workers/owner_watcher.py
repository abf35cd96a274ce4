"""Notes what is heard and read of the owners of assets: `owner_watcher.py RECORD asset|factory UUID…`.

`asset` opens each asset and has a callback; `factory` has a buffer with the events of all assets, and their register.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from openfactory.assets.asset_class import Asset
from openfactory.assets.factory import Factory
from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting
from recording import Notes, follow_clock

follow_clock()
record, kind, *uuids = sys.argv[1:]
note = Notes(record)
client = KSQLDBClient(setting("KSQLDB_URL") or "")
last: dict[str, Any] = {}


def note_heard(uuid: str, value: Any, attributes: Mapping[str, Any] | None) -> None:
    attributes = attributes or {}
    note(heard=uuid, value=value, epoch=attributes.get("owner_epoch"), ended=attributes.get("owner_ended"))


def note_reading(uuid: str, **reading: Any) -> None:
    if last.get(uuid) != reading:
        last[uuid] = reading
        note(reads=uuid, **reading)


def watch_assets() -> None:
    def on_avail(subject: str, message: CaseInsensitiveDict) -> None:
        note_heard(subject.partition(".")[0], message["VALUE"], message["attributes"])

    assets = {uuid: Asset(uuid, client) for uuid in uuids}
    for asset in assets.values():
        asset.subscribe_to_attribute("avail", on_avail)
    note(watching=True)
    while True:
        for uuid, asset in assets.items():
            owner = asset.owner
            value = asset.avail.value if "avail" in asset else None
            note_reading(uuid, value=value, pid=owner and owner.pid, ended=owner and owner.ended)
        time.sleep(0.1)


def watch_factory() -> None:
    factory = Factory(client)
    events = factory.watch(attributes=["avail"])
    note(watching=True)
    while True:
        while (event := events.get(timeout=0.2)) is not None:
            note_heard(event.asset_uuid, event.value, event.attributes)
        values, registered = factory.availability(), factory.assets()
        for uuid in uuids:
            note_reading(uuid, value=values.get(uuid), registered=uuid in registered)


watch_assets() if kind == "asset" else watch_factory()
