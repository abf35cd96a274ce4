"""A real Traefik, the gateway of an OpenFactory, with the routes that its deployment writes as labels."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from servers.certificates import Certificates
from servers.gateway import Gateway, Route
from servers.pinned import traefik
from servers.ports import HOST, free_port

__all__ = ["TraefikServer"]


class TraefikServer(Gateway):
    """One gateway; after `kill` or `stop` and `start` it has the same ports."""

    name = "traefik"

    def __init__(self, routes: Sequence[Route], data_folder: Path | None = None) -> None:
        super().__init__(routes, data_folder)
        self._api_port = free_port()

    def _configure(self, certificates: Certificates) -> None:
        # It reads JSON as the YAML that it is.
        (self.folder / "traefik.yaml").write_text(json.dumps(self._settings()), encoding="utf-8")
        routes: dict[str, Any] = {"http": self._http(), "tls": {"certificates": [_pair(certificates)]}}
        (self.folder / "routes.yaml").write_text(json.dumps(routes, indent=2), encoding="utf-8")

    def _command(self) -> list[str]:
        return [str(traefik()), f"--configfile={self.folder / 'traefik.yaml'}"]

    def _is_ready(self) -> bool:
        """It listens before it knows its routes."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._api_port}/api/http/routers", timeout=5) as answer:
                known = {router["name"]: router["status"] for router in json.load(answer)}
        except OSError:
            return False
        return all(known.get(f"{name}@file") == "enabled" for name in self._http().get("routers", ()))

    def _settings(self) -> dict[str, Any]:
        return {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {
                "web": {"address": f"{HOST}:{self.port}"},
                "websecure": {"address": f"{HOST}:{self.tls_port}"},
                "traefik": {"address": f"{HOST}:{self._api_port}"},
            },
            "api": {"insecure": True, "dashboard": False},
            "providers": {"file": {"filename": str(self.folder / "routes.yaml"), "watch": False}},
        }

    def _http(self) -> dict[str, Any]:
        """The routes, and the same for HTTPS, which deployments do not offer; Traefik refuses what is empty."""
        said = self._routes()
        for name, router in list(said["routers"].items()):
            said["routers"][f"{name}-tls"] = {**router, "entryPoints": ["websecure"], "tls": {}}
        return {kind: named for kind, named in said.items() if named}

    def _routes(self) -> dict[str, dict[str, Any]]:
        """What the labels say that the existing OpenFactory gives the containers of apps."""
        said: dict[str, dict[str, Any]] = {"routers": {}, "services": {}, "middlewares": {}}
        for number, route in enumerate(self.routes, 1):
            name = f"ofa-{number}"
            said["services"][name] = {"loadBalancer": {"servers": [{"url": f"http://{HOST}:{route.port}"}]}}
            if route.hosts:
                rule = " || ".join(f"Host(`{host}`)" for host in route.hosts)
                said["routers"][name] = {"rule": rule, "service": name, "entryPoints": ["web"]}
            if route.prefix:
                said["routers"][f"{name}-external"] = {
                    "rule": f"Host(`localhost`) && PathPrefix(`{route.prefix}`)",
                    "service": name,
                    "middlewares": [f"{name}-slash", f"{name}-strip"],
                    "entryPoints": ["web"],
                }
                said["middlewares"][f"{name}-strip"] = {"stripPrefix": {"prefixes": [route.prefix]}}
                said["middlewares"][f"{name}-slash"] = {
                    "redirectRegex": {"regex": rf"^({route.prefix})(\?.*)?$", "replacement": "${1}/${2}"}
                }
        return said


def _pair(certificates: Certificates) -> dict[str, str]:
    return {"certFile": str(certificates.certificate_file), "keyFile": str(certificates.key_file)}
