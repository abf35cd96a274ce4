"""Flask apps in a process of their own, and no server left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from http_site import PATIENCE, MakeSite, Site, request_threads
from running_apps import Eventually, StartApp, start_app

__all__ = ["StartApp", "start_app"]

pytest.register_assert_rewrite("web_promises", "web_files_promises", "web_lifecycle_promises")


@pytest.fixture(autouse=True)
def no_server_left(eventually: Eventually) -> Iterator[None]:
    """A test that leaves a server running fails."""
    yield
    eventually(lambda: "openfactory-http" not in [thread.name for thread in threading.enumerate()], timeout=60)


@pytest.fixture
def make_site(eventually: Eventually) -> Iterator[MakeSite]:
    """Serve a site; a test after which a thread of it goes on fails."""
    sites: list[Site] = []

    def make(**options: Any) -> Site:
        sites.append(Site(**options))
        sites[-1].server.start(sites[-1].failures.append)
        return sites[-1]

    yield make
    for site in sites:
        site.opened.set()
        site.server.stop(PATIENCE)
        assert site.failures == []
    eventually(lambda: not request_threads(), timeout=PATIENCE)
