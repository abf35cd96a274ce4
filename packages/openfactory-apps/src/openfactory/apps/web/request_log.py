"""The log of the requests of an app."""

from __future__ import annotations

import logging
from collections.abc import Callable

from openfactory.logs.escaping import escaped

__all__ = ["RequestLog"]

_FIRST_STATUS_OF_FAILURE = "4"


class RequestLog:
    """Log of requests: one line for each, with the address of the client, the request and the status.

    Orchestrators and Prometheus poll some pages every few seconds, for years. A request for such a page is logged only
    if it fails, or if its status differs from that of the request before.

    Args:
        logger: logger for the lines.
        is_enabled: returns whether requests are logged.

    Attributes:
        polled: paths of the pages that machines poll.
    """

    def __init__(self, logger: logging.Logger, is_enabled: Callable[[], bool]) -> None:
        self._logger = logger
        self._is_enabled = is_enabled
        self.polled: set[str] = set()
        self._statuses: dict[str, str] = {}

    def add(self, path: str, client: str, request: str, status: str) -> None:
        """Log a request whose response begins.

        Args:
            path: path of the page, without the prefix of a gateway.
            client: address of the client.
            request: first line of the request.
            status: status of the response, such as `200`.
        """
        if self._is_enabled() and (path not in self.polled or self._is_news(path, status)):
            # Escaped, as both come from the client.
            self._logger.info('%s "%s" %s -', escaped(client), escaped(request), status)

    def _is_news(self, path: str, status: str) -> bool:
        before, self._statuses[path] = self._statuses.get(path, "200"), status
        return status != before or status >= _FIRST_STATUS_OF_FAILURE
