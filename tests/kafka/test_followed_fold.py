"""The state of the assets that were asked for, while the log is read for others, fails to be read, or is replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest

from openfactory.engines.kafka_engine import followed_fold
from openfactory.engines.kafka_engine.followed_fold import FollowedFold
from openfactory.engines.kafka_engine.interest import Interest
from openfactory.engines.kafka_engine.positions import Partition, Positions
from openfactory.engines.kafka_engine.replay import Replay
from openfactory.engines.kafka_engine.side_reader import SideReader
from openfactory.events.event import new_event
from openfactory.exceptions import EngineUnavailableError
from openfactory.testing import eventually

pytestmark = pytest.mark.timeout(60)

LOG = Partition("log", 0)


class Record:
    """A record of the log, as librdkafka hands it over."""

    def __init__(self, asset_uuid: str, value: int) -> None:
        self.asset_uuid = asset_uuid
        self.value = value

    def key(self) -> bytes:
        return self.asset_uuid.encode()


class Log:
    """An engine with a log of one partition, without a broker: in place of its feed, and of the reader of the past."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.meanwhile: Callable[[Collection[str] | None], object] = lambda _: None  # runs while the past is read
        self._partitions = [LOG]
        self._map_partitions: list[Partition] = []
        self._newest: dict[str, int] = {}
        self._interest = Interest()
        self.lock = threading.RLock()
        self._positions = Positions()
        self._positions.counts = {LOG.topic: 1}
        self.positions = {LOG: 0}
        self.is_restarted = False
        edge: Any = self
        self.state = FollowedFold(self, self.lock, edge, edge)

    def append(self, asset_uuid: str, value: int) -> None:
        """Append a record, which the feed delivers at once."""
        record: Any = Record(asset_uuid, value)
        self.records.append(record)
        with self.lock:
            offset = self.positions[LOG]
            if self._interest.wants(LOG, record.key()):
                self.hand_over(LOG, offset, record)
            self.positions[LOG] = offset + 1

    def begin(self, *records: Record) -> None:
        """Take the place of the log with another one, from whose end the feed follows it. The caller owns the lock."""
        self.records = list(records)
        self._positions.begin_log(self._positions.counts)
        self.positions = {LOG: self._positions.base + len(records)}
        self.state.begin_log([LOG])

    def values(self, *asset_uuids: str) -> dict[str, list[object]]:
        """Ask for the values of some assets, or of all."""
        self.state.ask(asset_uuids or None)
        events = self.state.fold.events(asset_uuids or None)
        return {asset_uuid: [event.value for event in known] for asset_uuid, known in events.items()}

    def read(
        self,
        parts: Mapping[Partition, tuple[int, int]],
        asset_uuids: Collection[str] | None,
        replay: Replay | None = None,
        **_: object,
    ) -> Replay:
        replay = Replay(self._positions) if replay is None else replay
        [(start, end)] = parts.values()
        base = self._positions.base
        for offset in range(start, end):
            record = self.records[offset - base]
            if asset_uuids is None or record.asset_uuid in asset_uuids:
                replay.add(self._event(record, offset), LOG, offset)
        self.meanwhile(asset_uuids)
        return replay

    def bounds(self, _: object) -> dict[Partition, tuple[int, int]]:
        base = self._positions.base
        return {LOG: (base, base + len(self.records))}

    def read_part(self, _: Partition, start: int, end: int, keys: Collection[bytes]) -> Iterator[tuple[int, Record]]:
        base = self._positions.base
        records = ((offset, self.records[offset - base]) for offset in range(start, end))
        return ((offset, record) for offset, record in records if record.key() in keys)

    def change(self) -> None:
        """Change nothing: the feed follows the one partition."""

    def hand_over(self, partition: Partition, offset: int, message: Any) -> None:
        if self.state.admits(partition, offset, message):
            self.state.fold.take(self._event(message, offset))

    def _event(self, record: Record, offset: int) -> Any:
        return new_event(record.asset_uuid, "x", record.value, "Events", "Test").with_position(offset + 1)

    def _places_of(self, _: Collection[str] | None) -> list[Partition]:
        return [LOG]

    def _expected_of(self, _: str) -> list[Partition]:
        return [LOG]

    def _follow_partitions(self, partitions: Collection[Partition]) -> None:
        raise AssertionError(f"{partitions} are followed already.")

    def _note_last(self, partition: Partition, message: Any) -> None:
        raise AssertionError(f"{partition} has no state file, which {message} would mark.")

    def _may_wait(self) -> bool:
        return True

    def _delivering(self) -> AbstractContextManager[object]:
        return self.lock

    def look_for(self, asset_uuids: Collection[str], partitions: Collection[Partition]) -> None:
        raise AssertionError(f"{partitions} have been looked at for {asset_uuids} already.")


@pytest.fixture
def log() -> Log:
    return Log()


def test_an_asset_whose_own_past_cannot_be_read_is_read_again_after_all_others_were_read(log: Log) -> None:
    log.append("MILL", 1)
    log.append("SAW", 2)

    asking = threading.Thread(target=log.state.ask, args=(None,))

    def ask_for_all(asset_uuids: Collection[str] | None) -> None:
        if asset_uuids is not None:
            log.meanwhile = lambda _: None
            asking.start()
            eventually(lambda: log.state._is_whole)
            raise EngineUnavailableError("No broker answers: a fault on purpose. Try again.", address="here")

    log.meanwhile = ask_for_all
    with pytest.raises(EngineUnavailableError):
        log.values("MILL")
    asking.join(60)
    log.append("SAW", 3)
    assert log.values("MILL") == {"MILL": [1]}
    assert log.values() == {"MILL": [1], "SAW": [3]}
    assert not asking.is_alive()


def test_an_asset_that_is_asked_for_while_another_log_takes_the_place_is_read_from_that(log: Log) -> None:
    asking = threading.Thread(target=log.values, args=("MILL",))

    def let_ask(_: object) -> None:
        log.meanwhile = lambda _: None
        log.lock.release()
        asking.join(0.5)
        log.lock.acquire()

    with log.lock:
        asking.start()
        time.sleep(0.2)  # it waits for the lock
        log.begin(Record("SAW", 1), Record("MILL", 2))
        log.meanwhile = let_ask
        assert log.state.reload()
    asking.join(60)
    assert log.values("MILL") == {"MILL": [2]}


def test_nothing_is_read_aside_while_another_log_is_read(log: Log) -> None:
    side: Any = log
    reader = SideReader(side, lambda: side, log._interest, log._delivering)
    with log.lock:
        log.begin()
        log._interest.add("MILL", {LOG: log._positions.base}, ())
        log.records.append(Record("MILL", 1))
    log.is_restarted = True  # until the log is read up to the position
    reader.read({LOG: log._positions.base + 1})
    assert log.positions == {LOG: log._positions.base}
    log.is_restarted = False
    reader.read({LOG: log._positions.base + 1})
    assert log.positions == {LOG: log._positions.base + 1}


@pytest.mark.parametrize("more", [0, 2])
def test_records_that_arrive_while_all_is_read_are_kept_up_to_a_number(
    log: Log, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(followed_fold, "_WAITING_RECORDS", 3)
    kept: list[int] = []
    log.append("MILL", 0)

    def write(_: object) -> None:
        for value in range(len(log.records), len(log.records) + 10):
            log.append("MILL", value)
            log.append("SAW", value)
        load = log.state._whole_load
        assert load is not None
        kept.append(len(load.waiting))
        if len(kept) > more:
            log.meanwhile = lambda _: None

    log.meanwhile = write
    last = {"MILL": [10 + 20 * more], "SAW": [10 + 20 * more]}
    assert log.values() == last
    assert kept == [3] * (1 + more)
    log.append("SAW", 99)
    assert log.values() == last | {"SAW": [99]}
