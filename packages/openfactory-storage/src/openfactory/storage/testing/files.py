"""Tests of the operations on one file: open in each mode, read, write, info and delete."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from openfactory.storage.backend import FileBackend

__all__ = ["FilesConformance"]

_CLOCK_TOLERANCE = timedelta(seconds=60)
_LARGE = 6 * 1024 * 1024 + 1  # larger than one part of an upload to an object store

# The methods that read a file.
_READS: dict[str, Callable[[FileBackend, str], object]] = {
    "open": lambda storage, path: storage.open(path),
    "read_bytes": lambda storage, path: storage.read_bytes(path),
    "read_text": lambda storage, path: storage.read_text(path),
    "copy": lambda storage, path: storage.copy(path, "copy.txt"),
}

# The methods that write a file.
_WRITES: dict[str, Callable[[FileBackend, str], object]] = {
    "open": lambda storage, path: storage.open(path, "w").close(),
    "append": lambda storage, path: storage.open(path, "ab").close(),
    "write_bytes": lambda storage, path: storage.write_bytes(path, b"new"),
    "write_text": lambda storage, path: storage.write_text(path, "new"),
    "write_atomic": lambda storage, path: storage.write_atomic(path, b"new"),
}


class FilesConformance:
    """Tests of the operations on one file."""

    #: Whether a file can be opened for reading and writing at once (`r+`, `w+`, `a+`, `x+`); False for object stores.
    can_update = True

    #: Whether the storage records the time of the last write.
    tells_time = True

    def test_text_is_read_as_it_was_written(self, storage: FileBackend) -> None:
        with storage.open("notes/today.txt", "w") as file:
            file.write("Prüfstück\n")
            file.write("zweite Zeile\n")
        with storage.open("notes/today.txt") as file:
            assert list(file) == ["Prüfstück\n", "zweite Zeile\n"]
        assert storage.read_bytes("notes/today.txt") == "Prüfstück\nzweite Zeile\n".encode()

    def test_bytes_are_read_as_they_were_written(self, storage: FileBackend) -> None:
        content = bytes(range(256)) * 40
        with storage.open("data.bin", "wb") as file:
            assert file.write(content[:7]) == 7
            assert file.write(memoryview(content)[7:]) == len(content) - 7
        with storage.open("data.bin", "rb") as file:
            assert file.read(3) == content[:3]
            assert file.tell() == 3
            assert file.seek(-4, io.SEEK_END) == len(content) - 4
            assert file.read() == content[-4:]
            assert file.read() == b""

    def test_a_binary_file_allows_only_operations_of_its_mode(self, storage: FileBackend) -> None:
        with storage.open("data.bin", "wb") as file, pytest.raises(io.UnsupportedOperation):
            file.read()
        with storage.open("data.bin", "rb") as file:
            with pytest.raises(io.UnsupportedOperation):
                file.write(b"x")
            with pytest.raises((OSError, ValueError)):
                file.seek(-5)
        assert storage.read_bytes("data.bin") == b""

    def test_lines_of_a_binary_file_are_read(self, storage: FileBackend) -> None:
        storage.write_bytes("log", b"one\ntwo\n\nlast")
        with storage.open("log", "rb") as file:
            assert file.readline() == b"one\n"
            assert file.readline(2) == b"tw"
            assert list(file) == [b"o\n", b"\n", b"last"]

    @pytest.mark.parametrize("size", [0, 1, _LARGE])
    def test_files_of_any_size_are_read_and_written(self, storage: FileBackend, size: int) -> None:
        content = (b"0123456789abcde" * (size // 15 + 1))[:size]
        storage.write_bytes("opened.bin", content)
        storage.write_atomic("atomic.bin", content)
        assert storage.read_bytes("opened.bin") == content
        assert storage.read_bytes("atomic.bin") == content
        assert storage.info("opened.bin").size == storage.info("atomic.bin").size == size

    def test_text_is_utf_8_by_default(self, storage: FileBackend) -> None:
        storage.write_text("utf-8.txt", "Ölstand 铣")
        storage.write_text("latin-1.txt", "Ölstand", encoding="latin-1")
        assert storage.read_bytes("utf-8.txt") == "Ölstand 铣".encode()
        assert storage.read_bytes("latin-1.txt") == b"\xd6lstand"
        assert storage.read_text("latin-1.txt", encoding="latin-1") == "Ölstand"
        with storage.open("latin-1.txt", encoding="latin-1") as file:
            assert file.read() == "Ölstand"

    def test_newlines_are_converted_as_requested(self, storage: FileBackend) -> None:
        with storage.open("lines.csv", "w", newline="\r\n") as file:
            file.write("a\nb\n")
        assert storage.read_bytes("lines.csv") == b"a\r\nb\r\n"
        with storage.open("lines.csv") as file:
            assert file.read() == "a\nb\n"
        with storage.open("lines.csv", newline="") as file:
            assert file.read() == "a\r\nb\r\n"

    def test_writing_replaces_and_appending_adds(self, storage: FileBackend) -> None:
        storage.write_text("log.txt", "a long first content")
        storage.write_text("log.txt", "one\n")
        with storage.open("log.txt", "a") as file:
            file.write("two\n")
        with storage.open("log.txt", "ab") as file:
            file.write(b"three\n")
        with storage.open("new/log.txt", "a") as file:
            file.write("first\n")
        assert storage.read_text("log.txt") == "one\ntwo\nthree\n"
        assert storage.read_text("new/log.txt") == "first\n"

    def test_exclusive_mode_creates_only_new_files(self, storage: FileBackend) -> None:
        with storage.open("lock/one", "x") as file:
            file.write("mine")
        for mode in ("x", "xb"):
            with pytest.raises(FileExistsError):
                storage.open("lock/one", mode)
        assert storage.read_text("lock/one") == "mine"

    @pytest.mark.parametrize("mode", ["r+", "r+b", "w+", "a+", "x+b"])
    def test_reading_and_writing_at_once_works_or_is_refused(self, storage: FileBackend, mode: str) -> None:
        path = "new.txt" if "x" in mode else "file.txt"
        storage.write_text("file.txt", "one")
        if not self.can_update:
            with pytest.raises(io.UnsupportedOperation, match=path):
                storage.open(path, mode)
            assert storage.read_text("file.txt") == "one"
            return
        with storage.open(path, mode) as file:
            file.seek(0, io.SEEK_END)
            file.write(b"two" if "b" in mode else "two")
            file.seek(0)
            assert file.read() in ("onetwo", "two", b"onetwo", b"two")

    @pytest.mark.parametrize("mode", ["", "q", "rw", "wb+b", "rbt", "b", "r b"])
    def test_an_invalid_mode_is_refused(self, storage: FileBackend, mode: str) -> None:
        storage.write_text("file.txt", "one")
        with pytest.raises(ValueError, match="mode"):
            storage.open("file.txt", mode)
        assert storage.read_text("file.txt") == "one"

    def test_bytes_have_no_encoding(self, storage: FileBackend) -> None:
        with pytest.raises(ValueError, match="encoding"):
            storage.open("file.txt", "wb", encoding="utf-8")

    def test_a_closed_file_is_not_written(self, storage: FileBackend) -> None:
        with storage.open("file.bin", "wb") as file:
            file.write(b"abc")
        file.close()
        assert file.closed
        with pytest.raises(ValueError, match="closed"):
            file.write(b"more")
        assert storage.read_bytes("file.bin") == b"abc"

    def test_a_text_file_allows_only_operations_of_its_mode(self, storage: FileBackend) -> None:
        with storage.open("file.txt", "w") as file, pytest.raises(io.UnsupportedOperation):
            file.read()
        with storage.open("file.txt") as file, pytest.raises(io.UnsupportedOperation):
            file.write("more")

    def test_two_readers_have_their_own_positions(self, storage: FileBackend) -> None:
        storage.write_bytes("file.bin", b"abcdef")
        with storage.open("file.bin", "rb") as first, storage.open("file.bin", "rb") as second:
            assert (first.read(2), second.read(3), first.read(2), second.read()) == (b"ab", b"abc", b"cd", b"def")

    @pytest.mark.parametrize("method", _READS)
    def test_a_missing_file_is_an_error(self, storage: FileBackend, method: str) -> None:
        with pytest.raises(FileNotFoundError, match=r"missing/one\.txt"):
            _READS[method](storage, "missing/one.txt")
        assert not storage.exists("copy.txt")

    @pytest.mark.parametrize("method", _READS)
    def test_a_folder_is_not_read(self, storage: FileBackend, method: str) -> None:
        storage.write_text("folder/one.txt", "one")
        with pytest.raises(IsADirectoryError, match="folder"):
            _READS[method](storage, "folder")

    @pytest.mark.parametrize("method", _WRITES)
    @pytest.mark.parametrize("path", ["folder", "."])
    def test_a_folder_is_not_written(self, storage: FileBackend, method: str, path: str) -> None:
        storage.write_text("folder/one.txt", "one")
        with pytest.raises(IsADirectoryError):
            _WRITES[method](storage, path)
        assert storage.read_text("folder/one.txt") == "one"
        assert [entry.path for entry in storage.walk()] == ["folder", "folder/one.txt"]

    @pytest.mark.parametrize("method", _WRITES)
    def test_missing_folders_are_created(self, storage: FileBackend, method: str) -> None:
        _WRITES[method](storage, "a/b/c.txt")
        assert storage.exists("a/b/c.txt")

    def test_write_atomic_takes_text_and_bytes(self, storage: FileBackend) -> None:
        storage.write_atomic("text.txt", "Größe\n")
        storage.write_atomic("latin.txt", "Größe", encoding="latin-1")
        storage.write_atomic("bytes.bin", b"\r\n\x00")
        storage.write_atomic("text.txt", "neu\n")
        assert storage.read_bytes("text.txt") == b"neu\n"
        assert storage.read_bytes("latin.txt") == b"Gr\xf6\xdfe"
        assert storage.read_bytes("bytes.bin") == b"\r\n\x00"
        assert storage.listdir() == ["bytes.bin", "latin.txt", "text.txt"]

    def test_a_reader_gets_the_old_content_or_the_new_content(self, storage: FileBackend) -> None:
        contents = [letter * 300_000 for letter in (b"a", b"b", b"c")]
        storage.write_atomic("state.bin", contents[0])
        finished = threading.Event()

        def write() -> None:
            try:
                for number in range(12):
                    storage.write_atomic("state.bin", contents[number % 3])
            finally:
                finished.set()

        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(write)
            seen = {storage.read_bytes("state.bin")}
            while not finished.is_set():
                seen.add(storage.read_bytes("state.bin"))
            written.result()
        assert seen <= set(contents)

    def test_info_gives_size_and_time(self, storage: FileBackend) -> None:
        before = datetime.now(UTC)
        storage.write_bytes("sub/data.bin", b"12345")
        info = storage.info("sub/./data.bin")
        assert (info.path, info.size, info.is_folder) == ("sub/data.bin", 5, False)
        if not self.tells_time:
            assert info.modified is None
            return
        assert info.modified is not None
        assert info.modified.utcoffset() == timedelta(0)
        assert before - _CLOCK_TOLERANCE < info.modified < datetime.now(UTC) + _CLOCK_TOLERANCE

    def test_info_of_a_folder(self, storage: FileBackend) -> None:
        storage.write_bytes("sub/data.bin", b"12345")
        assert storage.info("sub")._replace(modified=None) == ("sub", 0, None, True)
        assert storage.info()._replace(modified=None) == ("", 0, None, True)

    def test_info_of_a_missing_file(self, storage: FileBackend) -> None:
        with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
            storage.info("missing.txt")

    def test_exists_is_true_for_files_and_folders(self, storage: FileBackend) -> None:
        storage.write_text("sub/one.txt", "one")
        assert [storage.exists(path) for path in (".", "sub", "sub/one.txt")] == [True, True, True]
        assert [storage.exists(path) for path in ("su", "sub/one", "sub/one.txt/two")] == [False, False, False]

    def test_a_file_is_deleted(self, storage: FileBackend) -> None:
        storage.write_text("sub/one.txt", "one")
        storage.write_text("sub/two.txt", "two")
        storage.delete("sub/one.txt")
        assert storage.listdir("sub") == ["two.txt"]
        assert not storage.exists("sub/one.txt")
        with pytest.raises(FileNotFoundError, match=r"one\.txt"):
            storage.delete("sub/one.txt")

    def test_a_folder_is_not_deleted(self, storage: FileBackend) -> None:
        storage.write_text("sub/one.txt", "one")
        for path in ("sub", "."):
            with pytest.raises(IsADirectoryError):
                storage.delete(path)
        assert storage.read_text("sub/one.txt") == "one"

    def test_many_threads_use_the_storage_at_once(self, storage: FileBackend) -> None:
        def work(number: int) -> None:
            path, content = f"thread-{number % 4}/{number}.bin", b"%d," % number * 2_000
            storage.write_bytes(path, content)
            storage.write_atomic("shared.bin", content)
            with storage.open(path, "rb") as file:
                assert file.read(5) == content[:5]
                assert storage.info(path).size == len(content)
                assert file.read() == content[5:]
            assert path.rpartition("/")[2] in storage.listdir(path.partition("/")[0])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(32)))
        assert len(storage.glob("thread-*/*.bin")) == 32
        assert storage.read_bytes("shared.bin") in {b"%d," % number * 2_000 for number in range(32)}
