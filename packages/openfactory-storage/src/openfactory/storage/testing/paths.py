"""Tests of paths: equal paths, characters in names, and paths that lead out of the storage."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import PurePosixPath

import pytest

from openfactory.storage.backend import FileBackend
from openfactory.storage.errors import PathOutsideStorageError

__all__ = ["PathsConformance"]

# The methods that take a path.
_METHODS: dict[str, Callable[[FileBackend, str], object]] = {
    "open": lambda storage, path: storage.open(path),
    "open for writing": lambda storage, path: storage.open(path, "w"),
    "read_bytes": lambda storage, path: storage.read_bytes(path),
    "read_text": lambda storage, path: storage.read_text(path),
    "write_bytes": lambda storage, path: storage.write_bytes(path, b"x"),
    "write_text": lambda storage, path: storage.write_text(path, "x"),
    "write_atomic": lambda storage, path: storage.write_atomic(path, b"x"),
    "info": lambda storage, path: storage.info(path),
    "exists": lambda storage, path: storage.exists(path),
    "delete": lambda storage, path: storage.delete(path),
    "copy from": lambda storage, path: storage.copy(path, "copy"),
    "copy to": lambda storage, path: storage.copy("inside.txt", path),
    "move from": lambda storage, path: storage.move(path, "moved"),
    "move to": lambda storage, path: storage.move("inside.txt", path),
    "put": lambda storage, path: storage.put(os.devnull, path),
    "get": lambda storage, path: storage.get(path, os.devnull),
    "mkdir": lambda storage, path: storage.mkdir(path),
    "listdir": lambda storage, path: storage.listdir(path),
    "walk": lambda storage, path: list(storage.walk(path)),
    "glob": lambda storage, path: storage.glob(f"{path}/*"),
}

_OUTSIDE = [
    "..",
    "../outside.txt",
    "sub/../../outside.txt",
    "sub/./../../x",
    "/outside.txt",
    "//outside.txt",
    "/",
    "sub\\..\\..\\x",
]

# Paths that no file can have, or none that the interface can name.
_IMPOSSIBLE = ["nul\0.txt", "sub/nul\0/one.txt", "n" * 5_000, "sub/" * 2_000, "\ud800.txt"]

_NAMES = [
    "with spaces and more.txt",
    " spaces around ",
    "Größe 铣床 фреза 🏭.txt",
    "a*.txt",
    "what?.txt",
    "[abc].txt",
    "100%25_20.txt",
    "hash#1.txt",
    "a?versionId=1",
    "semi;colon&and=more+plus.txt",
    "quote'\"`.txt",
    "$HOME ${HOME}.txt",
    "~",
    "...",
    "-rf",
    "s3:x.txt",
    "a::b.txt",
    "tab\tand\nline.txt",
    "n" * 200,
    ".ofa-notes.tmp",
]


class PathsConformance:
    """Tests of paths."""

    #: Names that the server or its client does not support; the storage raises OSError for them.
    refused_names: Collection[str] = ()

    def test_no_path_leads_out(self, storage: FileBackend) -> None:
        storage.write_text("inside.txt", "inside")
        for method in _METHODS.values():
            for path in _OUTSIDE:
                with pytest.raises(PathOutsideStorageError, match=r"(Use|Remove|Write) "):
                    method(storage, path)
        assert [entry.path for entry in storage.walk()] == ["inside.txt"]

    def test_no_path_contains_nul(self, storage: FileBackend) -> None:
        storage.write_text("inside.txt", "inside")
        for name, method in _METHODS.items():
            if name != "exists":
                with pytest.raises(PathOutsideStorageError, match="Remove it"):
                    method(storage, "nul\0.txt")
        assert [entry.path for entry in storage.walk()] == ["inside.txt"]

    def test_an_impossible_path_does_not_exist(self, storage: FileBackend) -> None:
        storage.write_text("sub/inside.txt", "inside")
        assert [path for path in _IMPOSSIBLE if storage.exists(path)] == []
        assert storage.exists("sub/inside.txt")

    @pytest.mark.parametrize("name", _NAMES)
    def test_names_may_contain_any_character(self, storage: FileBackend, name: str) -> None:
        path = f"sub/{name}"
        if name in self.refused_names:
            for write in (storage.write_text, storage.write_atomic):
                with pytest.raises(OSError):  # noqa: PT011
                    write(path, name)
            assert list(storage.walk()) == []
            return
        storage.write_text(path, name)
        storage.write_atomic(f"{name}/{name}", name)
        assert storage.read_text(path) == storage.read_text(f"{name}/{name}") == name
        assert storage.listdir("sub") == storage.listdir(name) == [name]
        assert storage.info(path).path == path
        assert storage.exists(path)
        storage.move(path, f"moved/{name}")
        assert storage.listdir("moved") == [name]
        storage.delete(f"moved/{name}")
        assert not storage.exists(f"moved/{name}")

    @pytest.mark.parametrize("path", ["./sub/one.txt", "sub//one.txt", "sub/./one.txt", "sub/x/../one.txt"])
    def test_detours_lead_to_the_same_file(self, storage: FileBackend, path: str) -> None:
        storage.write_text("sub/one.txt", "one")
        assert storage.read_text(path) == "one"
        assert storage.info(path).path == "sub/one.txt"

    def test_a_path_may_be_a_path_object(self, storage: FileBackend) -> None:
        storage.write_text(PurePosixPath("sub", "one.txt"), "one")
        assert storage.read_text("sub/one.txt") == "one"

    def test_an_absolute_path_inside_the_root_is_accepted(self, storage: FileBackend) -> None:
        if not storage.root.is_absolute():
            with pytest.raises(PathOutsideStorageError):
                storage.write_text(f"/{storage.root}/one.txt", "one")
            return
        storage.write_text(storage.root / "sub" / "one.txt", "one")
        assert storage.read_text("sub/one.txt") == "one"
        assert storage.glob(f"{storage.root}/sub/*") == ["sub/one.txt"]
        assert storage.listdir(storage.root) == ["sub"]

    def test_a_long_name_works_or_is_refused(self, storage: FileBackend) -> None:
        name = "n" * 3_000
        for write in (storage.write_bytes, storage.write_atomic):
            try:
                write(name, b"long")
            except OSError:
                assert storage.listdir() == []
            else:
                assert storage.read_bytes(name) == b"long"
                storage.delete(name)
        storage.write_text("short.txt", "short")
        assert storage.listdir() == ["short.txt"]

    def test_names_with_the_same_beginning_are_distinct(self, storage: FileBackend) -> None:
        storage.write_text("data/one.txt", "one")
        storage.write_text("data2/two.txt", "two")
        storage.write_text("data.txt", "three")
        assert storage.listdir("data") == ["one.txt"]
        assert [entry.path for entry in storage.walk("data")] == ["data/one.txt"]
        storage.delete("data/one.txt")
        assert storage.read_text("data2/two.txt") == "two"

    def test_fs_is_the_filesystem_at_the_root(self, storage: FileBackend) -> None:
        storage.write_text("sub/one.txt", "one")
        with storage.fs.open("sub/one.txt", "rb") as file:
            assert file.read() == b"one"
        storage.fs.pipe_file("sub/two.txt", b"two")
        assert storage.listdir("sub") == ["one.txt", "two.txt"]

    def test_a_storage_describes_itself(self, storage: FileBackend) -> None:
        assert type(storage).__name__ in repr(storage)
        assert storage.compatible_with_swarm() in (True, False)
        mount = storage.get_mount_spec()
        assert mount is None or {"Type", "Target"} <= mount.keys()
