"""Fixtures that pytest loads wherever openfactory-core is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from openfactory.kafka import KSQLDBClient
from openfactory.testing.app_client import AppClient

__all__ = ["factory_client", "run_app"]


@pytest.fixture
def factory_client() -> Iterator[KSQLDBClient]:
    """A client of a factory in memory, which is not shared with other tests."""
    with KSQLDBClient(f"memory://{uuid4().hex}") as client:
        yield client


@pytest.fixture
def run_app() -> Iterator[Callable[..., AppClient[Any]]]:
    """A function that returns an `AppClient` for an app class; the app is shut down when the test ends."""
    with ExitStack() as apps:
        yield lambda build, /, **keywords: apps.enter_context(AppClient(build, **keywords))
