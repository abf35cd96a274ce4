"""The wire format of a method's contract: JSON text in the value of an attribute.

Every implementation of OpenFactory publishes a contract with the same keys, and some compare it or refuse other keys.
So the further facts about the arguments stand in the contract of a second attribute, which the others ignore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import CONTRACT_TAG

__all__ = ["common_part", "contract_attribute_id", "contract_attributes"]

_SUFFIX = "_CONTRACT"


def contract_attribute_id(method: str) -> str:
    """Return the id of the attribute with all facts about the arguments of a method: `move_axis_CONTRACT`."""
    return method + _SUFFIX


def contract_attributes(method: str, contract: Mapping[str, Any]) -> list[AssetAttribute]:
    """Return the attributes that publish a method.

    The attribute that makes the method known is the last: a reader that sees it has the other attribute already.

    Args:
        method: name of the method in commands.
        contract: its description and its arguments, each with a name, a description and further facts.
    """
    common = common_part(contract)
    attributes = [AssetAttribute(id=method, value=_encoded(common), type="Method", tag="Method")]
    if common != contract:
        full = AssetAttribute(contract_attribute_id(method), _encoded(contract), "OpenFactory", CONTRACT_TAG)
        attributes.insert(0, full)
    return attributes


def common_part(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contract with the keys that every implementation knows.

    Raises:
        KeyError, TypeError: it is not a contract.
    """
    arguments = [{key: argument[key] for key in ("name", "description")} for argument in contract["arguments"]]
    return {"description": contract["description"], "arguments": arguments}


def _encoded(contract: Mapping[str, Any]) -> str:
    return msgspec.json.encode(contract).decode()
