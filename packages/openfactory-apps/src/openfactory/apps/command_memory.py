"""The commands that an app has accepted: open ones are never forgotten, and replies are kept within limits."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from openfactory.apps.command_arrival import Arrival
from openfactory.commands.envelope import CommandReply
from openfactory.events.timestamp import aware

__all__ = ["REMEMBERED", "CommandMemory", "OpenCommand"]

#: Number of replies, and of commands, that an app reads from the log when it starts.
REMEMBERED = 4_096

# Limits of the answered commands, and of the text of their replies.
_MAX_ANSWERED = 16_384
_MAX_REPLY_BYTES = 16 * 1024 * 1024

# Limits of the commands that wait or run.
_MAX_OPEN = 10_000
_MAX_OPEN_BYTES = 16 * 1024 * 1024

# Number of cancels that are remembered although their commands have not arrived: over NATS, a cancel may be faster.
_MAX_EARLY_CANCELS = 1_024

_FORGOTTEN = "This reply is a repetition without its {}. Read the first reply in the log."
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class OpenCommand:
    """A command that has no reply yet.

    Attributes:
        method: method that it calls.
        sent: time at which it was created, by its sender's clock.
        size: estimated bytes of it.
        arrival: its age when it arrived, and the time at which its caller gives up.
        is_doubtful: whether its caller may have given up before it was written, so that a cancel is on its way.
        running: whether the method has begun.
        interrupt: interrupts the method; None if it may not be interrupted.
        cancelled: whether its caller has cancelled it.
    """

    method: str
    sent: datetime
    size: int
    arrival: Arrival
    is_doubtful: bool = False
    running: bool = False
    interrupt: Callable[[], object] | None = None
    cancelled: bool = False


class CommandMemory:
    """Open commands and given replies of one app, by correlation id. It is not thread-safe: its owner holds a lock.

    Attributes:
        open: commands without a reply.
        forgotten_until: an answered command that is forgotten was sent at this time or earlier.
    """

    def __init__(self) -> None:
        self.open: dict[str, OpenCommand] = {}
        self.forgotten_until = _LONG_AGO
        self._open_bytes = 0
        self._replies: dict[str, CommandReply] = {}
        self._by_age: list[tuple[datetime, str]] = []  # a heap: the command that was sent first is forgotten first
        self._sizes: OrderedDict[str, int] = OrderedDict()  # of the replies that are remembered in full
        self._reply_bytes = 0
        self._early_cancels: OrderedDict[str, None] = OrderedDict()

    def load(self, replies: Iterable[CommandReply], *, complete: bool) -> None:
        """Remember the replies of earlier runs.

        Args:
            complete: whether the log has no earlier replies.
        """
        loaded = list(replies)
        for reply in loaded:
            self.answer(str(reply.correlation_id), reply)
        if not complete:  # the command of an earlier reply was sent before that reply
            oldest = min((aware(reply.timestamp) for reply in loaded), default=_LONG_AGO)
            self.forgotten_until = max(self.forgotten_until, oldest)

    def reply_to(self, correlation_id: str) -> CommandReply | None:
        """Return the reply that was given to a command."""
        return self._replies.get(correlation_id)

    def cancel_early(self, correlation_id: str) -> None:
        """Remember the cancel of a command that has not arrived."""
        self._early_cancels[correlation_id] = None
        if len(self._early_cancels) > _MAX_EARLY_CANCELS:
            self._early_cancels.popitem(last=False)

    def was_cancelled(self, correlation_id: str) -> bool:
        """Return whether a command was cancelled before it arrived."""
        return correlation_id in self._early_cancels

    def has_room(self, size: int) -> bool:
        """Return whether another command may wait."""
        return len(self.open) < _MAX_OPEN and self._open_bytes + size <= _MAX_OPEN_BYTES

    def open_command(self, correlation_id: str, command: OpenCommand) -> None:
        """Accept a command, which is open until its reply is written."""
        self.open[correlation_id] = command
        self._open_bytes += command.size

    def close(self, correlation_id: str) -> None:
        """Remove a command whose reply is written."""
        command = self.open.pop(correlation_id, None)
        if command is not None:
            self._open_bytes -= command.size

    def answer(self, correlation_id: str, reply: CommandReply) -> None:
        """Remember the reply to a command; the first reply stays."""
        if correlation_id in self._replies:
            return
        command = self.open.get(correlation_id)
        sent = aware(reply.timestamp) if command is None else command.sent
        self._replies[correlation_id] = reply
        heapq.heappush(self._by_age, (sent, correlation_id))
        size = self._sizes[correlation_id] = len(msgspec.json.encode((reply.result, reply.error)))
        self._reply_bytes += size
        while self._reply_bytes > _MAX_REPLY_BYTES:
            self._shorten_oldest_reply()
        while len(self._by_age) > _MAX_ANSWERED:
            self._forget_oldest_command()

    def _shorten_oldest_reply(self) -> None:
        correlation_id, size = self._sizes.popitem(last=False)
        self._reply_bytes -= size
        reply = self._replies[correlation_id]
        part = "result" if reply.status == "succeeded" else "error"
        self._replies[correlation_id] = msgspec.structs.replace(reply, result=None, error=_FORGOTTEN.format(part))

    def _forget_oldest_command(self) -> None:
        sent, correlation_id = heapq.heappop(self._by_age)
        self.forgotten_until = max(self.forgotten_until, sent)
        del self._replies[correlation_id]
        self._reply_bytes -= self._sizes.pop(correlation_id, 0)
