"""FastAPI, for the promises of `web_promises`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse

from openfactory.apps import OpenFactoryFastAPIApp
from openfactory.fastapiapp import send_stored_file, sse
from running_apps import Answer
from web_site import Framework, PanelCommands

__all__ = ["FASTAPI"]


class Panel(PanelCommands, OpenFactoryFastAPIApp):
    """An app with routes and commands of all outcomes: coroutines, and plain functions, which run on threads."""

    def configure_routes(self) -> None:
        self.go_on = threading.Event()
        store = APIRouter(prefix="/store", default_response_class=PlainTextResponse)

        @self.api.get("/")
        async def root() -> dict[str, str]:
            return {"status": self.status.value}

        @store.api_route("/bins/{name}", methods=["GET", "PUT"], include_in_schema=False)
        async def bin(name: str) -> str:
            return name

        @self.api.head("/parts/{number}", response_class=PlainTextResponse)
        @self.api.get("/parts/{number}", response_class=PlainTextResponse)
        def part(number: int) -> str:
            return f"part {number}"

        @self.api.post("/body", response_class=PlainTextResponse)
        async def body(request: Request) -> str:
            return str(len(await request.body()))

        @self.api.get("/broken")
        def broken() -> str:
            raise ValueError("out of oil")

        @self.api.get("/slow", response_class=PlainTextResponse)
        def slow() -> str:
            time.sleep(0.06)
            return "at last"

        @self.api.get("/live")
        async def live() -> StreamingResponse:
            return sse(self, heartbeat=0.05)

        @self.api.get("/seen")
        async def seen(request: Request) -> dict[str, Any]:
            client = request.client and request.client.host
            return {"client": client, "scheme": request.url.scheme, "root": str(request.url_for("root"))}

        @self.api.get("/leave")
        async def leave(request: Request) -> RedirectResponse:
            return RedirectResponse(request.url_for("root").path, 302)

        @self.api.get("/slash/", response_class=PlainTextResponse)
        async def slash() -> str:
            return "slash"

        @self.api.api_route("/files/{name:path}", methods=["GET", "HEAD", "POST"], include_in_schema=False)
        async def file(name: str) -> Response:
            return send_stored_file(self.storage, name)

        @self.api.get("/download/{name:path}")
        def download(request: Request, name: str) -> Response:
            options = {"mimetype": request.query_params.get("type"), "download_name": request.query_params.get("as")}
            return send_stored_file(self.storage, name, as_attachment=True, **options)

        @self.api.get("/write/{kind}", response_class=PlainTextResponse)
        def write(kind: str) -> str:
            return self.write(kind)

        self.api.include_router(store)


class Patient(OpenFactoryFastAPIApp):
    """An app with a route that ends when it is told to."""

    def configure_routes(self) -> None:
        self.arrived, self.opened = threading.Event(), asyncio.Event()

        @self.api.get("/hold", response_class=PlainTextResponse)
        async def hold() -> str:
            self.arrived.set()
            await self.opened.wait()
            return "held"


GATE = """
import os
import threading
from fastapi.responses import PlainTextResponse
from openfactory.apps import EventAttribute, OpenFactoryFastAPIApp, ofa_method
from openfactory.kafka import KSQLDBClient

class Gate(OpenFactoryFastAPIApp):
    held = EventAttribute(value="no", tag="Gate.Held")

    def configure_routes(self):
        self.opened = threading.Event()

        @self.api.get("/", response_class=PlainTextResponse)
        async def root():
            return "here"

        @self.api.get("/avail", response_class=PlainTextResponse)
        async def avail():
            return self.avail.value

        @self.api.get("/hold")
        def hold():
            self.held = "yes"
            self.opened.wait(60)
            return {"avail": self.avail.value}

        @self.api.get("/stop", response_class=PlainTextResponse)
        def stop():
            self.shutdown()
            return "stopped by a route"

        @self.api.get("/cut-the-line", response_class=PlainTextResponse)
        async def cut_the_line():
            self._server.servers[0].close()
            return "cut"

    @ofa_method(description="Let the held request go on")
    def open(self):
        self.opened.set()

    def app_event_loop_stopped(self):
        print("stopped", flush=True)

app = Gate(
    KSQLDBClient(os.environ["KSQLDB_URL"]), host="127.0.0.1", stop_timeout=float(os.environ["STOP_TIMEOUT"])
)
app.run()
print("run returned")
"""

FURNACE = """
import os
from openfactory.apps import EventAttribute, OpenFactoryFastAPIApp
from openfactory.fastapiapp import sse
from openfactory.kafka import KSQLDBClient

class Furnace(OpenFactoryFastAPIApp):
    status = EventAttribute(value="cold", tag="Furnace.Status")

    def configure_routes(self):
        @self.api.get("/events")
        async def events():
            return sse(self, attributes=["status"])

        @self.api.get("/open")
        async def open_streams():
            unread = sum(len(events._events) for events in self.open_streams._open)
            return {"streams": len(self.open_streams), "unread": unread, "status": self.status.value[:10]}

app = Furnace(KSQLDBClient(os.environ["KSQLDB_URL"]), host="127.0.0.1", stop_timeout=20)
app.run()
"""


class _FastAPIFramework(Framework):
    app_class = OpenFactoryFastAPIApp
    panel_class = Panel
    patient_class = Patient
    gate = GATE
    furnace = FURNACE

    def ask(
        self, app: Any, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        options = {"raise_server_exceptions": False, "follow_redirects": False}
        client = app.test_client(base_url="http://panel.example/", **options)
        response = client.request(method, path, content=body, headers=dict(headers or {}))
        return Answer(response.status_code, response.text, {k.lower(): v for k, v in response.headers.items()})

    def add_route(self, app: Any, path: str, text: str = "the user's", methods: Collection[str] = ("GET",)) -> None:
        api: FastAPI = app.api
        api.add_route(path, lambda request: PlainTextResponse(text), methods=list(methods))

    def add_router(self, app: Any, prefix: str, path: str, text: str = "the user's") -> None:
        router = APIRouter(prefix=prefix, default_response_class=PlainTextResponse)

        @router.get(path)
        async def answer() -> str:
            return text

        app.api.include_router(router)

    def ask_for_login(self, app: Any) -> None:
        api: FastAPI = app.api

        @api.middleware("http")
        async def login(request: Request, call_next: Any) -> Response:
            return Response(status_code=401)


FASTAPI = _FastAPIFramework()
