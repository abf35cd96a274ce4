"""A Traefik as the gateway of the apps of one machine: its settings, its command, and the routes that it has taken."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from openfactory.deploy.gateway.file_provider import RouteFiles
from openfactory.deploy.gateway.routes import ENTRY_POINT, Route
from openfactory.deploy.own_files import remove_unfinished, write_own_file
from openfactory.deploy.targets.base import TargetError
from openfactory.deploy.targets.process.ports import free_port, is_free
from openfactory.settings import environment, setting

__all__ = ["Traefik", "traefik_program"]

# From this version on, Traefik can drop headers such as X_Forwarded_Prefix, which some web servers take for
# X-Forwarded-Prefix: a client could name any prefix.
_DROPS_ALIASES = (3, 7, 12)

# Seconds until a changed file counts as taken, on a busy machine.
_TAKEN_SECONDS = 20.0


def traefik_program() -> str | None:
    """Return the path of the Traefik of this machine, or None if it is not installed."""
    return shutil.which("traefik")


class Ports(msgspec.Struct, frozen=True):
    """Addresses on which a Traefik listens."""

    host: str
    web: int
    api: int


class Traefik:
    """The Traefik of one project, whose routes are files.

    It keeps its port from start to start. The supervisor of the project runs `command`.

    Args:
        folder: folder of its settings and routes, which is made.
        program: path of the program.

    Attributes:
        routes: the files of its routes, which it takes by itself when they change.
    """

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self._program = program
        self.routes = RouteFiles(folder / "routes")
        self._settings_file = folder / "traefik.yaml"

    @property
    def port(self) -> int:
        """The port for browsers."""
        return self._ports().web

    @property
    def has_settings(self) -> bool:
        """Whether its settings were written before, and can be read."""
        return self._written_ports() is not None

    @property
    def has_port(self) -> bool:
        """Whether its port is known: it has settings, and OPENFACTORY_GATEWAY does not name another address now."""
        return self._kept_ports() is not None

    @property
    def command(self) -> list[str]:
        """The command that runs it."""
        return [self._program, f"--configfile={self._settings_file}"]

    def prepare(self, *, runs: bool = False) -> bool:
        """Write its settings, before it is started, and return whether they differ from those before.

        Args:
            runs: whether it runs, and so has its ports itself.

        Raises:
            TargetError: its port is in use, or the program does not run.
        """
        ports = self._kept_ports()
        if ports is None or not (runs or (is_free(ports.host, ports.web) and is_free("127.0.0.1", ports.api))):
            ports = _chosen_ports()
        self.routes.folder.mkdir(parents=True, exist_ok=True)
        settings = json.dumps(_static_settings(ports, self.routes.folder, _version(self._program)), indent=2) + "\n"
        if self._settings_file.exists() and self._settings_file.read_bytes() == settings.encode():
            return False
        write_own_file(self._settings_file, settings.encode(), private=False)
        remove_unfinished(self.folder)
        return True

    def wait_until_taken(self, routes: Mapping[Route, Sequence[str]], *, beside_others: bool = False) -> None:
        """Wait until Traefik sends requests where the routes say.

        Args:
            routes: the routes, each with the URLs of its processes.
            beside_others: whether it may have other routes too.

        Raises:
            TargetError: it has not taken the routes in time.
        """
        wanted = {route.name: set(servers) for route, servers in routes.items() if servers}
        api = self._ports().api
        deadline = time.monotonic() + _TAKEN_SECONDS
        while (taken := _taken(api)) != wanted:
            if beside_others and taken is not None and wanted.items() <= taken.items():
                return
            if time.monotonic() > deadline:
                raise TargetError(
                    f"The gateway has not taken its routes within {_TAKEN_SECONDS:g} s. See its log in "
                    f"{self.folder.parent / 'logs'}."
                )
            time.sleep(0.02)

    def _ports(self) -> Ports:
        if (ports := self._kept_ports()) is None:
            raise TargetError("The gateway has no settings yet. Start it first: ofa apps up.")
        return ports

    def _kept_ports(self) -> Ports | None:
        """Return the ports of the last start, unless OPENFACTORY_GATEWAY names another one now."""
        ports, wanted = self._written_ports(), environment("OPENFACTORY_GATEWAY")
        if ports is None or (wanted is not None and _host_and_port(wanted) != (ports.host, ports.web)):
            return None
        return ports

    def _written_ports(self) -> Ports | None:
        """Return the ports in its settings, or None if these are absent or damaged."""
        try:
            points = json.loads(self._settings_file.read_bytes())["entryPoints"]
            host, _, web = points[ENTRY_POINT]["address"].rpartition(":")
            return Ports(host, int(web), int(points["traefik"]["address"].rpartition(":")[2]))
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            return None


def _taken(api: int) -> dict[str, set[str]] | None:
    """Return the servers of each service that the Traefik with an API port has, or None if it does not answer."""
    try:
        url = f"http://127.0.0.1:{api}/api/http/services?per_page=10000"
        with urllib.request.urlopen(url, timeout=5) as answer:
            services = json.load(answer)
    except OSError:
        return None
    return {
        service["name"].removesuffix("@file"): {server["url"] for server in service["loadBalancer"]["servers"]}
        for service in services
        if service["name"].endswith("@file") and "loadBalancer" in service
    }


def _static_settings(ports: Ports, routes: Path, version: tuple[int, ...]) -> dict[str, Any]:
    web: dict[str, Any] = {
        "address": f"{ports.host}:{ports.web}",
        "transport": {"lifeCycle": {"graceTimeOut": "1s"}},  # a stream of events does not end by itself
    }
    if version >= _DROPS_ALIASES:  # an older one does not start with a setting that it does not know
        web["http"] = {"aliasHeadersStrategy": "delete"}
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {ENTRY_POINT: web, "traefik": {"address": f"127.0.0.1:{ports.api}"}},
        # Without connections that wait for the next request: when an app closes one, a request may be on its way.
        "serversTransport": {"maxIdleConnsPerHost": -1},
        # It shows the routes to this machine alone.
        "api": {"insecure": True, "dashboard": False},
        "providers": {
            "providersThrottleDuration": "100ms",
            "file": {"directory": str(routes), "watch": True},
        },
    }


def _version(program: str) -> tuple[int, ...]:
    """Return the version of a Traefik."""
    try:
        done = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise TargetError(
            f"{program} does not run ({error}). Install Traefik again, or take it off the PATH."
        ) from error
    found = re.search(r"^Version:\s*v?(\d+)\.(\d+)\.(\d+)", done.stdout, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else ()


def _chosen_ports() -> Ports:
    host, web = _host_and_port(setting("OPENFACTORY_GATEWAY") or "")
    if not is_free(host, web):
        if environment("OPENFACTORY_GATEWAY") is not None:
            raise TargetError(
                f"Port {web} for the gateway is in use. Stop the program that has it, or set OPENFACTORY_GATEWAY to "
                "another address."
            )
        web = _free_port(host)  # of another project, probably
    return Ports(host, web, _free_port("127.0.0.1"))


def _free_port(host: str) -> int:
    try:
        return free_port(host)
    except OSError as error:
        raise TargetError(f"The gateway cannot be started: {error}") from error


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise TargetError(f"OPENFACTORY_GATEWAY={address!r} is not an address. Set host:port, such as 0.0.0.0:80.")
    return host, int(port)
