"""Tests of positions in an open file, and of appending: they are those of the builtin `open` on this machine."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from openfactory.storage.backend import FileBackend

__all__ = ["PositionsConformance"]

_CONTENT = b"0123456789\nabcdef\n\nlast"

Steps = Callable[[IO[Any]], list[object]]


def _error(attempt: Callable[[], object]) -> object:
    try:
        return attempt()
    except io.UnsupportedOperation:
        return "unsupported"
    except OSError as error:
        return error.errno


def _read_bytes(file: IO[Any]) -> list[object]:
    return [
        (file.seekable(), file.tell(), file.read(3), file.tell(), file.readline(), file.tell()),
        (file.seek(2), file.read(2), file.seek(3, os.SEEK_CUR), file.read(1), file.seek(-4, os.SEEK_END), file.read()),
        (file.seek(100), file.tell(), file.read(5), file.read(), file.tell(), file.seek(-1, os.SEEK_CUR)),
        (_error(lambda: file.seek(-1)), _error(lambda: file.seek(-200, os.SEEK_END)), file.tell()),
        (file.seek(0), file.readlines(), file.tell()),
    ]


def _write_bytes(file: IO[Any]) -> list[object]:
    return [
        (file.seekable(), file.tell(), file.write(b"abcdef"), file.tell(), file.seek(2), file.write(b"X"), file.tell()),
        (file.seek(0, os.SEEK_END), file.write(b"g"), file.tell(), file.seek(10), file.write(b"z"), file.tell()),
        (file.seek(-3, os.SEEK_END), file.tell(), _error(lambda: file.seek(-1)), file.tell()),
        (file.flush(), file.truncate(9), file.tell(), file.seek(0), file.write(b"-"), file.tell()),
    ]


def _append_bytes(file: IO[Any]) -> list[object]:
    return [
        (file.seekable(), file.tell(), file.write(b"one"), file.flush(), file.tell()),
        (file.seek(0), file.tell(), file.write(b"two"), file.flush(), file.tell()),
        (file.seek(1), file.seek(0, os.SEEK_END), file.tell(), file.write(b"three"), file.tell()),
    ]


def _read_text(file: IO[Any]) -> list[object]:
    places = [(file.readline(), file.tell()) for _ in range(2)]
    again = [(file.seek(place), file.readline(), file.tell()) for _, place in places]
    return [places, again, file.read(), file.tell(), file.seek(0), file.read(4), file.seek(0, os.SEEK_END), file.read()]


def _write_text(file: IO[Any]) -> list[object]:
    start = (file.seekable(), file.tell(), file.write("Öfen\n"), file.tell())
    middle = file.tell()
    return [start, file.write("zwei\n"), file.tell(), file.seek(middle), file.write("2"), file.tell()]


def _append_text(file: IO[Any]) -> list[object]:
    return [
        file.seekable(),
        file.tell(),
        file.write("Öfen\n"),
        file.tell(),
        file.seek(0),
        file.tell(),
        file.write("zwei\n"),
    ]


_STEPS: dict[str, Steps] = {
    "rb": _read_bytes,
    "wb": _write_bytes,
    "xb": _write_bytes,
    "ab": _append_bytes,
    "r": _read_text,
    "w": _write_text,
    "x": _write_text,
    "a": _append_text,
    "r+b": lambda file: _read_bytes(file) + _write_bytes(file),
    "w+b": lambda file: _write_bytes(file) + _read_bytes(file),
    "a+b": lambda file: [*_append_bytes(file), file.seek(0), file.read()],
    "r+": lambda file: _read_text(file) + _write_text(file),
    "a+": lambda file: [*_append_text(file), file.seek(0), file.read()],
}


class PositionsConformance:
    """Tests that take the same steps in a file of the storage and in a file of this machine."""

    #: Whether a file can be opened for reading and writing at once (`r+`, `w+`, `a+`, `x+`); False for object stores.
    can_update = True

    @pytest.mark.parametrize("mode", _STEPS)
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_positions_are_those_of_the_builtin_open(
        self, storage: FileBackend, tmp_path: Path, mode: str, encoding: str
    ) -> None:
        if "+" in mode and not self.can_update:
            return
        options = {} if "b" in mode else {"encoding": encoding, "newline": ""}
        here = tmp_path / "here"
        if "x" not in mode:
            here.write_bytes(_CONTENT.decode().encode(encoding))
            storage.write_bytes("there", here.read_bytes())
        with here.open(mode, **options) as file:  # type: ignore[call-overload]
            expected = _STEPS[mode](file)
        with storage.open("there", mode, **options) as file:
            assert _STEPS[mode](file) == expected
        assert storage.read_bytes("there") == here.read_bytes()

    def test_a_byte_order_mark_is_written_once(self, storage: FileBackend) -> None:
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"):
            path = f"{encoding}.csv"
            for line in ("Öfen;1\n", "Öfen;2\n", "", "Öfen;3\n"):
                with storage.open(path, "a", encoding=encoding) as file:
                    file.write(line)
            assert storage.read_bytes(path) == "Öfen;1\nÖfen;2\nÖfen;3\n".encode(encoding)
            assert storage.read_text(path, encoding=encoding) == "Öfen;1\nÖfen;2\nÖfen;3\n"

    def test_a_large_file_is_read_at_any_position(self, storage: FileBackend) -> None:
        content = os.urandom(6 * 1024 * 1024)
        storage.write_bytes("large.bin", content)
        with storage.open("large.bin", "rb") as file:
            for position in (5 * 1024 * 1024 + 7, 3, len(content) - 2, 1024 * 1024):
                assert file.seek(position) == position
                assert file.read(1_000) == content[position : position + 1_000]
                assert file.tell() == min(position + 1_000, len(content))
