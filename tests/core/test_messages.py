"""CaseInsensitiveDict: messages are read without regard to the case of their keys."""

from __future__ import annotations

import pytest

from openfactory.kafka import CaseInsensitiveDict


def test_keys_are_found_in_any_case() -> None:
    message = CaseInsensitiveDict({"VALUE": 3, "attributes": {"timestamp": "now"}})
    assert message["VALUE"] == message["value"] == message["Value"] == message.get("vAlUe") == 3
    assert "value" in message
    assert "ATTRIBUTES" in message
    assert "TAG" not in message
    assert message.get("tag", "none") == "none"
    with pytest.raises(KeyError):
        _ = message["tag"]


def test_the_first_spelling_stays_and_the_last_value_holds() -> None:
    message = CaseInsensitiveDict({"ID": 1, "id": 2})
    message["Id"] = 3
    assert dict(message) == {"ID": 3}
    assert list(message) == ["ID"]
    del message["iD"]
    assert dict(message) == {}


def test_what_is_within_a_value_keeps_its_case() -> None:
    message = CaseInsensitiveDict({"attributes": {"Timestamp": 1}})
    assert "timestamp" not in message["ATTRIBUTES"]


def test_it_can_be_updated_copied_and_compared() -> None:
    message = CaseInsensitiveDict({"VALUE": 1})
    copied = message.copy()
    message.update({"value": 2, "TAG": "x"})
    assert dict(message) == {"VALUE": 2, "TAG": "x"}
    assert copied == CaseInsensitiveDict({"VALUE": 1})
    assert isinstance(copied, CaseInsensitiveDict)


def test_what_is_no_text_is_no_key() -> None:
    message = CaseInsensitiveDict({"VALUE": 1})
    others: list[object] = [7, None]
    assert not any(key in message for key in others)
