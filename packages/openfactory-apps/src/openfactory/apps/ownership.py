"""The claim of an app to its UUID: one process at a time runs an app."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from openfactory.assets.state import AssetState
from openfactory.concurrency import process_identity
from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.base import Engine
from openfactory.events.event import OWNER_TAG, AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, Owner, end_events, owned
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import AssetOwnedError, DeliveryTimeout, OpenFactoryError

__all__ = ["Ownership"]

# Seconds to wait until the log shows who has claimed an asset, and between two attempts to claim it again.
_CLAIM_SECONDS = 10.0
_RETRY_SECONDS = 1.0


class Ownership:
    """The claim of one app: made at its start, lost to another process that takes over, given up at its end.

    Args:
        asset_uuid: UUID of the app.
        engine: engine of the app.
        state: state of the app, which follows the log.
        logger: logger of the app.
        on_lost: called once, on a thread of its own, when another process has taken over.

    Attributes:
        claim: the claim; None before it is made, and on an engine without claims.
        lost_to: the process that has taken over, or None.
    """

    def __init__(
        self,
        asset_uuid: str,
        engine: Engine,
        state: AssetState,
        logger: logging.Logger,
        on_lost: Callable[[], object],
    ) -> None:
        self.claim: Owner | None = None
        self.lost_to: Owner | None = None
        self._asset_uuid = asset_uuid
        self._engine = engine
        self._liveness = engine.liveness
        self._state = state
        self._logger = logger
        self._on_lost = on_lost
        self._joined: Future[None] | None = None  # done when other processes see this one
        self._is_settled = False  # whether the claim has won, so that a later one of another process is a take-over
        self._ended = False
        self._generation: int | None = None
        self._epochs: set[int] = set()  # of all claims of the app
        self._pauses = 0  # of this process, after which the log was asked for the owner
        self._availability: AssetEvent | None = None  # as the app has written it last

    @property
    def epoch(self) -> int | None:
        """Epoch of the claim."""
        return None if self.claim is None else self.claim.epoch

    def begin(self, *, take_over: bool, generation: int | None = None) -> int:
        """Claim the UUID, and return the position of the claim; the commands before it belong to an earlier owner.

        Args:
            take_over: claim it although another process that lives owns it, unless that has a higher generation.
            generation: number of the deployed version of this app, if it was deployed.

        Raises:
            AssetOwnedError: another process that lives owns it.
            DeliveryError, DeliveryTimeout: the claim was not written in time.
        """
        if self._liveness is None:
            self._is_settled = True
            return 0
        self._joined = call_on_thread("openfactory-join", self._liveness.join)
        if not self._liveness.presence.lag:
            self._joined.result()
        owner = self._state.owner
        self._generation = generation
        while owner is not None and not (take_over and self._may_replace(owner)) and self._lives(owner):
            if self._state.owner == owner:
                raise self._owned_error(owner)
            owner = self._state.owner  # another process has claimed it meanwhile
        position = self._write_claim(owner, take_over=take_over)
        owner = self._state.owner
        if owner is None or self.claim is None or not _is_same(owner, self.claim):
            self._give_up()
            if owner is None:
                raise DeliveryTimeout(
                    f"The log did not show the claim of {self._asset_uuid} within {_CLAIM_SECONDS:g} s. "
                    "Look at the engine's health(), and start the app again.",
                    pending=1,
                )
            raise self._owned_error(owner)
        self._is_settled = True
        return position

    def wait_until_seen(self) -> None:
        """Wait until other processes see this one: before that, they would take an available app for ended."""
        if self._joined is None or self._liveness is None or self.claim is None:
            return
        self._joined.result()
        if self._liveness.presence.observable != self.claim.observable:
            self.claim = msgspec.structs.replace(self.claim, observable=self._liveness.presence.observable)
            self._liveness.claims[self._asset_uuid] = self.claim
            self._engine.publish(self.claim.event(self._asset_uuid))

    def stamped(self, event: AssetEvent) -> AssetEvent:
        """Return an event as the owner writes it."""
        if self.claim is None:
            return event
        event = owned(event, self.claim.epoch)
        if event.id == AVAILABILITY_ID:
            self._availability = event
        return event

    def end(self, reason: str) -> tuple[AssetEvent, ...]:
        """Return the events that end the ownership: the availability, and the claim with its end.

        On an engine without claims there are none.
        """
        self._ended = True
        if self.claim is None:
            return ()
        return end_events(self._asset_uuid, self.claim, self._state.get(AVAILABILITY_ID), reason)

    def release(self) -> None:
        """Give the UUID up after the end, so that an app of this process can claim it."""
        self._ended = True
        self._give_up()

    def receive(self, event: AssetEvent) -> None:
        """Handle an event that was written as the owner of the asset. The delivery thread of the engine calls it."""
        if not self._is_settled or self._ended or self.lost_to is not None:
            return
        owner = self._state.owner
        if owner is None or self.claim is None:
            return
        if self._is_lost_to(owner):
            self._lose(owner)
        elif owner.epoch == self.claim.epoch and owner.ended is not None and event.id == AVAILABILITY_ID:
            text = "%s was taken for ended (%s). It claims its UUID again."
            self._logger.warning(text, self._asset_uuid, owner.ended)
            self._start("openfactory-claim", self._come_back, owner)

    def receive_void(self, event: AssetEvent) -> None:
        """Write a value again after an event that does not count: the tables of a server may have taken it."""
        if not self._is_settled or self._ended or self.claim is None or self._state.owner != self.claim:
            return
        if event.tag == OWNER_TAG:
            self._engine.publish(self.claim.event(self._asset_uuid))
        elif event.id == AVAILABILITY_ID and self._availability is not None:
            self._engine.publish(self._availability)

    def is_current(self) -> bool:
        """Return whether the app owns its UUID."""
        self.lost_to = self.lost_to or self._missed()
        return self._is_settled and self.lost_to is None

    def may_run_commands(self) -> bool:
        """Return whether a command that has waited may run; not after a pause in which the app has lost its UUID."""
        if (owner := self._missed()) is not None:
            self._lose(owner)
        return self.lost_to is None

    def _missed(self) -> Owner | None:
        """Return the process that has taken over while this one was frozen; it asks the log once after a pause."""
        if self._liveness is None or self.claim is None or not self._is_settled or self.lost_to is not None:
            return None
        if not self._liveness.presence.is_shared:
            return None  # another app of this process cannot go on while this one is frozen
        pauses = self._liveness.pauses.count
        if pauses == self._pauses:
            return None
        try:
            owner = self._engine.snapshot([self._asset_uuid]).owners().get(self._asset_uuid)
        except OpenFactoryError:
            return None  # what is known counts, and the next command asks again
        self._pauses = pauses
        return owner if owner is not None and self._is_lost_to(owner) else None

    def _is_lost_to(self, owner: Owner) -> bool:
        """Return whether the claim of another process counts; the one before does until the log shows the own claim."""
        if self.claim is None or owner.epoch == self.claim.supersedes:
            return False
        return owner.epoch not in self._epochs or owner.instance != self.claim.instance

    def _may_replace(self, owner: Owner) -> bool:
        """Return whether this app may take over; an engine may start an app again that a newer version has replaced."""
        return self._generation is None or owner.generation is None or owner.generation <= self._generation

    def _lives(self, owner: Owner) -> bool:
        assert self._liveness is not None
        if self._liveness.presence.lag and owner.ended is None and owner.instance != self._liveness.instance:
            self._logger.info("%s is owned by %s. Checking whether it lives.", self._asset_uuid, owner)
        return self._liveness.lives(self._asset_uuid, owner)

    def _write_claim(self, previous: Owner | None, *, take_over: bool) -> int:
        """Write a claim in the place of another, wait until the log shows which one wins, and return its position.

        Args:
            previous: the claim before it.
            take_over: write it although another app of this process has a claim.
        """
        assert self._liveness is not None
        before = 0 if previous is None else previous.epoch
        presence = self._liveness.presence
        self.claim = Owner(
            presence.instance,
            max(before + 1, time.time_ns() // 1_000_000),  # it rises too if the log has forgotten the claims before
            before,
            socket.gethostname(),
            os.getpid(),
            current_timestamp(),
            process_identity.machine(),
            process_identity.start_of(os.getpid()),
            presence.observable,
            generation=self._generation,
        )
        self._epochs.add(self.claim.epoch)
        holder = self._liveness.claims.setdefault(self._asset_uuid, self.claim)
        if holder is not self.claim and not take_over:
            self.claim = None
            raise self._owned_error(holder)  # another app of this process, started at the same time
        self._liveness.claims[self._asset_uuid] = self.claim
        position = self._engine.publish(self.claim.event(self._asset_uuid)).wait(_CLAIM_SECONDS)
        self._state.wait_for(lambda: _epoch(self._state.owner) not in (None, before), _CLAIM_SECONDS)
        return position

    def _come_back(self, ended: Owner) -> None:
        """Claim the UUID again after a time in which others could not see this process, and write the availability."""
        assert self._liveness is not None
        self._liveness.join()
        while not self._ended and (present := self._state.owner) is not None and _is_same(present, ended):
            try:
                self._write_claim(ended, take_over=True)
            except OpenFactoryError as error:
                self._logger.warning("%s could not claim its UUID again (%s). It tries again.", self._asset_uuid, error)
                time.sleep(_RETRY_SECONDS)
        owner = self._state.owner
        if self._ended or owner is None:
            return
        if self._is_lost_to(owner):
            self._lose(owner)
            return
        # Of several claims whose writing has taken long, the first one counts.
        self.claim = self._liveness.claims[self._asset_uuid] = owner
        if (available := self._availability) is not None:
            again = msgspec.structs.replace(available, timestamp=current_timestamp(), attributes=None)
            self._engine.publish(self.stamped(again))

    def _lose(self, owner: Owner) -> None:
        if self.lost_to is None:
            self.lost_to = owner
            self._give_up()
            self._logger.error("%s was taken over by %s; stopping.", self._asset_uuid, owner)
            self._start("openfactory-lost", self._on_lost)

    def _start(self, thread: str, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on a thread for which nothing waits, and log the error that ends it."""
        call_on_thread(thread, function, *arguments).add_done_callback(self._log_failure)

    def _log_failure(self, called: Future[object]) -> None:
        if (error := called.exception()) is not None:
            text = "%s could not deal with the loss of its UUID. Restart it."
            self._logger.error(text, self._asset_uuid, exc_info=error)

    def _give_up(self) -> None:
        if self._liveness is not None and self._liveness.claims.get(self._asset_uuid) is self.claim:
            self._liveness.claims.pop(self._asset_uuid, None)

    def _owned_error(self, owner: Owner) -> AssetOwnedError:
        since, way = owner.started, "take over by take_over=True or `ofa run --take-over`"
        if not self._may_replace(owner):
            since += f" as generation {owner.generation}, and this is generation {self._generation}"
            way = "run `ofa apps up`, which removes old versions"
        return AssetOwnedError(
            f"{self._asset_uuid} is owned by {owner}, which has run it since {since}. Stop that process, give "
            f"this app another APP_UUID, or {way}.",
            asset_uuid=self._asset_uuid,
            owner=owner,
        )


def _is_same(owner: Owner, claim: Owner) -> bool:
    """Return whether a claim is that of an owner."""
    return (owner.epoch, owner.instance) == (claim.epoch, claim.instance)


def _epoch(owner: Owner | None) -> int | None:
    return None if owner is None else owner.epoch
