"""A compressor, which keeps the pressure of a tank. Its API checks what it receives, and describes itself at /docs.

ofa run examples/compressor.py
curl -X PUT http://localhost:4000/pressure -H "Content-Type: application/json" -d '{"bar": 6.5}'
curl http://localhost:4000/
curl -N http://localhost:4000/events
"""

import asyncio
import os

from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from openfactory.apps import EventAttribute, OpenFactoryFastAPIApp, SampleAttribute, ofa_method
from openfactory.fastapiapp import sse
from openfactory.kafka import KSQLDBClient

TOP = 8.0  # bar, the limit of the tank


class Pressure(BaseModel):
    bar: float = Field(ge=0, le=TOP)


class State(BaseModel):
    motor: str
    pressure: float
    wanted: float


class Compressor(OpenFactoryFastAPIApp):
    """A simulated compressor, which runs until the tank has the wanted pressure. The machines use up the air."""

    motor = EventAttribute(value="off", tag="Compressor.Motor")
    pressure = SampleAttribute(value=0.0, tag="Tank.Pressure")
    wanted = SampleAttribute(value=0.0, tag="Tank.Pressure.Wanted")

    # Every program may write the attributes, so the compressor reads its own variables.
    _motor = "off"
    _pressure = 0.0
    _wanted = 0.0

    def configure_routes(self) -> None:
        @self.api.get("/")
        async def state() -> State:
            return State(motor=self._motor, pressure=round(self._pressure, 2), wanted=self._wanted)

        @self.api.put("/pressure")
        async def want(pressure: Pressure) -> str:
            return self.keep(pressure.bar)

        @self.api.get("/events")
        async def events() -> StreamingResponse:
            return sse(self, attributes=["motor", "pressure"])

        self.expose_metrics()

    @ofa_method(description="Keep a pressure")
    def keep(self, bar: float) -> str:
        if not 0 <= bar <= TOP:
            raise ValueError(f"the tank holds 0 to {TOP:g} bar, not {bar:g}")
        self.wanted = self._wanted = bar
        return f"keeping {bar:g} bar"

    async def async_main_loop(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            missing = self._wanted - self._pressure
            motor = "on" if missing > 0.2 or (missing > 0 and self._motor == "on") else "off"
            if motor != self._motor:
                self.motor = self._motor = motor
            change = 0.4 if motor == "on" else -0.02 * self._pressure
            if abs(change) > 0.001:
                self._pressure += change
                self.pressure = round(self._pressure, 2)


if __name__ == "__main__":
    app = Compressor(
        ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
        bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    )
    app.run()
