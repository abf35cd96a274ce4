"""Moving, copying, and carrying whole files between the storage and this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from openfactory.storage.backend import FileBackend

__all__ = ["CarryingConformance"]

_CONTENT = b"0123456789abcdef" * 160_000  # of several pieces


def _paths(storage: FileBackend) -> list[str]:
    return [entry.path for entry in storage.walk() if not entry.is_folder]


class _Enough(Exception):
    """Whoever watches a transfer has seen enough."""


def _enough(*_progress: int) -> None:
    raise _Enough


class CarryingConformance:
    """What moving, copying, `put` and `get` promise."""

    def test_a_file_is_moved(self, storage: FileBackend) -> None:
        storage.write_text("one.txt", "one")
        storage.move("one.txt", "sub/deep/two.txt")
        assert _paths(storage) == ["sub/deep/two.txt"]
        assert storage.read_text("sub/deep/two.txt") == "one"

    def test_a_file_is_moved_over_another(self, storage: FileBackend) -> None:
        storage.write_text("one.txt", "one")
        storage.write_text("two.txt", "the old and longer content")
        storage.move("one.txt", "two.txt")
        assert _paths(storage) == ["two.txt"]
        assert storage.read_text("two.txt") == "one"

    def test_a_file_is_moved_to_where_it_is(self, storage: FileBackend) -> None:
        storage.write_text("sub/one.txt", "one")
        storage.move("sub/one.txt", "sub/../sub/one.txt")
        assert storage.read_text("sub/one.txt") == "one"

    def test_only_the_file_that_is_named_is_moved(self, storage: FileBackend) -> None:
        for path in ("a*.txt", "ab.txt", "abc.txt", "[ab].txt"):
            storage.write_text(path, path)
        storage.move("a*.txt", "moved/a*.txt")
        storage.move("[ab].txt", "moved/?.txt")
        assert _paths(storage) == ["ab.txt", "abc.txt", "moved/?.txt", "moved/a*.txt"]
        assert [storage.read_text(path) for path in ("moved/a*.txt", "moved/?.txt")] == ["a*.txt", "[ab].txt"]

    def test_a_folder_is_moved_with_all_in_it(self, storage: FileBackend) -> None:
        storage.write_text("old/one.txt", "one")
        storage.write_text("old/deep/two*.txt", "two")
        storage.write_text("older.txt", "stays")
        storage.move("old", "new/place")
        assert _paths(storage) == ["new/place/deep/two*.txt", "new/place/one.txt", "older.txt"]
        assert storage.read_text("new/place/deep/two*.txt") == "two"
        assert not storage.exists("old")

    def test_a_folder_takes_no_other_place(self, storage: FileBackend) -> None:
        storage.write_text("sub/one.txt", "one")
        storage.write_text("full/two.txt", "two")
        storage.write_text("file.txt", "three")
        for target in ("full", "file.txt", "sub"):
            with pytest.raises(FileExistsError):
                storage.move("sub", target)
        with pytest.raises(OSError, match="sub"):
            storage.move("sub", "sub/inside")
        with pytest.raises(IsADirectoryError):
            storage.move("file.txt", "full")
        with pytest.raises(IsADirectoryError):
            storage.move(".", "elsewhere")
        assert _paths(storage) == ["file.txt", "full/two.txt", "sub/one.txt"]

    def test_nothing_cannot_be_moved(self, storage: FileBackend) -> None:
        storage.write_text("two.txt", "two")
        with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
            storage.move("missing.txt", "two.txt")
        assert storage.read_text("two.txt") == "two"

    def test_a_file_is_copied(self, storage: FileBackend) -> None:
        storage.write_bytes("one.bin", _CONTENT)
        storage.write_text("two.bin", "old")
        storage.copy("one.bin", "two.bin")
        storage.copy("one.bin", "sub/a*.bin")
        storage.copy("one.bin", "one.bin")
        assert _paths(storage) == ["one.bin", "sub/a*.bin", "two.bin"]
        assert {storage.read_bytes(path) for path in _paths(storage)} == {_CONTENT}

    def test_a_copy_takes_no_place_of_a_folder(self, storage: FileBackend) -> None:
        storage.write_text("one.txt", "one")
        storage.write_text("sub/two.txt", "two")
        with pytest.raises(IsADirectoryError):
            storage.copy("one.txt", "sub")
        assert storage.read_text("sub/two.txt") == "two"

    def test_put_and_get_carry_a_whole_file(self, storage: FileBackend, tmp_path: Path) -> None:
        here, back = tmp_path / "here.bin", tmp_path / "back.bin"
        here.write_bytes(_CONTENT)
        storage.write_text("sub/there.bin", "old")
        up: list[tuple[int, int]] = []
        down: list[tuple[int, int]] = []

        storage.put(here, "sub/there.bin", lambda *progress: up.append(progress))
        storage.get("sub/there.bin", back, lambda *progress: down.append(progress))

        assert storage.read_bytes("sub/there.bin") == back.read_bytes() == _CONTENT
        for progress in (up, down):
            assert progress[-1] == (len(_CONTENT), len(_CONTENT))
            assert progress == sorted(set(progress))
        assert storage.listdir("sub") == ["there.bin"]

    def test_put_and_get_carry_an_empty_file(self, storage: FileBackend, tmp_path: Path) -> None:
        (tmp_path / "here").touch()
        storage.put(tmp_path / "here", "there")
        storage.get("there", tmp_path / "back")
        assert (storage.read_bytes("there"), (tmp_path / "back").read_bytes()) == (b"", b"")

    def test_put_of_nothing_leaves_what_is_there(self, storage: FileBackend, tmp_path: Path) -> None:
        storage.write_text("there.txt", "old")
        with pytest.raises(FileNotFoundError):
            storage.put(tmp_path / "missing", "there.txt")
        assert storage.read_text("there.txt") == "old"

    def test_put_takes_no_place_of_a_folder(self, storage: FileBackend, tmp_path: Path) -> None:
        (tmp_path / "here").write_text("new")
        storage.write_text("sub/two.txt", "two")
        with pytest.raises(IsADirectoryError):
            storage.put(tmp_path / "here", "sub")
        assert _paths(storage) == ["sub/two.txt"]

    def test_get_of_nothing_makes_no_file(self, storage: FileBackend, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
            storage.get("missing.txt", tmp_path / "back")
        assert not (tmp_path / "back").exists()

    def test_get_that_fails_leaves_the_file_that_was_there(self, storage: FileBackend, tmp_path: Path) -> None:
        storage.write_bytes("there.bin", _CONTENT)
        back = tmp_path / "beside" / "back"
        back.parent.mkdir()
        back.write_text("old")
        with pytest.raises(_Enough):
            storage.get("there.bin", back, _enough)
        assert list(back.parent.iterdir()) == [back]
        assert back.read_text() == "old"

    def test_who_is_told_of_the_progress_may_end_it(self, storage: FileBackend, tmp_path: Path) -> None:
        (tmp_path / "here").write_bytes(_CONTENT)
        with pytest.raises(_Enough):
            storage.put(tmp_path / "here", "there.bin", _enough)
