"""Flask apps in a process of their own, and no server left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from running_apps import Eventually, StartApp, start_app

__all__ = ["StartApp", "start_app"]

pytest.register_assert_rewrite("web_promises", "web_files_promises", "web_lifecycle_promises")


@pytest.fixture(autouse=True)
def no_server_left(eventually: Eventually) -> Iterator[None]:
    """A test that leaves a server running fails."""
    yield
    eventually(lambda: "openfactory-http" not in [thread.name for thread in threading.enumerate()], timeout=60)
