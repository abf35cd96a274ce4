"""The change of a record into a message: as the existing forwarder makes it, and the values stay as they are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from confluent_kafka import Message

from openfactory.fanout.message import PassedRecordError, RecordEncoder, is_subject
from openfactory.fanout.passed_records import PassedRecords

AT = 1_795_937_400_123  # 2026-11-29T07:30:00.123Z
PLAIN = {"ID": "speed", "VALUE": 1.5, "TAG": "T", "TYPE": "Samples", "attributes": {"timestamp": "t"}}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def message(value: object, kind: int = 1, max_payload: int = 1_000_000) -> tuple[str, dict[str, str], bytes]:
    """Subject, headers and payload, as a server reads them from the command."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    record = Message(topic="log", partition=3, offset=41, key=b"Mill", value=data, timestamp=(kind, AT))
    command = RecordEncoder(max_payload).encode(b"Mill", record, 3, 41)
    line, _, rest = command.partition(b"\r\n")
    name, subject, headers, total = line.split()
    assert name == b"HPUB"
    assert len(rest) == int(total) + 2
    assert rest.endswith(b"\r\n")
    begin, *lines = rest[: int(headers)].decode().split("\r\n")
    assert (begin, *lines[-2:]) == ("NATS/1.0", "", "")
    return subject.decode(), dict(line.split(": ") for line in lines[:-2]), rest[int(headers) : -2]


def payload(value: object, kind: int = 1) -> Any:
    return json.loads(message(value, kind)[2])


def test_a_plain_record_becomes_subject_headers_and_payload() -> None:
    subject, headers, data = message(PLAIN)
    assert subject == "Mill.speed"
    assert headers == {"OFA-Partition": "3", "OFA-Offset": "41", "OFA-Log-Time": str(AT)}
    said = json.loads(data)
    added = said.pop("attributes")
    assert said == {"VALUE": 1.5, "TAG": "T", "TYPE": "Samples"}
    assert TIMESTAMP.fullmatch(added.pop("asset_forwarder_timestamp"))
    assert added == {
        "timestamp": "t",
        "kafka_timestamp": "2026-11-29T07:30:00.123Z",
        "kafka_timestamp_type": "producer",
    }


@pytest.mark.parametrize("text", [b"0.30000000000000004", b"1.0", b"123456789012345678901234567890", b'"\\u00e9 \\/"'])
@pytest.mark.parametrize("name", [b'"VALUE"', b'"value"'])
def test_a_value_stays_as_it_is_written(text: bytes, name: bytes) -> None:
    record = b'{"ID":"speed", %b : %b , "TAG":"T","TYPE":"Samples","attributes": { "timestamp":"t" } }' % (name, text)
    assert b"%b:%b," % (name, text) in message(record)[2]


def test_keys_may_be_spelled_in_any_case() -> None:
    record = {"id": "speed", "value": 1, "tag": "T", "type": "Events", "ATTRIBUTES": {"timestamp": "t"}, "extra": [1]}
    subject = message(record)[0]
    said = payload(record)
    assert subject == "Mill.speed"
    assert said.keys() == {"value", "tag", "type", "ATTRIBUTES", "extra"}
    assert said["ATTRIBUTES"].keys() == {
        "timestamp", "asset_forwarder_timestamp", "kafka_timestamp", "kafka_timestamp_type"
    }  # fmt: skip


@pytest.mark.parametrize("attributes", [{}, {"attributes": None}, {"ATTRIBUTES": None}, {"attributes": {}}])
def test_missing_attributes_are_made(attributes: dict[str, object]) -> None:
    [name] = attributes or ["attributes"]
    said = payload({"ID": "speed", "VALUE": 1, "TAG": "T", "TYPE": "Events", **attributes})
    assert said[name].keys() == {"asset_forwarder_timestamp", "kafka_timestamp", "kafka_timestamp_type"}


def test_added_attributes_replace_those_of_an_earlier_forwarder() -> None:
    data = message(PLAIN | {"attributes": {"kafka_timestamp": "old", "unit": "m"}})[2]
    assert data.count(b"kafka_timestamp") == 2
    assert json.loads(data)["attributes"]["kafka_timestamp"] == "2026-11-29T07:30:00.123Z"
    assert json.loads(data)["attributes"]["unit"] == "m"


def test_the_kind_of_the_timestamp_is_told() -> None:
    assert payload(PLAIN, 2)["attributes"]["kafka_timestamp_type"] == "broker"
    assert payload(PLAIN, 0)["attributes"].keys() == {"timestamp", "asset_forwarder_timestamp"}
    assert message(PLAIN, 0)[1].keys() == {"OFA-Partition", "OFA-Offset"}


def test_an_id_with_dots_between_its_parts_is_a_subject() -> None:
    assert message(PLAIN | {"ID": "axis.x"})[0] == "Mill.axis.x"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not_json"),
        (b"no JSON", "not_json"),
        (b"\xff", "not_json"),
        (b"[" * 5_000, "not_json"),
        ([1], "not_json"),
        (PLAIN | {"attributes": 5}, "not_json"),
        ({"VALUE": 1}, "no_id"),
        (PLAIN | {"ID": ""}, "no_id"),
        (PLAIN | {"ID": 5}, "no_id"),
        (PLAIN | {"ID": "two words"}, "subject"),
        (PLAIN | {"ID": "line\nbreak"}, "subject"),
        (PLAIN | {"ID": "axis..x"}, "subject"),
        (PLAIN | {"ID": "axis."}, "subject"),
        (PLAIN | {"ID": "*"}, "subject"),
        (PLAIN | {"ID": "axis.>"}, "subject"),
        (PLAIN | {"ID": "x" * 5_000}, "subject"),
        (PLAIN | {"VALUE": "x" * 1_000_000}, "too_large"),
    ],
)
def test_a_record_that_cannot_be_a_message_has_its_reason(value: object, reason: str) -> None:
    with pytest.raises(PassedRecordError) as found:
        message(value)
    assert found.value.reason == reason


@pytest.mark.parametrize("key", [b"", b"a b", b"a\r\nPUB x 0", b"*", b">", b".a", b"\xff", b"x" * 5_000])
def test_a_key_that_would_break_the_protocol_is_refused(key: bytes) -> None:
    assert not is_subject(key)


@pytest.mark.parametrize("key", [b"MILL", b"mill-1", "fräse".encode(), b"a*b", b"plant/mill"])
def test_other_keys_are_subjects(key: bytes) -> None:
    assert is_subject(key)


def test_passed_records_are_counted_and_one_of_a_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    passed = PassedRecords("log")
    for offset in range(3):
        passed.add(PassedRecordError("no_id", "its ID is missing. Send one"), 2, offset)
    passed.add(PassedRecordError("tombstone", "it does not have a value"), 2, 3)
    assert passed.counts == {"no_id": 3, "tombstone": 1}
    assert caplog.messages == ["The record at offset 0 of log, partition 2, is passed: its ID is missing. Send one."]
