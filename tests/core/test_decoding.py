"""One decoding function with one error: no text of another program raises anything else, wherever it is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.assets.values import contract
from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.engines.kafka_engine.fold import place_of_message
from openfactory.engines.ksqldb.answers import read_entities, read_object, read_rows
from openfactory.events.attribute import number_in, sample_value
from openfactory.events.decoding import MAX_DEPTH, decode_json
from openfactory.events.event import AssetEvent
from openfactory.events.message import checked_event, read_message, read_payload
from openfactory.events.period import Period
from openfactory.exceptions import ConfigurationError, InvalidEventError

ID = "6b1f2f9e-9a53-4b8c-9f4e-3a6c6f1f0a11"

WHOLE = [
    '{"ID": "x", "VALUE": %s, "TAG": "Test", "TYPE": "Events", "attributes": {"timestamp": "2026-11-21"}}',
    '{"id": "x", "value": %s, "tag": %s, "type": "Events", "attributes": {"timestamp": %s}}',
    '{"ID": %s, "VALUE": 1, "TAG": 1, "TYPE": %s, "attributes": %s}',
    f'{{"header": {{"correlation_id": "{ID}", "sender_uuid": %s}}, "arguments": {{"x": %s}}}}',
    f'{{"header": {{"correlation_id": "{ID}", "sender_uuid": "x", "timestamp": %s}}, "arguments": %s}}',
    f'{{"correlation_id": "{ID}", "status": "succeeded", "result": %s}}',
    '{"correlation_id": %s, "status": %s, "error": %s}',
    '{"description": %s, "arguments": %s}',
    '{"ASSET_UUID": "x", "UNS_ID": %s, "UNS_LEVELS": {"line": %s}, "UPDATED_AT": %s}',
    '{"columnNames": ["A"]}\n[%s]',
    '[%s, {"error_code": %s, "message": %s}]',
]

NASTY = [
    "",
    " ",
    "{",
    "[",
    '"',
    "nul",
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "1" * 5_000,
    '"\\ud800"',
    '"\ud800"',
    '"\\u0000"',
    "\x00",
    "\ufeff1",
    "1 2",
    "[" * 5_000,
    "[" * 5_000 + "]" * 5_000,
    "[" * 900 + "]" * 900,
    "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    '{"a":' * 5_000,
    '{"a":[' * 300 + "1" + "]}" * 300,
    '{"a": 1, "a": 2}',
    '"0001-01-01T00:00:00+23:59"',
    '"9999-12-31T23:59:60Z"',
    f'"{"[" * 300}"',
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
).map(lambda value: msgspec.json.encode(value).decode(errors="replace"))


def _filled(whole: str, parts: list[str]) -> str:
    pieces = whole.split("%s")
    return "".join(piece + (parts[n % len(parts)] if n < len(pieces) - 1 else "") for n, piece in enumerate(pieces))


texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters()),  # unpaired surrogates too
    st.builds(
        _filled,
        st.sampled_from(WHOLE),
        st.lists(st.sampled_from(NASTY) | json_values, min_size=1, max_size=3),
    ),
)


def encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


#: Each function that reads what stands in the log, with the only error that it raises.
READERS: dict[str, tuple[Callable[[str], object], type[Exception] | None]] = {
    "text": (decode_json, msgspec.DecodeError),
    "bytes": (lambda text: decode_json(encoded(text)), msgspec.DecodeError),
    "message": (lambda text: read_message("MILL", encoded(text), 1), InvalidEventError),
    "payload": (lambda text: read_payload("MILL", "x", encoded(text)), InvalidEventError),
    "message to write": (lambda text: checked_event("MILL", text), InvalidEventError),
    "command": (CommandEnvelope.parse, msgspec.DecodeError),
    "reply": (CommandReply.parse, msgspec.DecodeError),
    "contract": (contract, None),
    "place": (lambda text: place_of_message(encoded(text)), InvalidEventError),
    "rows": (lambda text: read_rows(encoded(text)), None),
    "entities": (lambda text: read_entities(encoded(text)), None),
    "object": (lambda text: read_object(encoded(text)), None),
    "sample": (sample_value, None),
    "time": (lambda text: Period.of("2026", None).contains(text), None),
    "bound": (lambda text: Period.of(text, text), ConfigurationError),
}


@pytest.mark.parametrize("reader", READERS)
@given(text=texts)
def test_a_reader_returns_a_value_or_raises_its_one_error(reader: str, text: str) -> None:
    read, error = READERS[reader]
    with suppress(*([error] if error else [])):
        assert isinstance(repr(read(text)), str)  # a value that is read can also be shown


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("whole", ["%s", *WHOLE])
def test_no_nasty_text_comes_through_as_another_error(reader: str, whole: str) -> None:
    read, error = READERS[reader]
    for nasty in NASTY:
        with suppress(*([error] if error else [])):
            repr(read(_filled(whole, [nasty])))


@pytest.mark.parametrize("value", [None, 5, True, [], {}, [[[]]], {"header": 5}, {"correlation_id": []}], ids=repr)
def test_a_value_that_is_no_text_is_refused_like_one(value: Any) -> None:
    for parse in (CommandEnvelope.parse, CommandReply.parse):
        with pytest.raises(msgspec.DecodeError):
            parse(value)
    assert contract(value) == value


def test_a_value_may_be_nested_up_to_a_bound() -> None:
    assert decode_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 10_000):
        with pytest.raises(msgspec.DecodeError, match=f"nested more than {MAX_DEPTH} levels"):
            decode_json("[" * depth + "]" * depth)


@pytest.mark.parametrize("text", ["[" + "[1],{}," * 2_000 + "0]", '"' + "[" * 5_000 + '"'], ids=["wide", "text"])
def test_many_brackets_are_not_many_levels(text: str) -> None:
    assert decode_json(text) == msgspec.json.decode(text)


@given(number=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**300), 10**300))
def test_a_number_as_text_is_the_number(number: float) -> None:
    assert number_in(str(number)) == float(number)
    assert sample_value(str(number)) == sample_value(number) == float(number)


@given(text=st.text())
def test_a_text_is_a_number_only_if_it_is_written_with_digits(text: str) -> None:
    if number_in(text) is not None:
        assert set(text.strip()) <= set("0123456789+-.eE")


def test_an_event_is_read_as_it_was_written() -> None:
    event = AssetEvent("MILL", "x", 10**30, "Samples", "Test", "2026-11-21T07:30:00.000Z")
    assert event.as_read().value == 1e30
