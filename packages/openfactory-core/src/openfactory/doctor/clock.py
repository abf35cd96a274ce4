"""Check of this machine's clock against a server's: commands and timestamps of several machines are compared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.doctor.ksqldb import ksqldb_server
from openfactory.events.timestamp import aware
from openfactory.exceptions import OpenFactoryError

__all__ = ["examine_clock"]

# In seconds. An app rejects commands that seem older than its start, so the clocks must be close to each other.
_TOLERATED = 2.0
_SECONDS = 3.0


def examine_clock(factory: Factory) -> Iterator[Finding]:
    """Compare this machine's clock with that of the asset router, else with that of ksqlDB.

    A broker is not used: it reports its time only to producers.
    """
    difference = _seconds_ahead_of_router(factory.asset_router_url) if factory.asset_router_url else None
    whose = "the asset router's"
    if difference is None and factory.ksqldb_url:
        difference, whose = _seconds_ahead_of_ksqldb(factory), "ksqlDB's"
    if difference is None:
        yield unchecked("clock", "No server reports its time. Compare `date -u` on this machine and on the broker's.")
    elif abs(difference) > _TOLERATED:
        ahead = "ahead of" if difference > 0 else "behind"
        yield failed(
            "clock",
            f"This machine's clock is {abs(difference):.0f} s {ahead} {whose}. "
            "Synchronize both with one time server (chrony, systemd-timesyncd).",
        )
    else:
        yield fine("clock", f"within {_TOLERATED:g} s of {whose} clock")


def _seconds_ahead_of_router(url: str) -> float | None:
    """Return how far this clock is ahead of the `Date` header of a response, or None if the header is not available."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)
        try:
            connection.request("GET", "/")
            date = connection.getresponse().headers["Date"]
            # The header has whole seconds: on average it is half a second behind.
            return None if date is None else _seconds_since(parsedate_to_datetime(date)) - 0.5
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError):
        return None


def _seconds_since(moment: datetime) -> float:
    return time.time() - aware(moment).timestamp()


def _seconds_ahead_of_ksqldb(factory: Factory) -> float | None:
    """Return how far this clock is ahead of ksqlDB's, or None if it is not available.

    ksqlDB returns its time with a row of a table, so an empty table yields None.
    """
    try:
        with ksqldb_server(factory) as server:
            rows = server.query("SELECT UNIX_TIMESTAMP() AS now FROM assets LIMIT 1")
    except OpenFactoryError:
        return None
    now = rows[0].get("NOW") if rows else None
    return time.time() - now / 1000 if isinstance(now, int) else None
