"""The base class of an OpenFactory app with web pages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flask import Flask, got_request_exception
from prometheus_client import CollectorRegistry

from openfactory.apps import OpenFactoryApp
from openfactory.apps.app_storage import explain_missing_storage
from openfactory.concurrency.strand import new_strand
from openfactory.exceptions import ConfigurationError
from openfactory.flaskapp.endpoints import View, checked_path, serve_pages
from openfactory.flaskapp.gateway import configure_for_gateway
from openfactory.flaskapp.health import AppHealth, health_pages
from openfactory.flaskapp.http import HttpServer, strict_request_class
from openfactory.flaskapp.metrics import Metrics
from openfactory.flaskapp.settings import VARIABLES
from openfactory.flaskapp.streams import OpenStreams
from openfactory.settings import declare, integer, setting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask.testing import FlaskClient

    from openfactory.kafka import KSQLDBClient

__all__ = ["OpenFactoryFlaskApp"]

declare(VARIABLES)

_HIGHEST_PORT = 65_535

_MAX_REQUEST_BYTES = 64 * 1024 * 1024


class OpenFactoryFlaskApp(OpenFactoryApp, is_runtime=True):
    """An app with web pages: `app` is its Flask app, and routes reach the OpenFactory app as `current_app.ofa_app`.

    >>> from flask import current_app
    >>> from openfactory.apps import EventAttribute
    >>> class Panel(OpenFactoryFlaskApp):
    ...     status = EventAttribute(value="idle", tag="App.Status")
    ...
    ...     def configure_routes(self):
    ...         @self.app.route("/")
    ...         def root():
    ...             return {"status": current_app.ofa_app.status.value}
    >>> panel = Panel(None, test_mode=True)
    >>> panel.test_client().get("/").json
    {'status': 'idle'}
    >>> panel.shutdown()

    `run` serves on PORT (default 4000) of OPENFACTORY_HOST (default 0.0.0.0, every address of the machine). Each
    request runs on a thread of its own, and `async_main_loop` runs on the event loop.

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
        app_uuid: UUID of the app, APP_UUID by default.
        stop_timeout: seconds that a stop may take in all.
        host: address of this machine to serve on, OPENFACTORY_HOST by default.
        port: port to serve on, PORT by default; 0 selects a free port.
        log_http_requests: whether each request is logged.
        health_path: path of the pages `/live` and `/ready`, or None to leave them out. A route of the app at the same
            path takes precedence.
        metrics_path: path of the metrics for Prometheus, or None to leave them out. A route of the app at the same path
            takes precedence.
        max_request_bytes: size of the largest request body; a larger one gets the status 413. MAX_CONTENT_LENGTH in the
            configuration of the Flask app takes precedence.

    Attributes:
        app: the Flask app.
        metrics_registry: registry for metrics of the app, which the page of the metrics shows, such as
            `Counter("parts", "Parts made.", registry=self.metrics_registry)`.
        open_streams: streams of `sse` that are open.

    Raises:
        ConfigurationError: an argument or an environment variable is not valid.
        EngineUnavailableError: the engine cannot be reached or opened.
        DeliveryError, DeliveryTimeout: the attributes of the app could not be written.
    """

    app: Flask
    log_http_requests: bool
    metrics_registry: CollectorRegistry
    open_streams: OpenStreams

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.main_loop is not OpenFactoryApp.main_loop:
            raise TypeError(
                f"{cls.__name__} overrides main_loop, which an OpenFactoryFlaskApp does not call. "
                "Override async_main_loop instead: async def async_main_loop(self)."
            )

    def __init__(
        self,
        ksqlClient: KSQLDBClient | None,  # noqa: N803 - apps pass it by this name
        bootstrap_servers: str | None = None,
        asset_router_url: str | None = None,
        loglevel: str | int = "INFO",
        test_mode: bool = False,
        *,
        app_uuid: str | None = None,
        stop_timeout: float = 5.0,
        host: str | None = None,
        port: int | None = None,
        log_http_requests: bool = True,
        health_path: str | None = "/health",
        metrics_path: str | None = "/metrics",
        max_request_bytes: int | None = _MAX_REQUEST_BYTES,
    ) -> None:
        self._host = host or setting("OPENFACTORY_HOST") or ""
        self._port = _checked_port(integer("PORT") if port is None else port)
        health_path, metrics_path = checked_path("health_path", health_path), checked_path("metrics_path", metrics_path)
        self.metrics_registry = CollectorRegistry()
        self.open_streams = OpenStreams()
        self._server: HttpServer | None = None
        self._server_failure: Exception | None = None
        self._main_task: asyncio.Task[Any] | None = None
        super().__init__(
            ksqlClient,
            bootstrap_servers,
            asset_router_url,
            loglevel,
            test_mode,
            app_uuid=app_uuid,
            stop_timeout=stop_timeout,
        )
        self.log_http_requests = log_http_requests
        try:
            self.app = _checked_app(self.create_flask_app(), type(self).__name__)
            self._configure_app(health_path, metrics_path, max_request_bytes)
            self.configure_routes()
        except BaseException:
            self.shutdown()  # the app is registered by now, and the caller cannot stop it
            raise

    # Defined by an app

    def create_flask_app(self) -> Flask:
        """Create the Flask app. Override it to set configuration, extensions, or other folders of templates and files.

        The default app finds `templates` and `static` in the folder of the module that defines the app's class.
        """
        return Flask(type(self).__module__)

    def configure_routes(self) -> None:
        """Define routes with `self.app.route`, or register blueprints. Called after `app` is set."""

    async def async_main_loop(self) -> None:
        """Run the app's work beside its web pages. The default waits forever."""
        await asyncio.Event().wait()

    def test_client(self, **keywords: Any) -> FlaskClient:
        """Return a Flask test client, which requests the routes without a server.

        Args:
            keywords: arguments of Flask's `test_client`.
        """
        return self.app.test_client(**keywords)

    def app_health(self) -> AppHealth:
        """Return the state of the app, which its health pages and its metrics show."""
        server = self._server
        return AppHealth(
            asset_uuid=self.asset_uuid,
            availability=self.avail.value,
            serving=server is not None and server.serving,
            connections=0 if server is None else server.connections,
            streams=len(self.open_streams),
            commands=dict(self._commands.counters),
            waiting_commands=self._commands.waiting,
            engine=self._engine.health(),
        )

    # Lifecycle

    def run(self) -> None:
        """Serve the web pages and run `async_main_loop`, until it returns or raises, or a signal arrives.

        Returns when the main loop returns. A signal ends the process with status 0. An error of the main loop or the
        server, or a port that cannot be opened, is logged and ends the process with status 1. The app is stopped in the
        same way in each case.
        """
        try:
            status = asyncio.run(self._run_to_status())
        except KeyboardInterrupt:
            status = 0
        finally:
            self._lifecycle.stop()
        if self._lifecycle.status:
            status = 1
        if status is not None:
            raise SystemExit(status)

    async def _run_to_status(self) -> int | None:
        try:
            await self.async_run()
        except Exception:  # noqa: BLE001 - async_run has logged it
            return 1
        return 0 if self._lifecycle.requested else None

    async def async_run(self) -> None:
        """Serve the web pages and run `async_main_loop`, until it returns or a signal arrives.

        Raises:
            ConfigurationError: the port cannot be opened. The app has not become AVAILABLE.
            Exception: the error of the main loop or the server, after the app is stopped.
        """
        try:
            self._server = HttpServer(
                self._host, self._port, self.app, self.logger, log_requests=self.log_http_requests
            )
        except Exception as error:
            if isinstance(error, ConfigurationError):
                self.logger.error("%s", error)
            else:
                self.logger.exception("The web server of %s could not be opened; stopping.", self.asset_uuid)
            await asyncio.shield(asyncio.to_thread(self.shutdown))
            raise
        self._main_task = asyncio.current_task()
        try:
            await super().async_run()
        except asyncio.CancelledError:
            if self._server_failure is None:
                raise
        if self._server_failure is not None:
            if self._main_task is not None:
                self._main_task.uncancel()
            raise self._server_failure

    def _open_for_business(self) -> None:
        super()._open_for_business()
        if self._server is not None:
            # The port is open already. Said first, so that the line stands before those of the first requests.
            self.logger.info("Serving on %s", self._server.url)
            self._server.start(self._on_server_failure)

    def _on_server_failure(self, error: Exception) -> None:
        """End the main loop. Called on the server's thread."""
        self.logger.error("The web server of %s failed; stopping.", self.asset_uuid, exc_info=error)
        self._server_failure = error
        if self._loop is not None and self._main_task is not None:
            self._loop.call_soon_threadsafe(self._main_task.cancel)

    def _stop_serving(self, timeout: float) -> None:
        if self._server is not None:
            self._server.stop(timeout, before_waiting=self.open_streams.end)

    # Internals

    def _configure_app(self, health_path: str | None, metrics_path: str | None, max_request_bytes: int | None) -> None:
        """Connect the Flask app with this app and its log, add health pages and metrics, and support a gateway."""
        app = self.app
        app.ofa_app = self  # type: ignore[attr-defined]
        vars(app).setdefault("logger", self.logger)  # there already if create_flask_app has set it
        if app.config["MAX_CONTENT_LENGTH"] is None:
            app.config["MAX_CONTENT_LENGTH"] = max_request_bytes
        app.request_class = strict_request_class(app.request_class)
        pages: dict[str, View] = {}
        if health_path is not None:
            pages |= health_pages(health_path, self.app_health)
        if metrics_path is not None:
            metrics = Metrics(self.metrics_registry, self.app_health, self.logger)
            metrics.count_requests(app)
            pages[metrics_path] = metrics.page
        serve_pages(app, pages)
        configure_for_gateway(app)
        app.wsgi_app = _strand_per_request(app.wsgi_app)  # type: ignore[method-assign]
        got_request_exception.connect(self._explain_error, app)  # before Flask logs the error

    def _explain_error(self, app: Flask, exception: Exception) -> None:  # noqa: ARG002 - the names that Flask calls by
        explain_missing_storage(self, exception)


def _strand_per_request(application: WSGIApplication) -> Any:
    """Return an application whose requests are told of the failures of their own writes; a thread serves many."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with new_strand():
            return application(environ, start_response)

    return call


def _checked_app(app: object, class_name: str) -> Flask:
    if not isinstance(app, Flask):
        raise TypeError(f"create_flask_app of {class_name} returned {app!r}. Return the Flask app.")
    return app


def _checked_port(port: int) -> int:
    if not 0 <= port <= _HIGHEST_PORT:
        raise ConfigurationError(f"PORT={port} is not a port number. Set a number from 0 to {_HIGHEST_PORT}.")
    return port
