"""Kill processes in the midst of `write_atomic`, and tell what each of them left.

python killed.py FOLDER TIMES

Each line that it writes is what was seen after one kill in the midst: the number that the whole file says (null for a
mixture or none), the number before, whether a part was left behind, and what the storage lists.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from openfactory.storage import FileBackend, LocalBackend

SIZE = 8 * 1024 * 1024


def content(number: int) -> bytes:
    return number.to_bytes(8, "big") * (SIZE // 8)


def number_of(data: bytes) -> int | None:
    number = int.from_bytes(data[:8], "big")
    return number if data == content(number) else None


def write_for_ever(storage: FileBackend, number: int) -> None:
    while True:
        number += 1
        storage.write_atomic("state.bin", content(number))


def parts(folder: Path) -> dict[str, int]:
    found = {}
    for path in folder.glob(".ofa-*.tmp"):
        try:
            found[path.name] = path.stat().st_size
        except FileNotFoundError:  # it has got its name
            continue
    return found


def killed_in_the_midst(storage: FileBackend, folder: Path, number: int, after: int) -> bool:
    """Whether a process was killed while it wrote; it may be done just before the signal comes."""
    left = set(parts(folder))
    child = os.fork()
    if not child:
        write_for_ever(storage, number)
    seen, until = 0, time.monotonic() + 20
    try:
        while seen < after:  # another moment of it each time
            assert time.monotonic() < until, "no part was seen"
            seen += any(name not in left for name in parts(folder))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return not left.issuperset(parts(folder))


def main(folder: Path, times: int) -> None:
    storage = LocalBackend.from_config({"type": "local", "local_path": str(folder), "mount_point": "/nowhere/data"})
    number, kills = 1, 0
    storage.write_atomic("state.bin", content(number))
    while kills < times:
        in_the_midst = killed_in_the_midst(storage, folder, number, after=1 + kills % 5)
        kills += in_the_midst
        found = number_of(storage.read_bytes("state.bin"))
        listed = [storage.listdir(), [entry.path for entry in storage.walk()], storage.glob("**")]
        seen = {"found": found, "before": number, "in_the_midst": in_the_midst, "listed": listed}
        sys.stdout.write(json.dumps(seen) + "\n")
        number = found or number


main(Path(sys.argv[1]), int(sys.argv[2]))
