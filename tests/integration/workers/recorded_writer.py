"""Two threads that write and flush, each by an asset object of its own: `recorded_writer.py RECORD SEED PAUSE`.

Both write to the asset BENCH. It ends when the asset GO says "end".
"""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import suppress

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.exceptions import DeliveryError, OpenFactoryError
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting
from recording import LIFE, Notes, follow_clock

follow_clock()
record_path, seed, pause = sys.argv[1:]
note = Notes(record_path)


def write(client: KSQLDBClient, attribute: str, ended: threading.Event) -> None:
    chance = random.Random(f"{seed} {attribute}")
    where = {"asset": "BENCH", "attribute": attribute}
    number = 0
    with Asset("BENCH", client) as bench:
        while not ended.is_set():
            values = [f"{LIFE}-{number + n}" for n in range(chance.choice((1, 3, 30)))]
            number += len(values)
            for value in values:
                note(wrote=value, **where)
            try:
                for value in values:
                    bench.add_attribute(AssetAttribute(attribute, value, "Events", "Side"), False)
                bench.flush(chance.choice((0.05, 2, 10)))
            except OpenFactoryError as error:
                for value in values:
                    note(failed=value, error=f"{type(error).__name__}: {error}"[:300], **where)
            else:
                for value in values:
                    note(acknowledged=value, **where)
            time.sleep(float(pause) * len(values))


# Writes that failed after the last flush of their thread are told when the client is closed.
with suppress(DeliveryError), KSQLDBClient(setting("KSQLDB_URL") or "") as client, Asset("GO", client) as go:
    ended = threading.Event()
    threads = [threading.Thread(target=write, args=(client, side, ended)) for side in ("left", "right")]
    for thread in threads:
        thread.start()
    print("writing", flush=True)
    while go["state"].value != "end" and all(thread.is_alive() for thread in threads):
        time.sleep(0.02)
    ended.set()
    for thread in threads:
        thread.join()
