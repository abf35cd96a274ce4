"""Counts and says each number that is acknowledged, until a file is there: `counting.py UUID SEED STOP_FILE`."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from openfactory.engines import open_engine
from openfactory.events.event import new_event
from openfactory.exceptions import DeliveryError, DeliveryTimeout
from openfactory.settings import setting

uuid, seed, stop_file = sys.argv[1:]
chance = random.Random(seed)


def note(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # straight to the kernel: what is said survives a kill


with open_engine(setting("KSQLDB_URL") or "") as reference:
    engine = reference.engine
    number, stopping = 0, False
    while not stopping:
        stopping = Path(stop_file).exists()
        begin = time.monotonic()
        for _ in range(chance.choice((1, 5, 40, 200))):
            engine.publish(new_event(uuid, "number", number, "Events", "Number"))
            number += 1
        if (took := time.monotonic() - begin) > 1.0:
            note(f"slow: publishing took {took:.1f} s")
        try:
            engine.flush(timeout=60)
        except (DeliveryError, DeliveryTimeout) as error:
            note(f"not written: {error}")
        else:
            note(f"acknowledged {number - 1}")
        time.sleep(0.005)
