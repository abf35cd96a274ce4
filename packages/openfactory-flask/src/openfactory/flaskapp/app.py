"""OpenFactoryFlaskApp: an app whose routes see the asset, and whose asset sees the routes' work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flask import Flask

from openfactory.apps import OpenFactoryApp
from openfactory.exceptions import ConfigurationError
from openfactory.flaskapp.endpoints import Answer, checked_path, serve_pages
from openfactory.flaskapp.gateway import stand_behind_gateway
from openfactory.flaskapp.health import Health
from openfactory.flaskapp.metrics import Metrics
from openfactory.flaskapp.request_body import with_whole_bodies
from openfactory.flaskapp.server import HttpServer
from openfactory.flaskapp.server_sent_events import OpenStreams
from openfactory.settings import integer, setting

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from openfactory.kafka import KSQLDBClient

__all__ = ["OpenFactoryFlaskApp"]

_HIGHEST_PORT = 65_535

_MAX_REQUEST_BYTES = 64 * 1024 * 1024


class OpenFactoryFlaskApp(OpenFactoryApp):
    """An app with web pages: its Flask app is `app`, and routes reach the asset as `current_app.ofa_app`.

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

    `run` serves on PORT (4000 if it is not set) of OPENFACTORY_HOST (0.0.0.0, every address of the machine), each
    request with a thread to itself, while `async_main_loop` runs on the event loop. The app always takes the client's
    address, the scheme, the host and the path prefix from the last value of the X-Forwarded headers, as the gateway
    before it sets them: whoever reaches the port past the gateway can claim any of these.

    Args:
        ksqlClient: names the place of the data; may be None in test mode.
        bootstrap_servers: address of the Kafka broker, else from KAFKA_BROKER; the embedded engine needs none.
        asset_router_url: address of the asset router, else from ASSET_ROUTER_URL; the embedded engine needs none.
        loglevel: level of the app's logger, a name or a number.
        test_mode: keep all data in a private memory, with attributes, callbacks and commands as in earnest.
        app_uuid: the app's UUID, else from APP_UUID.
        stop_timeout: how long a stop may take in all, in seconds.
        host: address of this machine to serve on, else from OPENFACTORY_HOST.
        port: port to serve on, else from PORT; 0 takes one that is free.
        log_http_requests: whether each request gets a line in the app's log.
        health_path: under which `/live` and `/ready` are answered, or None. A route of the app's own comes first.
        metrics_path: where Prometheus reads what is counted, or None. A route of the app's own comes first.
        max_request_bytes: a larger body is answered 413; MAX_CONTENT_LENGTH of the Flask app's configuration wins.

    Raises:
        ConfigurationError: an argument or an environment variable cannot be used.
        EngineUnavailableError: the place of the data cannot be reached or opened.
        DeliveryError, DeliveryTimeout: what the app says of itself could not be written.
    """

    app: Flask
    log_http_requests: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.main_loop is not OpenFactoryApp.main_loop:
            raise TypeError(
                f"{cls.__name__} overrides main_loop, which an OpenFactoryFlaskApp does not run. "
                "Override async_main_loop instead: async def async_main_loop(self)."
            )

    def __init__(
        self,
        ksqlClient: KSQLDBClient | None,  # noqa: N803 - the name that apps pass it by
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
        self._streams = OpenStreams()
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
            self.app = self._checked(self.create_flask_app())
            self._complete(health_path, metrics_path, max_request_bytes)
            self.configure_routes()
        except BaseException:
            self.shutdown()  # it is registered by now, and nobody gets it to stop it
            raise

    # What an app defines

    def create_flask_app(self) -> Flask:
        """Make the Flask app; override it for configuration, extensions, or other folders of templates and files.

        The default one finds `templates` and `static` beside the file of the app's class.
        """
        return Flask(type(self).__module__)

    def configure_routes(self) -> None:
        """Define routes with `self.app.route`, or register Blueprints; called when `app` is there."""

    async def async_main_loop(self) -> None:
        """What the app does beside its web pages; by default nothing, without end."""
        await asyncio.Event().wait()

    def test_client(self, **keywords: Any) -> FlaskClient:
        """A client for tests that asks the routes without a server; the keywords are those of Flask's `test_client`."""
        return self.app.test_client(**keywords)

    # From start to stop

    def run(self) -> None:
        """Serve and run `async_main_loop` until it returns, raises, or a signal ends it.

        Returns when the main loop returns. A signal ends the process with status 0; an error of the main loop or the
        server, or a port that cannot be opened, with status 1 after it is logged. The stop is the same in all three.
        """
        try:
            status = asyncio.run(self._run_to_status())
        except KeyboardInterrupt:
            status = 0
        finally:
            self._lifecycle.stop()
        if status is not None:
            raise SystemExit(status)

    async def _run_to_status(self) -> int | None:
        try:
            await self.async_run()
        except Exception:  # noqa: BLE001 - async_run has logged it
            return 1
        return 0 if self._lifecycle.requested else None

    async def async_run(self) -> None:
        """Serve and run `async_main_loop`, as a coroutine: returns when that returns or a signal ends it.

        Raises:
            ConfigurationError: the port cannot be opened; nobody was told that the app is available.
            Exception: what the main loop raised, or what ended the server, after the stop.
        """
        try:
            self._server = HttpServer(
                self._host, self._port, self.app, self.logger, log_requests=self.log_http_requests
            )
        except Exception as error:
            if isinstance(error, ConfigurationError):
                self.logger.error("%s", error)
            else:
                self.logger.exception("%s could not open its web server; it stops.", self.asset_uuid)
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
            self._server.start(self._server_failed)
            self.logger.info("Serving on %s", self._server.url)

    def _server_failed(self, error: Exception) -> None:
        """End the main loop; called on the server's thread."""
        self.logger.error("The web server of %s failed; it stops.", self.asset_uuid, exc_info=error)
        self._server_failure = error
        if self._loop is not None and self._main_task is not None:
            self._loop.call_soon_threadsafe(self._main_task.cancel)

    def _stop_serving(self, timeout: float) -> None:
        if self._server is not None:
            self._server.stop(timeout, before_waiting=self._streams.end)

    # Inside

    def _checked(self, app: Flask) -> Flask:
        if not isinstance(app, Flask):
            raise TypeError(f"create_flask_app of {type(self).__name__} returned {app!r}. Return the Flask app.")
        return app

    def _complete(self, health_path: str | None, metrics_path: str | None, max_request_bytes: int | None) -> None:
        """What every app of a factory needs: its asset and its log, pages for operations, a place behind a gateway."""
        app = self.app
        app.ofa_app = self  # type: ignore[attr-defined]
        if "logger" not in vars(app):  # else create_flask_app has set it up
            app.logger = self.logger
        if app.config["MAX_CONTENT_LENGTH"] is None:
            app.config["MAX_CONTENT_LENGTH"] = max_request_bytes
        app.request_class = with_whole_bodies(app.request_class)
        pages: dict[str, Answer] = {}
        if health_path is not None:
            health = Health(self)
            pages |= {f"{health_path}/live": health.live, f"{health_path}/ready": health.ready}
        if metrics_path is not None:
            metrics = Metrics(self)
            metrics.count_requests(app)
            pages[metrics_path] = metrics.page
        serve_pages(app, pages)
        stand_behind_gateway(app)


def _checked_port(port: int) -> int:
    if not 0 <= port <= _HIGHEST_PORT:
        raise ConfigurationError(f"PORT is {port}, which is no port. Set it to a number from 0 to {_HIGHEST_PORT}.")
    return port
