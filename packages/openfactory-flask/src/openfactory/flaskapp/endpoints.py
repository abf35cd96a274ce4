"""What those ask who keep the app running: is it alive, is it ready, and what does it count."""

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

__all__ = ["Answer", "Page", "checked_path", "serve_pages"]


class Page(NamedTuple):
    """The answer of one address."""

    status: str
    content_type: str
    body: bytes

    @classmethod
    def of_json(cls, status: str, content: object) -> Page:
        """A page of JSON."""
        return cls(status, "application/json", json.dumps(content).encode() + b"\n")


#: What answers a request for a page.
Answer = Callable[["WSGIEnvironment"], Page]


def checked_path(option: str, path: str | None) -> str | None:
    """A path that pages can be served at, or None for no pages.

    Raises:
        ConfigurationError: it is another text.
    """
    if path is not None and (not path.startswith("/") or path.endswith("/") or "//" in path):
        example = "/" + option.removesuffix("_path")
        raise ConfigurationError(f"{option} is {path!r}, which is no path to serve at. Give {example!r}, or None.")
    return path


def serve_pages(app: Flask, pages: Mapping[str, Answer]) -> None:
    """Answer GET and HEAD of some paths, unless a route of the app is theirs.

    They stand before the app: what it does with every request, such as asking for a login, is not for who looks after
    it. Routes that are added later count too. One that takes every path, such as `/<path:page>`, takes none of these.
    """
    answer_others: WSGIApplication = app.wsgi_app

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        page = pages.get(environ["PATH_INFO"])
        if page is None or environ["REQUEST_METHOD"] not in ("GET", "HEAD") or _is_users(app, environ):
            return answer_others(environ, start_response)
        status, content_type, body = page(environ)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(status, headers)
        return [body] if environ["REQUEST_METHOD"] == "GET" else []

    app.wsgi_app = answer  # type: ignore[method-assign]


def _is_users(app: Flask, environ: WSGIEnvironment) -> bool:
    """Whether a route of the app is meant for this path."""
    try:
        rules = _rules_for(app.url_map.bind_to_environ(environ))
    except NotFound:
        return False
    except HTTPException:  # the app has an answer of its own, such as the redirect of a rule
        return True
    return not all(rule.rule.startswith("/<") for rule in rules)


def _rules_for(routes: MapAdapter) -> list[Rule]:
    """The rules that have this path, be it for other methods, or with a slash at its end."""
    try:
        return [routes.match(return_rule=True)[0]]
    except MethodNotAllowed as error:
        return [routes.match(method=method, return_rule=True)[0] for method in error.valid_methods or ()]
    except RequestRedirect as redirect:
        try:
            return [routes.match(f"{routes.path_info}/", return_rule=True)[0]]
        except NotFound:
            raise redirect from None
