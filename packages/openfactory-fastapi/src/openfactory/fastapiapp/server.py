"""The web server of an app: uvicorn in the event loop of the app."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from openfactory.fastapiapp.middleware import current_app

__all__ = ["UvicornServer"]

_MAX_CONNECTIONS = 1000

# Share of the time to stop in which requests are cut off.
_CUTTING = 0.2


class UvicornServer(uvicorn.Server):
    """uvicorn's server, which listens from its construction on, and serves from `start` until `stop`.

    Signals are not its business: the app stops the server. So it runs the three phases of uvicorn's `serve`, which
    would handle them.

    Args:
        listener: socket that listens on a port, which the server takes over.
        api: the application that answers the requests.
        logger: logger for errors.
    """

    def __init__(self, listener: socket.socket, api: ASGIApp, logger: logging.Logger) -> None:
        super().__init__(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                lifespan="on",
                ws="websockets-sansio",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                limit_concurrency=_MAX_CONNECTIONS,
            )
        )
        self._listener = listener
        self._api = api
        self._logger = logger
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._open = asyncio.Event()
        self._ended = threading.Event()
        self._cutting_off = False
        self.host, self.port = listener.getsockname()[:2]

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def serving(self) -> bool:
        """Whether the server accepts requests."""
        return self._task is not None and not self._task.done() and not self.should_exit

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self.server_state.connections)

    async def prepare(self) -> None:
        """Start the lifespan of the app, and accept connections, whose requests wait for `start`.

        Raises:
            RuntimeError: the lifespan of the app has failed.
        """
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        try:
            await self.startup([self._listener])
        except SystemExit as error:
            raise RuntimeError(
                "The lifespan of the FastAPI app failed at its start. The lines before say why."
            ) from error

    def start(self, on_failure: Callable[[Exception], None]) -> None:
        """Start to answer requests, in the running event loop.

        Args:
            on_failure: called if an error ends the server.
        """
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._serve_until_stop(on_failure), name="openfactory-http")
        self._open.set()

    def stop(self, timeout: float, before_waiting: Callable[[], object] | None = None) -> None:
        """Stop accepting requests, wait for the running requests, and disconnect those that do not end in time.

        A request whose route calls `stop` is neither waited for nor disconnected, nor is any request if the event loop
        calls it: both could not end meanwhile. `ended` waits for them.

        Args:
            timeout: seconds to wait for the running requests.
            before_waiting: called when no more requests arrive, to end responses that would not end by themselves.
        """
        deadline = time.monotonic() + timeout
        self.should_exit = True
        if before_waiting is not None:
            before_waiting()
        if self._loop is None:
            if not self.started:
                self._listener.close()
            return
        if not self._loop.is_running() or self._is_called_by_its_loop() or current_app.get(None) is not None:
            return
        if not self._ended.wait(timeout * (1 - _CUTTING)):
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._cut_off)
            self._ended.wait(max(deadline - time.monotonic(), 0))

    async def ended(self, timeout: float) -> None:
        """Wait after a stop for the running requests, and disconnect those that do not end in time."""
        if self._task is None and self.started:  # the stop came first
            self.start(lambda error: self._logger.error("%s", error))
        if self._task is not None and not (await asyncio.wait({self._task}, timeout=timeout))[0]:
            self._cut_off()
            await asyncio.wait({self._task}, timeout=timeout)
            self._task.cancel()

    # The task of the server

    async def _serve_until_stop(self, on_failure: Callable[[Exception], None]) -> None:
        try:
            await self.main_loop()
        except Exception as error:  # noqa: BLE001 - every error is reported to on_failure
            on_failure(error)
        finally:
            try:
                await self.shutdown([self._listener])
            finally:
                self._ended.set()

    async def on_tick(self, counter: int) -> bool:
        if not self.should_exit and not all(server.is_serving() for server in self.servers):
            raise RuntimeError("The web server cannot accept connections any more. Restart the app.")
        return await super().on_tick(counter)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and log the error of a route. The client has the status 500 by then."""
        if scope["type"] != "lifespan":
            await self._open.wait()
        try:
            await self._api(scope, receive, send)
        except asyncio.CancelledError:
            if not self._cutting_off:
                raise
        except Exception:
            if scope["type"] != "http":
                raise
            self._logger.exception("Exception on %r [%s]", scope["path"], scope["method"])

    def _cut_off(self) -> None:
        """Disconnect the clients of the running requests, and cancel the requests. Called by the event loop."""
        tasks = [task for task in self.server_state.tasks if not task.done()]
        if tasks:
            self._logger.warning("%d HTTP requests did not end in time and were cut off.", len(tasks))
        self._cutting_off = True
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            transport.abort()
        for task in tasks:
            task.cancel()

    def _is_called_by_its_loop(self) -> bool:
        with suppress(RuntimeError):
            return asyncio.get_running_loop() is self._loop
        return False
