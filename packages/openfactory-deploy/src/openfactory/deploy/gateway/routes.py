"""Routes: the host names and the path prefix under which a gateway has the web pages of an app.

A route becomes a configuration of Traefik here, in the form of its file provider. `labels` gives containers the same
configuration as labels, and `file_provider` writes it for plain processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.files.schema import AppFile
from openfactory.deploy.names import normalised_name, path_prefix
from openfactory.deploy.settings import VARIABLES
from openfactory.settings import declare, setting

__all__ = ["ENTRY_POINT", "Addresses", "Route", "http_configuration", "load_balancer"]

declare(VARIABLES)

#: Entry point of Traefik for HTTP, in the files and labels of an OpenFactory.
ENTRY_POINT = "web"

# While an app is replaced, a request that finds the port of one process closed is sent to the other, for about 10
# seconds: so long may a new version take from the moment at which the old one stops to its own first answer.
_ATTEMPTS = 100
_PAUSE = "50ms"


class Route(msgspec.Struct, frozen=True):
    """The ways of browsers to one app.

    Attributes:
        name: name of its router and its service in Traefik.
        hosts: host names which are the app's alone.
        prefix: path of the app on `localhost`, such as `/my-app`, or an empty text. The app sees paths without it.
        replicas: number of replicas that answer.
    """

    name: str
    hosts: tuple[str, ...]
    prefix: str
    replicas: int = 1

    def url(self, port: int = 80) -> str:
        """Return the address of the app's root page, which a browser on this machine can open if there is a prefix.

        Args:
            port: port of the gateway.
        """
        host, path = ("localhost", f"{self.prefix}/") if self.prefix else (self.hosts[0], "/")
        return f"http://{host}{path}" if port == 80 else f"http://{host}:{port}{path}"


class Addresses(msgspec.Struct, frozen=True):
    """The rules by which apps get their host names and prefixes.

    Attributes:
        domain: domain of the host names, or an empty text; then apps have a prefix only.
        has_prefixes: whether apps have a prefix beside their host names, for development.
    """

    domain: str = ""
    has_prefixes: bool = False

    @classmethod
    def from_settings(cls) -> Addresses:
        """Return the rules that OPENFACTORY_BASE_DOMAIN and OPENFACTORY_ENV give."""
        domain = (setting("OPENFACTORY_BASE_DOMAIN") or "").strip(".").lower()
        return cls(domain, setting("OPENFACTORY_ENV") == "dev")

    def route(self, app: AppFile) -> Route | None:
        """Return the route of an app, or None if its pages are not exposed.

        All replicas of an app have one route, because they share the names.
        """
        if app.routing is None or not app.routing.expose or app.routing.port is None:
            return None
        labels = [normalised_name(name) for name in (app.uuid, app.routing.hostname) if name]
        hosts = tuple(dict.fromkeys(f"{label}.{self.domain}" for label in labels)) if self.domain else ()
        prefix = path_prefix(app.uuid) if self.has_prefixes or not self.domain else ""
        return Route(f"ofa-{labels[0]}", hosts, prefix, app.deploy.replicas)

    def urls(self, releases: Iterable[Release]) -> dict[str, str]:
        """Return the URL of each asset whose pages are exposed, by a gateway on port 80."""
        routes = {release.uuid: self.route(release.app.settings) for release in releases}
        return {uuid: route.url() for uuid, route in routes.items() if route is not None}


def load_balancer(servers: Sequence[str]) -> dict[str, Any]:
    """Return a load balancer that sends requests to the given URLs."""
    return {"servers": [{"url": url} for url in servers]}


def http_configuration(route: Route, balancer: Mapping[str, Any], *, retries: bool) -> dict[str, Any]:
    """Return the routers, services and middlewares of a route, in the form of Traefik's file provider.

    Args:
        route: the route.
        balancer: load balancer of its service.
        retries: whether a request that one process does not accept is sent to another.
    """
    name = route.name
    balancer = {**balancer, **_stickiness(route)}
    middlewares: dict[str, Any] = {}
    before_all = []
    if retries:
        middlewares[f"{name}-retry"] = {"retry": {"attempts": _ATTEMPTS, "initialInterval": _PAUSE}}
        before_all.append(f"{name}-retry")
    routers: dict[str, Any] = {}
    if route.hosts:
        rule = " || ".join(f"Host(`{host}`)" for host in route.hosts)
        routers[name] = _router(name, rule, before_all)
    if route.prefix:
        # Not `PathPrefix` alone: it would take `/my-app-2` for a path of `/my-app`.
        rule = f"Host(`localhost`) && (Path(`{route.prefix}`) || PathPrefix(`{route.prefix}/`))"
        routers[f"{name}-external"] = _router(name, rule, [f"{name}-slash", f"{name}-strip", *before_all])
        # The expression is compared with the whole URL. The links of a page are right only below the slash.
        middlewares[f"{name}-slash"] = {
            "redirectRegex": {
                "regex": rf"^(https?://[^/]+{route.prefix})(\?.*)?$",
                "replacement": "${1}/${2}",
            }
        }
        middlewares[f"{name}-strip"] = {"stripPrefix": {"prefixes": [route.prefix]}}
    parts = {"routers": routers, "services": {name: {"loadBalancer": balancer}}, "middlewares": middlewares}
    return {kind: named for kind, named in parts.items() if named}  # Traefik refuses an empty mapping


def _router(service: str, rule: str, middlewares: Sequence[str]) -> dict[str, Any]:
    router: dict[str, Any] = {"rule": rule, "service": service, "entryPoints": [ENTRY_POINT]}
    return {**router, "middlewares": list(middlewares)} if middlewares else router


def _stickiness(route: Route) -> dict[str, Any]:
    """Return the setting by which a browser stays with one replica, whose pages show its own state."""
    if route.replicas == 1:
        return {}
    return {"sticky": {"cookie": {"name": route.name, "httpOnly": True, "sameSite": "lax"}}}
