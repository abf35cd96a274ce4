"""Logs that rotate while an app writes into them.

An app writes into the file itself, not into a pipe: so it goes on when the supervisor is killed, and writing costs the
supervisor no time. A log that is full is copied, and emptied then. A line that is written in the instant between both
is lost, which takes microseconds for each of the 10 MiB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["LogReader", "append_note", "open_log", "parts_of", "remove_log", "rotate"]

#: Older parts of a log that are kept.
KEPT = 3

_CHUNK = 2**20


def open_log(path: Path) -> int:
    """Open a log for appending, and return its descriptor."""
    path.parent.mkdir(exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def append_note(path: Path, text: str) -> None:
    """Append a line of the supervisor to the log of an app."""
    descriptor = open_log(path)
    try:
        os.write(descriptor, f"[ofa] {text}\n".encode())
    finally:
        os.close(descriptor)


def parts_of(path: Path) -> list[Path]:
    """Return the files of a log that exist, the oldest first."""
    parts = [*(_part(path, number) for number in range(KEPT, 0, -1)), path]
    return [part for part in parts if part.exists()]


def rotate(path: Path, limit: int) -> bool:
    """Rotate a log that is larger than a limit, and return whether it was."""
    try:
        if path.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    copy = _copy(path)
    with open(path, "r+b", buffering=0) as log, open(copy, "wb", buffering=0) as copied:
        while chunk := log.read(_CHUNK):
            copied.write(chunk)
        log.truncate(0)
    for number in range(KEPT - 1, 0, -1):
        if (part := _part(path, number)).exists():
            part.replace(_part(path, number + 1))
    copy.replace(_part(path, 1))  # after the log is empty: by this a reader sees that it is
    return True


class LogReader:
    """A log that is read from its oldest part on, and goes on across its rotations.

    What an app writes last is read too if its log is removed with it.

    Args:
        path: the log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rest = b""
        self._position = 0
        self._log: BinaryIO | None = None
        self._newest: tuple[int, ...] | None = None  # the newest older part that was read

    def lines(self) -> Iterator[str]:
        """Return the whole lines that were written since the last call."""
        for part in self._unread_parts():
            with suppress(FileNotFoundError), open(part, "rb") as file:
                yield from self._read(file)
                self._newest = _identity(part)
                self._position = 0
        if self._log is not None and self._is_another():
            yield from self._read(self._log)
            self.close()
        if self._log is None:
            with suppress(FileNotFoundError):
                self._log = open(self.path, "rb")  # noqa: SIM115 - it is read on and on
        if self._log is not None:
            yield from self._read(self._log)

    def rest(self) -> str:
        """Return the last line if it is not whole yet, or an empty text."""
        return self._rest.decode("utf-8", "backslashreplace")

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
        self._log, self._position, self._rest = None, 0, b""

    def _unread_parts(self) -> list[Path]:
        """Return the parts into which the log was copied after it was read last, the oldest first."""
        unread = []
        for number in range(1, KEPT + 1):
            part = _part(self.path, number)
            if (identity := _identity(part)) is None or identity == self._newest:
                break
            unread.append(part)
        return unread[::-1]

    def _is_another(self) -> bool:
        """Return whether the log was removed with its instance; another one may have the UUID by now."""
        identity = _identity(self.path)
        assert self._log is not None
        return identity is None or identity[1] != os.fstat(self._log.fileno()).st_ino

    def _read(self, file: BinaryIO) -> Iterator[str]:
        file.seek(self._position)
        content = file.read()
        self._position += len(content)
        *whole, self._rest = (self._rest + content).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r").decode("utf-8", "backslashreplace")


def remove_log(path: Path) -> None:
    """Remove a log with its older parts, and the copy of a rotation that was not completed."""
    for part in (*parts_of(path), _copy(path)):
        part.unlink(missing_ok=True)


def _copy(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns  # an inode number is used again
