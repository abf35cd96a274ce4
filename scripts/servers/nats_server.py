"""A real nats-server, as Debian packages it: the fan-out that the asset router names."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from servers.certificates import Certificates, make_certificates
from servers.fetching import program
from servers.ports import HOST, free_port
from servers.server import Server

__all__ = ["NatsServer", "nats_cluster"]


class NatsServer(Server):
    """One server; after `kill` or `stop` and `start` it has the same address.

    Args:
        username: with `password`, what clients must say to be let in.
        token: what they must say instead.
        tls: whether they must speak TLS; `certificates` has the authority to trust.
        cluster_port: where other servers reach it; their ports are `routes`.
        jetstream: whether it keeps streams, in its folder.
        configuration: more lines of its configuration file, such as users with keys.
    """

    name = "nats-server"

    def __init__(
        self,
        data_folder: Path | None = None,
        *,
        username: str = "",
        password: str = "",
        token: str = "",
        tls: bool = False,
        cluster_port: int | None = None,
        routes: Sequence[int] = (),
        jetstream: bool = False,
        configuration: str = "",
    ) -> None:
        super().__init__(data_folder)
        self.port = free_port()
        #: Where it can be reached, without a secret.
        self.url = f"nats://{HOST}:{self.port}"
        self._monitor = free_port()
        self._authorization = {"user": username, "password": password, "token": token}
        self._tls = tls
        self._cluster_port = cluster_port
        self._routes = routes
        self._jetstream = jetstream
        self._more = configuration
        self._certificates: Certificates | None = None

    @property
    def certificates(self) -> Certificates:
        """The authority that signed the server's certificate, and a pair that a client may show."""
        if self._certificates is None:
            self._certificates = make_certificates(self.folder / "certificates")
        return self._certificates

    def connections(self) -> int:
        """How many clients are connected."""
        with urllib.request.urlopen(f"http://{HOST}:{self._monitor}/connz", timeout=5) as answer:
            return int(json.load(answer)["num_connections"])

    def subscriptions(self) -> int:
        """How many subscriptions it holds, its own included."""
        with urllib.request.urlopen(f"http://{HOST}:{self._monitor}/subsz", timeout=5) as answer:
            return int(json.load(answer)["num_subscriptions"])

    def close(self) -> None:
        super().close()
        self._certificates = None  # they may have gone with the folder

    def _prepare(self) -> None:
        settings: dict[str, object] = {
            "host": HOST,
            "port": self.port,
            "http": f"{HOST}:{self._monitor}",
            "server_name": f"nats-{self.port}",
        }
        if said := {key: value for key, value in self._authorization.items() if value}:
            settings["authorization"] = said
        if self._tls:
            made = self.certificates
            settings["tls"] = {
                "cert_file": str(made.certificate_file),
                "key_file": str(made.key_file),
                "ca_file": str(made.ca_file),
            }
        if self._jetstream:
            settings["jetstream"] = {"store_dir": str(self.folder / "data")}
        if self._cluster_port is not None:
            settings["cluster"] = {
                "name": "tests",
                "host": HOST,
                "port": self._cluster_port,
                "routes": [f"nats://{HOST}:{port}" for port in self._routes],
            }
        # Its format takes JSON values, and a file keeps the secrets out of the list of processes.
        lines = [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
        (self.folder / "server.conf").write_text("\n".join([*lines, self._more]) + "\n", encoding="utf-8")

    def _command(self) -> list[str]:
        return [program("nats-server", "nats-server"), "-c", str(self.folder / "server.conf")]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


@contextmanager
def nats_cluster(count: int = 2, *, username: str = "", password: str = "") -> Generator[list[NatsServer]]:
    """So many servers that pass messages on to each other."""
    ports = [free_port() for _ in range(count)]
    with ExitStack() as running:
        servers = [
            NatsServer(username=username, password=password, cluster_port=port, routes=[p for p in ports if p != port])
            for port in ports
        ]
        yield [running.enter_context(server) for server in servers]
