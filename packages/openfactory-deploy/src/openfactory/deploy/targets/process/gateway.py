"""The gateway of the apps of a project: a Traefik that the supervisor runs beside them, where it is installed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from openfactory.deploy.app import Release
from openfactory.deploy.gateway.routes import Addresses, Route
from openfactory.deploy.targets.base import Instance
from openfactory.deploy.targets.process.base_environment import base_environment
from openfactory.deploy.targets.process.layout import Layout
from openfactory.deploy.targets.process.messages import Request
from openfactory.deploy.targets.process.records import Program, Record
from openfactory.deploy.targets.process.traefik import Traefik, traefik_program

__all__ = ["ProcessGateway"]

_logger = logging.getLogger("openfactory.deploy")

# Part of its name among the programs of the supervisor; no UUID of an app has it.
_SUFFIX = "/gateway"


class ProcessGateway:
    """The routes of a project, and the Traefik that has them.

    Args:
        layout: files of the supervisor.
        project: name of the project.
        ask: sends a request to the supervisor, and returns all records.
    """

    def __init__(self, layout: Layout, project: str, ask: Callable[[Request], list[Record]]) -> None:
        self._project = project
        self._name = f"{project}{_SUFFIX}"
        self._folder = layout.folder / "gateway" / project
        self._ask = ask
        self._addresses = Addresses.from_settings()
        self._lock = threading.Lock()
        self._is_told = False

    def apply(self, releases: Sequence[Release], instances: Sequence[Instance]) -> dict[str, str]:
        """Route the gateway to the given releases, and return the URL of each asset.

        A route leads to the instances of its release, and to those of a later one, which is about to replace it.

        Args:
            releases: the releases; the routes of others are removed.
            instances: all instances of the project.

        Raises:
            TargetError: the gateway does not take the routes.
        """
        routes: dict[Route, list[str]] = {}
        uuids: dict[str, Route] = {}
        for release in releases:
            if (route := self._addresses.route(release.app.settings)) is None:
                continue
            uuids[release.uuid] = route
            routes.setdefault(route, []).extend(
                instance.address
                for instance in instances
                if instance.uuid == release.uuid and instance.generation >= release.generation and instance.address
            )
        with self._lock:
            if not uuids:
                self._stop()
                return {}
            if (traefik := self._traefik()) is None:
                return {}
            traefik.routes.apply(routes)
            self._run(traefik)
            traefik.wait_until_taken(routes)
            return {uuid: route.url(traefik.port) for uuid, route in uuids.items()}

    def urls(self, releases: Sequence[Release], records: Sequence[Record]) -> dict[str, str]:
        """Return the URL of each asset to which the gateway leads now.

        Args:
            releases: releases of the assets.
            records: all records of the supervisor.
        """
        runs = any(record.program.project == self._name and record.has_process() for record in records)
        traefik = Traefik(self._folder, "")  # it runs already
        if not runs or not traefik.has_port:
            return {}
        routes = {release.uuid: self._addresses.route(release.app.settings) for release in releases}
        return {
            uuid: route.url(traefik.port)
            for uuid, route in routes.items()
            if route is not None and traefik.routes.has(route)
        }

    def announce(self, release: Release, address: str) -> bool:
        """Add the address of an app that is about to replace another to its route, and return whether there is one.

        The gateway knows the address before the app starts: the old one stops as soon as the new one has its UUID.

        Raises:
            TargetError: the gateway does not take the route.
        """
        if (route := self._addresses.route(release.app.settings)) is None:
            return False
        with self._lock:
            traefik = self._traefik()
            if traefik is None or not traefik.has_port or not (servers := traefik.routes.servers(route)):
                return False
            servers = list(dict.fromkeys([*servers, address]))
            traefik.routes.put(route, servers)
            traefik.wait_until_taken({route: servers}, beside_others=True)
        return True

    def stop_without_apps(self, records: Sequence[Record]) -> None:
        """Stop the gateway if it runs, and the project has no other program.

        Args:
            records: all records of the supervisor.
        """
        projects = {record.program.project for record in records}
        if self._name in projects and self._project not in projects:
            with self._lock:
                self._stop()

    def _traefik(self) -> Traefik | None:
        program = traefik_program()
        if program is not None:
            return Traefik(self._folder, program)
        if not self._is_told:
            self._is_told = True
            _logger.warning(
                "Traefik is not installed, so each app with web pages has its own address. Install it to give them "
                "path prefixes and host names: https://doc.traefik.io/traefik/getting-started/install-traefik/"
            )
        return None

    def _run(self, traefik: Traefik) -> None:
        """Have the supervisor run Traefik, with its present settings."""
        runs = any(record.has_process() for record in self._records())
        if runs and not traefik.has_settings:  # they are damaged, and it has the port that the new ones shall name
            self._stop()
            runs = False
        if traefik.prepare(runs=runs) or not runs:
            self._stop()
            program = Program(
                project=self._name,
                app=self._name,
                uuid=self._name,
                hash="",
                generation=1,
                title=traefik.command[0],
                arguments=traefik.command,
                folder=str(self._folder),
                environment=base_environment(),
            )
            self._ask(Request("start", program))

    def _stop(self) -> None:
        for record in self._records():
            self._ask(Request("stop", project=self._name, uuid=self._name, generation=record.program.generation))

    def _records(self) -> list[Record]:
        return [record for record in self._ask(Request("list")) if record.program.project == self._name]
