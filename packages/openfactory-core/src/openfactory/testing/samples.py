"""Tests of samples: a number has one value wherever it is read, and a text that is not a number stays a text."""

from __future__ import annotations

from typing import Any

from openfactory.assets import Asset, EventQueue, Factory
from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.kafka import KSQLDBClient
from openfactory.testing.waiting import eventually

__all__ = ["SamplesConformance"]

# What machines write, and the value that is read.
_SAMPLES: list[tuple[Any, Any]] = [
    (72.5, 72.5),
    (3, 3.0),
    ("72.5", 72.5),
    (" -4 ", -4.0),
    ("+1e3", 1000.0),
    ("nan", "nan"),
    ("inf", "inf"),
    ("-Infinity", "-Infinity"),
    ("1e999", "1e999"),
    ("1_000", "1_000"),
    ("٣", "٣"),
    ("0x10", "0x10"),
    ("1,5", "1,5"),
    ("", ""),
    ("UNAVAILABLE", "UNAVAILABLE"),
]


class SamplesConformance:
    """Tests of the values of samples, as the objects above the engine read them."""

    def test_a_sample_has_one_value_wherever_it_is_read(self, engine: Engine, engine_url: str, asset_uuid: str) -> None:
        heard: list[object] = []
        with KSQLDBClient(engine_url) as client, Asset(asset_uuid, client) as asset, Factory(client) as factory:
            asset.subscribe_to_attribute("speed", lambda _subject, message: heard.append(message["VALUE"]))
            with factory.watch(attributes=["speed"]) as events, EventQueue(asset, attributes=["speed"]) as queue:
                for written, value in _SAMPLES:
                    heard.clear()
                    engine.publish(new_event(asset_uuid, "speed", written, "Samples", "Speed")).wait()
                    while (event := events.get(timeout=60)) is not None and event.asset_uuid != asset_uuid:
                        pass  # another test has written this
                    queued = queue.take(timeout=60)
                    eventually(lambda: heard)
                    assert event is not None
                    assert queued is not None
                    reads = {
                        "attribute": asset.speed.value,
                        "list": asset.samples()[0]["VALUE"],
                        "callback": heard[0],
                        "buffer": event.value,
                        "queue": queued.value,
                        "history": asset.history("speed")[-1].value,
                        "history of the factory": factory.history(asset_uuid, "speed")[-1].value,
                    }
                    assert {way: repr(read) for way, read in reads.items()} == dict.fromkeys(reads, repr(value))
                    assert asset.wait_until("speed", value, timeout=60)
