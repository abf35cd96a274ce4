"""A shift leader, which watches the mill, slows it down when it gets hot, and stops it after each batch.

ofa run examples/shift_leader.py
"""

import os
import time
from typing import Any

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.exceptions import CommandError
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient

HOT, COOL = 50.0, 42.0  # degrees
FAST, SLOW = 1800, 600  # turns a minute


class ShiftLeader(OpenFactoryApp):
    """Commands the mill, and publishes its decisions."""

    decision = EventAttribute(value="none yet", tag="Shift.Decision")
    batch_size = EventAttribute(value=8, tag="Shift.BatchSize")

    _batch_size = 8
    _made = 0
    _slowed = False

    @ofa_method(description="Change how many parts are made between two stops")
    def set_batch_size(self, parts: int) -> None:
        self.batch_size = self._batch_size = parts

    def on_part(self, subject: str, message: CaseInsensitiveDict) -> None:
        self._made += 1
        self.logger.info("%s is %s, the batch has %d", subject, message["VALUE"], self._made)

    def main_loop(self) -> None:
        with Asset(os.getenv("MILL_UUID", "mill"), self.ksql) as mill:
            mill.subscribe_to_attribute("parts", self.on_part)
            while True:
                time.sleep(0.2)
                if mill.avail.value == "AVAILABLE":
                    try:
                        self.lead(mill)
                    except CommandError as error:
                        self.logger.warning("%s", error)

    def lead(self, mill: Asset) -> None:
        temperature = mill.temperature.value
        if not isinstance(temperature, float):
            return  # UNAVAILABLE, or the text of another program
        if mill.status.value == "idle":
            self.order(mill, "start", "a new batch", speed=FAST)
            self._made, self._slowed = 0, False
        elif self._made >= self._batch_size:
            self.order(mill, "stop", "the batch is full")
            time.sleep(2)  # time to take the parts out
        elif temperature >= HOT and not self._slowed:
            self.order(mill, "set_speed", f"hot, {temperature:.1f} °C", speed=SLOW)
            self._slowed = True
        elif temperature <= COOL and self._slowed:
            self.order(mill, "set_speed", f"cool, {temperature:.1f} °C", speed=FAST)
            self._slowed = False

    def order(self, mill: Asset, method: str, reason: str, **arguments: Any) -> None:
        """Publish the decision, command the mill and wait for its reply."""
        self.decision = f"{method}: {reason}"
        reply = mill.call(method, sender_uuid=self.asset_uuid, timeout=5, **arguments)
        self.logger.info("%s, because %s; the mill says: %s", method, reason, reply)


if __name__ == "__main__":
    app = ShiftLeader(
        ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
        bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    )
    app.run()
