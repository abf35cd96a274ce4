"""The base class of an OpenFactory app with web pages on Flask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from flask import Flask, got_request_exception

from openfactory.apps.app_storage import explain_missing_storage
from openfactory.apps.web.app import WebApp, WebAppOptions
from openfactory.apps.web.forwarded import ForwardedHeaders
from openfactory.exceptions import ConfigurationError
from openfactory.flaskapp.gateway import GatewayMiddleware, configure_for_gateway
from openfactory.flaskapp.http import HttpServer, strict_request_class
from openfactory.flaskapp.middleware import AppMiddleware, put_in_front

if TYPE_CHECKING:
    import socket
    from wsgiref.types import WSGIApplication

    from flask.testing import FlaskClient

    from openfactory.kafka import KSQLDBClient

__all__ = ["OpenFactoryFlaskApp"]


class OpenFactoryFlaskApp(WebApp, is_runtime=True):
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
        max_request_bytes: size of the largest request body; a larger one gets the status 413. MAX_CONTENT_LENGTH in the
            configuration of the Flask app takes precedence.
        silence_timeout: seconds after which a client that neither sends nor reads is disconnected. A WebSocket may be
            silent.
        max_connections_per_address: number of connections that a client's address may have open, without a limit by
            default. Behind a gateway all connections have the address of the gateway.

    Attributes:
        app: the Flask app.
        metrics_registry: registry for metrics of the app, which the page of the metrics shows, such as
            `Counter("parts", "Parts made.", registry=self.metrics_registry)`.
        open_streams: streams of `sse` that are open.

    Raises:
        AssetOwnedError: another process that lives owns the UUID.
        ConfigurationError: an argument or an environment variable is not valid.
        EngineUnavailableError: the engine cannot be reached or opened.
        DeliveryError, DeliveryTimeout: the attributes of the app could not be written.
    """

    app: Flask

    def __init__(
        self,
        ksqlClient: KSQLDBClient | None,  # noqa: N803 - apps pass it by this name
        bootstrap_servers: str | None = None,
        asset_router_url: str | None = None,
        loglevel: str | int = "INFO",
        test_mode: bool = False,
        *,
        silence_timeout: float = 60.0,
        max_connections_per_address: int | None = None,
        **options: Unpack[WebAppOptions],
    ) -> None:
        _check_positive("silence_timeout", silence_timeout)
        _check_positive("max_connections_per_address", max_connections_per_address)
        self._silence_timeout = silence_timeout
        self._max_connections_per_address = max_connections_per_address
        super().__init__(ksqlClient, bootstrap_servers, asset_router_url, loglevel, test_mode, **options)

    # Defined by an app

    def create_flask_app(self) -> Flask:
        """Create the Flask app. Override it to set configuration, extensions, or other folders of templates and files.

        The default app finds `templates` and `static` in the folder of the module that defines the app's class.
        """
        return Flask(type(self).__module__)

    def configure_routes(self) -> None:
        """Define routes with `self.app.route`, or register blueprints. Called after `app` is set."""

    def test_client(self, **keywords: Any) -> FlaskClient:
        """Return a Flask test client, which requests the routes without a server.

        Args:
            keywords: arguments of Flask's `test_client`.
        """
        return self.app.test_client(**keywords)

    # Internals

    def _create_server(self, listener: socket.socket) -> HttpServer:
        return HttpServer(
            listener,
            self.app,
            self.logger,
            silence_timeout=self._silence_timeout,
            max_connections_per_address=self._max_connections_per_address,
            always_answered=self._request_log.polled,
        )

    def _create_pages(self) -> None:
        """Connect the Flask app with this app and its log, add health pages and metrics, and support a gateway."""
        self.app = app = _checked_app(self.create_flask_app(), type(self).__name__)
        app.ofa_app = self  # type: ignore[attr-defined]
        vars(app).setdefault("logger", self.logger)  # there already if create_flask_app has set it
        if app.config["MAX_CONTENT_LENGTH"] is None:
            app.config["MAX_CONTENT_LENGTH"] = self._max_request_bytes
        app.request_class = strict_request_class(app.request_class)
        configure_for_gateway(app)
        got_request_exception.connect(self._explain_error, app)  # before Flask logs the error
        self.configure_routes()
        put_in_front(self.app, self._middleware)

    def _middleware(self, application: WSGIApplication) -> WSGIApplication:
        metrics = None if self._metrics_path is None else self._metrics
        in_front = AppMiddleware(application, self.app, self._operations(), metrics, self._request_log)
        return GatewayMiddleware(in_front, ForwardedHeaders(self.logger))

    def _explain_error(self, app: Flask, exception: Exception) -> None:  # noqa: ARG002 - the names that Flask calls by
        explain_missing_storage(self, exception)


def _check_positive(option: str, value: float | None) -> None:
    if value is not None and value <= 0:
        raise ConfigurationError(f"{option} is {value!r}. Pass a number above 0, or leave it out.")


def _checked_app(app: object, class_name: str) -> Flask:
    if not isinstance(app, Flask):
        raise TypeError(f"create_flask_app of {class_name} returned {app!r}. Return the Flask app.")
    return app
