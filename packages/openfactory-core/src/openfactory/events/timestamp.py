"""Timestamps of the wire format: UTC with milliseconds, `2026-11-21T07:30:00.123Z`."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

__all__ = [
    "EPOCH",
    "WIRE_PATTERN",
    "aware",
    "current_timestamp",
    "instant_of",
    "instant_of_datetime",
    "is_before",
    "is_wire_timestamp",
    "milliseconds_of",
    "openfactory_timestamp",
]

#: The time from which instants are counted.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

#: The format of the wire, as a pattern of SQLite's GLOB.
WIRE_PATTERN = re.sub("0", "[0-9]", "0000-00-00T00:00:00.000Z")

_WIRE = re.compile(WIRE_PATTERN.replace(".", r"\."))
_YEAR_OR_MONTH = re.compile(r"[0-9]{4}(-[0-9]{2})?")

# The fraction of the seconds. `fromisoformat` keeps only six digits of it.
_FRACTION = re.compile(r"[T ](?:[0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{6})[.,]([0-9]+)")

# Writes in the same millisecond share one text, and those in the same second its begin. The numbers and texts are one
# tuple, so that another thread sees the old ones or the new ones, never a mixture.
_last: tuple[int, str, int, str] = (-1, "", -1, "")


def current_timestamp() -> str:
    """Return the current time.

    >>> len(current_timestamp())
    24
    """
    global _last
    milliseconds = time.time_ns() // 1_000_000
    last, text, last_second, begin = _last
    if last != milliseconds:
        second, fraction = divmod(milliseconds, 1000)
        if second != last_second:
            begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        text = f"{begin}.{fraction:03d}Z"
        _last = (milliseconds, text, second, begin)
    return text


def openfactory_timestamp(moment: datetime) -> str:
    """Return a datetime as a timestamp; a datetime without a time zone is taken as UTC.

    >>> openfactory_timestamp(datetime(2026, 11, 21, 8, 30, tzinfo=UTC))
    '2026-11-21T08:30:00.000Z'
    """
    if moment.tzinfo is not None:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:  # a null date in another zone: in UTC, it is not in the years 1 to 9999
            moment = _EARLIEST if moment.year == 1 else _LATEST
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def is_wire_timestamp(timestamp: str) -> bool:
    """Return whether a text has the format of the wire. The order of such texts is the order of their times."""
    return _WIRE.fullmatch(timestamp) is not None


def instant_of(timestamp: str) -> int | None:
    """Return a time in ISO 8601 as nanoseconds since 1970, or None if the text is not a time.

    A time without a zone is in UTC. A year, a month or a day stands for its begin.

    >>> instant_of("1970-01-01T01:00:00.5+01:00"), instant_of("1970"), instant_of("UNAVAILABLE")
    (500000000, 0, None)
    """
    text = timestamp.strip().upper()
    if _YEAR_OR_MONTH.fullmatch(text):
        text += "-01" if "-" in text else "-01-01"
    nanoseconds = 0
    if "." in text or "," in text:
        found = _FRACTION.search(text)
        if found is None:
            return None
        nanoseconds = int(found[1][:9].ljust(9, "0"))
        text = text[: found.start(1) - 1] + text[found.end(1) :]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant_of_datetime(aware(moment)) + nanoseconds


def aware(moment: datetime) -> datetime:
    """Return a datetime with a time zone; without one it is taken as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def instant_of_datetime(moment: datetime) -> int:
    """Return a datetime with a time zone as nanoseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def milliseconds_of(moment: object) -> int:
    """Return a time as milliseconds since 1970, or 0 if it is not a time after 1970.

    It may be a number of milliseconds, as in a record, or a text in ISO 8601, as ksqlDB returns a TIMESTAMP.

    >>> milliseconds_of(500), milliseconds_of("1970-01-01T00:00:00.500"), milliseconds_of("soon")
    (500, 500, 0)
    """
    if isinstance(moment, str):
        moment = (instant_of(moment) or 0) // 1_000_000
    return moment if isinstance(moment, int) and 0 <= moment < 2**63 else 0


def is_before(first: str, second: str) -> bool:
    """Return whether a timestamp is earlier than another, in whatever zone and precision they are written.

    >>> is_before("2026-11-21T08:00:00+01:00", "2026-11-21T07:30:00.000Z")
    True
    """
    if not (is_wire_timestamp(first) and is_wire_timestamp(second)):
        instants = instant_of(first), instant_of(second)
        if instants[0] is not None and instants[1] is not None:
            return instants[0] < instants[1]
    return first < second
