"""Checks of the WAL of a database: its header, its frames, its size, and the processes that make it grow."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from openfactory.concurrency.kernel_locks import KernelLock, kernel_locks
from openfactory.doctor.files import read_part
from openfactory.doctor.finding import Finding, advised, failed, fine
from openfactory.engines.embedded.checkpoints import WAL_CHECKPOINT_BYTES, WAL_TRUNCATE_BYTES
from openfactory.engines.embedded.files import size_text, wal_index_of, wal_of

__all__ = ["RESTORE_WITH_WAL", "examine_wal", "fault_of_wal", "lost_frames", "other_writers"]

# The first bytes of a WAL whose checksums are little-endian or big-endian, and the size of its header.
_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24

# Place in the index of the WAL of the number of frames that count.
_FRAMES_PLACE = 16

# Bytes of the index of the WAL on which SQLite has locks: of the writer, and of readers.
_WRITER_BYTE = 120
_READER_BYTES = range(123, 128)

#: Remedy for a WAL with events that SQLite cannot read.
RESTORE_WITH_WAL = (
    "Stop all apps. Put back a copy of the file and its -wal, or start an app to go on without these events."
)

# A reader that keeps its place for this many seconds is more than a short query, and frames that do not count for so
# long are more than a commit that waits for the disk. They are looked at this many times.
_SECONDS = 1.0
_LOOKS = 10


def examine_wal(path: Path) -> Iterator[Finding]:
    """Check the size of the WAL of a database. SQLite removes the WAL of a database that all processes have closed."""
    try:
        size = wal_of(path).stat().st_size
    except FileNotFoundError:
        yield fine("WAL", "none: no process has the file open")
        return
    if size < WAL_CHECKPOINT_BYTES:
        yield fine("WAL", f"{size_text(size)}, below the {size_text(WAL_CHECKPOINT_BYTES)} of a checkpoint")
    else:
        yield _examine_size(path, size)


def _examine_size(path: Path, size: int) -> Finding:
    readers = _lasting_readers(path)
    if readers:
        who = f"process {readers[0]} reads" if len(readers) == 1 else f"processes {', '.join(map(str, readers))} read"
        state = failed if size >= WAL_TRUNCATE_BYTES else advised
        return state(
            "WAL",
            f"{size_text(size)}, because {who} the database in one long transaction. "
            "End the query or transaction: it keeps the WAL growing until the disk is full.",
        )
    if size >= WAL_TRUNCATE_BYTES:
        return advised(
            "WAL",
            f"{size_text(size)}, and nobody reads in a long transaction now. "
            "Write with any app: it checkpoints the WAL after 2,000 events.",
        )
    return fine("WAL", f"{size_text(size)}, checkpointed while apps write")


def fault_of_wal(path: Path) -> str:
    """Return the fault of a WAL that was removed or whose header is damaged, or an empty text."""
    wal = wal_of(path)
    try:
        if wal.stat().st_size == 0 or _has_valid_header(wal):
            return ""
    except FileNotFoundError:
        if not wal_index_of(path).exists():
            return ""
        return f"{wal} was removed, and with it the newest events. {RESTORE_WITH_WAL}"
    return f"{wal} is damaged, or is not a WAL, so SQLite ignores it and the newest events. {RESTORE_WITH_WAL}"


def _has_valid_header(wal: Path) -> bool:
    """Return whether a WAL begins with a header whose checksum is right. It is read again, if it is just written."""
    for _ in range(2):
        with wal.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        if not header or _is_valid(header):
            return True
        time.sleep(_SECONDS / _LOOKS)
    return False


def _is_valid(header: bytes) -> bool:
    if len(header) < _HEADER_BYTES:
        return False
    order = _ORDERS.get(int.from_bytes(header[:4], "big"))
    if order is None:
        return False
    words = struct.unpack(f"{order}6I", header[:24])
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return struct.unpack(">2I", header[24:]) == (first, second)


def lost_frames(path: Path) -> int:
    """Return the number of frames up to the last commit of a WAL that SQLite does not read, because one is damaged.

    Call it while a connection has the database open: SQLite has then counted the frames that it reads. With
    `synchronous=full`, SQLite writes a commit, waits for the disk, and counts the frames of the commit only then.
    """
    found = (0, 0)
    for look in range(_LOOKS):
        try:
            written, read = _committed_frames(wal_of(path)), _frames_that_count(wal_index_of(path))
        except (OSError, struct.error):
            return 0
        if written <= read or (look and found != (written, read)):  # an app goes on writing, and its commit counts
            return 0
        found = written, read
        time.sleep(_SECONDS / _LOOKS)
    return found[0] - found[1]


def _committed_frames(wal: Path) -> int:
    """Return the number of frames up to the last commit, by the marks in the frames."""
    committed = 0
    with wal.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if not _is_valid(header):
            return 0
        page_bytes, salts = int.from_bytes(header[8:12], "big"), header[16:24]
        frames = (os.fstat(file.fileno()).st_size - _HEADER_BYTES) // (_FRAME_HEADER_BYTES + page_bytes)
        for number in range(frames):
            file.seek(_HEADER_BYTES + number * (_FRAME_HEADER_BYTES + page_bytes))
            frame = file.read(_FRAME_HEADER_BYTES)
            if frame[8:16] != salts:
                break  # a rest of an earlier round
            if frame[4:8] != bytes(4):
                committed = number + 1
    return committed


def _frames_that_count(index: Path) -> int:
    return int(struct.unpack("=I", read_part(index, _FRAMES_PLACE, 4))[0])


def _lasting_readers(path: Path) -> list[int]:
    """Return the processes that read in one transaction while they are looked at."""
    lasting: set[tuple[int, int]] | None = None
    for _ in range(_LOOKS):
        now = {(lock.process, lock.first) for lock in _locks(path) if lock.first in _READER_BYTES}
        lasting = now if lasting is None else lasting & now
        if not lasting:
            return []
        time.sleep(_SECONDS / _LOOKS)
    return sorted({process for process, _ in lasting or ()})


def _locks(path: Path) -> list[KernelLock]:
    try:
        return kernel_locks(wal_index_of(path).stat())
    except OSError:  # another system than Linux
        return []


def other_writers(path: Path) -> list[int]:
    """Return the processes that have a transaction for writing open."""
    return [lock.process for lock in _locks(path) if lock.first == _WRITER_BYTE and lock.process != os.getpid()]
