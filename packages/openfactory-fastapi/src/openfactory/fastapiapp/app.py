"""The base class of an OpenFactory app with web pages on FastAPI."""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from prometheus_client import REGISTRY, CollectorRegistry
from starlette.responses import Response

from openfactory.apps.operations.pages import View
from openfactory.apps.web.app import WebApp
from openfactory.exceptions import OpenFactoryError
from openfactory.fastapiapp.middleware import AppMiddleware
from openfactory.fastapiapp.server import UvicornServer
from openfactory.logs import configure_library_logger
from openfactory.settings import environment

if TYPE_CHECKING:
    import socket

    from fastapi.testclient import TestClient

__all__ = ["OpenFactoryFastAPIApp"]


class OpenFactoryFastAPIApp(WebApp, is_runtime=True):
    """An app with web pages: `api` is its FastAPI app, and routes reach the OpenFactory app as `api.state.ofa_app`.

    >>> from openfactory.apps import EventAttribute
    >>> class Panel(OpenFactoryFastAPIApp):
    ...     status = EventAttribute(value="idle", tag="App.Status")
    ...
    ...     def configure_routes(self):
    ...         @self.api.get("/")
    ...         async def root():
    ...             return {"status": self.status.value}
    >>> panel = Panel(None, test_mode=True)
    >>> panel.test_client().get("/").json()
    {'status': 'idle'}
    >>> panel.shutdown()

    `run` serves on PORT (default 4000) of OPENFACTORY_HOST (default 0.0.0.0, every address of the machine). uvicorn
    runs in the event loop of the app: routes that are coroutines share it with `async_main_loop`, and routes that are
    plain functions run on threads. The app serves on after `async_main_loop` has returned.

    The client's address, the scheme, the host and the path prefix always come from the last value of the X-Forwarded
    headers, which the gateway sets. A client that bypasses the gateway can forge them.

    Args:
        ksqlClient: client whose URL selects the engine; KSQLDB_URL if it is None.
        bootstrap_servers: address of the Kafka broker; by default from the client or KAFKA_BROKER. The embedded engine
            does not use it.
        asset_router_url: address of the asset router; by default from the client or ASSET_ROUTER_URL. The embedded
            engine does not use it.
        loglevel: level of the app's logger, a name or a number.
        test_mode: keep all data in a private memory and ignore the URL of the client; attributes, callbacks and
            commands work as usual.
        app_uuid: UUID of the app, by default APP_UUID, or the name of the app's file.
        stop_timeout: seconds that a stop may take in all.
        take_over: take the UUID over from a process that owns it: that app stops, and this one goes on; by default only
            if APP_TAKE_OVER is set.
        operations_port: further port on which `run` serves health and metrics, OPERATIONS_PORT by default; 0 selects a
            free port. A gateway need not lead to it.
        host: address of this machine to serve on, OPENFACTORY_HOST by default.
        port: port to serve on, PORT by default; 0 selects a free port.
        log_http_requests: whether each request is logged.
        health_path: path of the pages `/live` and `/ready`, or None to leave them out. A route of the app at the same
            path takes precedence.
        metrics_path: path of the metrics for Prometheus, or None to leave them out. A route of the app at the same path
            takes precedence.
        max_request_bytes: size of the largest request body; a larger one gets the status 413.

    Attributes:
        api: the FastAPI app.
        metrics_registry: registry for metrics of the app, which the page of the metrics shows, such as
            `Counter("parts", "Parts made.", registry=self.metrics_registry)`.
        open_streams: streams of `sse` that are open.

    Raises:
        AssetOwnedError: another process that lives owns the UUID.
        ConfigurationError: an argument or an environment variable is not valid.
        EngineUnavailableError: the engine cannot be reached or opened.
        DeliveryError, DeliveryTimeout: the attributes of the app could not be written.
    """

    api: FastAPI

    # Defined by an app

    def create_fastapi_app(self, **options: Any) -> FastAPI:
        """Create the FastAPI app. Override it to pass further options, such as `lifespan` or `docs_url`.

        Args:
            options: options of `FastAPI`, which take precedence over those that the app sets.
        """
        defaults: dict[str, Any] = {
            "title": self.asset_uuid,
            "version": str(self["application_version"].value),
            "license_info": {"name": str(self["application_license"].value)},
            "max_body_size": self._max_request_bytes,
        }
        return FastAPI(**{**defaults, **options})

    def configure_routes(self) -> None:
        """Define routes with `self.api.get` and the like, or include routers. Called after `api` is set."""

    def expose_metrics(self, path: str = "/metrics", registry: CollectorRegistry = REGISTRY) -> None:
        """Serve metrics for Prometheus at a path, and register the app with the metrics registry of the factory.

        The page shows the metrics of the app and those of `registry`. An app with an operations port serves it there
        too, and registers that port. A second call for the same path does nothing. The
        app is registered when it serves. If that fails, for example because the factory does not have a metrics
        registry, the reason is logged.

        Args:
            path: path of the page.
            registry: registry whose metrics the page shows beside those of the app.

        Raises:
            ValueError: the app already has a route at the path.
        """
        if path in self._exposed:
            return
        if any(getattr(route, "path", None) == path for route in self.api.routes):
            raise ValueError(f"A route is already registered at {path!r}. Pass another path.")
        view = self._exposed[path] = partial(self._metrics.page, foreign=registry)
        self._request_log.polled.add(path)

        async def metrics(request: Request) -> Response:
            page = await asyncio.to_thread(view, request.headers.get("accept", ""))
            return Response(page.body, page.status, dict(page.headers))

        self.api.add_route(path, metrics, include_in_schema=False)
        if self._server is not None and self._server.serving:
            self._register_metrics(path)

    def test_client(self, **keywords: Any) -> TestClient:
        """Return a test client of FastAPI, which requests the routes without a server.

        Args:
            keywords: arguments of FastAPI's `TestClient`.
        """
        from fastapi.testclient import TestClient

        return TestClient(self.api, **keywords)

    # Lifecycle

    async def _prepare_serving(self) -> None:
        if isinstance(self._server, UvicornServer):
            await self._server.prepare()
        for path in sorted(self._exposed):
            await asyncio.to_thread(self._register_metrics, path)

    async def _work(self) -> None:
        await super()._work()
        await asyncio.Event().wait()

    # Internals

    def _operations_pages(self) -> Mapping[str, View]:
        return ChainMap(self._exposed, dict(super()._operations_pages()))  # also a page that is exposed later

    def _create_server(self, listener: socket.socket) -> UvicornServer:
        configure_library_logger("uvicorn", self.asset_uuid)
        return UvicornServer(listener, self.api, self.logger)

    def _create_pages(self) -> None:
        """Create the FastAPI app and its routes, and put the app's own middleware around all others."""
        self._exposed: dict[str, View] = {}
        self.api = _checked_api(self.create_fastapi_app(), type(self).__name__)
        self.api.state.ofa_app = self
        self.configure_routes()
        self.api.state.ofa_app = self  # again, as configure_routes of an existing app may have replaced `api`
        middleware = AppMiddleware(
            self,
            environment("OPENFACTORY_ROOT_PATH") or "",
            self._operations(),
            None if self._metrics_path is None else self._metrics,
            self._request_log,
        )
        middleware.wrap(self.api)

    def _register_metrics(self, path: str) -> None:
        try:
            self.register_prometheus_metrics(metrics_path=path)
        except OpenFactoryError as error:
            self.logger.warning("The metrics at %s are not registered: %s", path, error)


def _checked_api(api: object, class_name: str) -> FastAPI:
    if not isinstance(api, FastAPI):
        raise TypeError(f"create_fastapi_app of {class_name} returned {api!r}. Return the FastAPI app.")
    return api
