"""Write where there is no room, and tell what came of it.

python full_disk.py disk FOLDER SOURCE     the folder's file system is small: it is filled
python full_disk.py limit FOLDER SOURCE    no file of this process may become large
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openfactory.storage import FileBackend, LocalBackend

OLD, NEW = b"o" * 300_000, b"n" * 600_000


def fill(folder: Path) -> Callable[[], None]:
    """Leave less room than is needed; what is given back makes room again."""
    filler = folder / "filler"
    filler.write_bytes(b"f" * 500_000)
    return filler.unlink


def limit(_: Path) -> Callable[[], None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def attempt(folder: Path, write: Callable[[], None]) -> dict[str, Any]:
    """What a write that cannot be says and leaves."""
    try:
        write()
    except OSError as error:
        said = {"error": errno.errorcode[error.errno or 0], "text": str(error)}
    else:
        said = {}
    content = (folder / "state.bin").read_bytes()
    names = sorted(set(os.listdir(folder)) - {"filler"})
    return said | {"is_old": content == OLD, "is_new": content == NEW, "names": names}


def main(how: str, folder: Path, source: Path) -> None:
    storage: FileBackend = LocalBackend.from_config(
        {"type": "local", "local_path": str(folder), "mount_point": "/nowhere/data"}
    )
    storage.write_bytes("state.bin", OLD)
    source.write_bytes(NEW)
    make_room = {"disk": fill, "limit": limit}[how](folder)
    seen = {
        "write_atomic": attempt(folder, lambda: storage.write_atomic("state.bin", NEW)),
        "put": attempt(folder, lambda: storage.put(source, "state.bin")),
        "a new file": attempt(folder, lambda: storage.write_atomic("new/state.bin", NEW)),
        "write_bytes": attempt(folder, lambda: storage.write_bytes("large.bin", NEW)),
    }
    storage.delete("large.bin")
    make_room()
    seen["with room"] = attempt(folder, lambda: storage.write_atomic("state.bin", NEW))
    sys.stdout.write(json.dumps(seen))


main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
