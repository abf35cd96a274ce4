"""The servers of one NATS cluster, of which a client connects to any."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from openfactory.engines.fanout.nats_session import NatsSession
from openfactory.settings.credentials import Credentials

__all__ = ["NatsCluster"]


class NatsCluster:
    """The servers of a cluster that are configured, and those that the last server has announced.

    Args:
        servers: the addresses that are configured.
        credentials: login and certificate authorities.
    """

    def __init__(self, servers: Iterable[str], credentials: Credentials) -> None:
        self._servers = tuple(servers)
        self._credentials = credentials
        self._announced: dict[str, str | None] = {}

    async def connect(self, on_error: Callable[[Exception], None]) -> NatsSession:
        """Connect to a server of the cluster: first those that are configured, then those that were announced.

        Args:
            on_error: called with each error that nats-py reports.

        Raises:
            ConnectionError: no server can be reached, or the login failed.
            ConfigurationError: the credentials are invalid.
        """
        failures = []
        named = random.sample(self._servers, len(self._servers))
        for server in (*named, *(address for address in self._announced if address not in named)):
            session = NatsSession(server, on_error)
            try:
                await session.connect(self._credentials, self._announced.get(server))
            except ConnectionError as error:
                failures.append(str(error))
                await session.close()
            except BaseException:
                await session.close()
                raise
            else:
                self._announced = session.other_servers()
                return session
        raise ConnectionError("; ".join(failures))
