"""An app with one method of each kind, which counts: `saw.py SECONDS_BETWEEN_COUNTS`.

It notes on stdout each start of a method, and each count that was acknowledged.
"""

from __future__ import annotations

import os
import sys
import time

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.exceptions import DeliveryTimeout
from openfactory.kafka import KSQLDBClient
from openfactory.settings import setting


def note(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # straight to the kernel: what is said survives a kill


class Saw(OpenFactoryApp):
    """Cuts pieces."""

    blade = EventAttribute(value="sharp", tag="Blade")
    counted = EventAttribute(value=0, tag="Counted")

    @ofa_method(description="Cut a piece.", param_description={"length": "in millimetres"})
    def cut(self, length: float, name: str = "piece") -> str:
        note(f"ran {name}")
        if length < 0:
            raise ValueError("it cannot be shorter than nothing")
        return f"{name} of {length:g}"

    @ofa_method()
    def halt(self) -> None:
        """Stop the blade."""

    def main_loop(self) -> None:
        note("running")
        pause = float(sys.argv[1])
        for number in range(1, 10**9):
            time.sleep(pause)
            begin = time.monotonic()
            self.counted = number
            if (took := time.monotonic() - begin) > 5:
                note(f"slow: a write took {took:.1f} s")
            try:
                self.flush(timeout=30)
            except DeliveryTimeout as error:
                note(f"late: {error}")
            else:
                note(f"acknowledged {number}")


Saw(KSQLDBClient(setting("KSQLDB_URL") or ""), loglevel="WARNING").run()
