"""Files by which Traefik finds the pages of apps that are plain processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from openfactory.deploy.gateway.routes import Route, http_configuration, load_balancer

__all__ = ["RouteFiles"]


class RouteFiles:
    """The folder that Traefik watches, with a file for each app.

    Traefik reads a file as soon as it appears or changes, so each is written under a name that Traefik ignores, and
    renamed.

    Args:
        folder: the folder, which is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def apply(self, routes: Mapping[Route, Sequence[str]]) -> None:
        """Write the files of the given routes, and remove those of all others.

        Args:
            routes: the routes, each with the URLs of the processes that answer. An app that is replaced has two.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = {self._path(route): _content(route, servers) for route, servers in routes.items() if servers}
        for path, content in wanted.items():
            if not path.exists() or path.read_text(encoding="utf-8") != content:
                _replace(path, content)
        for path in self.folder.glob("*.yaml"):
            if path not in wanted:
                path.unlink(missing_ok=True)

    def servers(self, route: Route) -> list[str]:
        """Return the URLs to which a route leads now, or an empty list for a route that is not written."""
        try:
            content = json.loads(self._path(route).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        balancer = content["http"]["services"][route.name]["loadBalancer"]
        return [str(server["url"]) for server in balancer["servers"]]

    def put(self, route: Route, servers: Sequence[str]) -> None:
        """Write the file of one route."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self._path(route), _content(route, servers))

    def _path(self, route: Route) -> Path:
        return self.folder / f"{route.name}.yaml"


def _content(route: Route, servers: Sequence[str]) -> str:
    # Traefik reads JSON as the YAML that it is.
    configuration = http_configuration(route, load_balancer(servers), retries=len(servers) > 1)
    return json.dumps({"http": configuration}, indent=2) + "\n"


def _replace(path: Path, content: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, path)
