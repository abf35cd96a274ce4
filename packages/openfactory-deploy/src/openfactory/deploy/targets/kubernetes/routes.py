"""Objects of Kubernetes by which its gateway has the pages of an app."""

from __future__ import annotations

from typing import Any

from openfactory.deploy.gateway.routes import Route, http_configuration

__all__ = ["route_objects"]

_TRAEFIK = "traefik.io/v1alpha1"


def route_objects(route: Route, service: str) -> list[dict[str, Any]]:
    """Return the objects of a route: an Ingress for its host names, and Traefik's own objects for its prefix.

    An Ingress works with any gateway. It has no way to remove a prefix, so that part needs Traefik.

    Args:
        route: the route.
        service: name of the Service, whose port is `web`.
    """
    objects: list[dict[str, Any]] = []
    if route.hosts:
        backend = {"service": {"name": service, "port": {"name": "web"}}}
        path = {"path": "/", "pathType": "Prefix", "backend": backend}
        objects.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {"name": service},
                "spec": {"rules": [{"host": host, "http": {"paths": [path]}} for host in route.hosts]},
            }
        )
    configuration = http_configuration(route, {}, retries=False)  # a Service knows which pods are ready
    for name, router in configuration["routers"].items():
        if name == route.name:
            continue  # the Ingress
        target: dict[str, Any] = {"name": service, "port": "web"}
        target |= configuration["services"][route.name]["loadBalancer"]
        rule = {
            "kind": "Rule",
            "match": router["rule"],
            "services": [target],
            "middlewares": [{"name": middleware} for middleware in router["middlewares"]],
        }
        objects.append(
            {
                "apiVersion": _TRAEFIK,
                "kind": "IngressRoute",
                "metadata": {"name": name},
                "spec": {"entryPoints": router["entryPoints"], "routes": [rule]},
            }
        )
    for name, middleware in configuration.get("middlewares", {}).items():
        objects.append({"apiVersion": _TRAEFIK, "kind": "Middleware", "metadata": {"name": name}, "spec": middleware})
    return objects
