"""The skip of a test on a machine that lacks a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import pytest

from servers import NotOnThisMachineError, Server

__all__ = ["needed", "running"]

AnyServer = TypeVar("AnyServer", bound=Server)


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


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Run a server within the block, or skip the test on a machine that lacks it."""
    with ExitStack() as stack:
        with needed(server.name):
            stack.enter_context(server)
        yield server
