"""Timestamps as they stand in every message: UTC, milliseconds, `2026-11-21T07:30:00.123Z`."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["current_timestamp", "openfactory_timestamp", "seconds_of_timestamp"]

# The part up to the second is the same for thousands of writes, so it is kept with its second. The pair is one
# object: another thread sees the old pair or the new one, never a mixture.
_prefix: tuple[int, str] = (-1, "")


def current_timestamp() -> str:
    """The time now.

    >>> len(current_timestamp())
    24
    """
    global _prefix
    milliseconds = time.time_ns() // 1_000_000
    known, text = _prefix
    if known != milliseconds:
        second, fraction = divmod(milliseconds, 1000)
        text = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:03d}Z"
        _prefix = (milliseconds, text)
    return text


def openfactory_timestamp(moment: datetime) -> str:
    """A moment in that form; one without a zone is taken as UTC.

    >>> openfactory_timestamp(datetime(2026, 11, 21, 8, 30, tzinfo=UTC))
    '2026-11-21T08:30:00.000Z'
    """
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def seconds_of_timestamp(timestamp: str) -> float | None:
    """The seconds since 1970 of a timestamp, or None where a text is none.

    >>> seconds_of_timestamp("1970-01-01T00:01:00.500Z")
    60.5
    """
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return None
