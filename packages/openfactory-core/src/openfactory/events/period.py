"""Periods of time, which bound a history."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from openfactory.events.timestamp import (
    EPOCH,
    instant_of,
    instant_of_datetime,
    is_wire_timestamp,
    openfactory_timestamp,
)
from openfactory.exceptions import ConfigurationError

__all__ = ["Bound", "Period"]

#: Bound of a period: a datetime with a time zone, or a text in ISO 8601, which is in UTC if it has no zone.
Bound = datetime | str

# Texts before and after every timestamp.
_FIRST = ""
_LAST = "\U0010ffff"


class Period(NamedTuple):
    """A period of time with its ends, by the timestamps of events.

    Attributes:
        since: begin in nanoseconds since 1970, or None without a bound.
        until: end in nanoseconds since 1970, or None without a bound.
        first: the earliest timestamp in the period, in the format of the wire.
        last: the latest timestamp in the period, in the format of the wire.
    """

    since: int | None
    until: int | None
    first: str
    last: str

    @classmethod
    def of(cls, since: Bound | None, until: Bound | None) -> Period:
        """Return the period between two bounds; None or an empty text is no bound.

        >>> period = Period.of("2026-11-21T08:30+01:00", None)
        >>> period.contains("2026-11-21T07:30:00.000Z"), period.contains("2026-11-21T07:29:59.999Z")
        (True, False)

        Raises:
            ConfigurationError: a bound is not a time, or is a datetime without a time zone.
        """
        begin, end = _instant("since", since), _instant("until", until)
        return cls(
            begin,
            end,
            _FIRST if begin is None else _wire_timestamp(-(-begin // 1_000_000)),
            _LAST if end is None else _wire_timestamp(end // 1_000_000),
        )

    @property
    def is_bounded(self) -> bool:
        """Whether the period has a begin or an end."""
        return self.since is not None or self.until is not None

    def contains(self, timestamp: str) -> bool:
        """Return whether a timestamp is in the period; a text that is not a time is in no bounded period."""
        if is_wire_timestamp(timestamp):  # texts of this format have the order of their times
            return self.first <= timestamp <= self.last
        if not self.is_bounded:
            return True
        instant = instant_of(timestamp)
        return (
            instant is not None
            and (self.since is None or self.since <= instant)
            and (self.until is None or instant <= self.until)
        )


def _instant(name: str, bound: object) -> int | None:
    if bound is None or bound == "":
        return None
    if isinstance(bound, datetime):
        if bound.utcoffset() is None:
            raise ConfigurationError(
                f"{name}={bound!r} has no time zone. Pass a datetime with one, such as datetime.now(UTC)."
            )
        return instant_of_datetime(bound)
    instant = instant_of(bound) if isinstance(bound, str) else None
    if instant is None:
        raise ConfigurationError(
            f"{name}={bound!r:.100} is not a time. Pass a datetime with a time zone, or a text in ISO 8601 such as "
            "'2026-11-21T07:30:00Z'."
        )
    return instant


def _wire_timestamp(milliseconds: int) -> str:
    try:
        return openfactory_timestamp(EPOCH + timedelta(milliseconds=milliseconds))
    except OverflowError:  # a time zone moves it out of the years 1 to 9999
        return _FIRST if milliseconds < 0 else _LAST
