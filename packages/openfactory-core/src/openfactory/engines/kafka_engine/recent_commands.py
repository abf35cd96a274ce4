"""The latest commands, or replies, of one asset, within limits of their number and of their bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from openfactory.events.decoding import decode_json
from openfactory.events.event import AssetEvent

__all__ = ["MAX_COMMANDS", "RecentCommands", "Trimmed"]

#: Number of commands, or of replies, that are kept for an asset.
MAX_COMMANDS = 4_096

# Bytes of the values that are kept in full.
_MAX_BYTES = 1024 * 1024

# The parts of a command and of a reply by which an app knows it again, and the bytes that they may take.
_IDENTITY = ("header", "correlation_id", "status", "timestamp")
_MAX_IDENTITY_BYTES = 4_096


class Trimmed(NamedTuple):
    """The older commands that a new one has pushed out of the limits.

    Attributes:
        reduced: the commands that have lost their arguments or results, as they are now.
        dropped: the command that is forgotten, or None.
    """

    reduced: list[AssetEvent]
    dropped: AssetEvent | None


class RecentCommands:
    """The latest commands, or replies, of one asset, oldest first; an app reads them when it starts.

    When the values are large, the older events keep only the part by which an app knows a command again: a command
    loses its arguments, a reply its result and its error.

    Attributes:
        unsaved: number of the newest events that no state file contains.
    """

    __slots__ = ("_bytes", "_reduced", "_whole", "unsaved")

    def __init__(self) -> None:
        self.unsaved = 0
        self._reduced: deque[AssetEvent] = deque()
        self._whole: deque[AssetEvent] = deque()  # newer than the reduced events
        self._bytes = 0  # of the values of `_whole`

    def __len__(self) -> int:
        return len(self._reduced) + len(self._whole)

    def __iter__(self) -> Iterator[AssetEvent]:
        return chain(self._reduced, self._whole)

    def append(self, event: AssetEvent) -> Trimmed:
        """Add the newest event; the oldest is forgotten if there are too many.

        An event that was reduced before may be added again: it stays as it is.
        """
        self._whole.append(event)
        self._bytes += _size(event)
        self.unsaved = min(self.unsaved + 1, MAX_COMMANDS)
        reduced: list[AssetEvent] = []
        while self._bytes > _MAX_BYTES:
            oldest = self._whole.popleft()
            self._bytes -= _size(oldest)
            reduced.append(_reduced(oldest))
        self._reduced.extend(reduced)
        dropped = None
        if len(self) > MAX_COMMANDS:
            if self._reduced:
                dropped = self._reduced.popleft()
            else:
                dropped = self._whole.popleft()
                self._bytes -= _size(dropped)
        return Trimmed(reduced, dropped)

    def newest(self, count: int) -> list[AssetEvent]:
        """Return some of the newest events, oldest first."""
        return list(islice(self, max(len(self) - count, 0), None))


def _size(event: AssetEvent) -> int:
    return len(event.value if isinstance(event.value, str) else str(event.value))


def _reduced(event: AssetEvent) -> AssetEvent:
    try:
        value = decode_json(event.value) if isinstance(event.value, str) else event.value
    except msgspec.DecodeError:
        value = None
    identity = {key: value[key] for key in _IDENTITY if key in value} if isinstance(value, dict) else {}
    encoded = msgspec.json.encode(identity)
    return msgspec.structs.replace(event, value=encoded.decode() if len(encoded) <= _MAX_IDENTITY_BYTES else "{}")
