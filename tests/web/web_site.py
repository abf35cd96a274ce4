"""A framework for web pages as the promises of `web_promises` use it: the app, its routes and its requests."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import current_timestamp
from running_apps import Answer

__all__ = ["Framework", "PanelCommands"]


class PanelCommands(OpenFactoryApp):
    """What the app of the promises has beside its routes: attributes, and commands of all outcomes."""

    status = EventAttribute(value="idle", tag="App.Status")
    note = EventAttribute(value="", tag="Note")
    go_on: threading.Event

    def write(self, kind: str) -> str:
        """Write a good or a bad value, and flush unless the kind is `silent`."""
        if kind == "good":
            self.note = kind
        else:
            self._publish(AssetEvent(self.asset_uuid, "note", "\ud800", "Events", "Note", current_timestamp()))
        if kind != "silent":
            self.flush()
        return kind

    @ofa_method()
    def move(self, x: float) -> float:
        if x < 0:
            raise ValueError("too far")
        return x

    @ofa_method()
    def block(self) -> None:
        self.go_on.wait(60)

    def app_event_loop_stopped(self) -> None:
        self.go_on.set()


class Framework(ABC):
    """The framework of an app.

    Attributes:
        app_class: class of apps with web pages.
        panel_class: class of an app with the routes and methods that the promises use.
        patient_class: class of an app with a route `/hold`, which sets `arrived` and waits for `opened`.
        gate: program of an app with a route that waits, see `web_lifecycle_promises`.
        furnace: program of an app with a stream.
    """

    app_class: type[Any]
    panel_class: type[Any]
    patient_class: type[Any]
    gate: str
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
