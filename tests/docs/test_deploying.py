"""The page on deploying does as printed, with a real Traefik."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distributions import ROOT
from needed import needed
from openfactory.deploy.targets.base import Project
from openfactory.deploy.targets.process import ProcessTarget
from servers import free_port
from servers.fetching import program
from servers.pinned import traefik
from servers.ports import HOST

Follow = Callable[..., None]

PAGE = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")


def installs(block: Any) -> bool:
    return bool(block.section == "Install")


@pytest.fixture
def with_traefik(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traefik is installed, as the page asks for."""
    with needed("Traefik"):
        programs = traefik().parent
    monkeypatch.setenv("PATH", os.pathsep.join((str(programs), os.environ["PATH"])))


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[None]:
    """End the apps of the page, if the page does not: they run without a terminal."""
    yield
    target = ProcessTarget(Project("hall", tmp_path / "folder"))
    for instance in target.instances():
        target.stop(instance)
    target.close()


@pytest.mark.thorough
def test_the_installation_brings_the_command(follow: Follow, installing: dict[str, str]) -> None:
    follow(PAGE, installs, **installing)


@pytest.mark.usefixtures("ended", "with_traefik")
def test_every_other_block_runs_in_the_order_of_the_page(follow: Follow) -> None:
    with needed("curl"):
        program("curl", "curl")
    gateway, panel = free_port(), free_port()
    page = PAGE.replace("localhost:8080", f"localhost:{gateway}").replace("port: 4000", f"port: {panel}")
    follow(page, lambda block: not installs(block), OPENFACTORY_GATEWAY=f"{HOST}:{gateway}", OPENFACTORY_HOST=HOST)
