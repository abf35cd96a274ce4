"""Labels by which Traefik finds the pages of an app in a container, a service or a stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.gateway.routes import Addresses, http_configuration

__all__ = ["gateway_labels"]


def gateway_labels(release: Release, addresses: Addresses) -> dict[str, str]:
    """Return the labels of a release for Traefik's docker and swarm providers, if its page is exposed.

    The replicas of an app have the same labels, so that Traefik shares the requests among them.
    """
    settings = release.app.settings
    route = addresses.route(settings)
    if route is None or settings.routing is None:
        return {}
    # Traefik collects the containers with the same labels, so there may be several at any time.
    configuration = http_configuration(route, {"server": {"port": settings.routing.port}}, retries=True)
    return {"traefik.enable": "true", **dict(_flattened("traefik.http", configuration))}


def _flattened(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield each value of a configuration with its path, as the labels of Traefik have it."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            # The names of routers and middlewares are in lower case anyway.
            yield from _flattened(f"{path}.{str(key).lower()}", below)
    else:
        yield path, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
