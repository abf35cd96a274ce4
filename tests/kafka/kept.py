"""State keepers for the tests, histories that they fold, and the state that an engine starts with."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.fold import Fold
from openfactory.engines.kafka_engine.kept_state import KeptState
from openfactory.engines.kafka_engine.log_reader import LogReader
from openfactory.engines.kafka_engine.log_watch import LogWatch
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.state_keeper import StateKeeper
from openfactory.engines.kafka_engine.state_records import Key, log_of
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent, new_event
from openfactory.events.message import encode_message
from openfactory.events.ownership import AVAILABILITY_ID, Owner, end_event, owned
from openfactory.events.registration import deregistration_event
from openfactory.settings.credentials import Credentials
from openfactory.testing import eventually
from servers import KafkaBroker
from workers.bare_log import append

__all__ = ["Kept", "Seen", "by_state", "by_whole_log", "history", "keeping", "written"]

ASSETS = [f"ASSET-{number}" for number in range(6)]
SECONDS = 60.0


class Seen(NamedTuple):
    """The state that an engine has after its start, and the records of the log that it has not read for it."""

    events: Mapping[tuple[str, str], AssetEvent]
    commands: Mapping[tuple[str, str], list[AssetEvent]]
    deregistered: Mapping[str, int]
    types: Mapping[str, str]
    availability: Mapping[str, str]

    def differences(self, other: Seen) -> list[tuple[Any, ...]]:
        """The parts in which the state differs from another, each with both values."""
        found: list[tuple[Any, ...]] = []
        for name, ours, theirs in zip(self._fields, self, other, strict=True):
            assert isinstance(ours, Mapping)
            assert isinstance(theirs, Mapping)
            keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
            found += [(name, key, ours.get(key), theirs.get(key)) for key in keys]
        return found


def by_state(url: str) -> Seen:
    """The state of a start that may use the state topic."""
    with closing(KafkaEngine(url)) as engine:
        return seen(engine)


def by_whole_log(url: str) -> Seen:
    """The state of a start that reads the whole log."""
    with patch.object(KeptState, "read", lambda *_: None):
        return by_state(url)


def seen(engine: KafkaEngine) -> Seen:
    """The state of an engine that is open."""
    events = engine.snapshot().events
    fold: Fold = engine._state.fold
    return Seen(
        {(event.asset_uuid, event.id): event for of_asset in events.values() for event in of_asset},
        {key: list(recent) for key, recent in fold.commands.items()},
        dict(fold.deregistered),
        engine.types(),
        engine.availability(),
    )


@contextmanager
def keeping(url: str) -> Iterator[StateKeeper]:
    """Run a state keeper on a thread."""
    keeper = StateKeeper(url, flush_seconds=0.2)
    thread = threading.Thread(target=keeper.run, daemon=True)
    thread.start()
    try:
        yield keeper
    finally:
        keeper.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


class Kept:
    """The state topic of a factory, read beside all engines."""

    def __init__(self, broker: KafkaBroker, prefix: str) -> None:
        self._broker = broker
        self._prefix = prefix

    def lag(self) -> int:
        """The number of records that the topic lacks."""
        with self._open() as (state, partitions):
            return state.lag(partitions)

    def wait(self) -> None:
        """Wait until the topic has the state of the whole log."""
        eventually(lambda: self.lag() == 0, timeout=SECONDS)

    def present(self) -> set[Key]:
        """The keys of all partitions."""
        with self._open() as (state, partitions):
            return {key for partition in partitions for key in state.keys(partition.number)}

    def markers(self) -> dict[int, int]:
        """By partition, the offset up to which the topic has the log."""
        with self._open() as (state, partitions):
            parts = {partition.number: state.read(partition.number) for partition in partitions}
            return {number: part.marker.offset for number, part in parts.items() if part is not None}

    @contextmanager
    def _open(self) -> Iterator[tuple[KeptState, list[Partition]]]:
        connection = BrokerConnection(self._broker.bootstrap_servers, Credentials())
        log, topic = f"{self._prefix}ofa_assets", f"{self._prefix}ofa_assets_state"
        watch = LogWatch(connection, [log])
        with closing(watch), closing(LogReader(connection)) as reader:
            identity = (watch.answer(watch.ask()) or {})[log]
            state = KeptState(
                reader, connection.positions, topic, reader.cluster().topics.get(topic, 0), log_of(identity)
            )
            yield state, [Partition(log, number) for number in range(identity.partitions)]


#: An event, or the bytes of a record of the first asset.
Written = AssetEvent | bytes


def written(broker: KafkaBroker, prefix: str, events: Sequence[Written], chance: random.Random | None = None) -> None:
    """Write events to the log.

    Args:
        chance: if it is given, some events are written to the partition of another asset.
    """
    topic = f"{prefix}ofa_assets"
    records = [(ASSETS[0], one) if isinstance(one, bytes) else (one.asset_uuid, encode_message(one)) for one in events]
    if chance is None:
        append(broker.bootstrap_servers, topic, *records)
        return
    for key, value in records:
        strays = chance.random() < 0.1
        append(broker.bootstrap_servers, topic, (key, value), **({"partition": 0} if strays else {}))


def history(chance: random.Random, count: int) -> list[Written]:
    """Events of all kinds, as apps, devices and programs with faults write them."""
    epochs = dict.fromkeys(ASSETS, 0)
    return [_event(chance, chance.choice(ASSETS), epochs, number) for number in range(count)]


def _event(chance: random.Random, asset: str, epochs: dict[str, int], number: int) -> Written:
    kind = chance.randrange(20)
    epoch = max(epochs[asset] - chance.choice((0, 0, 0, 1)), 0)
    if kind == 0:
        supersedes = epochs[asset] - chance.choice((0, 0, 1))
        epochs[asset] += 1
        return Owner(f"p{number}", epochs[asset], max(supersedes, 0), "host", 1 + number, "now").event(asset)
    if kind == 1:
        return owned(new_event(asset, AVAILABILITY_ID, "AVAILABLE", "Events", "Availability"), epoch)
    if kind == 2:
        owner = Owner(f"p{number}", max(epoch, 1), 0, "host", 1 + number, "now")
        return end_event(asset, owner, None, "ended")
    if kind == 3:
        event = deregistration_event(asset)
        return owned(event, epoch) if chance.random() < 0.5 else event
    if kind == 4:
        return owned(new_event(asset, "AssetType", f"Type-{number}", "OpenFactory", "AssetType"), epoch)
    if kind == 5:
        attributes = {"timeout": 10.0} if chance.random() < 0.5 else None
        return new_event(asset, "start_CMD", f'{{"header": {number}}}', "Method", COMMAND_TAG, attributes=attributes)
    if kind == 6:
        text = f'{{"status": "succeeded", "correlation_id": "{number}"}}'
        return owned(new_event(asset, "start_REPLY", text, "Method", REPLY_TAG), epoch)
    if kind == 7:
        return chance.choice((b"not JSON", b"{}", b'["a"]', b'{"ID": "x", "VALUE": 1'))
    value = chance.choice((number, number / 7, f"text {number}", UNAVAILABLE, None, {"a": [number]}, "ü\n"))
    type, id = chance.choice((("Samples", "speed"), ("Events", "status"), ("Condition", "system"), ("Events", "a.b")))
    return new_event(asset, id, value, type, "Test")
