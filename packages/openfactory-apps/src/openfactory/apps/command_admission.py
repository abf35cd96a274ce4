"""The decision whether a command may run: no command runs twice, too late, or beside too many others."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from openfactory.apps.command_arrival import Arrival
from openfactory.apps.command_memory import CommandMemory
from openfactory.commands.envelope import CommandEnvelope
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import aware, openfactory_timestamp

__all__ = ["CANCELLED", "INTERRUPTED", "STOPPING", "Admission", "Refusal", "expired"]

_MAY_HAVE_RUN = "An earlier run of the app may have run it: check the asset, then call again."


class Refusal(NamedTuple):
    """The reason why a command is not run now.

    Attributes:
        status: `expired` or `cancelled` if its caller does not wait any more, and `unknown` if it may have run before.
        remembered: whether the same command may be admitted later, so that its reply must be remembered.
    """

    reason: str
    status: Literal["rejected", "expired", "cancelled", "unknown"] = "rejected"
    remembered: bool = False


CANCELLED = Refusal("Its caller has cancelled it, and the method did not run.", "cancelled", remembered=True)
INTERRUPTED = Refusal("Its caller has cancelled it while the method ran. Check the asset.", "cancelled")
STOPPING = Refusal("The app is stopping. Call again when it is AVAILABLE.")


def expired(arrival: Arrival) -> Refusal | None:
    """Return the refusal of a command whose caller has given up, or None."""
    overdue = arrival.overdue
    if overdue < 0:
        return None
    if math.isinf(overdue):
        reason = "It was sent before the machine was started again, and its caller is gone. It did not run. Call again."
    else:
        reason = (
            f"Its caller waits {arrival.timeout:g} s, and the method could begin {overdue:.1f} s after that. "
            "It did not run. Call again, with a longer timeout= if the app has much to do."
        )
    return Refusal(reason, "expired", remembered=True)


class Admission:
    """The rules by which an app refuses commands.

    Args:
        asset_uuid: UUID of the app.
        methods: names of its methods.
        memory: the commands that it has accepted.
        window: seconds after which a command is too old to be run.

    Attributes:
        idle_since: position after which no earlier run of the app has received commands; 0 if there was no earlier run,
            and None if the position is not known.
    """

    def __init__(self, asset_uuid: str, methods: Collection[str], memory: CommandMemory, window: float) -> None:
        self._asset_uuid = asset_uuid
        self._methods = methods
        self._memory = memory
        self._window = window
        self._built = datetime.now(UTC)
        self.idle_since: int | None = 0

    def refusal(self, method: str, envelope: CommandEnvelope, size: int, arrival: Arrival) -> Refusal | None:
        """Return the reason why a new command is not run, or None."""
        if method not in self._methods:
            names = ", ".join(self._methods) or "no methods"
            return Refusal(f"{self._asset_uuid} has no method {method!r}. It has {names}.")
        sent = aware(envelope.header.timestamp)
        if sent <= self._memory.forgotten_until:
            return Refusal(f"The command is older than commands that the app has forgotten. {_MAY_HAVE_RUN}", "unknown")
        by_clock = arrival.age is None
        age = (datetime.now(UTC) - sent).total_seconds() if arrival.age is None else arrival.age
        may_have_run = age > self._window and self.idle_since != 0 and sent < self._built
        if not may_have_run and (refusal := expired(arrival)) is not None:
            return refusal
        if age > self._window:
            # The text does not change with time, so a command that comes twice gets the same reply.
            clock = "by the app's clock " if by_clock else ""
            reason = (
                f"The command was sent at {openfactory_timestamp(sent)}, {clock}more than "
                f"COMMAND_WINDOW, {self._window:g} s, ago. "
            )
            if may_have_run:
                return Refusal(reason + _MAY_HAVE_RUN, "unknown")
            return Refusal(f"{reason}Call again{'; if this repeats, compare the clocks of both machines' * by_clock}.")
        return None if self._memory.has_room(size) else self.too_many()

    def too_many(self) -> Refusal:
        """Return the refusal of a command for which there is no room."""
        waiting = len(self._memory.open)
        reason = f"{waiting} commands wait already. Call again when {self._asset_uuid} has answered some."
        return Refusal(reason, remembered=True)

    def refusal_of_older(self, event: AssetEvent) -> Refusal:
        """Return the refusal of a command that is in the log from before the app's start, without a reply."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", self._built.utctimetuple())
        reason = f"The command was sent before the app's start at {when} and is not run now. "
        if self.idle_since is not None and (event.position or 0) > self.idle_since:
            return Refusal(f"{reason}Call again.", remembered=True)
        return Refusal(reason + _MAY_HAVE_RUN, "unknown", remembered=True)
