"""Serve pages for operations, such as health and metrics, in front of a Flask app, and count its requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter, RequestRedirect, Rule

from openfactory.apps.web.metrics import Metrics
from openfactory.apps.web.pages import View

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["count_requests", "serve_pages"]


def serve_pages(app: Flask, pages: Mapping[str, View]) -> None:
    """Serve pages at GET and HEAD requests, in front of a Flask app.

    The functions that the app runs before every request, such as a login, do not run for these pages. A route of the
    app at the same path takes precedence, also if it is added later, unless its rule begins with a variable, such as
    `/<path:page>`.

    Args:
        app: Flask app to extend.
        pages: the view for each path.
    """
    flask_wsgi_app: WSGIApplication = app.wsgi_app

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        view = pages.get(environ["PATH_INFO"])
        if view is None or environ["REQUEST_METHOD"] not in ("GET", "HEAD") or _has_route(app, environ):
            return flask_wsgi_app(environ, start_response)
        page = view(environ.get("HTTP_ACCEPT", ""))
        start_response(f"{page.status.value} {page.status.phrase}", page.headers)
        return [page.body] if environ["REQUEST_METHOD"] == "GET" else []

    app.wsgi_app = serve  # type: ignore[method-assign]


def count_requests(app: Flask, metrics: Metrics) -> None:
    """Count the requests of a Flask app."""
    flask_wsgi_app = app.wsgi_app

    def counted_wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        is_counted = False

        def count(status: str) -> None:
            nonlocal is_counted
            if not is_counted:
                is_counted = True
                route = _route_of(environ)  # read here, as Flask discards it at the end of the request
                metrics.count(environ["REQUEST_METHOD"], route, status, time.perf_counter() - started)

        def start(status_line: str, *rest: object) -> Callable[[bytes], object]:
            count(status_line[:3])  # here, as middleware may start its response only when it is read
            return start_response(status_line, *rest)  # type: ignore[arg-type]

        try:
            return flask_wsgi_app(environ, start)
        except BaseException:
            count("500")
            raise

    app.wsgi_app = counted_wsgi_app  # type: ignore[method-assign]


def _route_of(environ: WSGIEnvironment) -> str:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return "" if rule is None else str(rule.rule)


def _has_route(app: Flask, environ: WSGIEnvironment) -> bool:
    """Return whether the app has a route for this path, apart from rules that begin with a variable."""
    try:
        rules = _rules_for(app.url_map.bind_to_environ(environ))
    except NotFound:
        return False
    except HTTPException:  # the app has its own response, such as the redirect of a rule
        return True
    return not all(rule.rule.startswith("/<") for rule in rules)


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
