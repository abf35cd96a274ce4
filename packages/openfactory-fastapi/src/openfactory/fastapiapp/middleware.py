"""The outermost middleware of a FastAPI app: its gateway, its log, its metrics, and its pages for operations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING
from uuid import uuid4

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openfactory.apps.app_storage import explain_missing_storage
from openfactory.apps.operations.metrics import Metrics
from openfactory.apps.operations.pages import View
from openfactory.apps.web.forwarded import ForwardedHeaders
from openfactory.apps.web.request_log import RequestLog
from openfactory.concurrency.strand import new_strand
from openfactory.fastapiapp.gateway import follow_gateway

if TYPE_CHECKING:
    from openfactory.fastapiapp.app import OpenFactoryFastAPIApp

__all__ = ["AppMiddleware", "current_app"]

#: The app that serves the request of a call, also in the thread of a plain function.
current_app: ContextVar[OpenFactoryFastAPIApp] = ContextVar("openfactory_fastapi_app")

# A first part of a path that only a rule for any path matches, such as `/{path:path}`.
_ANY_PART = f"/any-{uuid4().hex}"


class AppMiddleware:
    """Middleware around all other middleware of a FastAPI app, which has not served a request yet.

    It serves pages at GET and HEAD requests. The other middleware, such as a login, does not run for them. A route of
    the app at the same path takes precedence, also if it is added later, unless it begins with a variable, such as
    `/{path:path}`.

    A request is counted and logged when its response begins. It is told of the failures of its own writes.

    Args:
        ofa_app: app that serves the requests.
        root_path: prefix of a request whose gateway does not name one.
        pages: the view for each path.
        metrics: counters of the requests, or None.
        log: log of the requests.
    """

    app: ASGIApp
    _api: FastAPI

    def __init__(
        self,
        ofa_app: OpenFactoryFastAPIApp,
        root_path: str,
        pages: Mapping[str, View],
        metrics: Metrics | None,
        log: RequestLog,
    ) -> None:
        self._ofa_app = ofa_app
        self._forwarded = ForwardedHeaders(ofa_app.logger)
        self._root_path = root_path
        self._pages = pages
        self._metrics = metrics
        self._request_log = log

    def wrap(self, api: FastAPI) -> None:
        """Put this middleware around a FastAPI app."""
        build = api.build_middleware_stack  # `add_middleware` of FastAPI would put later middleware around this one

        def build_within() -> AppMiddleware:
            self.app, self._api = build(), api
            return self

        api.build_middleware_stack = build_within  # type: ignore[method-assign]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        target = _target(scope)
        follow_gateway(scope, self._root_path, self._forwarded)
        current_app.set(self._ofa_app)
        with new_strand():
            if scope["type"] == "websocket":
                await self.app(scope, receive, send)
                return
            path = scope["path"].removeprefix(scope["root_path"])
            view = self._pages.get(path)
            if view is None or scope["method"] not in ("GET", "HEAD") or self._has_route(scope, path):
                await self._call_app(scope, receive, send, target)
                return
            page = await asyncio.to_thread(view, _header(scope, b"accept"))  # it may ask the engine
            body = page.body if scope["method"] == "GET" else b""
            self._log(scope, target, page.status)
            await Response(body, page.status, dict(page.headers))(scope, receive, send)

    async def _call_app(self, scope: Scope, receive: Receive, send: Send, target: bytes) -> None:
        started = time.perf_counter()
        has_begun = False

        def begin(status: int) -> None:
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                self._log(scope, target, status)
                if self._metrics is not None:
                    seconds = time.perf_counter() - started
                    self._metrics.count(scope["method"], _route_of(scope), str(status), seconds)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                begin(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_counted)
        except BaseException as error:
            begin(HTTPStatus.INTERNAL_SERVER_ERROR)
            explain_missing_storage(self._ofa_app, error)  # before the server logs the error
            raise

    def _log(self, scope: Scope, target: bytes, status: int) -> None:
        path = scope["path"].removeprefix(scope["root_path"])
        client = scope["client"][0] if scope.get("client") else "-"
        request = f"{scope['method']} {target.decode('latin-1')} HTTP/{scope.get('http_version', '1.1')}"
        self._request_log.add(path, client, request, str(status))

    def _has_route(self, scope: Scope, path: str) -> bool:
        """Return whether the app has a route for a path, apart from those that begin with a variable."""
        rest = path[path.find("/", 1) :] if path.find("/", 1) > 0 else ""
        paths = (path, f"{path}/") if self._api.router.redirect_slashes else (path,)
        return any(
            any(_matches(route, scope, wanted) for wanted in paths)
            and not any(_matches(route, scope, _ANY_PART + rest + end) for end in ("", "/"))
            for route in self._api.routes
        )


def _matches(route: BaseRoute, scope: Scope, path: str) -> bool:
    """Return whether a route matches a path, also for other methods."""
    return route.matches({**scope, "path": path, "root_path": ""})[0] is not Match.NONE


def _route_of(scope: Scope) -> str:
    """Return the rule of the route that a request has matched, with the prefixes of its routers."""
    # FastAPI keeps the rule with the prefixes in its own part of the scope.
    for route in (scope.get("fastapi", {}).get("effective_route_context"), scope.get("route")):
        path = getattr(route, "path", None)
        if isinstance(path, str):
            return path
    return ""


def _target(scope: Scope) -> bytes:
    """Return the path and the query of a request as the client has sent them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return path + (b"?" + query if query else b"")


def _header(scope: Scope, wanted: bytes) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)
