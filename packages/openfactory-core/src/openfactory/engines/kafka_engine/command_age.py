"""The age of commands by the time of the log, whatever the wall clocks of the machines show."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from openfactory.commands.waiting import SENT, TIMEOUT, seconds_in, seconds_text, text_in
from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.engines.kafka_engine.log_clock import LogClock, appended_at
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import instant_of

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["age", "stamp", "with_appended", "with_log_time"]

# The attribute in which this engine passes on the time of a record, in seconds since 1970: a number, which no command
# in the log has here. The asset forwarder passes it on as text.
_LOG_TIME = "log_time"
_FORWARDED = "kafka_timestamp"
_FORWARDED_TYPE = "kafka_timestamp_type"
_BROKER = "broker"


def stamp(clock: LogClock) -> dict[str, str]:
    """Return the attributes of a command that is sent now; nothing if the time of the log is not known."""
    now = clock.latest(boot_seconds())
    return {} if now is None else {SENT: seconds_text(now)}


def with_log_time(event: AssetEvent, message: Message) -> AssetEvent:
    """Return the event of a command with the time at which a broker appended it, if its caller waits for it."""
    return event if event.attributes is None else with_appended(event, appended_at(message))


def with_appended(event: AssetEvent, appended: float | None) -> AssetEvent:
    """Return the event of a command with the time of its record, if its caller waits for it.

    Args:
        event: the event of the command.
        appended: the time at which a broker appended the record, in seconds since 1970, or None.
    """
    attributes = event.attributes
    if attributes is None or TIMEOUT not in attributes or appended is None:
        return event
    return msgspec.structs.replace(event, attributes={**attributes, _LOG_TIME: appended})


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
    appended, sent, now = _appended(event), seconds_in(event, SENT), clock.earliest(boot_seconds())
    if appended is not None:
        sent = appended if sent is None else min(sent, appended)
        now = appended if now is None else max(now, appended)
    if now is not None and sent is not None:
        return max(now - sent, 0.0)
    if not pause:
        return None
    by_wall_clocks = time.time() - (instant_of(event.timestamp) or 0) / 1e9
    return min(pause, by_wall_clocks) if by_wall_clocks > 0 else pause


def _appended(event: AssetEvent) -> float | None:
    """Return the time at which a broker appended an event, in seconds since 1970, or None if it is not known."""
    log_time = (event.attributes or {}).get(_LOG_TIME)
    if isinstance(log_time, float):
        return log_time
    if text_in(event, _FORWARDED_TYPE) != _BROKER:
        return None
    instant = instant_of(text_in(event, _FORWARDED) or "")
    return None if instant is None else instant / 1e9
