"""Whether an app is alive, and whether it is ready for requests: what gateways and orchestrators ask again and again.

The answers follow the usual split: an app that is not alive is started again, one that is not ready gets no requests.
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
    """The pages that tell how an app is."""

    def __init__(self, ofa_app: OpenFactoryFlaskApp) -> None:
        self._app = ofa_app

    def live(self, environ: WSGIEnvironment) -> Page:  # noqa: ARG002 - as pages are asked for
        """It answers, so it is alive."""
        return Page.of_json("200 OK", {"status": "alive"})

    def ready(self, environ: WSGIEnvironment) -> Page:  # noqa: ARG002 - as pages are asked for
        """Ready, or not and why."""
        reasons = list(self._reasons())
        if not reasons:
            return Page.of_json("200 OK", {"status": "ready"})
        return Page.of_json("503 Service Unavailable", {"status": "not ready", "reasons": reasons})

    def _reasons(self) -> Iterator[str]:
        app = self._app
        if app._server is None or not app._server.serving:
            yield "The web server does not take requests."
        health = app._engine.health()
        if not health.connected:
            yield health.reason
        availability = app.avail.value
        if availability != "AVAILABLE":
            yield f"{app.asset_uuid} is {availability}."
