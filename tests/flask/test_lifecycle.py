"""The stop of an app on Flask, beside what it shares with one on FastAPI."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from uuid import uuid4

import pytest

from openfactory.apps import OpenFactoryFlaskApp
from openfactory.kafka import KSQLDBClient


class Patient(OpenFactoryFlaskApp):
    """Has a route that ends when it is told to."""

    def configure_routes(self) -> None:
        self.arrived, self.opened = threading.Event(), threading.Event()

        @self.app.route("/hold")
        def hold() -> str:
            self.arrived.set()
            return "held" if self.opened.wait(60) else "given up"


def test_the_stop_holds_up_no_other_task_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "0")

    def hold(port: int) -> bytes:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as connection:
            connection.sendall(b"GET /hold HTTP/1.1\r\nHost: panel.example\r\n\r\n")
            return connection.makefile("rb").read().partition(b"\r\n\r\n")[2]

    async def until(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def main(app: Patient) -> bytes:
        running = asyncio.create_task(app.async_run())
        await until(lambda: app._server is not None and app._server.serving)
        assert app._server is not None
        held = asyncio.create_task(asyncio.to_thread(hold, app._server.port))
        await until(app.arrived.is_set)
        running.cancel()
        await until(lambda: app._server is not None and not app._server.serving)
        app.opened.set()  # by this event loop, while the stop waits for the request
        answer = await held
        with pytest.raises(asyncio.CancelledError):
            await running
        return answer

    with KSQLDBClient(f"memory://{uuid4().hex}") as client:
        app = Patient(client, app_uuid=f"PANEL-{uuid4().hex}", host="127.0.0.1", stop_timeout=300)
        assert asyncio.run(main(app)) == b"held"
