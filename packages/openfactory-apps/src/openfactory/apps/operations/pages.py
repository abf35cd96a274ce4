"""Pages for operations, such as health and metrics, which an app serves in front of its own routes."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from openfactory.exceptions import ConfigurationError

__all__ = ["Page", "View", "checked_path"]


class Page(NamedTuple):
    """The response to a GET or HEAD request for a page."""

    status: HTTPStatus
    content_type: str
    body: bytes

    @classmethod
    def of_json(cls, status: HTTPStatus, content: object) -> Page:
        """Return a page with a JSON body."""
        return cls(status, "application/json", json.dumps(content).encode() + b"\n")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Headers of the response."""
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
        ]


#: A function that returns the page for the value of the request's header `Accept`.
View = Callable[[str], Page]


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
