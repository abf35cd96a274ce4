"""Many processes on one file, each writing and watching."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start

PEERS = 10
EVENTS = 400


def test_many_processes_lose_nothing_and_keep_the_order_of_each_asset(start: Start, file_url: str) -> None:
    with KSQLDBClient(file_url) as client, Asset("GO", client) as go:
        go.add_attribute(AssetAttribute(id="state", value="wait", type="Events", tag="State"))
        peers = [start("peer.py", number, PEERS, EVENTS, KSQLDB_URL=file_url) for number in range(PEERS)]
        for peer in peers:
            peer.until("ready", timeout=60)
        begin = time.monotonic()
        go["state"] = "go"
        statuses = [peer.ended(90) for peer in peers]
        print(f"{PEERS} processes wrote and saw {PEERS * EVENTS} events in {time.monotonic() - begin:.1f} s")
        assert statuses == [0] * PEERS
        expected = list(range(1, EVENTS + 1))
        for number, peer in enumerate(peers):
            seen = json.loads(peer.lines()[-1])
            assert len(seen) == (PEERS if number % 2 == 0 else 3)
            assert {uuid for uuid, values in seen.items() if values != expected} == set(), f"seen by PEER-{number}"
        for number in range(PEERS):
            logged = [event.value for event in client.engine.history(f"PEER-{number}", "number", limit=EVENTS + 1)]
            assert logged == expected
