"""Whatever stands in a message, reading it gives an event or an `InvalidEventError`, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.events.attribute import ATTRIBUTE_TYPES, UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.message import encode_message, event_of_fields, read_message, read_payload
from openfactory.exceptions import InvalidEventError

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
spelled = st.sampled_from(
    ["ID", "Id", "id", "VALUE", "value", "TAG", "tag", "TYPE", "type", "attributes", "ATTRIBUTES"]
)
times = st.dictionaries(st.sampled_from(["timestamp", "TIMESTAMP", "other"]), values, max_size=2)
messages = st.dictionaries(spelled | texts, values | times | st.sampled_from(sorted(ATTRIBUTE_TYPES)), max_size=7)

events = st.builds(
    AssetEvent,
    st.just("MILL"),
    texts.filter(bool),
    values,
    st.sampled_from(sorted(ATTRIBUTE_TYPES)),
    texts,
    texts.filter(bool),
    st.none(),
    st.none() | st.dictionaries(texts.filter(lambda name: name.upper() != "TIMESTAMP"), values, min_size=1, max_size=3),
)


def is_event(event: AssetEvent) -> bool:
    texts = (event.asset_uuid, event.id, event.type, event.tag, event.timestamp)
    return all(isinstance(one, str) for one in texts)


def read_as_payload(message: bytes) -> AssetEvent:
    return read_payload("MILL", "x", message)


def read_as_message(message: bytes) -> AssetEvent:
    return read_message("MILL", message, 7)


READERS = [read_as_message, read_as_payload]


@given(events)
def test_event_is_read_as_it_was_encoded(event: AssetEvent) -> None:
    assert read_message("MILL", encode_message(event)) == event
    assert read_message("MILL", encode_message(event), 5) == event.with_position(5)


@given(events)
def test_event_is_read_from_the_payload_of_a_forwarder(event: AssetEvent) -> None:
    said = json.loads(encode_message(event))
    attribute_id = said.pop("ID")
    added = {"asset_forwarder_timestamp": "2026-01-01T00:00:00.000Z", "kafka_timestamp_type": "broker"}
    said["attributes"] |= added
    expected = msgspec.structs.replace(event, attributes={**(event.attributes or {}), **added})
    assert read_payload("MILL", attribute_id, json.dumps(said).encode()) == expected


def test_what_a_forwarder_adds_to_another_spelling_is_read_too() -> None:
    payload = b'{"TYPE":"Events","ATTRIBUTES":{"timestamp":"t","line":7},"attributes":{"kafka_timestamp":"k"}}'
    event = read_payload("MILL", "x", payload)
    assert (event.timestamp, event.attributes) == ("t", {"line": 7, "kafka_timestamp": "k"})


@given(events, st.lists(st.booleans(), min_size=5, max_size=5))
def test_keys_are_read_in_any_case(event: AssetEvent, lower: list[bool]) -> None:
    said = json.loads(encode_message(event))
    spelled = {key.lower() if is_lower else key: said[key] for key, is_lower in zip(said, lower, strict=True)}
    assert read_message("MILL", json.dumps(spelled).encode()) == event


@pytest.mark.parametrize("read", READERS)
@given(data=st.binary(max_size=60) | messages.map(lambda said: json.dumps(said).encode()))
def test_reading_gives_an_event_or_says_why_not(read: Callable[[bytes], AssetEvent], data: bytes) -> None:
    with suppress(InvalidEventError):
        assert is_event(read(data))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"1e999",
        b"\xff\xfe",
        b'{"ID":"x","TYPE":null,"VALUE":1}',
        b'{"ID":"x","TYPE":["Events"],"VALUE":1}',
        b'{"ID":"x","TYPE":"Events","VALUE":"\xff","TAG":"","attributes":{"timestamp":"t"}}',
        b'{"ID":"x","TYPE":"Events","VALUE":NaN}',
        b'{"ID":"x","TYPE":"Events","attributes":[1]}',
        b"[" * 100_000,
        b'{"VALUE":' * 20_000,
    ],
    ids=range(13),
)
def test_what_is_no_event_is_refused(read: Callable[[bytes], AssetEvent], data: bytes) -> None:
    with pytest.raises(InvalidEventError, match="MILL"):
        read(data)


@given(messages)
def test_fields_give_an_event_that_can_be_carried_or_say_why_not(said: dict[str, Any]) -> None:
    with suppress(InvalidEventError):
        event = event_of_fields("MILL", said)
        assert is_event(event)
        assert event.type in ATTRIBUTE_TYPES
        assert read_message("MILL", encode_message(event)) == event


def test_missing_parts_have_their_defaults() -> None:
    event = read_message("MILL", b'{"id":"x","type":"Events","ATTRIBUTES":null}')
    assert event == AssetEvent("MILL", "x", None, "Events", "", UNAVAILABLE)
