"""The suite of tests that every storage passes, over what needs no server."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from openfactory.storage import FileBackend
from openfactory.storage.registry import storage_from_settings
from openfactory.storage.testing import READ_ONLY_FILES, FileBackendConformance, ReadOnlyConformance

pytestmark = pytest.mark.smoke


class TestLocal(FileBackendConformance):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "store").mkdir()
        return {"type": "local", "local_path": f"{tmp_path}/store", "mount_point": "/nowhere/mounted"}


class TestNFS(FileBackendConformance):
    """A folder stands for the mount."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "store").mkdir()
        return {
            "type": "nfs",
            "server": "files.plant.example",
            "remote_path": "/exports/data",
            "mount_point": "/nowhere/mounted",
            "local_path": f"{tmp_path}/store",
        }


class TestMemory(FileBackendConformance):
    can_update = False
    shared = False

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"type": "fsspec", "url": f"memory://{uuid4().hex}/store"}


class TestZip(ReadOnlyConformance):
    @pytest.fixture(params=["", "folder"])
    def read_only_storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> FileBackend:
        folder = request.param
        with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
            for path, content in READ_ONLY_FILES.items():
                archive.writestr(f"{folder}/{path}" if folder else path, content)
        url = f"zip://{folder}::file://{tmp_path}/files.zip"
        return storage_from_settings({"type": "fsspec", "url": url}, "The storage of this test")
