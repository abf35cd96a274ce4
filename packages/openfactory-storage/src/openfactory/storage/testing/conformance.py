"""What every storage promises, as tests: a subclass names its storage and inherits them all."""

from __future__ import annotations

from typing import Any

import pytest

from openfactory.storage.backend import FileBackend
from openfactory.storage.registry import storage_from_settings
from openfactory.storage.testing.carrying import CarryingConformance
from openfactory.storage.testing.files import FilesConformance
from openfactory.storage.testing.folders import FoldersConformance
from openfactory.storage.testing.paths import PathsConformance
from openfactory.storage.testing.reading import READ_ONLY_FILES, ReadOnlyConformance

__all__ = ["FileBackendConformance"]


class FileBackendConformance(
    FilesConformance, CarryingConformance, FoldersConformance, PathsConformance, ReadOnlyConformance
):
    """All promises of a storage.

    A subclass, whose name begins with `Test`, overrides the fixture `settings`, and says by the attributes of the class
    in which way its storage differs from a folder. One that can only be read inherits `ReadOnlyConformance` alone.
    """

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        """The settings of the storage, as they stand in `STORAGE`: an empty place for each test."""
        raise NotImplementedError(f"{type(self).__name__} names no storage. Give it a fixture settings.")

    @pytest.fixture
    def storage(self, settings: dict[str, Any]) -> FileBackend:
        """The storage, empty."""
        return storage_from_settings(settings, "The storage of this test")

    @pytest.fixture
    def read_only_storage(self, settings: dict[str, Any], storage: FileBackend) -> FileBackend:
        """The same place with `READ_ONLY_FILES` in it, where nothing may be written."""
        for path, content in READ_ONLY_FILES.items():
            storage.write_bytes(path, content)
        return storage_from_settings(settings | {"read_only": True}, "The storage of this test")
