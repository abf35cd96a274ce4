"""Tests of ownership: claims of an asset, the events of its owner, and the end of its process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from openfactory.assets.asset_class import Asset
from openfactory.engines import Engine
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.ownership import AVAILABILITY_ID, Owner, end_event, owned
from openfactory.events.timestamp import current_timestamp
from openfactory.kafka import KSQLDBClient
from openfactory.testing.waiting import eventually

__all__ = ["OwningConformance", "SharedOwningConformance"]

# A process that owns an asset: its arguments are the URL and the UUID.
_OWNER = """
import os, sys, time
from openfactory.engines import open_engine
from openfactory.events.event import new_event
from openfactory.events.ownership import Owner, owned
from openfactory.events.timestamp import current_timestamp
url, asset_uuid = sys.argv[1:]
with open_engine(url) as reference:
    engine = reference.engine
    engine.liveness.join()
    owner = Owner(engine.liveness.instance, 10, 0, "m3", os.getpid(), current_timestamp())
    engine.publish(owner.event(asset_uuid))
    engine.publish(owned(new_event(asset_uuid, "avail", "AVAILABLE", "Events", "Availability"), 10)).wait()
    print("owns", flush=True)
    sys.stdin.read()
"""


def _claim(engine: Engine, asset_uuid: str, instance: str, epoch: int, supersedes: int = 0) -> Owner:
    """Claim an asset for a process that is not looked for."""
    owner = Owner(instance, epoch, supersedes, "m3", 4711, current_timestamp(), observable=False)
    engine.publish(owner.event(asset_uuid)).wait()
    return owner


def _availability(asset_uuid: str, value: str, owner: Owner) -> AssetEvent:
    return owned(new_event(asset_uuid, AVAILABILITY_ID, value, "Events", "Availability"), owner.epoch)


@contextmanager
def _watched(engine: Engine, asset_uuid: str) -> Iterator[tuple[Asset, list[Any]]]:
    """Yield the asset and the values of its availability that a callback hears."""
    heard: list[Any] = []
    with Asset(asset_uuid, KSQLDBClient(engine.url)) as asset:
        asset.subscribe_to_attribute(AVAILABILITY_ID, lambda _subject, message: heard.append(message["VALUE"]))
        yield asset, heard


class OwningConformance:
    """Tests of the events by which a process owns an asset."""

    def test_an_asset_that_nobody_has_claimed_has_no_owner(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid, AVAILABILITY_ID, "AVAILABLE", "Events", "Availability")).wait()
        with _watched(engine, asset_uuid) as (asset, _):
            assert asset.owner is None

    def test_a_claim_is_read_by_everyone_and_is_no_attribute(self, engine: Engine, asset_uuid: str) -> None:
        with _watched(engine, asset_uuid) as (early, _):
            owner = _claim(engine, asset_uuid, "a", 10)
            eventually(lambda: early.owner == owner)
            with _watched(engine, asset_uuid) as (late, _):
                assert late.owner == owner
                assert late.attributes() == []

    def test_of_two_claims_at_the_same_time_the_first_in_the_log_counts(self, engine: Engine, asset_uuid: str) -> None:
        with _watched(engine, asset_uuid) as (asset, heard):
            first = _claim(engine, asset_uuid, "a", 10)
            second = _claim(engine, asset_uuid, "b", 11)
            engine.publish(_availability(asset_uuid, "SECOND", second)).wait()
            engine.publish(_availability(asset_uuid, "FIRST", first)).wait()
            eventually(lambda: heard == ["FIRST"])
            assert asset.owner == first

    def test_what_an_owner_writes_after_a_take_over_changes_nothing(self, engine: Engine, asset_uuid: str) -> None:
        with _watched(engine, asset_uuid) as (asset, heard):
            older = _claim(engine, asset_uuid, "a", 10)
            engine.publish(_availability(asset_uuid, "OLDER", older)).wait()
            newer = _claim(engine, asset_uuid, "b", 11, supersedes=10)
            engine.publish(_availability(asset_uuid, "NEWER", newer)).wait()
            engine.publish(_availability(asset_uuid, "LATE", older)).wait()
            engine.publish(end_event(asset_uuid, older, None, "stopped")).wait()
            engine.publish(_availability(asset_uuid, "NEWEST", newer)).wait()
            eventually(lambda: heard == ["OLDER", "NEWER", "NEWEST"])
            assert asset.owner == newer
            assert asset.avail.value == "NEWEST"

    def test_an_owner_that_has_lost_its_asset_does_not_deregister_it(self, engine: Engine, asset_uuid: str) -> None:
        older = _claim(engine, asset_uuid, "a", 10)
        engine.publish(new_event(asset_uuid, "AssetType", "OpenFactoryApp", "OpenFactory", "AssetType")).wait()
        newer = _claim(engine, asset_uuid, "b", 11, supersedes=10)
        engine.deregister(asset_uuid, newer.epoch)
        engine.flush()
        assert engine.types([asset_uuid]) == {}
        engine.publish(new_event(asset_uuid, "AssetType", "OpenFactoryApp", "OpenFactory", "AssetType")).wait()
        engine.deregister(asset_uuid, older.epoch)
        engine.flush()
        assert engine.types([asset_uuid]) == {asset_uuid: "OpenFactoryApp"}

    def test_an_end_that_two_processes_write_is_heard_once(self, engine: Engine, asset_uuid: str) -> None:
        with _watched(engine, asset_uuid) as (asset, heard):
            owner = _claim(engine, asset_uuid, "a", 10)
            engine.publish(_availability(asset_uuid, "AVAILABLE", owner)).wait()
            for reason in ("first", "second"):
                engine.publish(end_event(asset_uuid, owner, None, reason)).wait()
            again = _claim(engine, asset_uuid, "a", 11, supersedes=10)
            engine.publish(_availability(asset_uuid, "BACK", again)).wait()
            eventually(lambda: heard == ["AVAILABLE", "UNAVAILABLE", "BACK"])
            assert asset.owner == again

    def test_an_owner_tells_how_it_has_ended(self, engine: Engine, asset_uuid: str) -> None:
        owner = _claim(engine, asset_uuid, "a", 10)
        engine.publish(end_event(asset_uuid, owner, None, "its main loop raised ValueError")).wait()
        with _watched(engine, asset_uuid) as (asset, _):
            assert asset.owner == msgspec.structs.replace(owner, ended="its main loop raised ValueError")


class SharedOwningConformance:
    """Tests of the end of an owner's process, for an engine that several processes use."""

    @pytest.fixture(autouse=True)
    def _short_timeout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LIVENESS_TIMEOUT", "5")

    def test_an_owner_whose_process_is_killed_is_unavailable(self, engine: Engine, asset_uuid: str) -> None:
        with _watched(engine, asset_uuid) as (asset, heard), _owner_process(engine.url, asset_uuid) as process:
            assert engine.liveness is not None
            eventually(lambda: asset.owner is not None and asset.owner.pid == process.pid)
            owner = asset.owner
            assert owner is not None
            assert engine.liveness.lives(asset_uuid, owner)
            process.kill()
            eventually(lambda: heard == ["AVAILABLE", "UNAVAILABLE"])
            assert asset.owner is not None
            assert asset.owner.ended is not None
            assert asset.owner.ended.startswith(f"process {process.pid} on host m3 ended without a word")


@contextmanager
def _owner_process(url: str, asset_uuid: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, url, asset_uuid],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "owns\n"
            yield process
        finally:
            process.kill()
