"""Attributes that are declared on the class of an app."""

from __future__ import annotations

import inspect
from typing import Any, overload

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute, attribute_type
from openfactory.events.event import check_attribute_id

__all__ = ["AttributeField", "EventAttribute", "SampleAttribute", "declared_attributes"]


class AttributeField:
    """Declares an attribute: every instance of the app has it, with its own value.

    Reading it on an instance gives the `AssetAttribute`, writing it publishes; on the class it is the declaration.

    Args:
        value: what it says when the app starts.
        type: one of `ATTRIBUTE_TYPES`.
        tag: what the value means.

    Raises:
        ValueError: there is no such type.
    """

    def __init__(self, *, value: Any = UNAVAILABLE, type: str = "Events", tag: str) -> None:
        self.name = ""
        self.value = value
        self.type = attribute_type(type)
        self.tag = tag

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = check_attribute_id(name)

    @overload
    def __get__(self, instance: None, owner: type) -> AttributeField: ...
    @overload
    def __get__(self, instance: Asset, owner: type) -> AssetAttribute: ...
    def __get__(self, instance: Asset | None, owner: type) -> AttributeField | AssetAttribute:
        if instance is None:
            return self
        attribute = instance[self.name]
        assert isinstance(attribute, AssetAttribute)
        return attribute

    def __set__(self, instance: Asset, value: Any) -> None:
        instance[self.name] = value

    def attribute(self) -> AssetAttribute:
        """The attribute as it is when the app starts."""
        return AssetAttribute(id=self.name, value=self.value, type=self.type, tag=self.tag)


class EventAttribute(AttributeField):
    """Declares an event: something that is so until it is said otherwise, such as a status.

    >>> EventAttribute(value="idle", tag="App.Status").value
    'idle'
    """

    def __init__(self, *, value: Any = UNAVAILABLE, tag: str) -> None:
        super().__init__(value=value, type="Events", tag=tag)


class SampleAttribute(AttributeField):
    """Declares a sample: a quantity that is measured, such as a temperature; it reads as a float.

    >>> SampleAttribute(value=21.5, tag="Temperature").type
    'Samples'
    """

    def __init__(self, *, value: Any = UNAVAILABLE, tag: str) -> None:
        super().__init__(value=value, type="Samples", tag=tag)


def declared_attributes(app_class: type) -> dict[str, AttributeField]:
    """The declarations of a class: those of its bases from left to right, then its own; overriding keeps a place."""
    members = ((name, inspect.getattr_static(app_class, name)) for name in _names_in_order(app_class))
    return {name: member for name, member in members if isinstance(member, AttributeField)}


def _names_in_order(app_class: type) -> dict[str, None]:
    names: dict[str, None] = {}
    for base in app_class.__bases__:
        names.update(_names_in_order(base))
    names.update(dict.fromkeys(vars(app_class)))
    return names
