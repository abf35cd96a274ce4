"""The conformance suite for storages that can be read and written."""

from __future__ import annotations

from typing import Any

import pytest

from openfactory.storage.backend import FileBackend
from openfactory.storage.registry import mount_spec_from_settings, storage_from_settings
from openfactory.storage.testing.carrying import CarryingConformance
from openfactory.storage.testing.files import FilesConformance
from openfactory.storage.testing.folders import FoldersConformance
from openfactory.storage.testing.paths import PathsConformance
from openfactory.storage.testing.positions import PositionsConformance
from openfactory.storage.testing.processes import ProcessesConformance
from openfactory.storage.testing.reading import READ_ONLY_FILES, ReadOnlyConformance

__all__ = ["FileBackendConformance"]


class FileBackendConformance(
    FilesConformance,
    PositionsConformance,
    CarryingConformance,
    FoldersConformance,
    PathsConformance,
    ProcessesConformance,
    ReadOnlyConformance,
):
    """The conformance suite of a storage: a test for each of its promises.

    Derive a class whose name begins with `Test`, and override the fixture `settings`. If the storage differs from a
    folder, also override class attributes such as `has_folders`. For a storage that can only be read, derive from
    `ReadOnlyConformance` instead.
    """

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        """The settings of the storage, in the form that `STORAGE` has. Each test needs an empty storage."""
        raise NotImplementedError(f"{type(self).__name__} does not name a storage. Override the fixture settings.")

    @pytest.fixture
    def storage(self, settings: dict[str, Any]) -> FileBackend:
        """The empty storage."""
        return storage_from_settings(settings, "The storage of this test")

    @pytest.fixture
    def read_only_storage(self, settings: dict[str, Any], storage: FileBackend) -> FileBackend:
        """The same storage with `READ_ONLY_FILES` and `read_only`."""
        for path, content in READ_ONLY_FILES.items():
            storage.write_bytes(path, content)
        return storage_from_settings(settings | {"read_only": True}, "The storage of this test")

    def test_the_settings_give_the_mount(self, settings: dict[str, Any], storage: FileBackend) -> None:
        assert mount_spec_from_settings(settings, "The storage of this test") == storage.get_mount_spec()
