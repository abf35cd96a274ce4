"""The ends of ownerships, as a process that lives writes them in the place of one that has gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

from openfactory.engines.room import waiting_for_room
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, Owner, end_events, is_by_owner, owner_in
from openfactory.events.receipt import Receipt
from openfactory.exceptions import DeliveryError, DeliveryTimeout

__all__ = ["OwnershipEnds"]

_logger = logging.getLogger("openfactory.liveness")


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
        self._receipts: dict[tuple[str, int], Receipt] = {}  # by asset and epoch, writes that are not acknowledged
        self._claims: dict[tuple[str, int], Receipt] = {}  # of the claims with the same ends

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
        written: list[tuple[tuple[str, int], Receipt, str]] = []
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
            text = reason(owner)
            receipt = self._published(asset_uuid, owner, available, text)
            written.append(((asset_uuid, owner.epoch), receipt, f"{asset_uuid} is UNAVAILABLE: {text}"))
        self._wait_for([receipt for _, receipt, _ in written])
        for key, receipt, _ in written:
            for failed in (receipt, self._claims[key]):
                if isinstance(failed.error, DeliveryError):
                    failed.error.told = True  # it is written again, so `close` does not report it as lost
        for key, receipt, text in written:
            receipt.wait(0)  # an end that does not reach the log is written again
            del self._receipts[key], self._claims[key]
            _logger.warning("%s. Start it again.", text)
            self.counters["ended_owners"] += 1
        return not_yet_available

    def _published(self, asset_uuid: str, owner: Owner, available: AssetEvent, reason: str) -> Receipt:
        """Write the end of an ownership, unless its write is in the queue already, and return the receipt."""
        receipt = self._receipts.get((asset_uuid, owner.epoch))
        if receipt is None or receipt.error is not None:
            end, claim = end_events(asset_uuid, owner, available, reason)
            try:
                with waiting_for_room(0):
                    receipt = self._receipts[asset_uuid, owner.epoch] = self._publish(end)
                    self._claims[asset_uuid, owner.epoch] = self._publish(claim)
            except DeliveryTimeout:
                self._announce(end)
                raise
        return receipt

    def _wait_for(self, receipts: list[Receipt]) -> None:
        """Wait for writes, and announce those that take long: a frozen process may hold the lock of a file.

        Raises:
            DeliveryTimeout: some are not written yet.
        """
        give_up = time.monotonic() + self._timeout
        late = [receipt for receipt in receipts if not receipt.settles(max(give_up - time.monotonic(), 0))]
        for receipt in late:
            assert receipt.event is not None
            self._announce(receipt.event)
        if late:
            raise DeliveryTimeout(
                f"The ends of {len(late)} ownerships are not written yet. See the engine's health() for the cause.",
                pending=len(late),
            )
