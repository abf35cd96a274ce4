"""One process at a time runs an app, and its end is known: apps that share a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from owner_promises import OwnerPromises


class TestFile(OwnerPromises):
    @pytest.fixture
    def place_environment(self, file_url: str) -> dict[str, str]:
        return {"KSQLDB_URL": file_url}

    @pytest.fixture
    def lock_file(self, tmp_path: Path) -> Path:
        return tmp_path / "factory.db.lock"
