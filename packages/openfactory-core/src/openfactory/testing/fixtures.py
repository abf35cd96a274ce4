"""Fixtures that pytest loads wherever openfactory-core is installed.

OpenFactory is imported by the fixtures only: the tests of a program that does not use them may replace its modules
first, or measure which lines are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from openfactory.kafka import KSQLDBClient
    from openfactory.testing.app_client import AppClient

__all__ = ["factory_client", "run_app"]


@pytest.fixture
def factory_client() -> Iterator[KSQLDBClient]:
    """A client of a factory in memory, which is not shared with other tests."""
    from openfactory.kafka import KSQLDBClient

    with KSQLDBClient(f"memory://{uuid4().hex}") as client:
        yield client


@pytest.fixture
def run_app() -> Iterator[Callable[..., AppClient[Any]]]:
    """A function that returns an `AppClient` for an app class; the app is shut down when the test ends."""
    from openfactory.testing.app_client import AppClient

    with ExitStack() as apps:
        yield lambda build, /, **keywords: apps.enter_context(AppClient(build, **keywords))
