"""The age of commands by the time of the log, whatever the wall clocks of the machines show."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from openfactory.commands.waiting import SENT, TIMEOUT, text_in
from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.engines.kafka_engine.log_clock import LogClock, appended_at
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import instant_of, openfactory_timestamp

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["age", "stamp", "with_log_time"]

# The attributes in which a reader of the log passes on the time of a record, with the names of the asset forwarder.
_APPENDED = "kafka_timestamp"
_APPENDED_BY = "kafka_timestamp_type"
_BROKER = "broker"


def stamp(clock: LogClock) -> dict[str, str]:
    """Return the attributes of a command that is sent now; nothing if the time of the log is not known."""
    now = clock.latest(boot_seconds())
    return {} if now is None else {SENT: _timestamp(now)}


def with_log_time(event: AssetEvent, message: Message) -> AssetEvent:
    """Return the event of a command with the time at which a broker appended it, if its caller waits for it."""
    if text_in(event, TIMEOUT) is None or (appended := appended_at(message)) is None:
        return event
    log_time = {_APPENDED: _timestamp(appended), _APPENDED_BY: _BROKER}
    return msgspec.structs.replace(event, attributes={**(event.attributes or {}), **log_time})


def age(event: AssetEvent, clock: LogClock, pause: float) -> float | None:
    """Return the seconds since a command was sent, or since a broker appended it.

    If neither time is known, it can only have waited while this process did not run.

    Args:
        event: the event of the command.
        clock: the clock of its partition.
        pause: seconds that this process did not run, a moment ago.

    Returns:
        the seconds, or None if they are not known.
    """
    appended = _time_in(event, _APPENDED) if text_in(event, _APPENDED_BY) == _BROKER else None
    now = max(filter(None, (appended, clock.earliest(boot_seconds()))), default=None)
    sent = min(filter(None, (appended, _time_in(event, SENT))), default=None)
    if now is not None and sent is not None:
        return max(now - sent, 0.0)
    if not pause:
        return None
    by_wall_clocks = time.time() - (instant_of(event.timestamp) or 0) / 1e9
    return min(pause, by_wall_clocks) if by_wall_clocks > 0 else pause


def _time_in(event: AssetEvent, name: str) -> float | None:
    """Return an attribute as seconds since 1970, or None if it is not a time."""
    text = text_in(event, name)
    instant = None if text is None else instant_of(text)
    return None if instant is None else instant / 1e9


def _timestamp(seconds: float) -> str:
    return openfactory_timestamp(datetime.fromtimestamp(seconds, UTC))
