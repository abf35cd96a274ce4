"""What stands between browsers and apps: one port for all of them, told apart by host name or path prefix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from servers.certificates import Certificates, make_certificates
from servers.ports import free_port
from servers.server import Server

__all__ = ["Gateway", "Route"]


class Route(NamedTuple):
    """The ways to one app.

    Args:
        port: where the app serves.
        hosts: names under which it has the whole host.
        prefix: where it is on localhost, as `/my-app`; the app sees paths without it. Empty: nowhere.
    """

    port: int
    hosts: tuple[str, ...] = ()
    prefix: str = ""


class Gateway(Server):
    """A gateway of the given routes; any other host or path is not found.

    Args:
        routes: the ways to the apps, which need not run yet.
    """

    def __init__(self, routes: Sequence[Route], data_folder: Path | None = None) -> None:
        super().__init__(data_folder)
        self.routes = tuple(routes)
        #: Where it speaks HTTP.
        self.port = free_port()
        #: Where it speaks HTTPS, with a certificate for localhost.
        self.tls_port = free_port()
        self._certificates: Certificates | None = None

    @property
    def certificates(self) -> Certificates:
        """The authority that signed the gateway's certificate, and that certificate."""
        if self._certificates is None:
            self._certificates = make_certificates(self.folder / "certificates")
        return self._certificates

    def close(self) -> None:
        super().close()
        self._certificates = None  # they may have gone with the folder

    def _prepare(self) -> None:
        self._configure(self.certificates)

    @abstractmethod
    def _configure(self, certificates: Certificates) -> None:
        """Write its configuration in its folder."""
