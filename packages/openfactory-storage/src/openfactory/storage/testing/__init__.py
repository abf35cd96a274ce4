"""Conformance suite for storage types: tests that every `FileBackend` passes. It needs pytest.

To test a storage type, derive a class from the suite and override the fixture `settings`:

    from openfactory.storage.testing import FileBackendConformance


    class TestMyStorage(FileBackendConformance):
        @pytest.fixture
        def settings(self, tmp_path):
            return {"type": "mystorage", "folder": str(tmp_path)}

A type that can only be read passes `ReadOnlyConformance` instead. Its storage contains `READ_ONLY_FILES`.
"""

try:
    import pytest
except ImportError as error:
    raise ImportError("openfactory.storage.testing needs pytest. Install it: pip install pytest") from error

# Before the modules are imported, so that a failing assert shows the values that it compared.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{name}"
        for name in ("carrying", "conformance", "files", "folders", "paths", "positions", "processes", "reading")
    )
)

from openfactory.storage.testing.conformance import FileBackendConformance  # noqa: E402
from openfactory.storage.testing.reading import READ_ONLY_FILES, ReadOnlyConformance  # noqa: E402

__all__ = ["READ_ONLY_FILES", "FileBackendConformance", "ReadOnlyConformance"]
