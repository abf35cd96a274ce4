"""The mechanism by which the processes that use an engine see each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from openfactory.events.ownership import Owner

__all__ = ["LocalPresence", "Presence", "Sight", "Sighting"]


class Sight(Enum):
    """State of another process, as far as it can be seen."""

    LIVES = "lives"
    SILENT = "silent"  # it gives no sign: it may have ended, may be frozen, or may give the next sign soon
    ENDED = "ended"
    UNKNOWN = "unknown"  # nothing can be seen now, for example because the broker is away


class Sighting(NamedTuple):
    """Owner of an asset, with the state of its process.

    Attributes:
        owner: the owner.
        sight: state of its process.
        last_seen: time of its last sign in seconds since 1970, or None if it is not known.
    """

    owner: Owner
    sight: Sight
    last_seen: float | None


class Presence(Protocol):
    """The mechanism by which the processes that use an engine see each other.

    Attributes:
        instance: random id of this process.
        is_shared: whether there can be other processes.
        observable: whether other processes can see this one.
        patience: seconds of silence after which a process counts as ended.
        lag: seconds for which a process that has ended may still seem to live.
        silence: the words for a process that is silent for so long.
    """

    instance: str
    is_shared: bool
    observable: bool
    patience: float
    lag: float
    silence: str

    def join(self) -> None:
        """Let other processes see this one, and wait a few seconds until they do."""

    def beat(self) -> None:
        """Give a sign of life."""

    def others(self) -> Collection[str]:
        """Return the instances of other processes, as far as the mechanism can name them."""

    def look(self, instances: Collection[str]) -> Mapping[str, Sight]:
        """Return the state of each process, for the thread that looks again and again: a sign of life counts once."""

    def peek(self, instances: Collection[str]) -> Mapping[str, Sight]:
        """Return the state of each process, without taking a sign from the thread that looks."""

    def last_seen(self, instance: str) -> float | None:
        """Return the time of the last sign of a process in seconds since 1970, or None if it is not known."""

    def forget(self, instance: str) -> None:
        """Remove the traces of a process that has ended."""

    def close(self) -> None:
        """Leave: other processes see at once that this one has gone."""


class LocalPresence:
    """Presence for an engine of this process alone."""

    is_shared = False
    observable = True
    patience = lag = 0.0
    silence = ""

    def __init__(self, instance: str) -> None:
        self.instance = instance

    def join(self) -> None:
        pass

    beat = close = join

    def others(self) -> Collection[str]:
        return ()

    def look(self, instances: Collection[str]) -> Mapping[str, Sight]:
        return {instance: Sight.LIVES if instance == self.instance else Sight.ENDED for instance in instances}

    peek = look

    def last_seen(self, instance: str) -> float | None:  # noqa: ARG002 - no other process was seen
        return None

    def forget(self, instance: str) -> None:
        pass
