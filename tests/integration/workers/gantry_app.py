"""An app as users write it: a class, a client of whatever KSQLDB_URL names, and run() at the end of the file."""

import os
import time

from openfactory.apps import EventAttribute, OpenFactoryApp, SampleAttribute, ofa_method
from openfactory.kafka import KSQLDBClient


class Gantry(OpenFactoryApp):
    axis_state = EventAttribute(value="at rest", tag="Axis.State")
    load = SampleAttribute(value=7, tag="Axis.Load")

    @ofa_method(description="Travel to a point of the table")
    def move_axis(self, x: float, y: float, speed: int = 100) -> dict[str, float]:
        self.logger.info("Travelling to %r, %r with %r", x, y, speed)
        self.axis_state = "travelling"
        self.axis_state = "at rest"
        return {"x": x, "y": y, "speed": speed}

    @ofa_method()
    def stop_axis(self) -> None:
        """Bring the axis to rest."""
        self.axis_state = "stopped"

    def main_loop(self) -> None:
        turns = 0
        while True:
            turns += 1
            self.load = turns
            time.sleep(0.1)

    def app_event_loop_stopped(self) -> None:
        self.logger.info("The axis has no power.")
        self.ksql.close()


gantry = Gantry(
    ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
    bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
)
gantry.run()
