"""Reset of objects in a forked child, which inherits locks and descriptors but no threads."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["pid", "reset_in_forked_child"]

#: Id of this process, to be read as `forked_child.pid`. `os.getpid()` is a system call, too slow for each write.
pid = os.getpid()


class _Resettable(Protocol):
    """An object that cannot be used unchanged after a fork."""

    def reset_after_fork(self) -> None:
        """Reset the object; runs first in the child, while no other thread runs."""


_objects: weakref.WeakSet[_Resettable] = weakref.WeakSet()


def reset_in_forked_child(resettable: _Resettable) -> None:
    """Reset an object in every child that is forked while the object lives."""
    _objects.add(resettable)


def _reset_all() -> None:
    global pid
    pid = os.getpid()
    for resettable in list(_objects):
        resettable.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
