"""Writes so many events of some kilobytes as fast as they go, then one of asset END: `firehose.py EVENTS`."""

from __future__ import annotations

import sys

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting

with KSQLDBClient(setting("KSQLDB_URL") or "") as client:
    with Asset("FIREHOSE", client) as firehose:
        firehose.add_attribute(AssetAttribute(id="number", value="", type="Events", tag="Number"))
        for number in range(1, int(sys.argv[1]) + 1):
            firehose["number"] = f"{number:06000}"
            if number % 10 == 0:
                firehose.flush()
        firehose.flush()
    with Asset("END", client) as end:
        end.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Number"))
