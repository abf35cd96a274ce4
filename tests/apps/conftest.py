"""What the tests of apps share: apps that are stopped by themselves, in a process that keeps its signal handlers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp
from openfactory.apps.stop_signals import STOP_SIGNALS
from openfactory.assets import Asset
from openfactory.engines import Engine, open_engine
from openfactory.kafka import KSQLDBClient


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Builds apps, in test mode or at a URL, and stops them: `start(Mill)`, `start(Mill, url, app_uuid="MILL")`."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with ExitStack() as stack:

        def build(app_class: type[OpenFactoryApp], url: str | None = None, **options: Any) -> OpenFactoryApp:
            client = None if url is None else KSQLDBClient(url)
            app = app_class(client, test_mode=url is None, **options)
            stack.callback(app.shutdown)
            return app

        yield build
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def watch(url: str) -> Iterator[Callable[..., Asset]]:
    """Opens assets at the same fresh place, as others see them: `watch("MILL")`."""
    with ExitStack() as stack:
        yield lambda asset_uuid: stack.enter_context(Asset(asset_uuid, KSQLDBClient(url)))


@pytest.fixture
def hmi(mill: OpenFactoryApp, watch: Callable[..., Asset]) -> Asset:
    """The app MILL of the fixture `mill` as a caller has it."""
    return watch("MILL")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The engine behind that place, which stays open when an app has stopped."""
    with open_engine(url) as reference:
        yield reference.engine


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the app MILL and the library log, from the root logger."""
    return caplog
