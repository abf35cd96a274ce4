"""A sensor gate, which weighs and counts pallets. Its routes are in its class and return JSON.

ofa run examples/sensor_gate.py
curl -X POST http://localhost:4000/open
curl http://localhost:4000/
"""

import asyncio
import os
import random
from typing import Any

from flask import redirect, request, url_for
from flask.typing import ResponseReturnValue

from openfactory.apps import EventAttribute, OpenFactoryFlaskApp, SampleAttribute, ofa_method
from openfactory.kafka import KSQLDBClient

LIMIT = 1200.0  # kilograms, the limit of the floor behind the gate


class SensorGate(OpenFactoryFlaskApp):
    """A simulated gate with a scale in its floor. A pallet that is too heavy shuts the gate."""

    state = EventAttribute(value="shut", tag="Gate.State")
    passed = EventAttribute(value=0, tag="Gate.Passed")
    weight = SampleAttribute(value=0.0, tag="Gate.Weight")

    # Every program may write the attributes, so the gate reads its own variables.
    _open = False
    _passed = 0

    def configure_routes(self) -> None:
        @self.app.get("/")
        def gate() -> dict[str, Any]:
            return {"state": self.state.value, "passed": self._passed, "weight": self.weight.value}

        @self.app.post("/open")
        def open_gate() -> ResponseReturnValue:
            self.let_through()
            return redirect(url_for("gate"), 303)

        @self.app.get("/heaviest")  # such as /heaviest?of=20
        def heaviest() -> dict[str, float]:
            weighed = self.history("weight", limit=max(request.args.get("of", 100, int), 1))
            return {"heaviest": max((s.value for s in weighed if isinstance(s.value, float)), default=0.0)}

    @ofa_method(description="Let pallets through")
    def let_through(self) -> str:
        self._open, self.state = True, "open"
        return f"open, {self._passed} pallets have passed"

    @ofa_method(description="Let no pallet through")
    def shut(self, reason: str = "as ordered") -> str:
        self._open, self.state = False, f"shut: {reason}"
        return f"shut, {self._passed} pallets have passed"

    async def async_main_loop(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            if self._open:
                self.weight = weight = round(random.uniform(300.0, 1.02 * LIMIT), 1)
                if weight > LIMIT:
                    self.shut("too heavy")
                else:
                    self._passed += 1
                    self.passed = self._passed


if __name__ == "__main__":
    app = SensorGate(
        ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
        bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    )
    app.run()
