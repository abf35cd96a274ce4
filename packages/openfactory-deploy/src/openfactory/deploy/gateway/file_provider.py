"""Files by which Traefik finds the pages of apps that are plain processes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from openfactory.deploy.gateway.routes import Route, http_configuration, load_balancer
from openfactory.deploy.own_files import remove_unfinished, write_own_file

__all__ = ["RouteFiles"]


class RouteFiles:
    """The folder that Traefik watches, with a file for each app.

    Traefik reads a file as soon as it appears or changes, so each is replaced in one step. Traefik ignores the names of
    files that are not complete.

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
            if not path.exists() or path.read_bytes() != content:
                write_own_file(path, content, private=False)
        for path in self.folder.glob("*.yaml"):
            if path not in wanted:
                path.unlink(missing_ok=True)
        remove_unfinished(self.folder)

    def servers(self, route: Route) -> list[str]:
        """Return the URLs to which a route leads now.

        The list is empty for a route that is not written, and for a file that is damaged: `apply` writes it anew.
        """
        try:
            content = json.loads(self._path(route).read_bytes())
            balancer = content["http"]["services"][route.name]["loadBalancer"]
            return [str(server["url"]) for server in balancer["servers"]]
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return []

    def has(self, route: Route) -> bool:
        """Return whether a route is written as it is now, and leads to a process."""
        servers = self.servers(route)
        return bool(servers) and self._path(route).read_bytes() == _content(route, servers)

    def put(self, route: Route, servers: Sequence[str]) -> None:
        """Write the file of one route."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_own_file(self._path(route), _content(route, servers), private=False)

    def _path(self, route: Route) -> Path:
        return self.folder / f"{route.name}.yaml"


def _content(route: Route, servers: Sequence[str]) -> bytes:
    # Traefik reads JSON as the YAML that it is.
    configuration = http_configuration(route, load_balancer(servers), retries=len(servers) > 1)
    return (json.dumps({"http": configuration}, indent=2) + "\n").encode()
