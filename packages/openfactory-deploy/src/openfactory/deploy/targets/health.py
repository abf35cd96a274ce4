"""The health check of an app: the page that a target asks, how often, and for how long it waits."""

from __future__ import annotations

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.files.durations import seconds_of

__all__ = ["ALIVE", "HealthCheck", "health_check"]

#: Page that answers as long as the app answers at all.
ALIVE = "/health/live"


class HealthCheck(msgspec.Struct, frozen=True):
    """A page of an app, and when it counts as unhealthy; times are in seconds."""

    path: str
    port: int
    interval: float
    timeout: float
    retries: int
    start_period: float

    @property
    def command(self) -> list[str]:
        """Command that asks the page in the container of the app, which has a Python."""
        url = f"http://127.0.0.1:{self.port}{self.path}"
        return ["python", "-c", f"import urllib.request as r; r.urlopen({url!r}, timeout={self.timeout:g})"]


def health_check(release: Release) -> HealthCheck | None:
    """Return the health check of a release, or None if its file has no `health`, or the app has no port to ask."""
    settings = release.app.settings
    if (health := settings.health) is None:
        return None
    operations = release.environment.get("OPERATIONS_PORT", "")
    port = health.port or (settings.routing.port if settings.routing else None)
    port = port or (int(operations) if operations.isdigit() else None)
    if port is None:
        return None
    return HealthCheck(
        health.path,
        port,
        seconds_of(health.interval),
        seconds_of(health.timeout),
        health.retries,
        seconds_of(health.start_period),
    )
