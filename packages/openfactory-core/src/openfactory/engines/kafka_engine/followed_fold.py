"""The state of the assets that were asked for, kept up by the feed of the log.

The first call that needs an asset reads the records before the position of the feed, without the dispatcher's lock: the
feed goes on meanwhile, and the new records of the asset wait until the past is known. The records of other assets are
neither decoded nor folded.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from openfactory.engines.kafka_engine.fold import Fold
from openfactory.engines.kafka_engine.interest import Interest
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import key_of
from openfactory.engines.kafka_engine.past_state import PastState
from openfactory.engines.kafka_engine.positions import Partition, Positions
from openfactory.engines.kafka_engine.replay import Replay
from openfactory.logs.waiting import Waiting

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["FollowedFold"]

_logger = logging.getLogger("openfactory.engines")

# Seconds to wait until another log is read that has taken the place of the log, and between two looks meanwhile.
_RELOAD_SECONDS = 10.0
_LOOK_SECONDS = 0.5

# How often the log is read for single assets before it is read once for all.
_READS = 8

# Number of waiting records that are kept. Then a read of all assets goes on up to the present position of the feed.
_WAITING_RECORDS = 20_000


class _Log(Protocol):
    """The part of an engine that knows its log."""

    _partitions: list[Partition]
    _map_partitions: list[Partition]
    _newest: dict[str, int]
    _interest: Interest
    _positions: Positions

    def _places_of(self, asset_uuids: Collection[str] | None) -> list[Partition]:
        """Return the partitions in which the records of some assets are looked for."""

    def _expected_of(self, asset_uuid: str) -> list[Partition]:
        """Return the partitions in which the records of an asset are expected."""

    def _follow_partitions(self, partitions: Collection[Partition]) -> None:
        """Have the feed follow some partitions, those that it does not follow yet from their present ends."""

    def _note_last(self, partition: Partition, message: Message) -> None:
        """Note the last record of a partition that is in the state."""

    def _may_wait(self) -> bool:
        """Return whether this thread may wait for others, because it does not deliver events for them."""

    def _delivering(self) -> AbstractContextManager[object]:
        """Return a context that owns the dispatcher's lock, in which this thread delivers events."""


class _Load:
    """Reading of the past of some assets, or of all with None; their new records wait until its end."""

    def __init__(self, asset_uuids: Collection[str] | None) -> None:
        self.asset_uuids = asset_uuids
        self.former: dict[str, frozenset[Partition]] = {}  # of those whose past is known in part
        self.ends: dict[Partition, int] = {}
        self.waiting: list[tuple[Partition, int, Message]] = []
        self.is_needed = True
        self.ended = threading.Event()


class FollowedFold:
    """The fold of the assets that were asked for.

    Args:
        log: the engine that knows the log.
        lock: the dispatcher's lock, which guards the fold.
        feed: the feed of the log.
        past: reader of the state before the position of the feed.

    Attributes:
        fold: the state.
    """

    def __init__(self, log: _Log, lock: threading.RLock, feed: LogFeed, past: PastState) -> None:
        self.fold = Fold()
        self._log = log
        self._interest = log._interest
        self._lock = lock
        self._feed = feed
        self._past = past
        self._loads: dict[str, _Load] = {}
        self._whole_load: _Load | None = None
        self._is_whole = False
        self._has_places = False
        self._loaded = threading.Event()  # cleared while another log is read
        self._loaded.set()
        self._reads = 0.0  # of the log for single assets, since it was last read for all
        self._closed = False

    @property
    def is_loaded(self) -> bool:
        """Whether no other log is being read that has taken the place of the former one."""
        return self._loaded.is_set()

    # Reading what is asked for

    def ask(self, asset_uuids: Collection[str] | None) -> None:
        """Read the state of some assets, or of all with None, as far as it is missing, and keep it up from now on.

        Raises:
            EngineUnavailableError: the broker does not send the records.
        """
        looked_for: set[str] = set()
        while self._can_read():
            with self._lock:
                if not self._loaded.is_set():
                    continue  # another log has taken the place of the log meanwhile
                self._interest.ask(asset_uuids)
                missing = self._missing(asset_uuids)
                if missing is not None and not missing:
                    return
                if missing is not None and self._reads >= _READS:
                    self._interest.ask(None)
                    missing = None if not self._is_whole else missing
                partitions = self._places(missing)
                load = other = None
                if self._feed.positions.keys() >= set(partitions):
                    load, other = self._begin(missing, partitions)
            if load is not None:
                self._run(load)
                self._look_for_absent(load, looked_for)
            elif other is not None:
                other.ended.wait(_LOOK_SECONDS)
            else:
                self._log._follow_partitions(partitions)

    def ask_places(self) -> None:
        """Read the places of all assets in the unified namespace, and keep them up from now on."""
        while not self._has_places and self._can_read():
            self._log._follow_partitions(self._log._map_partitions)
            with self._lock:
                number, base = self._log._positions.log, self._log._positions.base
                ends = {partition: self._feed.positions.get(partition, base) for partition in self._log._map_partitions}
                self._interest.add_whole(dict.fromkeys(ends, base))
                self._feed.change()
            read = self._past.read({partition: (base, end) for partition, end in ends.items()}, ())
            with self._lock:
                if number == self._log._positions.log and self._loaded.is_set():
                    for asset_uuid, place in read.fold.places.items():
                        if asset_uuid not in self.fold.places:  # else a newer one has arrived
                            self.fold.apply_place(asset_uuid, place)
                    self._has_places = True

    def _can_read(self) -> bool:
        """Wait while another log is read, and return whether the present state can be extended."""
        if not self._log._may_wait():
            return self._loaded.is_set() and not self._closed
        deadline = time.monotonic() + _RELOAD_SECONDS
        while not self._loaded.wait(_LOOK_SECONDS):
            if self._closed or time.monotonic() >= deadline:
                return False
        return not self._closed

    def _missing(self, asset_uuids: Collection[str] | None) -> Collection[str] | None:
        """Return the assets among some whose state is missing, or None if that of all is."""
        if asset_uuids is None:
            if not self._is_whole:
                return None
            asset_uuids = list(self._interest.assets)
        elif self._is_whole:
            everywhere = dict.fromkeys(self._log._partitions, self._log._positions.base)
            for asset_uuid in asset_uuids:
                if asset_uuid not in self._interest.assets:
                    self._interest.add(asset_uuid, everywhere, self._log._expected_of(asset_uuid))
        return tuple(uuid for uuid in asset_uuids if not self._is_followed(uuid))

    def _is_followed(self, asset_uuid: str) -> bool:
        places = self._log._places_of([asset_uuid])
        return asset_uuid not in self._loads and self._interest.covers(asset_uuid, places)

    def _places(self, asset_uuids: Collection[str] | None) -> list[Partition]:
        return self._log._partitions if self._is_whole else self._log._places_of(asset_uuids)

    def _begin(
        self, asset_uuids: Collection[str] | None, partitions: Collection[Partition]
    ) -> tuple[_Load | None, _Load | None]:
        """Return a new load of some assets, or of all; or one of another thread, which is to be awaited."""
        if asset_uuids is None:
            others = [] if self._whole_load is None else [self._whole_load]
        else:
            others = [self._loads[asset_uuid] for asset_uuid in asset_uuids if asset_uuid in self._loads]
        if others and self._log._may_wait():
            return None, others[0]
        for other in others:  # this thread owns the lock until its own load has ended
            self._give_up(other)
        load, base = _Load(asset_uuids), self._log._positions.base
        load.ends = {partition: self._feed.positions[partition] for partition in partitions}
        if asset_uuids is None:
            self._whole_load = load
            self._interest.add_everything(dict.fromkeys(partitions, base))
        for asset_uuid in asset_uuids or ():
            self._loads[asset_uuid] = load
            if asset_uuid in self._interest.assets:
                load.former[asset_uuid] = self._interest.assets[asset_uuid]
            places = dict.fromkeys(self._places([asset_uuid]), base)
            self._interest.add(asset_uuid, places, self._log._expected_of(asset_uuid))
        self._feed.change()
        self._reads += len(load.ends) / max(len(self._log._partitions), 1)
        return load, None

    def _run(self, load: _Load) -> None:
        """Read the past of a load, then let its new records go on."""
        topic = self._log._partitions[0].topic
        what = "all assets" if load.asset_uuids is None else ", ".join([*load.asset_uuids][:3])
        parts = {partition: (self._log._positions.base, end) for partition, end in load.ends.items()}
        replay: Replay | None = None
        try:
            with Waiting(_logger, f"Reading the state of {what}", f"the records of {topic}"):
                while parts:
                    replay = self._past.read(parts, load.asset_uuids, replay, is_needed=lambda: load.is_needed)
                    with self._log._delivering():
                        parts = self._next_parts(load)
                        if not parts:
                            self._finish(load, replay)
        except BaseException:
            with self._log._delivering():
                self._give_up(load)
            raise

    def _next_parts(self, load: _Load) -> dict[Partition, tuple[int, int]]:
        """Return the parts to read in place of the waiting records, if these are too many to keep.

        The caller owns the lock.
        """
        if not load.is_needed or load is not self._whole_load or len(load.waiting) < _WAITING_RECORDS:
            return {}
        load.waiting.clear()
        before, load.ends = load.ends, {partition: self._feed.positions[partition] for partition in load.ends}
        return {partition: (before[partition], end) for partition, end in load.ends.items()}

    def _finish(self, load: _Load, replay: Replay) -> None:
        """Take the state that was read, then apply the records that have waited."""
        if load is self._whole_load:
            self._whole_load, self._is_whole, self._reads = None, True, 0.0
            names = replay.newest.keys() - self._interest.assets.keys()
            load.waiting = [record for record in load.waiting if key_of(record[2]) not in self._interest.assets]
            everywhere = dict.fromkeys(self._log._partitions, self._log._positions.base)
            for asset_uuid in list(self._interest.assets):
                if self._is_followed(asset_uuid):
                    self._interest.add(asset_uuid, everywhere, self._log._expected_of(asset_uuid))
        else:
            names = self._end_loads(load)
            for name in names:
                for partition in self._log._expected_of(name):  # also those in which strays were found
                    self._interest.expect(name, partition)
            self._feed.change()
        self.fold.replace(replay.fold, names)
        self._log._newest.update((name, replay.newest[name]) for name in names if name in replay.newest)
        self._let_waiting_go(load)

    def _end_loads(self, load: _Load) -> set[str]:
        """Return the assets that a load has still to bring, and remove them."""
        names = {name for name in load.asset_uuids or () if self._loads.get(name) is load}
        for name in names:
            del self._loads[name]
        return names

    def _give_up(self, load: _Load) -> None:
        """End a load without its state; the state from before it is kept up."""
        load.is_needed = False
        if load is self._whole_load:
            self._whole_load = None
            load.waiting.clear()
            self._interest.drop_everything(self._log._partitions[0].topic)
        for name in self._end_loads(load):
            if name in load.former:
                self._interest.assets[name] = load.former[name]
            else:
                self._interest.forget(name)
                self._is_whole = False  # a load of all assets has left it to this one
        self._let_waiting_go(load)

    def _let_waiting_go(self, load: _Load) -> None:
        load.ended.set()
        for partition, offset, message in load.waiting:
            if self._interest.wants(partition, message.key()):
                self._feed.hand_over(partition, offset, message)
        load.waiting.clear()

    def _look_for_absent(self, load: _Load, looked_for: set[str]) -> None:
        """Look in other partitions for assets of which a load has found nothing; a further load reads them there."""
        with self._lock:
            known = self._log._newest.keys()
            absent = [name for name in load.asset_uuids or () if name not in known and name not in looked_for]
            usual = [set(self._log._places_of([name])) for name in absent]
            partitions = [place for place in self._log._partitions if any(place not in places for places in usual)]
        if partitions and load.is_needed and not self._is_whole and self._log._may_wait():
            looked_for.update(absent)
            self._reads += len(partitions) / len(self._log._partitions)
            self._past.look_for(absent, partitions)

    # On the thread of the feed

    def admits(self, partition: Partition, offset: int, message: Message) -> bool:
        """Return whether an asset's record is applied now; otherwise it waits until the past of its asset is known."""
        if self._loads and (load := self._loads.get(key_of(message) or "")) is not None:
            load.waiting.append((partition, offset, message))
            return False
        if self._whole_load is not None and key_of(message) not in self._interest.assets:
            if len(self._whole_load.waiting) < _WAITING_RECORDS:  # else it is read with the next parts
                self._whole_load.waiting.append((partition, offset, message))
            return False
        return True

    def begin_log(self, partitions: Iterable[Partition]) -> set[Partition]:
        """Discard the state of a former log, and return the partitions whose past `reload` reads."""
        self.fold = Fold()
        for load in {*self._loads.values(), *([] if self._whole_load is None else [self._whole_load])}:
            load.is_needed = False
            load.waiting.clear()
            load.ended.set()
        self._loads.clear()
        self._whole_load, self._is_whole, self._has_places = None, False, False
        starts = dict.fromkeys(partitions, self._log._positions.base)
        self._interest.begin_log(starts, lambda uuid: self._log._places_of([uuid]), self._log._expected_of)
        self._loaded.clear()
        return self._interest.partitions()

    def reload(self) -> bool:
        """Read the state of another log up to the positions of the feed, and return whether there was one to read.

        Raises:
            EngineUnavailableError: the broker does not send the records.
        """
        if self._loaded.is_set():
            return False
        with self._lock:
            number, base = self._log._positions.log, self._log._positions.base
            asset_uuids = None if self._interest.everything else list(self._interest.assets)
            parts = {partition: (base, end) for partition, end in self._feed.positions.items()}
        last: dict[Partition, Message] = {}
        read = self._past.read(
            parts,
            asset_uuids,
            is_needed=lambda: not self._closed and number == self._log._positions.log,
            on_last=last.__setitem__,
        )
        with self._lock:
            if self._closed or number != self._log._positions.log:
                return False
            for partition, message in last.items():
                self._log._note_last(partition, message)
            self.fold, self._is_whole = read.fold, self._interest.everything
            self.fold.mark_changed()
            self._has_places = parts.keys() >= set(self._log._map_partitions)
            self._log._newest.update(read.newest)
            for asset_uuid in self._interest.assets:
                for partition in self._log._expected_of(asset_uuid):
                    self._interest.expect(asset_uuid, partition)
            self._loaded.set()
            return True

    # The state as a whole

    def begin_whole(self, fold: Fold) -> None:
        """Begin with the state of all assets up to the positions of the feed. The caller owns the lock."""
        self.fold, self._is_whole, self._has_places = fold, True, True
        base = self._log._positions.base
        self._interest.add_everything(dict.fromkeys([*self._log._partitions, *self._log._map_partitions], base))

    def may_let_go(self) -> bool:
        """Return whether no part of the log is being read. The caller owns the lock."""
        return not self._loads and self._whole_load is None and self._loaded.is_set()

    def let_go(self) -> set[str]:
        """Keep only the assets that the interest has on their own account, and return the others.

        The caller owns the lock.
        """
        self._is_whole = False
        self._interest.narrow(lambda asset_uuid: self._log._places_of([asset_uuid]))
        dropped = self.fold.asset_uuids() - self._interest.assets.keys()
        for asset_uuid in dropped:
            self.fold.drop(asset_uuid)
        return dropped

    def close(self) -> None:
        """End all reading of the past soon."""
        self._closed = True
        for load in [*self._loads.values(), *([] if self._whole_load is None else [self._whole_load])]:
            load.is_needed = False
