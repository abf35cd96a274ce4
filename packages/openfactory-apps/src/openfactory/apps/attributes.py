"""Attributes declared on the class of an app."""

from __future__ import annotations

import inspect
from typing import Any, overload

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute, attribute_type
from openfactory.events.event import check_attribute_id

__all__ = ["AttributeField", "EventAttribute", "SampleAttribute", "declared_attributes"]


class AttributeField:
    """An attribute declared on the class of an app; each instance has its own value.

    Reading it on an instance returns an `AssetAttribute`, and assigning a value publishes the value. On the class it is
    the declaration.

    Args:
        value: value when the app starts.
        type: one of `ATTRIBUTE_TYPES`.
        tag: meaning of the value, such as `App.Status`.

    Raises:
        ValueError: the type does not exist.
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
        """Return the attribute as it is when the app starts."""
        return AssetAttribute(id=self.name, value=self.value, type=self.type, tag=self.tag)


class EventAttribute(AttributeField):
    """An event declared on the class of an app: a discrete value that stays until it changes, such as a status.

    >>> EventAttribute(value="idle", tag="App.Status").value
    'idle'
    """

    def __init__(self, *, value: Any = UNAVAILABLE, tag: str) -> None:
        super().__init__(value=value, type="Events", tag=tag)


class SampleAttribute(AttributeField):
    """A sample declared on the class of an app: a measured quantity that reads as a float, such as a temperature.

    >>> SampleAttribute(value=21.5, tag="Temperature").type
    'Samples'
    """

    def __init__(self, *, value: Any = UNAVAILABLE, tag: str) -> None:
        super().__init__(value=value, type="Samples", tag=tag)


def declared_attributes(app_class: type) -> dict[str, AttributeField]:
    """Return the declared attributes of a class by name.

    Those of its bases come first, from left to right, then its own. An override keeps the place of the declaration that
    it replaces.
    """
    members = ((name, inspect.getattr_static(app_class, name)) for name in _names_in_order(app_class))
    return {name: member for name, member in members if isinstance(member, AttributeField)}


def _names_in_order(app_class: type) -> dict[str, None]:
    names: dict[str, None] = {}
    for base in app_class.__bases__:
        names.update(_names_in_order(base))
    names.update(dict.fromkeys(vars(app_class)))
    return names
