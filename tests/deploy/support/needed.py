"""The skip of a test on a machine that lacks a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from servers import NotOnThisMachineError

__all__ = ["needed"]


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Skip the test if the block finds that this machine lacks something.

    Args:
        what: what the block gets, as the subject of the reason.
    """
    try:
        yield
    except NotOnThisMachineError as error:
        pytest.skip(reason=f"{what} cannot be had here. {error}")
