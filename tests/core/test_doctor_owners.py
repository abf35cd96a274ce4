"""ofa doctor finds the apps whose processes have gone, and the processes that should have gone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openfactory.doctor import Factory, Finding, examine
from openfactory.engines import Engine, open_engine
from openfactory.engines.embedded.presence import FilePresence
from openfactory.events.event import new_event
from openfactory.events.ownership import Owner, end_event, owned
from openfactory.events.registration import Registration
from openfactory.events.timestamp import current_timestamp


@pytest.fixture
def engine(file_url: str) -> Iterator[Engine]:
    with open_engine(file_url) as reference:
        yield reference.engine


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FilePresence]:
    """Another process that runs apps on the file."""
    presence = FilePresence(tmp_path / "factory.db.owners", 15)
    presence.join()
    yield presence
    presence.close()


def run_app(engine: Engine, asset_uuid: str, instance: str, epoch: int = 10, supersedes: int = 0) -> Owner:
    owner = Owner(instance, epoch, supersedes, "m3", 4711, current_timestamp())
    engine.publish(owner.event(asset_uuid)).wait()
    engine.register(Registration(asset_uuid, "OpenFactoryApp"))
    engine.publish(owned(new_event(asset_uuid, "avail", "AVAILABLE", "Events", "Availability"), epoch)).wait()
    return owner


def owners_found(url: str) -> list[Finding]:
    return [finding for finding in examine(Factory.of(url)) if finding.check == "owners"]


def test_apps_that_run_are_well(engine: Engine, other: FilePresence, file_url: str) -> None:
    run_app(engine, "MILL", other.instance)
    run_app(engine, "DRILL", other.instance)
    [finding] = owners_found(file_url)
    assert (finding.status, finding.found) == ("ok", "running apps: 2")


def test_a_factory_without_apps_is_well(engine: Engine, file_url: str) -> None:
    engine.register(Registration("ROBOT", "Device"))
    engine.flush()
    [finding] = owners_found(file_url)
    assert (finding.status, finding.found) == ("ok", "running apps: 0")


def test_an_app_whose_process_has_gone_is_named(engine: Engine, file_url: str) -> None:
    owner = run_app(engine, "MILL", "gone")
    [finding] = owners_found(file_url)
    assert finding.status == "failed"
    assert finding.found == "Registered, although their processes have gone: MILL (process 4711 on host m3)."
    assert finding.remedy == "Start these apps again."
    engine.publish(end_event("MILL", owner, None, "process 4711 on host m3 ended without a word")).wait()
    [finding] = owners_found(file_url)  # also when somebody has written the end
    assert "MILL (process 4711 on host m3 ended without a word)" in finding.found
    engine.deregister("MILL", owner.epoch)
    engine.flush()
    assert owners_found(file_url)[0].status == "ok"  # it has stopped


def test_an_app_whose_process_gives_no_sign_of_life_is_named(
    engine: Engine, other: FilePresence, file_url: str, tmp_path: Path
) -> None:
    run_app(engine, "MILL", other.instance)
    with open(tmp_path / "factory.db.owners" / other.instance, "wb") as file:
        file.write(b"7 %.3f\n" % (time.time() - 60))
    [finding] = owners_found(file_url)
    assert finding.status == "failed"
    assert finding.found.startswith("Registered, although their processes give no sign of life: MILL (process 4711")


def test_a_process_that_has_lost_its_app_and_still_lives_is_named(
    engine: Engine, other: FilePresence, file_url: str, tmp_path: Path
) -> None:
    newer = FilePresence(tmp_path / "factory.db.owners", 15)
    newer.join()
    run_app(engine, "MILL", other.instance)
    run_app(engine, "MILL", newer.instance, 11, supersedes=10)
    [finding] = owners_found(file_url)
    assert finding.status == "failed"
    assert finding.found == "MILL was taken over from process 4711 on host m3, which still lives."
    run_app(engine, "DRILL", other.instance)  # it runs another app, so it lives rightly
    assert owners_found(file_url)[0].status == "ok"
    newer.close()


def test_many_apps_are_counted(engine: Engine, file_url: str) -> None:
    for number in range(5):
        run_app(engine, f"MILL-{number}", f"gone-{number}-{os.getpid()}")
    [finding] = owners_found(file_url)
    assert finding.found.endswith(" and 2 more.")
