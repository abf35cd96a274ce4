"""Tests of folders: `mkdir`, `listdir`, `walk` and `glob`."""

from __future__ import annotations

import pytest

from openfactory.storage.backend import FileBackend

__all__ = ["FoldersConformance"]

# Files, and the result of `glob` for each pattern.
_GLOB_FILES = ("a.csv", "a.txt", ".hidden.csv", "b[1].csv", "sub/c.csv", "sub/deep/d.csv")
_GLOBS: dict[str, list[str]] = {
    "*": [".hidden.csv", "a.csv", "a.txt", "b[1].csv", "sub"],
    "*.csv": [".hidden.csv", "a.csv", "b[1].csv"],
    "?.csv": ["a.csv"],
    "[ab].csv": ["a.csv"],
    "[!b]*.csv": [".hidden.csv", "a.csv"],
    "b[[]1].csv": ["b[1].csv"],
    "sub/*.csv": ["sub/c.csv"],
    "sub/*": ["sub/c.csv", "sub/deep"],
    "./sub/../sub/*.csv": ["sub/c.csv"],
    "*/*/*.csv": ["sub/deep/d.csv"],
    "**/*.csv": [".hidden.csv", "a.csv", "b[1].csv", "sub/c.csv", "sub/deep/d.csv"],
    "sub/**/*.csv": ["sub/c.csv", "sub/deep/d.csv"],
    "s?b/**": ["sub/c.csv", "sub/deep", "sub/deep/d.csv"],
    "a.csv": ["a.csv"],
    "sub": ["sub"],
    "A.CSV": [],
    "missing/*": [],
    "a.csv/*": [],
    "*/../*.csv": [],
}


class FoldersConformance:
    """Tests of folders."""

    #: Whether an empty folder can exist; False for object stores.
    has_folders = True

    #: Number of files in one folder of a test; more than an object store lists in one page.
    many_files = 1_100

    def test_listdir_returns_sorted_names(self, storage: FileBackend) -> None:
        for path in ("b.txt", "a.txt", ".hidden", "sub/one.txt", "sub2/deep/two.txt", "sub.txt"):
            storage.write_text(path, "x")
        assert storage.listdir() == [".hidden", "a.txt", "b.txt", "sub", "sub.txt", "sub2"]
        assert storage.listdir(".") == storage.listdir("sub/..") == storage.listdir()
        assert storage.listdir("sub") == storage.listdir("sub/") == ["one.txt"]
        assert storage.listdir("sub2") == ["deep"]

    def test_an_empty_storage_lists_nothing(self, storage: FileBackend) -> None:
        assert storage.listdir() == []
        assert list(storage.walk()) == []
        assert storage.glob("**") == []

    def test_listdir_needs_a_folder(self, storage: FileBackend) -> None:
        storage.write_text("one.txt", "one")
        with pytest.raises(FileNotFoundError, match="missing"):
            storage.listdir("missing")
        with pytest.raises(NotADirectoryError, match=r"one\.txt"):
            storage.listdir("one.txt")
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            storage.listdir("one.txt/below")

    def test_listings_are_up_to_date(self, storage: FileBackend) -> None:
        for number in range(3):
            storage.write_text(f"sub/{number}.txt", "x" * number)
            assert storage.listdir("sub") == [f"{other}.txt" for other in range(number + 1)]
            assert [entry.size for entry in storage.walk("sub")] == list(range(number + 1))
        storage.delete("sub/1.txt")
        assert storage.listdir("sub") == ["0.txt", "2.txt"]

    def test_a_folder_is_created_with_its_parents(self, storage: FileBackend) -> None:
        storage.mkdir("a/b/c")
        storage.mkdir("a/b/c")
        storage.mkdir(".")
        assert storage.exists("a/b/c") == self.has_folders
        if self.has_folders:
            assert storage.listdir("a/b") == ["c"]
            assert storage.listdir("a/b/c") == []
            assert storage.info("a/b/c").is_folder
        storage.write_text("a/b/c/d.txt", "d")
        assert storage.listdir("a/b/c") == ["d.txt"]

    def test_an_empty_folder_is_moved(self, storage: FileBackend) -> None:
        if not self.has_folders:
            with pytest.raises(FileNotFoundError):
                storage.move("empty", "moved")
            return
        storage.mkdir("empty/deep")
        storage.move("empty", "moved")
        assert [entry.path for entry in storage.walk()] == ["moved", "moved/deep"]

    def test_a_file_is_not_a_folder(self, storage: FileBackend) -> None:
        storage.write_text("one.txt", "one")
        with pytest.raises(FileExistsError, match=r"one\.txt"):
            storage.mkdir("one.txt")
        if self.has_folders:
            with pytest.raises(NotADirectoryError):
                storage.mkdir("one.txt/sub")
            with pytest.raises(NotADirectoryError):
                storage.write_text("one.txt/two.txt", "two")
            with pytest.raises(NotADirectoryError):
                storage.write_atomic("one.txt/two.txt", "two")
        assert storage.read_text("one.txt") == "one"

    def test_walk_yields_files_and_folders_with_their_info(self, storage: FileBackend) -> None:
        for path in ("sub/one.txt", "sub/deep/two.txt", "sub-1.txt", "other/.hidden"):
            storage.write_text(path, path)
        entries = [(entry.path, entry.size, entry.is_folder) for entry in storage.walk()]
        assert sorted(entries) == [
            ("other", 0, True),
            ("other/.hidden", 13, False),
            ("sub", 0, True),
            ("sub-1.txt", 9, False),
            ("sub/deep", 0, True),
            ("sub/deep/two.txt", 16, False),
            ("sub/one.txt", 11, False),
        ]
        assert [entry.path for entry in storage.walk("sub")] == ["sub/deep", "sub/deep/two.txt", "sub/one.txt"]
        assert all(entry == storage.info(entry.path) for entry in storage.walk() if not entry.is_folder)

    def test_walk_needs_a_folder(self, storage: FileBackend) -> None:
        storage.write_text("one.txt", "one")
        with pytest.raises(FileNotFoundError):
            list(storage.walk("missing"))
        with pytest.raises(NotADirectoryError):
            list(storage.walk("one.txt"))

    def test_glob(self, storage: FileBackend) -> None:
        for path in _GLOB_FILES:
            storage.write_text(path, "x")
        assert {pattern: storage.glob(pattern) for pattern in _GLOBS} == _GLOBS

    def test_many_files_are_listed(self, storage: FileBackend) -> None:
        names = [f"{number:05}.txt" for number in range(self.many_files)]
        for name in names:
            storage.write_bytes(f"many/{name}", b"x")
        assert storage.listdir("many") == names
        assert [entry.path for entry in storage.walk("many")] == [f"many/{name}" for name in names]
        assert len(storage.glob("many/*0.txt")) == len(names) // 10
