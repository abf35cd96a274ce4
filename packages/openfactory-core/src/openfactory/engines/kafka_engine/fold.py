"""The state of all assets, computed from the log record by record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from openfactory.engines.kafka_engine.recent_commands import RecentCommands, Trimmed
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.decoding import decode_json
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, OWNER_ID, counts_after, is_by_owner
from openfactory.events.registration import DEREGISTERED
from openfactory.events.timestamp import milliseconds_of
from openfactory.exceptions import InvalidEventError

__all__ = ["ASSET_TYPE_ID", "COMMAND_TAGS", "Fold", "Place", "is_deregistration", "place_of_message"]

#: Id of the attribute that registers an asset.
ASSET_TYPE_ID = "AssetType"

# Types of the event that deregisters an asset. OpenFactory writes the second.
_DEREGISTERING_TYPES = ("OpenFactory", UNAVAILABLE)

#: Tags of the events of which each counts, and not only the last of its attribute.
COMMAND_TAGS = frozenset((COMMAND_TAG, REPLY_TAG))

_PLACE_SHAPE = "Send JSON with ASSET_UUID, UNS_ID, UNS_LEVELS and UPDATED_AT."


class Place(NamedTuple):
    """The place of an asset in the unified namespace; `uns_id` is None for an asset without a place."""

    uns_id: str | None
    uns_levels: Mapping[str, str] | None
    updated_at: int


class Fold:
    """The last event of each attribute, the latest commands, deregistrations, and places in the namespace.

    Args:
        notes_changes: whether changes are recorded; else only after `mark_changed`.

    Attributes:
        assets: by asset UUID and attribute id, the last event.
        commands: by asset UUID and tag, the latest commands and replies.
        deregistered: by asset UUID, the position of the deregistration.
        places: by asset UUID, the place in the namespace.
        changed: asset UUID and attribute id of each attribute that has changed since `clear_changes`.
        changed_registrations: UUIDs of the assets whose registration has changed since `clear_changes`.
    """

    def __init__(self, *, notes_changes: bool = True) -> None:
        self._notes_changes = notes_changes
        self.assets: defaultdict[str, dict[str, AssetEvent]] = defaultdict(dict)
        self.commands: defaultdict[tuple[str, str], RecentCommands] = defaultdict(RecentCommands)
        self.deregistered: dict[str, int] = {}
        self.places: dict[str, Place] = {}
        self.changed: set[tuple[str, str]] = set()
        self.changed_registrations: set[str] = set()

    @classmethod
    def of_statements(cls, events: Iterable[AssetEvent]) -> Fold:
        """Return the state after some events, where a deregistration removes the earlier attributes of its asset."""
        fold = cls()
        for event in events:
            if not fold.counts(event):
                continue
            if is_deregistration(event):
                fold.deregister(event)
                fold.assets.pop(event.asset_uuid, None)
            else:
                fold.apply(event)
        return fold

    def counts(self, event: AssetEvent) -> bool:
        """Return whether an event counts: one that an owner has written does not after another claim."""
        if event.attributes is None or not is_by_owner(event):
            return True
        last = self.assets.get(event.asset_uuid, {})
        return counts_after(event, last.get(OWNER_ID), last.get(AVAILABILITY_ID))

    def take(self, event: AssetEvent) -> bool:
        """Apply an event or a deregistration, if it counts.

        Returns:
            whether it is an event that counts, which subscriptions receive.
        """
        return self.counts(event) and self.take_counting(event)

    def take_counting(self, event: AssetEvent) -> bool:
        """Apply an event or a deregistration that counts, and return whether it is an event."""
        if event.id == ASSET_TYPE_ID and is_deregistration(event):
            self.deregister(event)
            return False
        self.set_last(event)
        if event.tag in COMMAND_TAGS:
            self.commands[event.asset_uuid, event.tag].append(event)
        return True

    def apply(self, event: AssetEvent) -> Trimmed | None:
        """Apply an event, which is newer than all others of its asset.

        Returns:
            The older commands that the event has pushed out of the limits, or None if it is not a command or a reply.
        """
        self.set_last(event)
        return self.commands[event.asset_uuid, event.tag].append(event) if event.tag in COMMAND_TAGS else None

    def set_last(self, event: AssetEvent) -> None:
        """Set the last event of an attribute, which is newer than all others of its asset."""
        asset_uuid, attribute_id = event.asset_uuid, event.id
        attributes = self.assets[asset_uuid]
        attributes.pop(attribute_id, None)  # keeps the order of the log
        attributes[attribute_id] = event
        if self._notes_changes:
            self.changed.add((asset_uuid, attribute_id))

    def deregister(self, event: AssetEvent) -> None:
        """Apply a deregistration; the last type of the asset stays readable."""
        self.deregistered[event.asset_uuid] = event.position or 0
        self._note_registration(event.asset_uuid)

    def apply_place(self, asset_uuid: str, place: Place) -> None:
        """Set the place of an asset."""
        self.places[asset_uuid] = place
        self._note_registration(asset_uuid)

    def _note_registration(self, asset_uuid: str) -> None:
        if self._notes_changes:
            self.changed_registrations.add(asset_uuid)

    def replace(self, other: Fold, asset_uuids: Iterable[str]) -> None:
        """Take the state of some assets from another fold."""
        for asset_uuid in asset_uuids:
            self.drop(asset_uuid)
            if asset_uuid in other.assets:
                attributes = self.assets[asset_uuid] = other.assets[asset_uuid]
                self.changed.update((asset_uuid, attribute_id) for attribute_id in attributes)
            for tag in COMMAND_TAGS:
                if (asset_uuid, tag) in other.commands:
                    self.commands[asset_uuid, tag] = other.commands[asset_uuid, tag]
            if asset_uuid in other.deregistered:
                self.deregistered[asset_uuid] = other.deregistered[asset_uuid]
                self.changed_registrations.add(asset_uuid)

    def drop(self, asset_uuid: str) -> None:
        """Forget the events of an asset; its place in the namespace stays."""
        for attribute_id in self.assets.pop(asset_uuid, ()):
            self.changed.discard((asset_uuid, attribute_id))
        for tag in COMMAND_TAGS:
            self.commands.pop((asset_uuid, tag), None)
        self.deregistered.pop(asset_uuid, None)

    def asset_uuids(self) -> set[str]:
        """Return the assets of which the log has events."""
        return {*self.assets, *self.deregistered}

    def mark_changed(self) -> None:
        """Record everything as changed, because no table has it any more, and all changes from now on."""
        self._notes_changes = True
        self.changed.update((asset_uuid, id_) for asset_uuid, attributes in self.assets.items() for id_ in attributes)
        self.changed_registrations.update(self.deregistered, self.places)

    def clear_changes(self) -> None:
        """Clear the records of changes, after the changes were saved."""
        self.changed.clear()
        self.changed_registrations.clear()
        for recent in self.commands.values():
            recent.unsaved = 0

    def events(self, asset_uuids: Collection[str] | None = None) -> dict[str, list[AssetEvent]]:
        """Return the last event of each attribute of some assets or of all, in the order of the log."""
        if asset_uuids is None:
            return {asset_uuid: list(attributes.values()) for asset_uuid, attributes in self.assets.items()}
        wanted = (asset_uuid for asset_uuid in dict.fromkeys(asset_uuids) if asset_uuid in self.assets)
        return {asset_uuid: list(self.assets[asset_uuid].values()) for asset_uuid in wanted}


def is_deregistration(event: AssetEvent) -> bool:
    """Return whether an event deregisters its asset."""
    return event.id == ASSET_TYPE_ID and event.value == DEREGISTERED and event.type in _DEREGISTERING_TYPES


def place_of_message(value: bytes | None) -> Place:
    """Return the place in a record of the UNS map.

    Args:
        value: JSON with keys in any case; None, a tombstone, stands for an asset without a place.

    Raises:
        InvalidEventError: the value is not a place.
    """
    try:
        fields = {} if value is None else decode_json(value)
    except msgspec.DecodeError as error:
        raise InvalidEventError(f"The value is not JSON: {error}. {_PLACE_SHAPE}") from error
    if not isinstance(fields, dict):
        raise InvalidEventError(f"The value {str(fields)[:120]!r} is not a JSON object. {_PLACE_SHAPE}")
    fields = {str(key).upper(): value for key, value in fields.items()}
    uns_id, levels, updated_at = fields.get("UNS_ID"), fields.get("UNS_LEVELS"), fields.get("UPDATED_AT")
    if not isinstance(uns_id, str | None):
        raise InvalidEventError(f"The UNS_ID {str(uns_id)[:120]!r} is not a string. {_PLACE_SHAPE}")
    return Place(
        uns_id,
        {str(name): str(value) for name, value in levels.items()} if isinstance(levels, Mapping) else None,
        milliseconds_of(updated_at),
    )
