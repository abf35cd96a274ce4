"""Tests of publishing: order, positions, receipts, and values that are read as they were published."""

from __future__ import annotations

import json
import threading
from typing import Any

from openfactory.engines import Engine
from openfactory.engines.base import ASSETS_TOPIC
from openfactory.events.attribute import ATTRIBUTE_TYPES
from openfactory.events.event import AssetEvent, new_event
from openfactory.testing.waiting import eventually

__all__ = ["WritingConformance"]

# Every JSON type, and characters that an engine could treat specially.
_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "one as float": 1.0,
    "fraction": 0.1,
    "large float": 1.7976931348623157e308,
    "small float": 5e-324,
    "largest integer": 2**63 - 1,
    "smallest integer": -(2**63),
    "empty text": "",
    "text of a number": "1",
    "text of a word of JSON": "null",
    "quotes": 'it\'s "quoted" and \\escaped\\',
    "lines": "one\ntwo\r\nthree\tfour",
    "control characters": "\x00\x01\x1f\x7f",
    "letters": "Fräse, 铣床, фреза",
    "emoji": "🏭👩‍🏭",
    "separators": "\u2028\u2029\ufeff",
    "SQL": "'; DROP TABLE assets; --",
    "empty list": [],
    "list": [1, 1.0, True, None, "1", [[]]],
    "empty dictionary": {},
    "dictionary": {"a": {"b": [1, {"c": None}]}, "": 0.5, "ключ": "🏭", "it's": True},
    "200 KiB": "0123456789abcdef" * (200 * 64),
    "200 KiB of emoji": "🏭" * (50 * 1024),
}

_NAMES = ["x", "a.b.c", "it's", 'a"b', "100%_?", "a;b--", "Größe", "铣床", "🏭", "/path/x", "{urn}x", "n" * 255]


class WritingConformance:
    """Tests of `publish` and `flush`."""

    def test_events_are_read_as_they_were_published(self, engine: Engine, asset_uuid: str) -> None:
        event = new_event(asset_uuid, "speed", 7, "Samples", "{urn:x}Speed — Ö", "2026-11-21T07:30:00.123Z")
        position = engine.publish(event).wait()
        assert engine.snapshot([asset_uuid]).events[asset_uuid] == [event.with_position(position)]

    def test_values_are_read_as_they_were_published(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[AssetEvent] = []
        subscription = engine.subscribe(asset_uuid, seen.append)
        for number, value in enumerate(_VALUES.values()):
            engine.publish(new_event(asset_uuid, f"x{number}", value, "Events", "Test"))
        engine.flush()
        eventually(lambda: len(seen) == len(_VALUES))
        subscription.close()
        # As JSON, because 1, 1.0 and true are equal to each other in Python.
        published = {f"x{number}": json.dumps(value) for number, value in enumerate(_VALUES.values())}
        for events in (engine.snapshot([asset_uuid]).events[asset_uuid], engine.history(asset_uuid), seen):
            assert {event.id: json.dumps(event.value) for event in events} == published

    def test_properties_beside_the_timestamp_are_read_as_they_were_published(
        self, engine: Engine, asset_uuid: str
    ) -> None:
        seen: list[AssetEvent] = []
        engine.subscribe(asset_uuid, seen.append)
        properties = {"ingestion_timestamp": "2026-11-21T07:30:00.124Z", "line": 7, "Grüße": {"a": [None, True]}}
        message = {"ID": "z", "VALUE": 3, "TAG": "", "TYPE": "Events", "attributes": {"timestamp": "t", **properties}}
        engine.publish(new_event(asset_uuid, "x", 1, "Events", "Test", None, properties))
        engine.publish(new_event(asset_uuid, "y", 2, "Events", "Test"))
        engine.produce(ASSETS_TOPIC, asset_uuid, json.dumps(message))
        engine.flush()
        eventually(lambda: len(seen) == 3)
        # An asset forwarder adds its own.
        passed_on = [{name: (event.attributes or {}).get(name) for name in properties} for event in seen]
        assert passed_on == [properties, dict.fromkeys(properties), properties]
        for events in (engine.history(asset_uuid), engine.snapshot([asset_uuid]).events[asset_uuid]):
            assert [event.attributes for event in events] == [properties, None, properties]
        assert seen[2].timestamp == "t"

    def test_every_type_is_preserved(self, engine: Engine, asset_uuid: str) -> None:
        for number, type in enumerate(ATTRIBUTE_TYPES):
            engine.publish(new_event(asset_uuid, f"x{number}", "v", type, "Test"))
        engine.flush()
        assert [event.type for event in engine.snapshot([asset_uuid]).events[asset_uuid]] == list(ATTRIBUTE_TYPES)

    def test_every_valid_name_is_preserved(self, engine: Engine, asset_uuid: str) -> None:
        uuids = {name: f"{asset_uuid}-{name}"[:255].replace(".", "-") for name in _NAMES}
        for name, uuid in uuids.items():
            engine.publish(new_event(uuid, name, 1, "Events", "Test"))
        engine.flush()
        read = engine.snapshot(list(uuids.values())).events
        assert {uuid: [(event.asset_uuid, event.id) for event in events] for uuid, events in read.items()} == {
            uuid: [(uuid, name)] for name, uuid in uuids.items()
        }
        for name, uuid in uuids.items():
            assert [event.value for event in engine.history(uuid, name)] == [1]

    def test_names_are_case_sensitive(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid.lower(), "x", 1, "Events", "Test"))
        engine.publish(new_event(asset_uuid.lower(), "X", 2, "Events", "Test")).wait()
        assert asset_uuid not in engine.snapshot([asset_uuid]).events
        events = engine.snapshot([asset_uuid.lower()]).events[asset_uuid.lower()]
        assert [(event.id, event.value) for event in events] == [("x", 1), ("X", 2)]

    def test_the_order_of_publishing_is_the_order_of_the_log(self, engine: Engine, asset_uuid: str) -> None:
        receipts = [engine.publish(new_event(asset_uuid, "n", n, "Events", "Test")) for n in range(1000)]
        positions = [receipt.wait() for receipt in receipts]
        assert positions == sorted(set(positions))
        assert [event.value for event in engine.history(asset_uuid, "n")] == list(range(1000))
        assert [event.position for event in engine.history(asset_uuid, "n")] == positions

    def test_each_thread_keeps_its_order(self, engine: Engine, asset_uuid: str) -> None:
        def write(thread: int) -> None:
            for n in range(200):
                engine.publish(new_event(asset_uuid, f"of-{thread}", n, "Events", "Test"))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.flush()
        positions: list[int | None] = []
        for number in range(4):
            events = engine.history(asset_uuid, f"of-{number}")
            assert [event.value for event in events] == list(range(200))
            positions += [event.position for event in events]
        assert len(set(positions)) == 800

    def test_a_receipt_has_the_position(self, engine: Engine, asset_uuid: str) -> None:
        receipt = engine.publish(new_event(asset_uuid, "x", 1, "Events", "Test"))
        position = receipt.wait()
        assert receipt.settled
        assert receipt.error is None
        assert receipt.position == position == engine.history(asset_uuid, "x")[0].position
        assert receipt.wait(timeout=0) == position

    def test_receipts_are_numbered_in_the_order_of_publishing(self, engine: Engine, asset_uuid: str) -> None:
        receipts = [engine.publish(new_event(asset_uuid, "x", n, "Events", "Test")) for n in range(10)]
        numbers = [receipt.number for receipt in receipts]
        assert numbers == sorted(set(numbers))

    def test_a_flush_waits_for_all_acknowledgements(self, engine: Engine, asset_uuid: str) -> None:
        receipts = [engine.publish(new_event(asset_uuid, "n", n, "Events", "Test")) for n in range(1000)]
        engine.flush()
        assert all(receipt.position is not None for receipt in receipts)

    def test_a_flush_without_events_returns(self, engine: Engine) -> None:
        engine.flush(timeout=0)
