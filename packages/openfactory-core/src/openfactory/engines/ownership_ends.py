"""The ends of ownerships, as a process that lives writes them in the place of one that has gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

import msgspec

from openfactory.engines.room import waiting_for_room
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, Owner, end_events, is_by_owner, owner_in
from openfactory.events.receipt import Receipt
from openfactory.exceptions import DeliveryError, DeliveryTimeout

__all__ = ["OwnershipEnds"]

_logger = logging.getLogger("openfactory.liveness")


class _End(msgspec.Struct):
    """The end of an ownership that is not written yet.

    Attributes:
        events: the availability, and the claim with its end.
        text: the line for the log.
        receipts: the receipts of those for which the queue had room.
    """

    events: tuple[AssetEvent, AssetEvent]
    text: str
    receipts: tuple[Receipt, ...] = ()

    @property
    def is_published(self) -> bool:
        return len(self.receipts) == len(self.events)

    @property
    def is_settled(self) -> bool:
        return self.is_published and self.receipts[0].settled

    @property
    def error(self) -> Exception | None:
        return self.receipts[0].error if self.receipts else None


class OwnershipEnds:
    """Writes that assets are unavailable, because the process that owns them has ended.

    Args:
        last_events: returns the last event of each attribute of some assets, by UUID.
        publish: writes an event.
        announce: delivers an event that is not written in time to the subscriptions of this process.
        timeout: seconds to wait for the writes.

    Attributes:
        counters: number of ends that this process has written.
    """

    def __init__(
        self,
        last_events: Callable[[Collection[str]], Mapping[str, list[AssetEvent]]],
        publish: Callable[[AssetEvent], Receipt],
        announce: Callable[[AssetEvent], None],
        timeout: float,
    ) -> None:
        self.counters = {"ended_owners": 0}
        self._last_events = last_events
        self._publish = publish
        self._announce = announce
        self._timeout = timeout
        self._ends: dict[tuple[str, int], _End] = {}  # by asset and epoch of the claim

    def write(self, instance: str, assets: Collection[str], reason: Callable[[Owner], str]) -> set[str]:
        """Write the end of a process for each asset that it still owns and that is not unavailable already.

        Args:
            instance: the process.
            assets: assets that it has claimed.
            reason: returns how the ownership has ended.

        Returns:
            the assets that the process owns and that have not been available yet, whose end is not written.

        Raises:
            DeliveryTimeout: ends are not written yet; they are announced. Call it again.
            DeliveryError: an end could not be written. Call it again.
        """
        ends: list[_End] = []
        not_yet_available = set()
        for asset_uuid, events in self._last_events(list(assets)).items() if assets else ():
            last = {event.id: event for event in events}
            owner, available = owner_in(last), last.get(AVAILABILITY_ID)
            if owner is None or owner.instance != instance or owner.ended is not None or not owner.observable:
                continue
            if available is None or available.value == UNAVAILABLE:
                not_yet_available.add(asset_uuid)
                continue
            if available.value == "AVAILABLE" and available.position is not None and not is_by_owner(available):
                continue  # an app of an earlier version runs, which claims nothing
            ends.append(self._end_of(asset_uuid, owner, available, reason))
        self._wait_for(ends)
        return not_yet_available

    def settle(self) -> None:
        """Log the ends that are written by now, and write those for which the queue had no room.

        An end that was announced is written also if its process goes on meanwhile: it says then that it is available.
        """
        for key, end in list(self._ends.items()):
            if not end.is_published:
                self._write(end)
            if not end.is_settled:
                continue
            del self._ends[key]
            for receipt in end.receipts:
                if isinstance(receipt.error, DeliveryError):
                    receipt.error.told = True  # it is written again, so `close` does not report it as lost
            if end.error is None:
                _logger.warning("%s. Start it again.", end.text)
                self.counters["ended_owners"] += 1

    def _end_of(self, asset_uuid: str, owner: Owner, available: AssetEvent, reason: Callable[[Owner], str]) -> _End:
        """Return the end of an ownership, which is written unless its write is in the queue already."""
        end = self._ends.get((asset_uuid, owner.epoch))
        if end is None:
            text = reason(owner)
            events = end_events(asset_uuid, owner, available, text)
            end = self._ends[asset_uuid, owner.epoch] = _End(events, f"{asset_uuid} is UNAVAILABLE: {text}")
            self._write(end)
        return end

    def _write(self, end: _End) -> None:
        try:
            with waiting_for_room(0):
                for event in end.events[len(end.receipts) :]:
                    end.receipts += (self._publish(event),)
        except DeliveryTimeout:
            pass  # it is announced, and tried again at the next look

    def _wait_for(self, ends: list[_End]) -> None:
        """Wait for writes, and announce those that take long: a frozen process may hold the lock of a file."""
        give_up = time.monotonic() + self._timeout
        late = [
            end for end in ends if not (end.receipts and end.receipts[0].settles(max(give_up - time.monotonic(), 0)))
        ]
        for end in late:
            self._announce(end.events[0])
        self.settle()
        for end in ends:
            if end.error is not None:
                raise end.error
        if late:
            raise DeliveryTimeout(
                f"The ends of {len(late)} ownerships are not written yet. See the engine's health() for the cause.",
                pending=len(late),
            )
