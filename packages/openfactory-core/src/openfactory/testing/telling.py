"""Tests of the errors of a flush: each writer is told of the failures of its own writes only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute, Factory
from openfactory.concurrency.strand import new_strand
from openfactory.engines import Engine
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import DeliveryError
from openfactory.kafka import AssetProducer, KSQLDBClient

__all__ = ["TellingConformance"]


class TellingConformance:
    """Tests of the failures that `flush` raises, in several assets, threads, tasks and requests."""

    @pytest.fixture
    def unwritable(self) -> Any:
        """A value that `publish` accepts and that the engine cannot write, here a text that UTF-8 cannot encode."""
        return "\ud800"

    @pytest.fixture
    def write_bad(self, unwritable: Any) -> Callable[[Engine | Asset, str], None]:
        """Function that publishes an event that cannot be written, through an engine or an asset."""

        def write(writer: Engine | Asset, asset_uuid: str) -> None:
            event = AssetEvent(asset_uuid, "bad", unwritable, "Events", "Test", current_timestamp())
            writer._publish(event) if isinstance(writer, Asset) else writer.publish(event)

        return write

    @pytest.fixture
    def assets(self, engine_url: str, asset_uuid: str) -> Iterator[tuple[Asset, Asset]]:
        """Two assets of one process."""
        with Factory(engine_url) as factory:
            first, second = factory.asset(f"{asset_uuid}-1"), factory.asset(f"{asset_uuid}-2")
            for asset in (first, second):
                asset.add_attribute(AssetAttribute("n", 0, "Events", "Test"))
            yield first, second
            first.close()
            second.close()

    def test_each_asset_is_told_of_its_own_failure(
        self, assets: tuple[Asset, Asset], write_bad: Callable[[Asset, str], None]
    ) -> None:
        good, bad = assets
        write_bad(bad, bad.asset_uuid)
        good["n"] = 1
        good.flush()
        with pytest.raises(DeliveryError, match=rf"{bad.asset_uuid}\.bad") as told:
            bad.flush()
        assert [event.asset_uuid for event in told.value.events] == [bad.asset_uuid]
        bad.flush()

    def test_each_of_two_objects_of_one_asset_is_told_of_its_own_failure(
        self, assets: tuple[Asset, Asset], engine_url: str, write_bad: Callable[[Asset, str], None]
    ) -> None:
        with Factory(engine_url) as factory, factory.asset(assets[0].asset_uuid) as same:
            write_bad(same, same.asset_uuid)
            assets[0].flush()
            with pytest.raises(DeliveryError):
                same.flush()

    def test_each_thread_is_told_of_its_own_failure(
        self, assets: tuple[Asset, Asset], write_bad: Callable[[Asset, str], None]
    ) -> None:
        asset = assets[0]
        turn = threading.Barrier(2, timeout=60)

        def fail() -> None:
            write_bad(asset, asset.asset_uuid)
            turn.wait()
            turn.wait()  # the other thread flushes first
            with pytest.raises(DeliveryError, match=r"^1 events were not written"):
                asset.flush()

        def succeed() -> None:
            turn.wait()
            try:
                asset["n"] = 1
                asset.flush()
            finally:
                turn.wait()

        with ThreadPoolExecutor(2) as threads:
            for done in [threads.submit(fail), threads.submit(succeed)]:
                done.result(60)

    def test_each_request_of_a_thread_is_told_of_its_own_failure(
        self, engine: Engine, assets: tuple[Asset, Asset], write_bad: Callable[[Asset, str], None]
    ) -> None:
        asset = assets[0]
        with new_strand():
            write_bad(asset, asset.asset_uuid)
            with pytest.raises(DeliveryError):
                asset.flush()
        with new_strand():
            write_bad(asset, asset.asset_uuid)  # and does not ask
        with new_strand():
            asset["n"] = 1
            asset.flush()
        with pytest.raises(DeliveryError):
            engine.flush()

    def test_each_task_is_told_of_its_own_failure(
        self, assets: tuple[Asset, Asset], write_bad: Callable[[Asset, str], None]
    ) -> None:
        asset = assets[0]

        async def fail(flushed: asyncio.Event) -> None:
            write_bad(asset, asset.asset_uuid)
            await flushed.wait()
            with pytest.raises(DeliveryError):
                await asyncio.to_thread(asset.flush)

        async def succeed(flushed: asyncio.Event) -> None:
            asset["n"] = 1
            try:
                await asyncio.to_thread(asset.flush)
            finally:
                flushed.set()

        async def both() -> None:
            flushed = asyncio.Event()
            await asyncio.gather(fail(flushed), succeed(flushed))

        asyncio.run(both())

    def test_a_flush_tells_of_threads_that_have_ended(
        self, assets: tuple[Asset, Asset], write_bad: Callable[[Asset, str], None]
    ) -> None:
        asset = assets[0]
        writer = threading.Thread(target=write_bad, args=(asset, asset.asset_uuid))
        writer.start()
        writer.join()
        asset["n"] = 1
        with pytest.raises(DeliveryError):
            asset.flush()

    def test_a_thread_that_has_written_nothing_is_told_of_all_failures_of_the_asset(
        self, assets: tuple[Asset, Asset], write_bad: Callable[[Asset, str], None]
    ) -> None:
        asset = assets[0]
        with ThreadPoolExecutor(1) as writer:
            writer.submit(write_bad, asset, asset.asset_uuid).result(60)
            with pytest.raises(DeliveryError):
                asset.flush()
            asset.flush()  # it is told once
            with pytest.raises(DeliveryError):
                writer.submit(asset.flush).result(60)

    def test_each_producer_is_told_of_its_own_failure(
        self, engine_url: str, engine: Engine, asset_uuid: str, write_bad: Callable[[Engine | Asset, str], None]
    ) -> None:
        with KSQLDBClient(engine_url) as client, AssetProducer(client) as producer:
            write_bad(engine, asset_uuid)
            producer.flush()
        with pytest.raises(DeliveryError):
            engine.flush()

    def test_a_flush_of_the_engine_tells_of_everything(
        self, engine: Engine, asset_uuid: str, write_bad: Callable[[Engine, str], None]
    ) -> None:
        """It tells of writes of other threads, and these are told nevertheless."""
        with ThreadPoolExecutor(1) as writer:
            writer.submit(write_bad, engine, asset_uuid).result(60)
            engine.publish(new_event(asset_uuid, "good", 1, "Events", "Test"))
            with pytest.raises(DeliveryError) as told:
                engine.flush()
            assert [event.id for event in told.value.events] == ["bad"]
            engine.flush()
            with pytest.raises(DeliveryError):
                writer.submit(engine.flush).result(60)
            writer.submit(engine.flush).result(60)

    def test_each_receipt_has_an_error_of_its_own(self, engine: Engine, asset_uuid: str, unwritable: Any) -> None:
        events = [AssetEvent(asset_uuid, id, unwritable, "Events", "Test", current_timestamp()) for id in ("x", "y")]
        receipts = [engine.publish(event) for event in events]
        for event, receipt in zip(events, receipts, strict=True):
            with pytest.raises(DeliveryError) as told:
                receipt.wait()
            assert told.value.events == (event,)
        with pytest.raises(DeliveryError, match=r"^2 events were not written"):
            engine.flush()

    def test_a_failure_that_is_told_does_not_make_the_close_fail(
        self, engine: Engine, asset_uuid: str, assets: tuple[Asset, Asset], write_bad: Callable[[Asset, str], None]
    ) -> None:
        write_bad(assets[0], asset_uuid)
        with pytest.raises(DeliveryError):
            assets[0].flush()
        engine.close()

    def test_a_failure_without_a_flush_goes_to_the_hook(
        self, engine: Engine, asset_uuid: str, write_bad: Callable[[Engine, str], None]
    ) -> None:
        told: list[AssetEvent] = []
        engine.on_delivery_error(lambda event, _error: told.append(event))
        write_bad(engine, asset_uuid)
        with pytest.raises(DeliveryError):
            engine.flush()
        assert [event.id for event in told] == ["bad"]
