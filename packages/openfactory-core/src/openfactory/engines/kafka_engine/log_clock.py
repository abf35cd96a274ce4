"""The time of the log: the clock of the broker that appends the records of a partition, as this process knows it.

Kafka has no request for the time of a broker. But each record has the time at which the broker appended it, unless its
topic has the times of the writers (`CreateTime`). A record is appended before it arrives, and after it was published.
So each record bounds the difference between the clock of this machine and the clock of the broker, and the closest
bounds of many records are a few milliseconds apart. The wall clocks of the machines play no part.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from openfactory.concurrency.boot_clock import boot_seconds

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["LogClock", "LogClocks", "appended_at"]

# Two clocks may drift apart by this many seconds in a second, so old bounds become wider.
_DRIFT = 1e-4

# If the bounds are further apart, the latest time tells nothing of a command's time of sending.
_CLOSE_SECONDS = 0.25

# The time of a record has milliseconds.
_PRECISION_SECONDS = 0.001

# The times of a partition's records go back by more than this only if somebody has set the clock of the broker.
_SET_BACK_SECONDS = 1.0

_LOG_APPEND_TIME = 2  # as confluent_kafka.TIMESTAMP_LOG_APPEND_TIME


def appended_at(message: Message) -> float | None:
    """Return the time at which a broker appended a record, in seconds since 1970, or None if its writer chose it."""
    kind, milliseconds = message.timestamp()
    return milliseconds / 1_000 if kind == _LOG_APPEND_TIME and milliseconds > 0 else None


class _Bound(NamedTuple):
    """A bound of the difference between two clocks, and the time at which it was found."""

    difference: float
    at: float


class LogClock:
    """The clock of one partition.

    The difference is the clock of this machine minus that of the broker. The methods need no lock: each looks at a
    bound once and replaces it as a whole, so two threads at once may lose one of two bounds.
    """

    def __init__(self) -> None:
        self._highest: _Bound | None = None
        self._lowest: _Bound | None = None
        self._read_until = 0.0

    def note_read(self, appended: float, now: float) -> None:
        """Note a record that has arrived."""
        if appended < self._read_until - _SET_BACK_SECONDS:
            self._highest = self._lowest = None
        self._read_until = appended
        self._bound_above(now - appended, now)

    def note_written(self, appended: float, now: float, latency: float) -> None:
        """Note a delivery report, which has arrived this many seconds after its record was published."""
        self._bound_above(now - appended, now)
        difference = lowest = now - latency - appended - _PRECISION_SECONDS
        if (known := self._lowest) is not None:
            lowest = max(difference, known.difference - _DRIFT * (now - known.at))
        highest = self._highest
        if highest is not None and highest.difference + _DRIFT * (now - highest.at) < lowest:
            self._highest, lowest = _Bound(now - appended, now), difference  # the clock of the broker was set back
        self._lowest = _Bound(lowest, now)

    def earliest(self, now: float) -> float | None:
        """Return the time that it is in the log at least, or None if it is not known."""
        highest = self._highest
        return None if highest is None else now - (highest.difference + _DRIFT * (now - highest.at))

    def latest(self, now: float) -> float | None:
        """Return the time that it is in the log at most, or None if it is not known well.

        A first write may wait a second in the queue, and bounds the time too loosely.
        """
        highest, lowest = self._highest, self._lowest
        if highest is None or lowest is None:
            return None
        difference = lowest.difference - _DRIFT * (now - lowest.at)
        if highest.difference + _DRIFT * (now - highest.at) - difference > _CLOSE_SECONDS:
            return None
        return now - difference

    def _bound_above(self, difference: float, now: float) -> None:
        highest, lowest = self._highest, self._lowest
        if highest is not None and difference >= highest.difference + _DRIFT * (now - highest.at):
            return  # the known bound is closer
        self._highest = _Bound(difference, now)
        if lowest is not None and difference < lowest.difference - _DRIFT * (now - lowest.at):
            self._lowest = None  # the clock of the broker was set forward


class LogClocks:
    """The clocks of all partitions that this process reads or writes; their brokers may have different clocks."""

    def __init__(self) -> None:
        self._clocks: defaultdict[tuple[str | None, int | None], LogClock] = defaultdict(LogClock)

    def of(self, topic: str, partition: int) -> LogClock:
        """Return the clock of a partition."""
        return self._clocks[topic, partition]

    def note_read(self, message: Message) -> None:
        """Note a record that has arrived."""
        appended = appended_at(message)
        if appended is not None:
            self._clocks[message.topic(), message.partition()].note_read(appended, boot_seconds())

    def note_written(self, message: Message, now: float) -> None:
        """Note the delivery report of a message.

        Args:
            message: the message.
            now: time by the clock of this machine, before anything else was done with the report.
        """
        appended, latency = appended_at(message), message.latency()
        if appended is not None and latency is not None:
            self._clocks[message.topic(), message.partition()].note_written(appended, now, latency)
