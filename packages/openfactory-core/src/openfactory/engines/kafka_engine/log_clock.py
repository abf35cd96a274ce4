"""The time of the log: the clock of the broker that appends the records of a partition, as this process knows it.

Kafka has no request for the time of a broker. But each record has the time at which the broker appended it, unless its
topic has the times of the writers (`CreateTime`). A record is appended before it arrives, and after it was published.
So each record bounds the difference between the clock of this machine and the clock of the broker, and the closest
bounds of many records are a few milliseconds apart. The wall clocks of the machines play no part.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

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


class LogClock:
    """The clock of one partition. Its methods need no lock: two threads at once may lose one of two bounds.

    The difference is the clock of this machine minus that of the broker.
    """

    def __init__(self) -> None:
        self._highest: float | None = None  # bounds of the difference, and their times
        self._highest_at = 0.0
        self._lowest: float | None = None
        self._lowest_at = 0.0
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
        difference = now - latency - appended - _PRECISION_SECONDS
        lowest = self._lowest_now(now)
        self._lowest, self._lowest_at = difference if lowest is None else max(lowest, difference), now
        if self._highest is not None and self._highest < self._lowest:  # the clock of the broker was set back
            self._highest, self._highest_at, self._lowest = now - appended, now, difference

    def earliest(self, now: float) -> float | None:
        """Return the time that it is in the log at least, or None if it is not known."""
        highest = self._highest_now(now)
        return None if highest is None else now - highest

    def latest(self, now: float) -> float | None:
        """Return the time that it is in the log at most, or None if it is not known well.

        A first write may wait a second in the queue, and bounds the time too loosely.
        """
        highest, lowest = self._highest_now(now), self._lowest_now(now)
        if highest is None or lowest is None or highest - lowest > _CLOSE_SECONDS:
            return None
        return now - lowest

    def _bound_above(self, difference: float, now: float) -> None:
        highest = self._highest_now(now)
        self._highest, self._highest_at = difference if highest is None else min(highest, difference), now
        lowest = self._lowest_now(now)
        if lowest is not None and self._highest < lowest:  # the clock of the broker was set forward
            self._lowest = None

    def _highest_now(self, now: float) -> float | None:
        highest = self._highest
        return None if highest is None else highest + _DRIFT * (now - self._highest_at)

    def _lowest_now(self, now: float) -> float | None:
        lowest = self._lowest
        return None if lowest is None else lowest - _DRIFT * (now - self._lowest_at)


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

    def note_written(self, message: Message) -> None:
        """Note the delivery report of a message."""
        appended, latency = appended_at(message), message.latency()
        if appended is not None and latency is not None:
            self._clocks[message.topic(), message.partition()].note_written(appended, boot_seconds(), latency)
