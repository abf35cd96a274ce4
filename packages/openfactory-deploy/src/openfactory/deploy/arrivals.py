"""The arrival of a new owner: an asset that becomes AVAILABLE by a claim which is newer than the one before.

A port that answers, or a process that runs, is not enough. The old owner may still have written the availability that
the log shows, so that only an availability after the new claim counts.
"""

from __future__ import annotations

import threading
from types import TracebackType

from openfactory.assets import AssetEvent, Factory, Owner
from openfactory.deploy.registered import AVAILABLE
from openfactory.events.event import OWNER_TAG
from openfactory.events.ownership import AVAILABILITY_ID, OWNER_ID, counts, is_by_owner, owner_in

__all__ = ["Arrivals"]

# Maximum number of claims and availabilities that wait for the thread that reads them.
_MAX_QUEUED = 10_000


class _Seen:
    """The owner of an asset and its availability, as far as the events since the beginning tell."""

    def __init__(self, owner: Owner | None) -> None:
        self.owner = owner
        self.is_available = False
        self.has_claims = True  # whether the program that has written the availability claims the asset

    def receive(self, event: AssetEvent) -> None:
        if not counts(event, self.owner):
            return
        if event.tag == OWNER_TAG:
            owner = owner_in({OWNER_ID: event})
            if owner is not None:
                if self.owner is None or owner.epoch != self.owner.epoch:
                    self.is_available = False  # the earlier owner has written it
                self.owner = owner
        elif event.id == AVAILABILITY_ID:
            self.is_available = event.value == AVAILABLE
            self.has_claims = is_by_owner(event)


class Arrivals:
    """Watches the claims and the availability of all assets of a factory; a context manager.

    Args:
        factory: the factory.
    """

    def __init__(self, factory: Factory) -> None:
        self._events = factory.watch(attributes=[AVAILABILITY_ID, OWNER_ID], commands=True, max_queued=_MAX_QUEUED)
        self._factory = factory
        self._seen: dict[str, _Seen] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="openfactory-arrivals", daemon=True)
        self._thread.start()

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()
        self._thread.join()

    def begin(self, uuid: str) -> int:
        """Forget the availability of an asset, and return the epoch of its last claim; only newer ones count now."""
        sighting = self._factory.owners([uuid]).get(uuid)
        owner = None if sighting is None else sighting.owner
        with self._changed:
            seen = self._seen.get(uuid)
            if seen is not None and seen.owner is not None and (owner is None or seen.owner.epoch > owner.epoch):
                owner = seen.owner  # an event was faster than the answer
            self._seen[uuid] = _Seen(owner)
        return 0 if owner is None else owner.epoch

    def is_up(self, uuid: str, epoch: int) -> bool:
        """Return whether an asset is AVAILABLE by a claim newer than `epoch`, or by a program without claims."""
        with self._changed:
            seen = self._seen.get(uuid)
            if seen is None or not seen.is_available:
                return False
            owner = seen.owner
            if owner is None or not seen.has_claims:
                return True
            return owner.ended is None and owner.epoch > epoch

    def claimed(self, uuid: str, epoch: int) -> bool:
        """Return whether a process has claimed an asset since the claim with `epoch`."""
        with self._changed:
            seen = self._seen.get(uuid)
            return seen is not None and seen.owner is not None and seen.owner.epoch > epoch

    def wait(self, seconds: float) -> None:
        """Wait until something changes, at most some seconds."""
        with self._changed:
            self._changed.wait(seconds)

    def _run(self) -> None:
        while (event := self._events.get()) is not None or not self._events.ended:
            if event is None:
                continue
            with self._changed:
                seen = self._seen.setdefault(event.asset_uuid, _Seen(None))
                seen.receive(event)
                self._changed.notify_all()
