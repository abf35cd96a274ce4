"""Two processes replace the same file, and a third reads it all the time.

python two_writers.py FOLDER TIMES

It writes how often each content was read, by the name of its writer; what is no whole content is "mixture".
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter

from openfactory.storage import FileBackend, LocalBackend

SIZE = 512 * 1024
CONTENTS = {"first": b"1" * SIZE, "second": b"2" * (SIZE // 2), "before": b"0"}


def write(storage: FileBackend, writer: str, times: int) -> int:
    child = os.fork()
    if not child:
        for _ in range(times):
            storage.write_atomic("state.bin", CONTENTS[writer])
        os._exit(0)
    return child


def main(folder: str, times: int) -> None:
    storage = LocalBackend.from_config({"type": "local", "local_path": folder, "mount_point": "/nowhere/data"})
    storage.write_atomic("state.bin", CONTENTS["before"])
    names = {whole: name for name, whole in CONTENTS.items()}
    read: Counter[str] = Counter()
    left = [write(storage, writer, times) for writer in ("first", "second")]
    while left:
        read[names.get(storage.read_bytes("state.bin"), "mixture")] += 1
        for child in left.copy():
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0
                left.remove(child)
    sys.stdout.write(json.dumps({"read": read, "listed": os.listdir(folder)}))


main(sys.argv[1], int(sys.argv[2]))
