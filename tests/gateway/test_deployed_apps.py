"""Apps with web pages that `ofa apps` runs as processes: their environment, and the apps of the demo."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributions import ROOT
from needed import needed
from ofa_apps import ofa_apps
from openfactory.assets import Factory
from openfactory.concurrency.process_identity import start_of
from openfactory.deploy.app import Release
from openfactory.deploy.factory_environment import factory_environment
from openfactory.deploy.targets.base import Project
from openfactory.deploy.targets.process import ProcessTarget
from openfactory.testing import eventually
from releases_for_tests import releases_on
from servers import free_port
from servers.pinned import traefik
from servers.ports import HOST

APP = """
import asyncio

from openfactory.apps import OpenFactoryFlaskApp, EventAttribute

class Mill(OpenFactoryFlaskApp):
    root_path = EventAttribute(value="", tag="App.RootPath")

    def configure_routes(self):
        @self.app.route("/")
        def root():
            return {"uuid": self.asset_uuid, "root": self.app.config["APPLICATION_ROOT"]}

    async def async_main_loop(self):
        self.root_path = self.app.config["APPLICATION_ROOT"]
        with self.storage.get("parts").open("seen.txt", "w") as file:
            file.write(self.asset_uuid)
        await asyncio.sleep(600)

Mill(None).run()
"""


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[tuple[ProcessTarget, Release]]:
    """A real app with web pages and a storage on the process target."""
    (tmp_path / "mill.py").write_text(APP)
    (tmp_path / "data").mkdir()
    target = ProcessTarget(Project("hall-2", tmp_path))
    store = {"type": "local", "local_path": str(tmp_path / "data"), "mount_point": "/mnt/of-the-container"}
    settings: dict[str, Any] = {
        "uuid": "MILL-1",
        "file": "mill.py",
        "routing": {"port": free_port()},
        "storage": {"parts": store},
        "environment": ["APPLICATION_VERSION=7.1"],
    }
    (release,) = releases_on(target, factory_environment(target.default_url), **settings)
    yield target, release
    for instance in target.instances():
        target.stop(instance)
    target.close()


def test_a_real_app_has_its_uuid_port_root_path_and_storage(
    deployed: tuple[ProcessTarget, Release], tmp_path: Path
) -> None:
    target, release = deployed
    target.start(release)
    database = tmp_path / ".openfactory" / "factory.db"
    eventually(database.exists)
    with Factory(target.default_url) as factory:
        eventually(lambda: factory.availability().get("MILL-1") == "AVAILABLE")
        with factory.asset("MILL-1") as asset:
            eventually(lambda: asset.root_path.value == "/mill-1")
            assert asset.application_version.value == "7.1"
        eventually(lambda: (tmp_path / "data" / "seen.txt").exists())
        assert (tmp_path / "data" / "seen.txt").read_text() == "MILL-1"
        (running,) = target.instances()
        with urllib.request.urlopen(f"{running.address}/", timeout=60) as answer:
            assert json.load(answer) == {"uuid": "MILL-1", "root": "/mill-1"}
        target.stop(running)
        assert start_of(running.pid or 0) is None
        assert factory.availability().get("MILL-1") in (None, "UNAVAILABLE")


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Path]:
    """A copy of the examples, where files may be written."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".openfactory"))
    folder = tmp_path / "examples" / "factory"
    yield folder
    ofa_apps("down", "--now", folder)


def test_the_example_runs_the_apps_of_the_demo(factory: Path) -> None:
    with needed("Traefik"):
        programs = str(traefik().parent)
    gateway = free_port()
    settings = {"PATH": os.pathsep.join((programs, os.environ["PATH"])), "OPENFACTORY_GATEWAY": f"{HOST}:{gateway}"}
    began = time.monotonic()
    done = ofa_apps("up", "--json", factory, **settings)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = {result["uuid"]: result for result in json.loads(done.stdout)["results"]}
    assert {uuid: result["outcome"] for uuid, result in results.items()} == dict.fromkeys(
        ("dashboard", "mill", "shift_leader"), "up"
    )
    assert results["dashboard"]["address"] == f"http://localhost:{gateway}/dashboard/"
    with urllib.request.urlopen(results["dashboard"]["address"], timeout=60) as answer:
        assert "mill" in answer.read().decode()
    print(f"up in {seconds:.1f} s")
    assert ofa_apps("plan", "--check", factory, **settings).returncode == 0
    assert ofa_apps("down", "--now", factory, **settings).returncode == 0
