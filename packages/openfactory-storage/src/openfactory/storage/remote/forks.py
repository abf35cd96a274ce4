"""Keep a forked child away from the connections, locks and open files of its parent.

A child has copies of all objects of its parent, but not its threads, and shares its sockets. If the child used or
closed a connection, or if a destructor did so, its bytes would disturb the connection of the parent. So after a fork,
in the child, each object that is registered here leaves its connections and files to the parent, and connects anew
when it is used.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from abc import ABC, abstractmethod
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import reset_lock

from openfactory.storage.errors import StorageUnavailableError

__all__ = ["OpenedByProcess", "ProcessLock", "keep_forever", "opened_by_parent"]


class OpenedByProcess(ABC):
    """Base class of objects that hold something that a forked child must not use."""

    def __init__(self) -> None:
        _objects.add(self)

    @abstractmethod
    def leave_to_parent(self) -> None:
        """Forget, in the child, the connections and files of the parent."""


_objects: weakref.WeakSet[OpenedByProcess] = weakref.WeakSet()


class ProcessLock(OpenedByProcess):
    """A reentrant lock that is free in a forked child, even if a thread of the parent holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.leave_to_parent()

    def leave_to_parent(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def keep_forever(thing: Any) -> None:
    """Prevent that an object is destroyed, even at the end of the process: its destructor would use the connection."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def opened_by_parent(path: str) -> StorageUnavailableError:
    """Return the error for the use of an open file of the parent."""
    return StorageUnavailableError(
        f"{path!r} was opened before this process was forked, so the file belongs to the parent. Open it again.",
        path=path,
    )


def _leave_all_to_parent() -> None:
    reset_lock()  # the event loop of fsspec, whose thread the child does not have
    # A finalizer of a filesystem closes its connections, or deletes its temporary folder, when the process ends.
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        if (alive := finalizer.peek()) and isinstance(alive[0], AbstractFileSystem):
            finalizer.atexit = False
    for opened in list(_objects):
        opened.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)
