"""Counts on from what the log has, and says each number that is acknowledged: `writer.py UUID SEED`."""

from __future__ import annotations

import os
import random
import sys
import time

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

uuid, seed = sys.argv[1:]
sizes = random.Random(seed)
with Asset(uuid, KSQLDBClient(setting("KSQLDB_URL") or "")) as asset:
    if "number" not in asset:
        asset.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Number"))
    number = asset["number"].value
    while True:
        for _ in range(sizes.choice((1, 5, 40, 200))):
            number += 1
            asset["number"] = number
        asset.flush()
        os.write(1, b"%d\n" % number)  # straight to the kernel: what is said survives the kill
        time.sleep(0.0005)
