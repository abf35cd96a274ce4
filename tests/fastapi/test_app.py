"""What an app on FastAPI has beside what it shares with one on Flask."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import BytesIO
from threading import Event
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI, Request, WebSocket
from httpx import ASGITransport, AsyncClient
from prometheus_client import CollectorRegistry, Counter
from websockets.sync.client import connect

import openfactory.fastapiapp.app
from fastapi_site import FASTAPI, Panel
from openfactory.apps import OpenFactoryApp, OpenFactoryFastAPIApp
from openfactory.assets import Asset, AssetAttribute
from openfactory.exceptions import SubscriptionError
from openfactory.fastapiapp import send_stored_file, sse
from openfactory.kafka import KSQLDBClient
from openfactory.testing import AppClient
from running_apps import ask, until

pytestmark = pytest.mark.smoke

Eventually = Callable[..., None]
RunApp = Callable[..., AppClient[Any]]


def test_every_path_leads_to_the_same_class() -> None:
    real = importlib.import_module("openfactory.fastapiapp")
    fixed_path = importlib.import_module("openfactory.apps.ofa_fastapi_app")
    assert real.OpenFactoryFastAPIApp is fixed_path.OpenFactoryFastAPIApp is OpenFactoryFastAPIApp
    assert fixed_path.__all__ == real.__all__
    assert all(getattr(fixed_path, name) is getattr(real, name) for name in real.__all__)
    assert issubclass(OpenFactoryFastAPIApp, OpenFactoryApp)


def test_the_example_in_the_documentation_runs() -> None:
    assert doctest.testmod(openfactory.fastapiapp.app).attempted > 0


# The FastAPI app


def test_the_fastapi_app_is_named_after_the_asset(run_app: RunApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENFACTORY_ROOT_PATH", "/my-app")
    monkeypatch.setenv("APPLICATION_VERSION", "1.2.3")
    panel = run_app(Panel, app_uuid="PANEL").app
    schema = json.loads(FASTAPI.ask(panel, "GET", "/openapi.json").text)
    assert (schema["info"]["title"], schema["info"]["version"]) == ("PANEL", "1.2.3")
    assert schema["info"]["license"] == {"name": "BSD-3-Clause license"}
    assert schema["servers"] == [{"url": "/my-app"}]
    assert "/my-app/openapi.json" in FASTAPI.ask(panel, "GET", "/docs").text


def test_urls_have_the_root_path_where_the_gateway_names_no_prefix(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENFACTORY_ROOT_PATH", "/my-app")
    panel = run_app(Panel).app
    assert FASTAPI.ask(panel, "GET", "/leave").headers["location"] == "/my-app/"
    assert FASTAPI.ask(panel, "GET", "/slash").headers["location"].endswith("/my-app/slash/")
    assert FASTAPI.ask(panel, "GET", "/my-app/parts/1").text == "part 1"  # which that URL leads to without a gateway
    elsewhere = FASTAPI.ask(panel, "GET", "/leave", headers={"X-Forwarded-Prefix": "/other"})
    assert elsewhere.headers["location"] == "/other/"


@pytest.mark.parametrize("prefix", ["/my-app", "/line%201", "/%C3%B6fen/1"])
def test_a_gateway_need_not_strip_its_prefix(run_app: RunApp, prefix: str) -> None:
    panel = run_app(Panel).app
    headers = {"X-Forwarded-Prefix": prefix}
    for path in ("/parts/1", f"{prefix}/parts/1"):
        assert FASTAPI.ask(panel, "GET", path, headers=headers).text == "part 1"
    slash = FASTAPI.ask(panel, "GET", f"{prefix}/slash", headers=headers)
    assert slash.headers["location"] == f"http://panel.example{prefix}/slash/"
    assert FASTAPI.ask(panel, "GET", f"{prefix}/health/live", headers=headers).status == 200


def test_options_of_fastapi_are_passed_by_create_fastapi_app(run_app: RunApp) -> None:
    class Quiet(OpenFactoryFastAPIApp):
        def create_fastapi_app(self, **options: Any) -> FastAPI:
            return super().create_fastapi_app(docs_url=None, **options)

    panel = run_app(Quiet, app_uuid="QUIET").app
    assert panel.api.title == "QUIET"
    assert FASTAPI.ask(panel, "GET", "/docs").status == 404


def test_a_factory_that_returns_no_fastapi_app_is_refused() -> None:
    class Forgetful(OpenFactoryFastAPIApp):
        def create_fastapi_app(self, **options: Any) -> FastAPI:
            return None  # type: ignore[return-value]

    with pytest.raises(TypeError, match=r"create_fastapi_app of Forgetful returned None\. Return the FastAPI app"):
        Forgetful(None, test_mode=True)


def test_a_fastapi_app_that_configure_routes_puts_in_its_place_has_all_pages(run_app: RunApp) -> None:
    class Own(OpenFactoryFastAPIApp):
        def configure_routes(self) -> None:
            self.api = FastAPI(title="own")

            @self.api.get("/")
            async def root(request: Request) -> str:
                uuid: str = request.app.state.ofa_app.asset_uuid
                return uuid

    own = run_app(Own, app_uuid="OWN").app
    assert json.loads(FASTAPI.ask(own, "GET", "/").text) == "OWN"
    assert FASTAPI.ask(own, "GET", "/health/live").status == 200


# Metrics that an existing app exposes


def test_exposed_metrics_are_those_of_the_registry_and_of_the_app(run_app: RunApp) -> None:
    registry = CollectorRegistry()
    Counter("parts", "Parts", registry=registry).inc(3)
    panel = run_app(Panel).app
    panel.expose_metrics("/own", registry)
    text = FASTAPI.ask(panel, "GET", "/own").text
    assert "parts_total 3.0" in text
    assert "openfactory_app_available 0.0" in text
    assert "python_info" not in text


def test_exposed_metrics_of_the_default_registry_are_at_metrics(run_app: RunApp) -> None:
    panel = run_app(Panel, metrics_path=None).app
    assert FASTAPI.ask(panel, "GET", "/metrics").status == 404
    panel.expose_metrics()
    panel.expose_metrics()  # which does nothing
    assert "python_info" in FASTAPI.ask(panel, "GET", "/metrics").text
    assert "/metrics" not in FASTAPI.ask(panel, "GET", "/openapi.json").text


def test_metrics_are_not_exposed_in_place_of_a_route(run_app: RunApp) -> None:
    with pytest.raises(ValueError, match=r"A route is already registered at '/slow'\. Pass another path"):
        run_app(Panel).app.expose_metrics("/slow")


def test_exposed_metrics_are_registered_with_the_operations_port(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    targets: list[tuple[int, str]] = []

    def register(app: Panel, metrics_port: int | None = None, metrics_path: str = "/metrics") -> None:
        targets.append((metrics_port or app._metrics_port(), metrics_path))

    monkeypatch.setattr(Panel, "register_prometheus_metrics", register)
    registry = CollectorRegistry()
    Counter("parts", "Parts", registry=registry).inc(3)
    panel = run_app(Panel, app_uuid="PANEL", host="127.0.0.1", port=0, operations_port=0)
    panel.app.expose_metrics("/own", registry)
    panel.run()
    eventually(lambda: panel.app.app_health().reasons == [])
    panel.app.expose_metrics("/later", registry)
    assert panel.app._operations_server is not None
    port = panel.app._operations_server.port
    assert targets == [(port, "/own"), (port, "/later")]
    assert ["parts_total 3.0" in ask(port, path).text for _, path in targets] == [True, True]


def test_a_factory_without_a_metrics_registry_is_told_once_the_app_serves(
    run_app: RunApp, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    panel = run_app(Panel, app_uuid="PANEL", host="127.0.0.1", port=0)
    panel.app.expose_metrics()
    panel.run()
    eventually(lambda: panel.app.app_health().reasons == [])
    [told] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == (
        "The metrics at /metrics are not registered: The factory of PANEL does not have a metrics registry, an app "
        "whose AssetType is 'Prometheus.Registry'. Start the registry first."
    )


# Streams


def test_a_stream_of_nothing_and_no_time_between_two_heartbeats_are_refused(run_app: RunApp) -> None:
    panel = run_app(Panel).app
    with pytest.raises(SubscriptionError, match="EventQueue needs an asset"):
        sse()
    with pytest.raises(SubscriptionError, match="a number above 0"):
        sse(panel, heartbeat=0)
    with pytest.raises(RuntimeError, match=r"Call sse\(\) in a route of its api"):
        sse(panel)


def test_a_stream_tells_changes_and_losses_and_has_heartbeats(run_app: RunApp) -> None:
    panel: Panel = run_app(Panel, app_uuid="PANEL").app

    @panel.api.get("/two")
    async def two() -> Any:
        response = sse(panel, attributes=["status"], heartbeat=0.05, max_queued=2)
        messages: Any = response.body_iterator
        said = [await anext(messages) for _ in range(3)]
        for status in ("busy", "hot", "idle"):
            await asyncio.to_thread(setattr, panel, "status", status)
        [events] = panel.open_streams._open
        await until(lambda: events.lost == 1)
        said += [await anext(messages) for _ in range(3)]
        await messages.aclose()
        return said

    start, first, heartbeat, lost, *values = json.loads(FASTAPI.ask(panel, "GET", "/two").text)
    assert (start, heartbeat) == (": current values, then each change\n\n", ": heartbeat\n\n")
    assert [json.loads(value[6:])["value"] for value in (first, *values)] == ["idle", "hot", "idle"]
    assert lost == 'event: lost\ndata: {"lost":1}\n\n'
    assert len(panel.open_streams) == 0


# Runs


class Lived(OpenFactoryFastAPIApp):
    """An app whose lifespan takes notes, or fails."""

    failure: Exception | None = None

    def create_fastapi_app(self, **options: Any) -> FastAPI:
        self.notes: list[tuple[str, Any]] = []

        @asynccontextmanager
        async def lifespan(api: FastAPI) -> AsyncIterator[None]:
            self.notes.append(("start", self.avail.value))
            if self.failure is not None:
                raise self.failure
            yield
            self.notes.append(("end", self.avail.value))

        return super().create_fastapi_app(lifespan=lifespan, **options)

    def configure_routes(self) -> None:
        @self.api.websocket("/echo")
        async def echo(socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text(f"{self.asset_uuid} {await socket.receive_text()} {socket.url.path}")

        @self.api.get("/loop")
        async def loop() -> bool:
            return asyncio.get_running_loop() is self._loop

    async def async_main_loop(self) -> None:
        self.notes.append(("main loop", self.avail.value))


def test_the_app_serves_on_after_its_main_loop_in_one_event_loop_and_one_lifespan(eventually: Eventually) -> None:
    with AppClient(Lived, app_uuid="LIVED", host="127.0.0.1", port=0) as lived:
        lived.run()
        eventually(lambda: lived.app.app_health().reasons == [])
        eventually(lambda: len(lived.app.notes) == 2)
        server = lived.app._server
        assert server is not None
        prefix = {"X-Forwarded-Prefix": "/my-app"}
        with connect(f"ws://127.0.0.1:{server.port}/echo", additional_headers=prefix) as socket:
            socket.send("hello")
            assert socket.recv() == "LIVED hello /my-app/echo"
        assert ask(server.port, "/loop", Connection="close").text == "true"
    assert lived.app.notes == [("start", "UNAVAILABLE"), ("main loop", "AVAILABLE"), ("end", "AVAILABLE")]


def test_a_lifespan_that_fails_ends_the_app_before_it_is_available(caplog: pytest.LogCaptureFixture) -> None:
    with KSQLDBClient(f"memory://{uuid4().hex}") as client, Asset("LIVED", client):
        app = Lived(client, app_uuid="LIVED", host="127.0.0.1", port=0)
        app.failure = ValueError("no database")
        with pytest.raises(SystemExit) as ended:
            app.run()
        assert ended.value.code == 1
        assert {event.value for event in client.engine.history("LIVED", "avail")} == {"UNAVAILABLE"}
        assert client.engine.types(["LIVED"]) == {}
    assert "ValueError: no database" in caplog.text
    assert "The lifespan of the FastAPI app failed at its start." in caplog.text


def test_the_error_of_a_route_is_in_the_log_of_its_app(
    eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with AppClient(Panel, app_uuid="PANEL", host="127.0.0.1", port=0) as panel:
        panel.run()
        eventually(lambda: panel.app.app_health().reasons == [])
        assert panel.app._server is not None
        assert "Internal Server Error" in ask(panel.app._server.port, "/broken", Connection="close").text
        eventually(lambda: "Exception on '/broken' [GET]" in caplog.text)
    [record] = [record for record in caplog.records if record.exc_info]
    assert (record.name, str(record.exc_info and record.exc_info[1])) == ("PANEL", "out of oil")


def test_a_route_that_uses_a_missing_storage_is_told_that_it_is_not_set() -> None:
    class Recipes(OpenFactoryFastAPIApp):
        def configure_routes(self) -> None:
            @self.api.get("/plain")
            def plain() -> str:
                return str(self.storage.get("recipes").root)

            @self.api.get("/async")
            async def coroutine() -> str:
                return str(self.storage.get("recipes").root)

    with AppClient(Recipes, app_uuid="RECIPES") as recipes:
        for path in ("/plain", "/async"):
            with pytest.raises(AttributeError) as caught:
                recipes.app.test_client().get(path)
            [note] = caught.value.__notes__
            assert "app.storage is None, because STORAGE is not set." in note


class HungStorage:
    """A storage that hangs until `goes_on` is set."""

    def __init__(self) -> None:
        self.asked, self.goes_on = Event(), Event()
        self.file = BytesIO(b"film")

    def info(self, path: str) -> SimpleNamespace:
        self.asked.set()
        assert self.goes_on.wait(60)
        return SimpleNamespace(is_folder=False, modified=None, size=4)

    def open(self, path: str, mode: str) -> BytesIO:
        return self.file


def test_health_is_answered_while_a_storage_hangs_and_a_file_that_opens_too_late_is_closed(run_app: RunApp) -> None:
    storage = HungStorage()
    panel = run_app(OpenFactoryFastAPIApp).app
    panel.api.add_api_route("/film", lambda: send_stored_file(storage, "film.txt"))

    async def main() -> int:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with AsyncClient(transport=ASGITransport(panel.api), base_url="http://panel.example") as client:
            film = asyncio.create_task(client.get("/film"))
            await until(storage.asked.is_set)
            health = await asyncio.wait_for(client.get("/health/live"), 30)
            film.cancel()
            with pytest.raises(asyncio.CancelledError):
                await film
            storage.goes_on.set()
            await until(lambda: storage.file.closed)
        return health.status_code

    try:
        assert asyncio.run(main()) == 200
    finally:
        storage.goes_on.set()


def test_a_file_is_closed_if_its_answer_cannot_be_made(run_app: RunApp) -> None:
    storage = HungStorage()
    storage.goes_on.set()
    panel = run_app(OpenFactoryFastAPIApp).app
    panel.api.add_api_route("/film", lambda: send_stored_file(storage, "film.txt", mimetype="text/\u017fcript"))
    assert FASTAPI.ask(panel, "GET", "/film").status == 500
    assert storage.file.closed


def test_a_stop_by_the_event_loop_answers_the_running_requests() -> None:
    class Ending(OpenFactoryFastAPIApp):
        def configure_routes(self) -> None:
            @self.api.get("/stop")
            async def stop() -> str:
                self.shutdown()
                await asyncio.sleep(0)
                return "stopped"

    async def main(app: Ending) -> str:
        running = asyncio.create_task(app.async_run())
        await until(lambda: app._server is not None and app._server.serving)
        assert app._server is not None
        answer = await asyncio.to_thread(ask, app._server.port, "/stop", Connection="close")
        await running
        return answer.text

    with KSQLDBClient(f"memory://{uuid4().hex}") as client, Asset("ENDING", client) as asset:
        asset.add_attribute(AssetAttribute("noise", 1, "Events", "Noise"))
        app = Ending(client, app_uuid="ENDING", host="127.0.0.1", port=0, stop_timeout=60)
        assert asyncio.run(main(app)) == '"stopped"'
        assert asset.avail.value == "UNAVAILABLE"
