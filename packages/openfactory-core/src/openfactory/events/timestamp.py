"""Timestamps of the wire format: UTC with milliseconds, `2026-11-21T07:30:00.123Z`."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["current_timestamp", "openfactory_timestamp", "seconds_of_timestamp"]

# Writes in the same millisecond share one text. Number and text are one tuple, so that another thread sees the old pair
# or the new pair, never a mixture.
_last: tuple[int, str] = (-1, "")


def current_timestamp() -> str:
    """Return the current time.

    >>> len(current_timestamp())
    24
    """
    global _last
    milliseconds = time.time_ns() // 1_000_000
    last, text = _last
    if last != milliseconds:
        second, fraction = divmod(milliseconds, 1000)
        text = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:03d}Z"
        _last = (milliseconds, text)
    return text


def openfactory_timestamp(moment: datetime) -> str:
    """Return a datetime as a timestamp; a datetime without a time zone is taken as UTC.

    >>> openfactory_timestamp(datetime(2026, 11, 21, 8, 30, tzinfo=UTC))
    '2026-11-21T08:30:00.000Z'
    """
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def seconds_of_timestamp(timestamp: str) -> float | None:
    """Return a timestamp as seconds since 1970, or None if the text is not a timestamp.

    >>> seconds_of_timestamp("1970-01-01T00:01:00.500Z")
    60.5
    """
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return None
