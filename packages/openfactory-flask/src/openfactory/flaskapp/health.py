"""Health pages of an app, which gateways and orchestrators poll.

An orchestrator restarts an app that is not alive. A gateway sends no requests to an app that is not ready.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from openfactory.flaskapp.endpoints import Page

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from openfactory.flaskapp.app import OpenFactoryFlaskApp

__all__ = ["Health"]


class Health:
    """The pages for the liveness and the readiness of an app."""

    def __init__(self, ofa_app: OpenFactoryFlaskApp) -> None:
        self._app = ofa_app

    def live(self, environ: WSGIEnvironment) -> Page:  # noqa: ARG002 - a View has this signature
        """Return the status 200: an app that answers is alive."""
        return Page.of_json("200 OK", {"status": "alive"})

    def ready(self, environ: WSGIEnvironment) -> Page:  # noqa: ARG002 - a View has this signature
        """Return the status 200 if the app is ready, else 503 and the reasons."""
        reasons = list(self._reasons())
        if not reasons:
            return Page.of_json("200 OK", {"status": "ready"})
        return Page.of_json("503 Service Unavailable", {"status": "not ready", "reasons": reasons})

    def _reasons(self) -> Iterator[str]:
        app = self._app
        if app._server is None or not app._server.serving:
            yield "The web server does not accept requests."
        health = app._engine.health()
        if not health.connected:
            yield health.reason
        availability = app.avail.value
        if availability != "AVAILABLE":
            yield f"{app.asset_uuid} is {availability}."
