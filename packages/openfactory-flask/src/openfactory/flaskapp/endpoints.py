"""Serve pages for operations, such as health and metrics, in front of a Flask app."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from flask import Flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter, RequestRedirect, Rule

from openfactory.exceptions import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Page", "View", "checked_path", "serve_pages"]


class Page(NamedTuple):
    """The response to a request for a page."""

    status: str
    content_type: str
    body: bytes

    @classmethod
    def of_json(cls, status: str, content: object) -> Page:
        """Return a page with a JSON body."""
        return cls(status, "application/json", json.dumps(content).encode() + b"\n")


#: A function that returns the page for a request.
View = Callable[["WSGIEnvironment"], Page]


def checked_path(option: str, path: str | None) -> str | None:
    """Return a path if it begins with a slash, has no empty part and does not end with a slash; None is allowed.

    Args:
        option: name of the option for the error text.
        path: path to check.

    Raises:
        ConfigurationError: the path is not valid.
    """
    if path is not None and (not path.startswith("/") or path.endswith("/") or "//" in path):
        example = "/" + option.removesuffix("_path")
        raise ConfigurationError(f"{option} is {path!r}, which is not a valid path. Pass {example!r}, or None.")
    return path


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
        status, content_type, body = view(environ)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(status, headers)
        return [body] if environ["REQUEST_METHOD"] == "GET" else []

    app.wsgi_app = serve  # type: ignore[method-assign]


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
