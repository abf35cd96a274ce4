"""What a forked child must forget: locks that were held, threads that it does not have, descriptors that it shares."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["reset_in_forked_child"]


class _Forgetting(Protocol):
    """What does not survive a fork as it is."""

    def reset_after_fork(self) -> None:
        """Called first thing in the child, where no other thread runs."""


_those: weakref.WeakSet[_Forgetting] = weakref.WeakSet()


def reset_in_forked_child(one: _Forgetting) -> None:
    """Have an object put right in every child that is forked while it lives."""
    _those.add(one)


def _forget() -> None:
    for one in list(_those):
        one.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
