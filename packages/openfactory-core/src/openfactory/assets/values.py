"""Values of an asset as users read and write them: rows, contracts of methods, and the event of a new value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from openfactory.assets.state import AssetState
from openfactory.commands.contract import common_part, contract_attribute_id
from openfactory.events.attribute import AssetAttribute
from openfactory.events.decoding import decode_json
from openfactory.events.event import CONTRACT_TAG, AssetEvent, new_event
from openfactory.exceptions import ConfigurationError, UnknownAttributeError

__all__ = ["changed_event", "contract", "contracts", "rows"]


def rows(state: AssetState, type_name: str) -> list[dict[str, Any]]:
    """Return the attributes of a type, each as `{"ID", "VALUE", "TAG"}`.

    A tag is returned without the namespace that some machines write before it: `{urn:…}Position` is `Position`.
    """
    return [
        {"ID": event.id, "VALUE": event.attribute().value, "TAG": re.sub(r"\{.*?\}", "", event.tag).strip()}
        for event in state.attribute_events()
        if event.type == type_name
    ]


def contract(value: Any, full: Any = None) -> Any:
    """Return the contract of a method, with all facts about its arguments if they are known.

    A value that is not JSON is returned as it is.

    Args:
        value: value of the attribute that makes the method known.
        full: value of the attribute with all facts. It counts only if it describes the same contract: another program
            may have published the method anew.
    """
    published, candidate = _decoded(value), _decoded(full)
    try:
        return candidate if common_part(candidate) == published else published
    except (KeyError, TypeError):
        return published


def contracts(state: AssetState) -> dict[str, Any]:
    """Return the contract of each method by id."""
    found: dict[str, Any] = {}
    for event in state.events():
        if event.type == "Method":
            full = state.get(contract_attribute_id(event.id))
            found[event.id] = contract(event.value, full.value if full and full.tag == CONTRACT_TAG else None)
    return found


def changed_event(
    asset_uuid: str, attribute_id: str, known: AssetEvent | None, value: Any, clock: Callable[[], str]
) -> AssetEvent:
    """Return the event that writes a known attribute.

    Args:
        known: last event of the attribute; a value that is not an `AssetAttribute` keeps its type and its tag.
        clock: returns the timestamp of such a value.

    Raises:
        UnknownAttributeError: the attribute has never been written.
        ConfigurationError: the attribute is a method, or the value has another id.
        InvalidEventError: the value is not valid in a message.
    """
    if known is None:
        raise UnknownAttributeError(f"{asset_uuid} has no attribute {attribute_id!r}. Add it with add_attribute().")
    if known.type == "Method":
        raise ConfigurationError(
            f"{attribute_id!r} is a method of {asset_uuid} and has no value. Call it, or use another id."
        )
    if not isinstance(value, AssetAttribute):
        return new_event(asset_uuid, attribute_id, value, known.type, known.tag, clock())
    if value.id != attribute_id:
        raise ConfigurationError(
            f"The attribute {value.id!r} cannot be written as {attribute_id!r}. "
            f"Set its id to {attribute_id!r}, or write it as {value.id!r}."
        )
    return AssetEvent.of(asset_uuid, value)


def _decoded(value: Any) -> Any:
    try:
        return decode_json(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        return value
