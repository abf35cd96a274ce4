"""Tests of `move`, `copy`, `put` and `get`."""

from __future__ import annotations

from pathlib import Path

import pytest

from openfactory.storage.backend import FileBackend

__all__ = ["CarryingConformance"]

_CONTENT = b"0123456789abcdef" * 160_000  # more than one chunk


def _paths(storage: FileBackend) -> list[str]:
    return [entry.path for entry in storage.walk() if not entry.is_folder]


class _Stopped(Exception):
    """Raised by a progress callback."""


def _stop(*_progress: int) -> None:
    raise _Stopped


class CarryingConformance:
    """Tests of `move`, `copy`, `put` and `get`."""

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

    def test_a_file_is_moved_to_its_own_path(self, storage: FileBackend) -> None:
        storage.write_text("sub/one.txt", "one")
        storage.move("sub/one.txt", "sub/../sub/one.txt")
        assert storage.read_text("sub/one.txt") == "one"

    def test_a_name_is_not_a_pattern_when_a_file_is_moved(self, storage: FileBackend) -> None:
        for path in ("a*.txt", "ab.txt", "abc.txt", "[ab].txt"):
            storage.write_text(path, path)
        storage.move("a*.txt", "moved/a*.txt")
        storage.move("[ab].txt", "moved/?.txt")
        assert _paths(storage) == ["ab.txt", "abc.txt", "moved/?.txt", "moved/a*.txt"]
        assert [storage.read_text(path) for path in ("moved/a*.txt", "moved/?.txt")] == ["a*.txt", "[ab].txt"]

    def test_a_folder_is_moved_with_its_content(self, storage: FileBackend) -> None:
        storage.write_text("old/one.txt", "one")
        storage.write_text("old/deep/two*.txt", "two")
        storage.write_text("older.txt", "stays")
        storage.move("old", "new/place")
        assert _paths(storage) == ["new/place/deep/two*.txt", "new/place/one.txt", "older.txt"]
        assert storage.read_text("new/place/deep/two*.txt") == "two"
        assert not storage.exists("old")

    def test_a_folder_replaces_nothing(self, storage: FileBackend) -> None:
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

    def test_a_missing_file_is_not_moved(self, storage: FileBackend) -> None:
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

    def test_a_copy_does_not_replace_a_folder(self, storage: FileBackend) -> None:
        storage.write_text("one.txt", "one")
        storage.write_text("sub/two.txt", "two")
        with pytest.raises(IsADirectoryError):
            storage.copy("one.txt", "sub")
        assert storage.read_text("sub/two.txt") == "two"

    def test_put_and_get_transfer_a_whole_file(self, storage: FileBackend, tmp_path: Path) -> None:
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

    def test_put_and_get_transfer_an_empty_file(self, storage: FileBackend, tmp_path: Path) -> None:
        (tmp_path / "here").touch()
        storage.put(tmp_path / "here", "there")
        storage.get("there", tmp_path / "back")
        assert (storage.read_bytes("there"), (tmp_path / "back").read_bytes()) == (b"", b"")

    def test_put_of_a_missing_file_keeps_the_old_file(self, storage: FileBackend, tmp_path: Path) -> None:
        storage.write_text("there.txt", "old")
        with pytest.raises(FileNotFoundError):
            storage.put(tmp_path / "missing", "there.txt")
        assert storage.read_text("there.txt") == "old"

    def test_put_does_not_replace_a_folder(self, storage: FileBackend, tmp_path: Path) -> None:
        (tmp_path / "here").write_text("new")
        storage.write_text("sub/two.txt", "two")
        with pytest.raises(IsADirectoryError):
            storage.put(tmp_path / "here", "sub")
        assert _paths(storage) == ["sub/two.txt"]

    def test_get_of_a_missing_file_creates_no_file(self, storage: FileBackend, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
            storage.get("missing.txt", tmp_path / "back")
        assert not (tmp_path / "back").exists()

    def test_a_failed_get_keeps_the_old_file(self, storage: FileBackend, tmp_path: Path) -> None:
        storage.write_bytes("there.bin", _CONTENT)
        back = tmp_path / "beside" / "back"
        back.parent.mkdir()
        back.write_text("old")
        with pytest.raises(_Stopped):
            storage.get("there.bin", back, _stop)
        assert list(back.parent.iterdir()) == [back]
        assert back.read_text() == "old"

    def test_the_progress_callback_may_stop_an_upload(self, storage: FileBackend, tmp_path: Path) -> None:
        (tmp_path / "here").write_bytes(_CONTENT)
        with pytest.raises(_Stopped):
            storage.put(tmp_path / "here", "there.bin", _stop)
