"""Releases as the files of apps give them, for tests without files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openfactory.deploy.app import App, Release
from openfactory.deploy.environment import releases_of
from openfactory.deploy.factory_environment import FactoryEnvironment
from openfactory.deploy.files.schema import AppFile
from openfactory.deploy.problems import Place
from openfactory.deploy.targets.base import Target

__all__ = ["WHOLE_APP", "releases", "releases_on", "settings"]

#: An app that uses every key which a target or a gateway reads.
WHOLE_APP: Mapping[str, Any] = {
    "uuid": "Mill_Panel",
    "image": "registry.test:5000/panel:1.2",
    "command": ("run", "panel.py", "--cost=$5"),
    "image_pull_policy": "always",
    "runtime_uid": 1200,
    "runtime_gid": 1300,
    "environment": ("PRICE=$5 {{now}} $(HOME)", "EQUALS=a=b", "UMLAUT=ü: #1"),
    "secrets": {"db_password": "correct horse"},
    "storage": {
        "data": {"type": "nfs", "server": "nas.test", "remote_path": "/e/d", "mount_point": "/mnt/d"},
        "soft": {
            "type": "nfs",
            "server": "nas.test",
            "remote_path": "/e/s",
            "mount_point": "/mnt/s",
            "mount_options": ["soft", "ro"],
        },
    },
    "routing": {"expose": True, "port": 4000, "hostname": "panel"},
    "metrics": {"port": 9100},
    "networks": ("factory-net", "plant"),
    "labels": {"owner": "hall 2: {{x}} $y"},
    "restart": "on-failure",
    "stop_grace_period": "1m30s",
    "health": {},
    "depends_on": ("mill",),
    "deploy": {
        "resources": {
            "limits": {"cpus": 0.5, "memory": "512Mi", "open_files": 4096},
            "reservations": {"cpus": 0.25, "memory": "256Mi"},
        },
        "placement": {"constraints": ("node.labels.hall=2", "node.hostname != old")},
    },
}


def settings(**keys: Any) -> AppFile:
    """The checked keys of an app."""
    return AppFile(**keys)


def releases(name: str = "panel", /, *, target: str = "docker", **keys: Any) -> list[Release]:
    """The replicas of an app with the given keys."""
    app = App(name, Place(Path("app_test.yml"), 2), settings(**keys))
    factory = FactoryEnvironment({"KSQLDB_URL": "kafka://kafka:9092", "OPENFACTORY_LOG_BACKEND": "text"}, {})
    return releases_of(app, factory, target=target)


def releases_on(target: Target, factory: FactoryEnvironment, **keys: Any) -> list[Release]:
    """The replicas of an app with the given keys, whose file is in the project of a target."""
    app = App("app", Place(target.project.folder / "app_test.yml", 2), settings(**keys))
    return releases_of(app, factory, target=target.name, secret_path=target.secret_path)
