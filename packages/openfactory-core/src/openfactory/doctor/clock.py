"""This machine's clock against the servers': commands and timestamps are compared by it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.doctor.ksqldb import ksqldb_server
from openfactory.exceptions import OpenFactoryError

__all__ = ["examine_clock"]

# Commands that seem older than the start of an app are refused, so clocks may differ by little.
_TOLERATED = 2.0
_SECONDS = 3.0


def examine_clock(factory: Factory) -> Iterator[Finding]:
    """How far this clock is from that of a server that says its time; a broker says it to nobody who doesn't write."""
    difference = _by_router(factory.asset_router_url) if factory.asset_router_url else None
    whose = "the asset router's"
    if difference is None and factory.ksqldb_url:
        difference, whose = _by_ksqldb(factory), "ksqlDB's"
    if difference is None:
        yield unchecked("clock", "No server here says its time. Compare `date -u` on this machine and the broker's.")
    elif abs(difference) > _TOLERATED:
        ahead = "ahead of" if difference > 0 else "behind"
        yield failed(
            "clock",
            f"This machine's clock is {abs(difference):.0f} s {ahead} {whose}. "
            "Let both follow one time server (chrony, systemd-timesyncd).",
        )
    else:
        yield fine("clock", f"within {_TOLERATED:g} s of {whose}")


def _by_router(url: str) -> float | None:
    """How many seconds this clock is ahead, by the date of an answer, which has no fractions of a second."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)
        try:
            connection.request("GET", "/")
            said = connection.getresponse().headers["Date"]
            return None if said is None else _seconds_since(parsedate_to_datetime(said)) - 0.5
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError):
        return None


def _seconds_since(moment: datetime) -> float:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return time.time() - moment.timestamp()


def _by_ksqldb(factory: Factory) -> float | None:
    """The same by a question that needs a row: without one there is no answer."""
    try:
        with ksqldb_server(factory) as server:
            rows = server.query("SELECT UNIX_TIMESTAMP() AS now FROM assets LIMIT 1")
    except OpenFactoryError:
        return None
    now = rows[0].get("NOW") if rows else None
    return time.time() - now / 1000 if isinstance(now, int) else None
