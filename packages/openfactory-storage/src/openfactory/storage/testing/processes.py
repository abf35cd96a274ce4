"""Tests of a storage in several processes: forked children, and the processes of a pool."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from typing import Any

import pytest

from openfactory.storage.backend import FileBackend

__all__ = ["ProcessesConformance", "in_forked_child"]


def in_forked_child(work: Callable[[], Any]) -> Any:
    """Fork, and return the result of a function in the child, or its exception."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends a child that hangs
        try:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - the parent fails with it
                result = f"{type(error).__name__}: {error}"
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert answer, "the child has not answered within 60 seconds"
    return pickle.loads(answer)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 and later, if there are threads
class ProcessesConformance:
    """Tests of a storage in several processes."""

    #: Whether other processes see the files; False for the memory of a process.
    shared = True

    def test_a_forked_child_and_its_parent_use_the_storage(self, storage: FileBackend) -> None:
        storage.write_text("recipe.txt", "900 rpm")
        with storage.open("recipe.txt", "rb") as reader, storage.open("log.txt", "w") as log:
            assert reader.read(3) == b"900"
            log.write("before\n")
            log.flush()

            def work() -> list[object]:
                storage.write_text("child.txt", storage.read_text("recipe.txt"))
                with storage.open("child.txt", "a") as file:
                    file.write(" in the child")
                storage.move("child.txt", "moved.txt")
                return [storage.read_text("moved.txt"), storage.exists("child.txt"), in_forked_child(storage.listdir)]

            for _ in range(2):
                text, exists, names = in_forked_child(work)
                assert (text, exists) == ("900 rpm in the child", False)
                assert {"moved.txt", "recipe.txt"} <= set(names)
            assert reader.read() == b" rpm"
            log.write("after\n")
        assert storage.read_text("log.txt") == "before\nafter\n"
        assert storage.exists("moved.txt") == self.shared

    def test_a_storage_can_be_sent_to_another_process(self, storage: FileBackend) -> None:
        storage.write_text("sub/one.txt", "one")
        sent = pickle.loads(pickle.dumps(storage))
        assert sent.read_text("sub/one.txt") == "one"
        assert (repr(sent), sent.read_only) == (repr(storage), storage.read_only)
