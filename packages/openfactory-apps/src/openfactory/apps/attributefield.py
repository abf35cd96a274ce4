"""The attributes that a class declares, under the path that existing apps import; see `openfactory.apps.attributes`."""

from openfactory.apps.attributes import AttributeField, EventAttribute, SampleAttribute

__all__ = ["AttributeField", "EventAttribute", "SampleAttribute"]
