"""A framework for web pages as the promises of `web_promises` use it: the app, its routes and its requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from running_apps import Answer

__all__ = ["Framework"]


class Framework(ABC):
    """The framework of an app.

    Attributes:
        app_class: class of apps with web pages.
        panel_class: class of an app with the routes and methods that the promises use.
        gate: program of an app with a route that waits, see `web_lifecycle_promises`.
        early: program of an app that stops itself before it serves.
        furnace: program of an app with a stream.
    """

    app_class: type[Any]
    panel_class: type[Any]
    gate: str
    early: str
    furnace: str

    @abstractmethod
    def ask(
        self, app: Any, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Request a page of an app without a server; an error of a route is the status 500."""

    @abstractmethod
    def add_route(self, app: Any, path: str, text: str = "the user's", methods: Collection[str] = ("GET",)) -> None:
        """Add a route; `{word}` is a variable, and `{page:path}` a variable that has slashes."""

    @abstractmethod
    def add_router(self, app: Any, prefix: str, path: str, text: str = "the user's") -> None:
        """Add a route below the prefix of a router."""

    @abstractmethod
    def ask_for_login(self, app: Any) -> None:
        """Answer each request with the status 401."""
