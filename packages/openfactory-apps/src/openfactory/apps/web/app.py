"""The base class of apps with web pages, on whatever framework."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from prometheus_client import CollectorRegistry

from openfactory.apps.ofaapp import OpenFactoryApp
from openfactory.apps.operations.health import AppHealth, ServerState, health_pages
from openfactory.apps.operations.listener import checked_port, listening_socket
from openfactory.apps.operations.metrics import Metrics
from openfactory.apps.operations.pages import View, checked_path
from openfactory.apps.web.request_log import RequestLog
from openfactory.apps.web.settings import VARIABLES
from openfactory.apps.web.streams import OpenStreams
from openfactory.exceptions import ConfigurationError
from openfactory.settings import declare, integer, seconds, setting

if TYPE_CHECKING:
    import socket

    from openfactory.kafka import KSQLDBClient

__all__ = ["WebApp", "WebAppOptions", "WebServer"]

declare(VARIABLES)

_MAX_REQUEST_BYTES = 64 * 1024 * 1024


class WebServer(ServerState, Protocol):
    """The web server of an app, which listens from its construction on."""

    port: int

    @property
    def url(self) -> str:
        """URL of the server."""
        ...

    def start(self, on_failure: Callable[[Exception], None]) -> None:
        """Start to answer requests.

        Args:
            on_failure: called if an error ends the server.
        """
        ...

    def stop(self, timeout: float, before_waiting: Callable[[], object] | None = None) -> None:
        """Stop accepting requests, wait for the running requests, and disconnect those that do not end in time.

        Args:
            timeout: seconds to wait for the running requests.
            before_waiting: called when no more requests arrive, to end responses that would not end by themselves.
        """
        ...

    async def ended(self, timeout: float) -> None:
        """Wait after a stop for the requests that it left, such as one that has stopped the app itself.

        Args:
            timeout: seconds to wait; then the requests are disconnected.
        """
        ...


class WebAppOptions(TypedDict, total=False):
    """The keyword arguments of `WebApp`, for the constructor of a subclass that passes them on."""

    app_uuid: str | None
    stop_timeout: float
    take_over: bool | None
    operations_port: int | None
    host: str | None
    port: int | None
    log_http_requests: bool
    health_path: str | None
    metrics_path: str | None
    max_request_bytes: int | None


class WebApp(OpenFactoryApp, is_runtime=True):
    """An app with web pages: port, health, metrics and streams, and a life with a web server.

    The class of a framework creates the pages and the server.

    Args:
        ksqlClient, bootstrap_servers, asset_router_url, loglevel, test_mode, app_uuid, stop_timeout, take_over: as in
            `OpenFactoryApp`.
        operations_port: further port on which `run` serves health and metrics, OPERATIONS_PORT by default; 0 selects a
            free port. A gateway need not lead to it.
        host: address of this machine to serve on, OPENFACTORY_HOST by default.
        port: port to serve on, PORT by default; 0 selects a free port.
        log_http_requests: whether each request is logged.
        health_path: path of the pages `/live` and `/ready`, or None to leave them out.
        metrics_path: path of the metrics for Prometheus, or None to leave them out.
        max_request_bytes: size of the largest request body; a larger one gets the status 413.

    Attributes:
        log_http_requests: whether each request is logged; it may be set while the app runs.
        metrics_registry: registry for metrics of the app, which the page of the metrics shows.
        open_streams: streams of `sse` that are open.
    """

    log_http_requests: bool
    metrics_registry: CollectorRegistry
    open_streams: OpenStreams

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.main_loop is not OpenFactoryApp.main_loop:
            raise TypeError(
                f"{cls.__name__} overrides main_loop, which an app with web pages does not call. "
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
        take_over: bool | None = None,
        operations_port: int | None = None,
        host: str | None = None,
        port: int | None = None,
        log_http_requests: bool = True,
        health_path: str | None = "/health",
        metrics_path: str | None = "/metrics",
        max_request_bytes: int | None = _MAX_REQUEST_BYTES,
    ) -> None:
        self._host = host or setting("OPENFACTORY_HOST") or ""
        self._port = checked_port(integer("PORT") if port is None else port)
        self._handover = seconds("HANDOVER_SECONDS")
        self._health_path = checked_path("health_path", health_path)
        self._metrics_path = checked_path("metrics_path", metrics_path)
        self._max_request_bytes = max_request_bytes
        self.log_http_requests = log_http_requests
        self.metrics_registry = CollectorRegistry()
        self.open_streams = OpenStreams()
        self._server: WebServer | None = None
        self._server_failure: Exception | None = None
        super().__init__(
            ksqlClient,
            bootstrap_servers,
            asset_router_url,
            loglevel,
            test_mode,
            app_uuid=app_uuid,
            stop_timeout=stop_timeout,
            take_over=take_over,
            operations_port=operations_port,
        )
        self._metrics = Metrics(self.metrics_registry, self.app_health, self.logger)
        self._request_log = RequestLog(self.logger, lambda: self.log_http_requests)
        try:
            self._create_pages()
        except BaseException:
            self.shutdown()  # the app is registered by now, and the caller cannot stop it
            raise

    # Defined by an app

    async def async_main_loop(self) -> None:
        """Run the app's work beside its web pages. The default waits forever."""
        await asyncio.Event().wait()

    def app_health(self) -> AppHealth:
        """Return the state of the app, which its health pages and its metrics show."""
        return self._health_of(self._server, len(self.open_streams))

    # Defined by the class of a framework

    @abstractmethod
    def _create_pages(self) -> None:
        """Create the application of the framework and its routes, with the pages of `_operations`."""

    @abstractmethod
    def _create_server(self, listener: socket.socket) -> WebServer:
        """Create the server, which takes over the open port."""

    def _operations(self) -> dict[str, View]:
        """Return the pages of health and metrics that stand in front of the routes of the app, by their paths."""
        pages = self._pages_at(self._health_path, self._metrics_path)
        self._request_log.polled.update(pages)
        return pages

    def _served_host(self) -> str:
        return self._host

    def _operations_pages(self) -> Mapping[str, View]:
        # Those that are left out in front of the routes are here, where only operations can reach them.
        return self._pages_at(self._health_path or "/health", self._metrics_path or "/metrics")

    def _pages_at(self, health_path: str | None, metrics_path: str | None) -> dict[str, View]:
        pages: dict[str, View] = {}
        if health_path is not None:
            pages |= health_pages(health_path, self.app_health)
        if metrics_path is not None:
            pages[metrics_path] = self._metrics.page
        return pages

    def _metrics_port(self) -> int:
        port = self._port if self._server is None else self._server.port
        if self._operations_port is not None or not port:
            return super()._metrics_port()
        return port

    # Lifecycle

    def run(self) -> None:
        """Serve the web pages and run `async_main_loop`, until it returns or raises, or a signal arrives.

        Returns when the main loop returns. A signal ends the process with status 0. An error of the main loop or the
        server, or a port that cannot be opened, is logged and ends the process with status 1. The app is stopped in the
        same way in each case.
        """
        self._lifecycle.ends_process = True
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
            server = self._server = self._create_server(listening_socket(self._host, self._port))
        except Exception as error:
            if isinstance(error, ConfigurationError):
                self.logger.error("%s", error)
            else:
                self.logger.exception("The web server of %s could not be opened; stopping.", self.asset_uuid)
            await asyncio.shield(asyncio.to_thread(self.shutdown))
            raise
        try:
            await super().async_run()
        except asyncio.CancelledError:
            if self._server_failure is None:
                raise
        finally:
            await asyncio.shield(server.ended(self._lifecycle.budget / 5))
        if self._server_failure is not None:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            raise self._server_failure

    def _become_available(self) -> None:
        super()._become_available()
        if self._server is not None:
            # The port is open already. Said first, so that the line stands before those of the first requests.
            self.logger.info("Serving on %s", self._server.url)
            self._server.start(self._on_server_failure)

    def _on_server_failure(self, error: Exception) -> None:
        """End the main loop. Called on any thread."""
        self.logger.error("The web server of %s failed; stopping.", self.asset_uuid, exc_info=error)
        self._server_failure = error
        self._lifecycle.cancel_main_loop()

    def _handover_seconds(self) -> float:
        # Requests of the gateway still arrive.
        ownership = self._ownership_or_none()
        if self._server is None or ownership is None or ownership.lost_to is None:
            return 0.0
        return self._handover

    def _stop_serving(self, timeout: float) -> None:
        if self._server is not None:
            self._server.stop(timeout, before_waiting=self.open_streams.end)
        super()._stop_serving(timeout)
