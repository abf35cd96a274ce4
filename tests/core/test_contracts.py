"""The contract of a method: the keys that every implementation knows, and all facts in an attribute of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.assets.values import contract
from openfactory.commands.contract import contract_attributes
from openfactory.kafka import KSQLDBClient

COMMON = {"description": "Move", "arguments": [{"name": "x", "description": "where"}]}
FULL = {"description": "Move", "arguments": [{"name": "x", "description": "where", "type": "float", "required": True}]}


def test_the_published_contract_has_the_common_keys_only() -> None:
    full, published = contract_attributes("move", FULL)
    assert (published.id, published.type, published.tag) == ("move", "Method", "Method")
    assert json.loads(published.value) == COMMON
    assert (full.id, full.type, full.tag) == ("move_CONTRACT", "OpenFactory", "Method.Contract")
    assert json.loads(full.value) == FULL


def test_a_method_without_arguments_needs_one_attribute() -> None:
    assert [attribute.id for attribute in contract_attributes("stop", {"description": "", "arguments": []})] == ["stop"]


OTHER = {"description": "Move", "arguments": [{"name": "y", "description": "", "type": "int", "required": True}]}


@pytest.mark.parametrize(
    "full",
    [
        *[None, "", "Move it", "[]", "7", "{}", '{"description": "Move"}', '{"description": "Move", "arguments": 5}'],
        '{"description": "Move", "arguments": [5]}',
        '{"description": "Move", "arguments": [{"name": "x"}]}',
        "[" * 5_000,
        {"arguments": [None]},
        json.dumps(OTHER),  # another program has published the method anew
    ],
)
def test_facts_that_do_not_belong_to_a_contract_are_ignored(full: Any) -> None:
    assert contract(json.dumps(COMMON), full) == COMMON
    assert contract("Move it", full) == "Move it"


def test_an_earlier_app_has_all_facts_in_the_published_contract() -> None:
    assert contract(json.dumps(FULL), None) == FULL
    assert contract(json.dumps(FULL), json.dumps(FULL)) == FULL


def test_a_caller_reads_all_facts_and_they_are_no_attribute() -> None:
    with KSQLDBClient("memory://contracts") as client, Asset("MILL", client) as mill, Asset("MILL", client) as reader:
        for attribute in contract_attributes("move", FULL):
            mill.add_attribute(attribute)
        mill.add_attribute(AssetAttribute(id="speed", value=3, type="Samples", tag="Speed"))
        assert reader.wait_until("speed", 3)
        assert reader.methods() == {"move": FULL}
        assert reader.attributes() == ["speed"]
        assert json.loads(reader.ofa_methods["move"]) == COMMON
