"""A storage that is only read: all that reads works, and nothing is written."""

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

#: What the storage of `ReadOnlyConformance` holds.
READ_ONLY_FILES: Mapping[str, bytes] = MappingProxyType(
    {
        "one.txt": "Größe\r\nzwei\n".encode(),
        "sub/data.bin": bytes(range(256)) * 1_000,
        "sub/deep/empty": b"",
        "sub/deep/three.csv": b"a,b\n1,2\n",
    }
)

# Whatever writes.
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
    """What a storage promises that is only read.

    A subclass overrides the fixture `read_only_storage`.
    """

    @pytest.fixture
    def read_only_storage(self) -> FileBackend:
        """A storage with `READ_ONLY_FILES` in it, where nothing may be written."""
        raise NotImplementedError(f"{type(self).__name__} names no storage. Give it a fixture read_only_storage.")

    @pytest.mark.parametrize("writes", _WRITES)
    def test_nothing_is_written(self, read_only_storage: FileBackend, writes: str) -> None:
        for path in ("one.txt", "new.txt"):
            with pytest.raises(ReadOnlyStorageError, match="read-only"):
                _WRITES[writes](read_only_storage, path)
        assert {path: read_only_storage.read_bytes(path) for path in _files(read_only_storage)} == READ_ONLY_FILES

    def test_it_says_so(self, read_only_storage: FileBackend) -> None:
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

    def test_a_file_is_carried_here(self, read_only_storage: FileBackend, tmp_path: Path) -> None:
        read_only_storage.get("sub/data.bin", tmp_path / "here")
        assert (tmp_path / "here").read_bytes() == READ_ONLY_FILES["sub/data.bin"]

    def test_what_is_missing_is_said_so(self, read_only_storage: FileBackend) -> None:
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
