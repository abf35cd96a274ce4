"""A process that forks while its threads and open files use the storage of STORAGE. It prints what it has seen."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

from openfactory.storage import FileBackend, StorageUnavailableError, storage_from_environment

CHILDREN = 2


def in_child(storage: FileBackend, number: int) -> None:
    assert storage.read_text("recipe.txt") == "900 rpm\n" * 10_000
    with storage.open(f"child-{number}.txt", "a") as file:
        file.write("one\n")
    assert storage.listdir().count(f"child-{number}.txt") == 1


def recipe(storage: FileBackend) -> str:
    return storage.read_text("recipe.txt")[:7]


def main() -> None:
    storage = storage_from_environment(os.environ["STORAGE"])
    assert storage is not None
    storage.write_text("recipe.txt", "900 rpm\n" * 10_000)
    stopped = threading.Event()
    failed: list[str] = []

    def use() -> None:
        while not stopped.wait(0.01):
            try:
                assert storage.exists("recipe.txt")
            except Exception as error:  # noqa: BLE001 - any error is what the test looks for
                failed.append(repr(error))

    thread = threading.Thread(target=use)
    thread.start()
    statuses: list[int] = []
    said: list[object] = []
    with storage.open("recipe.txt") as reader, storage.open("log.txt", "w") as log:
        reader.readline()
        log.write("before\n")
        log.flush()  # a child that ends would be told that it cannot write what is left
        for number in range(CHILDREN):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # ends a child that hangs
                in_child(storage, number)
                if number == 0:
                    with suppress(StorageUnavailableError):
                        reader.read()
                        os._exit(3)
                    log, reader = None, None  # type: ignore[assignment]
                    gc.collect()
                sys.exit(0)  # ends as a Python program ends: finalizers and destructors run
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        said.append(len(reader.read()))
        log.write("after\n")
    stopped.set()
    thread.join()
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        said.append(list(pool.map(recipe, [storage] * 4)))
    said += [storage.read_text("log.txt"), storage.listdir()]
    print(json.dumps({"statuses": statuses, "failed": failed, "said": said}))


if __name__ == "__main__":
    main()
