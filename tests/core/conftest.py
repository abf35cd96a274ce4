"""What the tests of the core share: assets that are closed by themselves, and what is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.engines import Engine, open_engine
from openfactory.kafka import KSQLDBClient


@pytest.fixture
def open_asset(url: str) -> Iterator[Callable[..., Asset]]:
    """Opens assets at the same fresh place: `open_asset()`, `open_asset("ROBOT")`."""
    with ExitStack() as stack:

        def open_one(asset_uuid: str = "MILL", **options: Any) -> Asset:
            return stack.enter_context(Asset(asset_uuid, KSQLDBClient(url), **options))

        yield open_one


@pytest.fixture
def mill(open_asset: Callable[..., Asset]) -> Asset:
    """An asset with an event `status`, a sample `speed` and a method `move`, said before it is opened."""
    contract = '{"description":"Move","arguments":[{"name":"x","description":"where"}]}'
    said = open_asset()
    said.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
    said.add_attribute(AssetAttribute(id="speed", value=100, type="Samples", tag="{urn:x} Speed"))
    said.add_attribute(AssetAttribute(id="move", value=contract, type="Method", tag="Method"))
    return open_asset()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The engine behind those assets."""
    with open_engine(url) as reference:
        yield reference.engine


class _Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What the library logs; an app that was built before may have taken it from the root logger."""
    recorder = _Recorder()
    logger = logging.getLogger("openfactory")
    logger.addHandler(recorder)
    yield recorder.records
    logger.removeHandler(recorder)
