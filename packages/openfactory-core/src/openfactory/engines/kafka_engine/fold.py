"""The state of all assets as the log says it, record by record."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.exceptions import InvalidEventError

__all__ = ["DEREGISTERED", "Fold", "Place", "is_deregistration", "place_of_message"]

#: The value of `AssetType` by which an asset is taken off the register.
DEREGISTERED = "delete"

# So many commands, and so many replies, are remembered of each asset.
_COMMANDS = 4_096

_COMMAND_TAGS = frozenset((COMMAND_TAG, REPLY_TAG))

_PLACE_SHAPE = "Send JSON with ASSET_UUID, UNS_ID, UNS_LEVELS and UPDATED_AT."


class Place(NamedTuple):
    """Where an asset stands in the unified namespace, or that it stands nowhere."""

    uns_id: str | None
    uns_levels: Mapping[str, str] | None
    updated_at: int


class Fold:
    """The last event of each attribute, the latest commands, deregistrations, and places in the namespace.

    Attributes:
        changed: the attributes that changed since it was last emptied; the same for registrations and commands.
    """

    def __init__(self) -> None:
        self.assets: defaultdict[str, dict[str, AssetEvent]] = defaultdict(dict)
        self.commands: defaultdict[tuple[str, str], deque[AssetEvent]] = defaultdict(lambda: deque(maxlen=_COMMANDS))
        self.deregistered: dict[str, int] = {}
        self.places: dict[str, Place] = {}
        self.changed: set[tuple[str, str]] = set()
        self.changed_registrations: set[str] = set()
        self.changed_commands: deque[AssetEvent] = deque(maxlen=100 * _COMMANDS)
        self.most_commands = _COMMANDS

    @classmethod
    def of_statements(cls, events: Iterable[AssetEvent]) -> Fold:
        """What assets state of themselves; a deregistration takes back what was stated before it."""
        fold = cls()
        for event in events:
            if is_deregistration(event):
                fold.deregister(event)
                fold.assets.pop(event.asset_uuid, None)
            else:
                fold.take(event)
        return fold

    def take(self, event: AssetEvent) -> None:
        """Take in an event; it stands behind all others of its asset."""
        asset_uuid, attribute_id = event.asset_uuid, event.id
        attributes = self.assets[asset_uuid]
        attributes.pop(attribute_id, None)  # the newest is the last
        attributes[attribute_id] = event
        self.changed.add((asset_uuid, attribute_id))
        if event.tag in _COMMAND_TAGS:
            self.commands[asset_uuid, event.tag].append(event)
            self.changed_commands.append(event)

    def deregister(self, event: AssetEvent) -> None:
        """Take in a deregistration, which is no statement: the type that the asset had stays readable."""
        self.deregistered[event.asset_uuid] = event.position or 0
        self.changed_registrations.add(event.asset_uuid)

    def take_place(self, asset_uuid: str, place: Place) -> None:
        """Take in where an asset stands."""
        self.places[asset_uuid] = place
        self.changed_registrations.add(asset_uuid)

    def forget_changes(self) -> None:
        """What has changed is kept elsewhere now."""
        self.changed.clear()
        self.changed_registrations.clear()
        self.changed_commands.clear()

    def events(self, asset_uuids: Collection[str] | None = None) -> dict[str, list[AssetEvent]]:
        """The last event of each attribute of some assets or of all, in the order of the log."""
        if asset_uuids is None:
            return {asset_uuid: list(attributes.values()) for asset_uuid, attributes in self.assets.items()}
        wanted = (asset_uuid for asset_uuid in dict.fromkeys(asset_uuids) if asset_uuid in self.assets)
        return {asset_uuid: list(self.assets[asset_uuid].values()) for asset_uuid in wanted}


def is_deregistration(event: AssetEvent) -> bool:
    """Whether an event takes its asset off the register."""
    return event.id == "AssetType" and event.value == DEREGISTERED and event.type == "OpenFactory"


def place_of_message(value: bytes | None) -> Place:
    """The place that a record of the map says, in whatever case its keys are; a tombstone says that there is none.

    Raises:
        InvalidEventError: it says nothing that is one.
    """
    try:
        fields = {} if value is None else msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidEventError(f"It is no place: it is no JSON, {error}. {_PLACE_SHAPE}") from error
    if not isinstance(fields, dict):
        raise InvalidEventError(f"It is no place: it is {str(fields)[:120]!r}. {_PLACE_SHAPE}")
    said = {str(key).upper(): value for key, value in fields.items()}
    uns_id, levels, updated_at = said.get("UNS_ID"), said.get("UNS_LEVELS"), said.get("UPDATED_AT")
    if not isinstance(uns_id, str | None):
        raise InvalidEventError(f"It is no place: its id is {str(uns_id)[:120]!r}. {_PLACE_SHAPE}")
    return Place(
        uns_id,
        {str(name): str(value) for name, value in levels.items()} if isinstance(levels, Mapping) else None,
        updated_at if isinstance(updated_at, int) and 0 <= updated_at < 2**63 else 0,
    )
