"""Targets by name, also those of other distributions."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from openfactory.deploy.targets import registry
from openfactory.deploy.targets.base import Project
from openfactory.deploy.targets.process import ProcessTarget
from openfactory.exceptions import ConfigurationError, MissingDistributionError


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points as distributions declare them."""
    values = {
        "cloud": "cloud_of_nowhere:CloudTarget",
        "process": "openfactory.deploy.targets.process:ProcessTarget",
        "text": "pathlib:Path",
    }
    points = [EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.ENTRY_POINT_GROUP else [])


def test_the_process_target_is_installed(tmp_path: Path) -> None:
    assert "process" in registry.target_names()
    target = registry.open_target("process", Project("hall-2", tmp_path))
    assert isinstance(target, ProcessTarget)
    assert target.name == "process"


@pytest.mark.usefixtures("others")
def test_an_unknown_target_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"The targets are cloud, process, text\. Write process\."):
        registry.target_class("proces")


@pytest.mark.usefixtures("others")
def test_a_target_that_cannot_be_loaded_is_an_error_with_its_class() -> None:
    with pytest.raises(MissingDistributionError, match=r"the distribution of cloud_of_nowhere:CloudTarget anew"):
        registry.target_class("cloud")


def test_a_target_that_cannot_be_loaded_is_an_error_with_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "plant_cloud-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: plant-cloud\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[openfactory.targets]\nplant = plant_cloud:CloudTarget\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDistributionError, match=r"pip install --force-reinstall plant-cloud\.$"):
        registry.target_class("plant")


@pytest.mark.parametrize("name", ["docker", "swarm"])
def test_a_target_without_its_library_is_an_error_with_its_installation(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(MissingDistributionError, match=r"pip install 'openfactory-deploy\[docker\]'"):
        registry.open_target(name, Project("hall", tmp_path))


@pytest.mark.usefixtures("others")
def test_a_class_that_is_not_a_target_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="derives from Target"):
        registry.target_class("text")
