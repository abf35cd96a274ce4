"""The conformance suite for read-only storages: methods that read work, and methods that write raise an error."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from openfactory.storage.backend import FileBackend
from openfactory.storage.errors import PathOutsideStorageError, ReadOnlyStorageError

__all__ = ["READ_ONLY_FILES", "ReadOnlyConformance"]

#: The files that the storage of `ReadOnlyConformance` contains, by their paths.
READ_ONLY_FILES: Mapping[str, bytes] = MappingProxyType(
    {
        "one.txt": "Größe\r\nzwei\n".encode(),
        "sub/data.bin": bytes(range(256)) * 1_000,
        "sub/deep/empty": b"",
        "sub/deep/three.csv": b"a,b\n1,2\n",
    }
)

# The methods that write.
_WRITES: dict[str, Callable[[FileBackend, str], object]] = {
    "w": lambda storage, path: storage.open(path, "w"),
    "wb": lambda storage, path: storage.open(path, "wb"),
    "a": lambda storage, path: storage.open(path, "a"),
    "x": lambda storage, path: storage.open(path, "x"),
    "r+": lambda storage, path: storage.open(path, "r+"),
    "write_bytes": lambda storage, path: storage.write_bytes(path, b"new"),
    "write_text": lambda storage, path: storage.write_text(path, "new"),
    "write_atomic": lambda storage, path: storage.write_atomic(path, "new"),
    "delete": lambda storage, path: storage.delete(path),
    "mkdir": lambda storage, path: storage.mkdir(path),
    "move from": lambda storage, path: storage.move(path, "moved"),
    "move to": lambda storage, path: storage.move("sub/data.bin", path),
    "copy to": lambda storage, path: storage.copy("sub/data.bin", path),
    "put": lambda storage, path: storage.put(os.devnull, path),
}


class ReadOnlyConformance:
    """The conformance suite of a storage that can only be read.

    Derive a class whose name begins with `Test`, and override the fixture `read_only_storage`.
    """

    @pytest.fixture
    def read_only_storage(self) -> FileBackend:
        """A read-only storage that contains `READ_ONLY_FILES`."""
        raise NotImplementedError(
            f"{type(self).__name__} does not name a storage. Override the fixture read_only_storage."
        )

    def test_nothing_is_written(self, read_only_storage: FileBackend) -> None:
        for write in _WRITES.values():
            for path in ("one.txt", "new.txt"):
                with pytest.raises(ReadOnlyStorageError, match="read-only"):
                    write(read_only_storage, path)
        assert {path: read_only_storage.read_bytes(path) for path in _files(read_only_storage)} == READ_ONLY_FILES

    def test_read_only_is_set(self, read_only_storage: FileBackend) -> None:
        assert read_only_storage.read_only
        with pytest.raises(PermissionError):
            read_only_storage.write_text("new.txt", "new")

    def test_files_are_read(self, read_only_storage: FileBackend) -> None:
        for path, content in READ_ONLY_FILES.items():
            assert read_only_storage.read_bytes(path) == content
            assert read_only_storage.info(path).size == len(content)
            assert read_only_storage.exists(path)
        assert read_only_storage.read_text("one.txt") == "Größe\nzwei\n"
        with read_only_storage.open("one.txt", newline="") as file:
            assert file.read() == "Größe\r\nzwei\n"
        with read_only_storage.open("sub/data.bin", "rb") as file:
            assert file.seek(-6, io.SEEK_END) == 255_994
            assert file.read() == bytes(range(250, 256))

    def test_folders_are_read(self, read_only_storage: FileBackend) -> None:
        assert read_only_storage.listdir() == ["one.txt", "sub"]
        assert read_only_storage.listdir("sub/deep") == ["empty", "three.csv"]
        assert [entry.path for entry in read_only_storage.walk("sub")] == [
            "sub/data.bin",
            "sub/deep",
            "sub/deep/empty",
            "sub/deep/three.csv",
        ]
        assert read_only_storage.glob("**/*.csv") == ["sub/deep/three.csv"]
        assert read_only_storage.info("sub").is_folder

    def test_a_file_is_copied_to_this_machine(self, read_only_storage: FileBackend, tmp_path: Path) -> None:
        read_only_storage.get("sub/data.bin", tmp_path / "here")
        assert (tmp_path / "here").read_bytes() == READ_ONLY_FILES["sub/data.bin"]

    def test_missing_paths_are_errors(self, read_only_storage: FileBackend) -> None:
        assert not read_only_storage.exists("missing")
        for read in (read_only_storage.open, read_only_storage.info, read_only_storage.listdir):
            with pytest.raises(FileNotFoundError, match="missing"):
                read("missing")
        with pytest.raises(NotADirectoryError):
            read_only_storage.listdir("one.txt")
        with pytest.raises(IsADirectoryError):
            read_only_storage.open("sub")
        with pytest.raises(PathOutsideStorageError):
            read_only_storage.open("../one.txt")


def _files(storage: FileBackend) -> list[str]:
    return [entry.path for entry in storage.walk() if not entry.is_folder]
