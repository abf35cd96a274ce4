"""For those who bring a kind of storage: the suite of tests that every `FileBackend` passes. It needs pytest.

A test class inherits the suite, and says by one fixture which storage is tested:

    from openfactory.storage.testing import FileBackendConformance


    class TestMyStorage(FileBackendConformance):
        @pytest.fixture
        def settings(self, tmp_path):
            return {"type": "mystorage", "folder": str(tmp_path)}
"""

try:
    import pytest
except ImportError as error:
    raise ImportError("openfactory.storage.testing needs pytest. Install it: pip install pytest") from error

# Before they are imported, so that a failing assert says what it compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("carrying", "conformance", "files", "folders", "paths", "reading"))
)

from openfactory.storage.testing.conformance import FileBackendConformance  # noqa: E402
from openfactory.storage.testing.reading import READ_ONLY_FILES, ReadOnlyConformance  # noqa: E402

__all__ = ["READ_ONLY_FILES", "FileBackendConformance", "ReadOnlyConformance"]
