"""A mill, which measures its spindle and counts its parts. Other assets start it, stop it and change its speed.

ofa run examples/mill.py
"""

import os
import time
from typing import Annotated

from openfactory.apps import EventAttribute, OpenFactoryApp, SampleAttribute, ofa_method
from openfactory.kafka import KSQLDBClient

TICK = 0.25  # seconds
TOP_SPEED = 2400.0  # turns a minute
ROOM = 20.0  # degrees
TURNS_A_PART = 25.0

Speed = Annotated[float, "turns a minute"]


class Mill(OpenFactoryApp):
    """A simulated mill, whose spindle follows the requested speed and gets warm.

    It publishes its state as attributes, and never reads them back: every program may write the attributes of an asset.
    """

    status = EventAttribute(value="idle", tag="App.Status")
    parts = EventAttribute(value=0, tag="Parts.Count")
    spindle_speed = SampleAttribute(value=0.0, tag="Spindle.Speed")
    temperature = SampleAttribute(value=ROOM, tag="Spindle.Temperature")

    _wanted_speed = 0.0
    _speed = 0.0
    _temperature = ROOM
    _parts = 0

    @ofa_method(description="Start milling")
    def start(self, speed: Speed = 1200.0) -> str:
        self._turn_at(speed)
        self.status = "milling"
        return f"milling at {speed:g} turns a minute"

    @ofa_method(description="Mill faster or slower")
    def set_speed(self, speed: Speed) -> str:
        if not self._wanted_speed:
            raise RuntimeError("the mill is idle, start it first")
        self._turn_at(speed)
        return f"milling at {speed:g} turns a minute"

    @ofa_method()
    def stop(self) -> str:
        """Stop the spindle."""
        self._wanted_speed = 0.0
        self.status = "idle"
        return f"stopped after {self._parts} parts"

    def _turn_at(self, speed: float) -> None:
        if not 0 < speed <= TOP_SPEED:
            raise ValueError(f"the spindle turns at 1 to {TOP_SPEED:g}, not at {speed:g}")
        self._wanted_speed = speed

    def main_loop(self) -> None:
        turns = 0.0
        while True:
            time.sleep(TICK)
            self._speed += max(-300.0, min(300.0, self._wanted_speed - self._speed))
            self._temperature += 0.06 * (ROOM + 0.03 * self._speed - self._temperature)
            self.spindle_speed = self._speed
            self.temperature = round(self._temperature, 2)
            turns += self._speed / 60 * TICK
            if turns >= TURNS_A_PART:
                turns -= TURNS_A_PART
                self._parts += 1
                self.parts = self._parts


if __name__ == "__main__":
    app = Mill(
        ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
        bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    )
    app.run()
