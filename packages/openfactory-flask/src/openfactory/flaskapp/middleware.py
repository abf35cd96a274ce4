"""The outermost middleware of a Flask app: its gateway, its log, its metrics, and its pages for operations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter, RequestRedirect, Rule

from openfactory.apps.operations.metrics import Metrics
from openfactory.apps.operations.pages import View
from openfactory.apps.web.request_log import RequestLog
from openfactory.concurrency.strand import new_strand
from openfactory.flaskapp.http import is_taken

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["AppMiddleware", "put_in_front"]

# The status of a request whose route takes the connection: Switching Protocols.
_UPGRADED = "101"


def put_in_front(app: Flask, wrap: Callable[[WSGIApplication], WSGIApplication]) -> None:
    """Put middleware in front of a Flask app and of all its WSGI middleware, also if that is added later.

    Extensions and apps replace `app.wsgi_app` by middleware around it. So this middleware is not around `wsgi_app`, but
    around the app itself, which the server and the test clients call.

    Args:
        app: Flask app to extend.
        wrap: function that returns the middleware around an application.
    """
    flask_class = type(app)
    outermost = wrap(lambda environ, start_response: flask_class.__call__(app, environ, start_response))

    class FlaskBehind(flask_class):  # type: ignore[misc, valid-type]
        def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            return outermost(environ, start_response)

    FlaskBehind.__module__ = flask_class.__module__
    FlaskBehind.__name__, FlaskBehind.__qualname__ = flask_class.__name__, flask_class.__qualname__
    app.__class__ = FlaskBehind


class AppMiddleware:
    """Middleware that serves pages at GET and HEAD requests, and counts and logs the other requests.

    The functions that the Flask app runs before every request, such as a login, do not run for these pages, nor does
    WSGI middleware. A route of the app at the same path takes precedence, also if it is added later, unless its rule
    begins with a variable, such as `/<path:page>`.

    A request is counted and logged when its response begins. It is told of the failures of its own writes.

    Args:
        application: the Flask app with its WSGI middleware.
        app: the Flask app.
        pages: the view for each path.
        metrics: counters of the requests, or None.
        log: log of the requests.
    """

    def __init__(
        self,
        application: WSGIApplication,
        app: Flask,
        pages: Mapping[str, View],
        metrics: Metrics | None,
        log: RequestLog,
    ) -> None:
        self._application = application
        self._app = app
        self._pages = pages
        self._metrics = metrics
        self._log = log

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with new_strand():  # a thread serves many requests
            view = self._pages.get(environ["PATH_INFO"])
            if view is None or environ["REQUEST_METHOD"] not in ("GET", "HEAD") or self._has_route(environ):
                return self._call_app(environ, start_response)
            page = view(environ.get("HTTP_ACCEPT", ""))
            self._log_request(environ, environ["PATH_INFO"], str(page.status.value))
            start_response(f"{page.status.value} {page.status.phrase}", page.headers)
            return [page.body] if environ["REQUEST_METHOD"] == "GET" else []

    def _call_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        path = environ["PATH_INFO"]  # a dispatcher in front of several apps shortens it
        has_begun = False

        def begin(status: str) -> None:
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                seconds: float | None = time.perf_counter() - started
                if is_taken(environ):  # libraries for WebSocket end with an error, or with a response that nobody reads
                    status, seconds = _UPGRADED, None  # the time would be that of the connection
                self._log_request(environ, path, status)
                if self._metrics is not None:
                    route = _route_of(environ)  # read here, as Flask discards it at the end of the request
                    self._metrics.count(environ["REQUEST_METHOD"], route, status, seconds)

        def start(status_line: str, *rest: object) -> Callable[[bytes], object]:
            try:
                write = start_response(status_line, *rest)  # type: ignore[arg-type]
            except BaseException:  # the server refuses the response, and sends its own
                begin("500")
                raise
            begin(str(status_line)[:3])  # here, as middleware may start its response only when it is read
            return write

        try:
            parts = self._application(environ, start)
        except BaseException:
            begin("500")
            raise
        if is_taken(environ):
            begin(_UPGRADED)
        return parts

    def _log_request(self, environ: WSGIEnvironment, path: str, status: str) -> None:
        request = f"{environ['REQUEST_METHOD']} {environ.get('REQUEST_URI', path)} {environ['SERVER_PROTOCOL']}"
        self._log.add(path, environ.get("REMOTE_ADDR", "-"), request, status)

    def _has_route(self, environ: WSGIEnvironment) -> bool:
        """Return whether the app has a route for this path, apart from rules that begin with a variable."""
        try:
            rules = _rules_for(self._app.url_map.bind_to_environ(environ))
        except NotFound:
            return False
        except HTTPException:  # the app has its own response, such as the redirect of a rule
            return True
        return not all(rule.rule.startswith("/<") for rule in rules)


def _route_of(environ: WSGIEnvironment) -> str:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return str(getattr(rule, "rule", ""))


def _rules_for(routes: MapAdapter) -> list[Rule]:
    """Return the rules that match this path, also for other methods, or with a slash at its end."""
    try:
        return [routes.match(return_rule=True)[0]]
    except MethodNotAllowed as error:
        return [routes.match(method=method, return_rule=True)[0] for method in error.valid_methods or ()]
    except RequestRedirect as redirect:
        try:
            return [routes.match(f"{routes.path_info}/", return_rule=True)[0]]
        except NotFound:
            raise redirect from None
