"""Health of an app, and its pages, which gateways and orchestrators poll.

An orchestrator restarts an app that is not alive. A gateway sends no requests to an app that is not ready.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from openfactory.apps.operations.pages import Page, View
from openfactory.engines import EngineHealth

__all__ = ["AppHealth", "ServerState", "health_pages"]


class ServerState(Protocol):
    """The state of a server of an app."""

    @property
    def serving(self) -> bool:
        """Whether the server accepts requests."""
        ...

    @property
    def connections(self) -> int:
        """Number of open connections."""
        ...


@dataclass(frozen=True)
class AppHealth:
    """State of an app: its availability, its web server, its commands and its engine.

    Attributes:
        asset_uuid: UUID of the app.
        availability: value of the app's attribute `avail`.
        serving: whether the web server accepts requests.
        connections: number of open connections to the web server.
        streams: number of open streams of server-sent events.
        commands: number of answered commands, by the status of the reply.
        waiting_commands: number of commands without a reply.
        engine: state of the engine.
        needs_engine: whether the app is not ready while its engine does not work.
        problems: further reasons why the app is not ready, which it knows itself.
    """

    asset_uuid: str
    availability: str
    serving: bool
    connections: int
    streams: int
    commands: Mapping[str, int]
    waiting_commands: int
    engine: EngineHealth
    needs_engine: bool = True
    problems: Sequence[str] = ()

    @property
    def reasons(self) -> list[str]:
        """Reasons why the app is not ready; empty if it is ready."""
        reasons: list[str] = []
        if not self.serving:
            reasons.append("The web server does not accept requests.")
        if self.needs_engine and not self.engine.connected:
            reasons.append(self.engine.reason)
        if self.availability != "AVAILABLE":
            reasons.append(f"{self.asset_uuid} is {self.availability}.")
        return [*reasons, *self.problems]


def health_pages(path: str, health: Callable[[], AppHealth]) -> dict[str, View]:
    """Return the pages `/live` and `/ready` of an app.

    An app that answers is alive. An app that is not ready has the status 503, and the reasons.

    Args:
        path: path of the pages.
        health: function that returns the health of the app.
    """

    def live(accept: str) -> Page:  # noqa: ARG001 - a View has this signature
        return Page.of_json(HTTPStatus.OK, {"status": "alive"})

    def ready(accept: str) -> Page:  # noqa: ARG001 - a View has this signature
        reasons = health().reasons
        if not reasons:
            return Page.of_json(HTTPStatus.OK, {"status": "ready"})
        return Page.of_json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "not ready", "reasons": reasons})

    return {f"{path}/live": live, f"{path}/ready": ready}
