"""Liveness: which processes that own assets still live, and the end of those that do not.

An engine has a mechanism by which processes see each other, the `Presence`: the kernel's lock on a file, or the members
of consumer groups. `Liveness` looks at it, and writes the end of an owner that has gone, in the owner's place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from openfactory.concurrency import process_identity
from openfactory.concurrency.pauses import Pauses
from openfactory.engines.ownership_ends import OwnershipEnds
from openfactory.engines.presence import Presence, Sight, Sighting
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import OWNER_ID, Owner, owner_in
from openfactory.events.receipt import Receipt
from openfactory.exceptions import EngineClosedError, OpenFactoryError
from openfactory.logs.outage import Outage
from openfactory.settings import seconds

__all__ = ["Liveness", "liveness_timeout"]

_logger = logging.getLogger("openfactory.liveness")

# Looks at the presence within the time limit: enough for several before a process counts as ended.
_LOOKS = 10

# Seconds after which a claim is written again; a log may keep its records for an hour.
_RENEWAL_SECONDS = 1_800.0

# A look that is later by so many seconds tells of a pause of this process.
_PAUSE_SECONDS = 0.5

# The shortest and the longest time limit in seconds.
_SHORTEST_TIMEOUT = 1.0
_LONGEST_TIMEOUT = 3_600.0

# Seconds between two looks of a process that waits for an owner's end.
_POLL_SECONDS = 0.2


class Liveness:
    """Observer of the owners of assets, which writes the end of those that have gone, on a thread of its own.

    Only seconds in which this process looks count as silence of another: a process that was frozen itself, and wakes
    up, does not take the others for dead. Nothing counts while nothing can be seen.

    Args:
        presence: the mechanism by which processes see each other.
        last_events: returns the last event of each attribute of some assets, by UUID.
        publish: writes an event.
        claims: returns the claims that the engine knows without being told, those of all assets of a file for example.
        timeout: seconds after which the end of a process must be known.
        announce: delivers an event that cannot be written now to the subscriptions of this process, each of which
            receives it once; called at each look until the event is written.

    Attributes:
        claims: the claims of the apps of this process, by the UUID of their assets.
        counters: number of ends that this process has written.
        pauses: times at which this process was frozen or slow, so that another may have claimed its assets meanwhile.
    """

    def __init__(
        self,
        presence: Presence,
        last_events: Callable[[Collection[str]], Mapping[str, list[AssetEvent]]],
        publish: Callable[[AssetEvent], Receipt],
        claims: Callable[[], Iterable[AssetEvent]] = tuple,
        timeout: float = 15.0,
        announce: Callable[[AssetEvent], None] = lambda _: None,
    ) -> None:
        self.presence = presence
        self.claims: dict[str, Owner] = {}
        self._interval = timeout / _LOOKS
        self.pauses = Pauses(self._interval + _PAUSE_SECONDS)
        self._ends = OwnershipEnds(last_events, publish, announce, self._interval)
        self._publish = publish
        self._known_claims = claims
        self.counters = self._ends.counters
        self._lock = threading.Lock()
        self._noted: dict[str, int] = {}  # by asset, the epoch of the last claim
        self._owned: defaultdict[str, dict[str, int]] = defaultdict(dict)  # by instance, epochs of its assets
        self._silence: dict[str, float] = {}  # by instance, the seconds since its last sign
        self._ended: set[str] = set()  # instances whose end is written
        self._seen: dict[str, float] = {}  # by instance, the time of its last sign as this process has seen it
        self._thread: threading.Thread | None = None
        self._has_read_claims = False
        self._closed = threading.Event()
        self._outage = Outage(
            _logger, meanwhile="It is tried again.", over="The owners of assets can be looked at again."
        )
        self._unread = Outage(
            _logger, meanwhile="Those that are watched are noted.", over="The claims of assets can be read again."
        )

    @property
    def instance(self) -> str:
        """Random id of this process."""
        return self.presence.instance

    def start(self) -> None:
        """Look at the other processes from now on."""
        if self._thread is not None or self._closed.is_set() or not self.presence.is_shared:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="openfactory-liveness", daemon=True)
                self._thread.start()

    def read_claims(self) -> None:
        """Take note of all claims that the engine knows at the next look, because it watches more assets."""
        self._has_read_claims = False
        self.start()

    def join(self) -> None:
        """Let other processes see this one, which owns assets."""
        self.presence.join()
        self.start()

    def note(self, asset_uuid: str, claim: AssetEvent) -> None:
        """Take note of the claim of an asset that this process watches."""
        owner = owner_in({OWNER_ID: claim})
        if owner is not None and owner.ended is None and owner.observable and owner.instance != self.instance:
            with self._lock:
                if self._noted.get(asset_uuid) != owner.epoch:
                    self._noted[asset_uuid] = self._owned[owner.instance][asset_uuid] = owner.epoch
                    self._ended.discard(owner.instance)
                    self._silence.pop(owner.instance, None)  # a new claim is a sign of life
            self.start()

    def lives(self, asset_uuid: str, owner: Owner) -> bool:
        """Return whether the owner of an asset lives; wait as long as one that has ended may seem to live."""
        if owner.ended is not None:
            return False
        if owner.instance == self.instance:
            return asset_uuid in self.claims
        is_running = process_identity.is_running(owner.machine, owner.pid, owner.process_start)
        if is_running is not None:
            return is_running
        if not self.presence.lag:
            return self.look(owner) in (Sight.LIVES, Sight.SILENT)
        now = silent_since = time.monotonic()
        deadline = now + self.presence.lag
        while True:
            sight, now = self.look(owner), time.monotonic()
            if sight is not Sight.SILENT:
                silent_since = now
                if sight is Sight.ENDED or now >= deadline:
                    return sight is Sight.LIVES
            elif now - silent_since >= self.presence.patience:  # one that was started a moment ago may not be seen yet
                return False
            if self._closed.wait(_POLL_SECONDS):
                return sight is Sight.LIVES

    def look(self, owner: Owner) -> Sight:
        """Return the present state of the process of an owner."""
        if owner.instance == self.instance:
            return Sight.LIVES
        return self.presence.peek([owner.instance]).get(owner.instance, Sight.UNKNOWN)

    def sightings(self, owners: Mapping[str, Owner]) -> dict[str, Sighting]:
        """Return the owners of some assets with the present states of their processes, by UUID.

        A process is silent if its last sign is too long ago for one that runs.
        """
        others = {owner.instance for owner in owners.values() if owner.ended is None} - {self.instance}
        sights = {**self.presence.peek(others), self.instance: Sight.LIVES}
        if Sight.UNKNOWN in sights.values():
            self.presence.join()  # a process that others cannot see may see nobody
            sights |= self.presence.peek(others)
        now = time.time()
        seen = {}
        for asset_uuid, owner in owners.items():
            sight = Sight.ENDED if owner.ended is not None else sights.get(owner.instance, Sight.UNKNOWN)
            last_seen = self.last_seen(owner)
            if sight in (Sight.LIVES, Sight.SILENT) and last_seen is not None:
                sight = Sight.SILENT if now - last_seen > self.presence.patience > 0 else Sight.LIVES
            seen[asset_uuid] = Sighting(owner, sight, last_seen)
        return seen

    def last_seen(self, owner: Owner) -> float | None:
        """Return the time of the last sign of an owner in seconds since 1970, or None if it is not known."""
        seen = self.presence.last_seen(owner.instance)
        return self._seen.get(owner.instance) if seen is None else seen

    def close(self, timeout: float = 1.0) -> None:
        """End the thread and leave."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self.presence.close()

    def _run(self) -> None:
        self._note_all()
        last = renewed = time.monotonic()
        while not self._closed.wait(self._interval):
            now = time.monotonic()
            elapsed, last = min(now - last, 2 * self._interval), now  # more than that, this process was frozen itself
            self.pauses.tick()
            try:
                self.presence.beat()
                if not self._has_read_claims:
                    self._note_all()
                self._look(elapsed)
                if now - renewed > _RENEWAL_SECONDS:
                    renewed = now
                    self._renew()
                self._outage.end()
            except EngineClosedError:
                return
            except OpenFactoryError as error:
                self._outage.begin(f"The owners of assets cannot be looked at now ({error}).")
            except Exception:
                _logger.exception("The owners of assets cannot be looked at now. It is tried again.")

    def _note_all(self) -> None:
        """Take note of all claims that the engine knows."""
        self._has_read_claims = True
        try:
            for claim in self._known_claims():
                self.note(claim.asset_uuid, claim)
            self._unread.end()
        except OpenFactoryError as error:
            self._has_read_claims = False
            self._unread.begin(f"The claims of assets cannot be read ({error}).")

    def _look(self, elapsed: float) -> None:
        self._ends.settle()
        with self._lock:
            instances = {*self._owned, *self.presence.others()} - {self.instance}
        sights = self.presence.look(instances)
        ended = [instance for instance, sight in sights.items() if self._has_ended(instance, sight, elapsed)]
        if ended:
            self._note_all()  # they may have claimed assets that this process does not watch
        for instance in ended:
            self._write_end(instance, sights[instance])

    def _has_ended(self, instance: str, sight: Sight, elapsed: float) -> bool:
        """Return whether a look at a process shows that its end is to be written."""
        with self._lock:
            silence = self._silence.pop(instance, 0.0) + elapsed
            if sight is Sight.LIVES:
                self._seen[instance] = time.time()
                self._ended.discard(instance)
            elif instance not in self._ended:
                if sight is Sight.SILENT:
                    self._silence[instance] = silence
                    return silence >= self.presence.patience > 0
                return sight is Sight.ENDED
            return False

    def _renew(self) -> None:
        """Write the claims of this process again, before the retention of a log deletes them."""
        for asset_uuid, owner in list(self.claims.items()):
            self._publish(owner.event(asset_uuid))

    def _write_end(self, instance: str, sight: Sight) -> None:
        """Write the end of a process for each asset that it still owns and that is not unavailable already."""
        with self._lock:
            assets = dict(self._owned.get(instance, {}))
        not_yet_available = self._ends.write(instance, assets, lambda owner: self._reason(owner, sight))
        with self._lock:
            self._silence.pop(instance, None)
            for asset_uuid, epoch in assets.items():
                # A process that is frozen before it is available may go on. It may also have claimed an asset again.
                is_over = sight is not Sight.SILENT or asset_uuid not in not_yet_available
                if is_over and self._owned[instance].get(asset_uuid) == epoch:
                    del self._owned[instance][asset_uuid]
            if not self._owned[instance]:
                del self._owned[instance]
                self._ended.add(instance)
        if sight is Sight.ENDED:
            self.presence.forget(instance)

    def _reason(self, owner: Owner, sight: Sight) -> str:
        what = "ended without a word" if sight is Sight.ENDED else self.presence.silence
        seen = self.last_seen(owner)
        return f"{owner} {what}, {'started ' + owner.started if seen is None else 'last seen ' + _time_of_day(seen)}"


def liveness_timeout() -> float:
    """Return LIVENESS_TIMEOUT, the seconds after which the end of a process must be known.

    Raises:
        ConfigurationError: the value is not a number from 1 to 3600.
    """
    return seconds("LIVENESS_TIMEOUT", _SHORTEST_TIMEOUT, _LONGEST_TIMEOUT)


def _time_of_day(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
