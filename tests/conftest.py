"""What every test stands on: an environment without settings, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    try:
        from openfactory.settings import VARIABLES
    except ImportError:  # openfactory-storage alone
        monkeypatch.delenv("STORAGE", raising=False)
        return
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """A test that leaves an engine open, or a thread of one, fails; those after it do not."""
    before = _open_threads()
    yield
    deadline = time.monotonic() + 5  # what ends by itself may take a moment to
    while (left := _open_threads() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"left open: {sorted(t.name for t in left)}. Close the asset, the app or the client."


def _open_threads() -> set[threading.Thread]:
    names = ("openfactory-writer", "openfactory-tail", "openfactory-loop")
    return {thread for thread in threading.enumerate() if thread.name.startswith(names)}


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait for a condition, with a bound: `eventually(lambda: seen == [1])`."""

    def wait(condition: Callable[[], object], timeout: float = 10.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "it did not come to be in time"
            time.sleep(0.005)

    return wait


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh place of data, once in memory and once in a file."""
    return f"memory://{uuid4().hex}" if request.param == "memory" else f"sqlite:///{tmp_path}/factory.db"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A fresh place of data in a file, for tests with several processes."""
    return f"sqlite:///{tmp_path}/factory.db"
