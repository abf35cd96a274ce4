"""The assets of a factory as its log tells of them: owner, availability, methods, and who uses them now."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from openfactory.apps.identity import standard_attributes
from openfactory.assets.references import references_in
from openfactory.assets.values import contract
from openfactory.commands.contract import contract_attribute_id
from openfactory.commands.envelope import CommandEnvelope, CommandReply, method_of_command
from openfactory.engines.base import Engine
from openfactory.engines.presence import Sight
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import COMMAND_TAG, CONTRACT_TAG, REPLY_TAG, AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, Owner
from openfactory.events.registration import REFERENCES
from openfactory.events.timestamp import instant_of

__all__ = [
    "AVAILABLE",
    "Argument",
    "Command",
    "RegisteredAsset",
    "User",
    "published_attributes",
    "published_methods",
    "registered_assets",
]

#: The availability of an app that does its work.
AVAILABLE = "AVAILABLE"

# Number of commands and replies of an asset that are read.
_RECENT = 100

# Seconds after which a command to an asset without an owner counts as done: its program may not reply.
_UNANSWERED_SECONDS = 60.0


class Argument(msgspec.Struct, frozen=True):
    """An argument of a method.

    Attributes:
        name: its name.
        required: whether a command must have it; None if the contract does not tell.
    """

    name: str
    required: bool | None = None


class User(msgspec.Struct, frozen=True):
    """An asset that refers to another, or commands it.

    Attributes:
        uuid: UUID of the asset, or the name that a program gives as the sender.
        refers: whether one of the two has a reference to the other.
        methods: methods that it has commanded, sorted.
        commands: number of its commands among the recent ones.
        age: seconds since its last command, or None.
    """

    uuid: str
    refers: bool = False
    methods: tuple[str, ...] = ()
    commands: int = 0
    age: float | None = None


class Command(msgspec.Struct, frozen=True):
    """A command without a reply.

    Attributes:
        method: the method.
        sender: UUID of its sender.
        age: seconds since it was sent.
    """

    method: str
    sender: str
    age: float


class RegisteredAsset(msgspec.Struct, frozen=True):
    """An asset as the log tells of it.

    Attributes:
        uuid: its UUID.
        type: type under which it is registered; None if it is not.
        availability: its last availability, or None.
        owner: process that runs its app, or has run it last.
        lives: whether that process lives; None if it cannot be seen, or the asset has no owner.
        uns_id: its place in the unified namespace, or None.
        docker_service: name of its container or process as it is registered, or None.
        attributes: ids of the attributes that its app has written since it owns the asset.
        methods: arguments of the methods that the app has published since it owns the asset.
        users: assets that refer to it or have commanded it lately.
        in_flight: commands that it has not answered.
    """

    uuid: str
    type: str | None = None
    availability: str | None = None
    owner: Owner | None = None
    lives: bool | None = None
    uns_id: str | None = None
    docker_service: str | None = None
    attributes: frozenset[str] = frozenset()
    methods: Mapping[str, tuple[Argument, ...]] = {}
    users: tuple[User, ...] = ()
    in_flight: tuple[Command, ...] = ()

    @property
    def epoch(self) -> int:
        """Epoch of the last claim, or 0."""
        return 0 if self.owner is None else self.owner.epoch

    @property
    def present_owner(self) -> Owner | None:
        """The owner, if its process is not known to have ended."""
        return None if self.owner is None or self.owner.ended is not None or self.lives is False else self.owner

    @property
    def has_owner(self) -> bool:
        """Whether a process owns the asset and is not known to have ended."""
        return self.present_owner is not None

    @property
    def is_up(self) -> bool:
        """Whether the asset is AVAILABLE, and not by a process that has ended."""
        return self.availability == AVAILABLE and (self.owner is None or self.has_owner)


def registered_assets(engine: Engine, uuids: Collection[str], *, with_users: bool = True) -> dict[str, RegisteredAsset]:
    """Return the facts of some assets, by UUID; an asset of which the log knows nothing is not included.

    Args:
        engine: engine of the factory.
        uuids: UUIDs of the assets.
        with_users: look for the users of the assets and for commands in flight, which takes the events of all assets.

    Raises:
        EngineError: the factory cannot be read.
    """
    snapshot = engine.snapshot(None if with_users else uuids)
    known = [uuid for uuid in uuids if uuid in snapshot.events]
    types = engine.types(known)
    owners = {uuid: owner for uuid, owner in snapshot.owners().items() if uuid in known}
    sights = {} if engine.liveness is None else engine.liveness.sightings(owners)
    referring = _referring(snapshot.events)
    now = time.time()
    found = {}
    for uuid in known:
        last = {event.id: event for event in snapshot.events[uuid]}
        owner = owners.get(uuid)
        users, in_flight = _commands(engine, uuid, owner, referring[uuid], now) if with_users else ((), ())
        found[uuid] = RegisteredAsset(
            uuid,
            types.get(uuid),
            None if (avail := last.get(AVAILABILITY_ID)) is None else str(avail.value),
            owner,
            _lives(sights[uuid].sight) if uuid in sights else None,
            _text(last.get("uns_id"), "UNSId"),
            _text(last.get("DockerService"), "DockerService"),
            frozenset(published_attributes(last.values(), owner)),
            published_methods(last, owner),
            users,
            in_flight,
        )
    return found


def published_attributes(events: Iterable[AssetEvent], owner: Owner | None) -> list[str]:
    """Return the ids of the attributes that were written since the claim of an owner, without those that all have."""
    standard = {attribute.id for attribute in standard_attributes()}
    return [
        event.id
        for event in events
        if event.is_attribute and event.type != "OpenFactory" and event.id not in standard and _is_since(event, owner)
    ]


def published_methods(last: Mapping[str, AssetEvent], owner: Owner | None) -> dict[str, tuple[Argument, ...]]:
    """Return the arguments of the methods that were published since the claim of an owner.

    Args:
        last: last events of the asset, by id.
        owner: the owner; None for all methods.
    """
    found = {}
    for event in last.values():
        if event.type == "Method" and _is_since(event, owner):
            full = last.get(contract_attribute_id(event.id))
            whole = contract(event.value, full.value if full is not None and full.tag == CONTRACT_TAG else None)
            found[event.id] = tuple(_arguments(whole))
    return found


def _arguments(whole: Any) -> Iterable[Argument]:
    arguments = whole.get("arguments") if isinstance(whole, dict) else None
    for argument in arguments if isinstance(arguments, list) else ():
        if isinstance(argument, dict) and isinstance(argument.get("name"), str):
            required = argument.get("required")
            yield Argument(argument["name"], required if isinstance(required, bool) else None)


def _is_since(event: AssetEvent, owner: Owner | None) -> bool:
    """Return whether an event is not older than the claim of an owner, by the clock of its process."""
    return owner is None or event.timestamp >= owner.started


def _referring(events: Mapping[str, list[AssetEvent]]) -> defaultdict[str, set[str]]:
    """Return the assets that are linked with each asset by a reference of one of them."""
    linked: defaultdict[str, set[str]] = defaultdict(set)
    for uuid, of_one in events.items():
        for event in of_one:
            if event.id in REFERENCES:
                for other in references_in(event):
                    linked[other].add(uuid)
                    linked[uuid].add(other)
    return linked


def _commands(
    engine: Engine, uuid: str, owner: Owner | None, referring: Collection[str], now: float
) -> tuple[tuple[User, ...], tuple[Command, ...]]:
    """Return the users of an asset, and the commands that it has not answered."""
    answered = {_id_of_reply(event) for event in engine.history(uuid, tag=REPLY_TAG, limit=_RECENT)}
    users = {other: User(other, refers=True) for other in sorted(referring)}
    in_flight = []
    for event in engine.history(uuid, tag=COMMAND_TAG, limit=_RECENT):
        try:
            header = CommandEnvelope.parse(event.value).header
        except msgspec.MsgspecError:
            continue  # another program has written it
        method, sender = method_of_command(event.id), header.sender_uuid
        age = engine.age(event)
        if age is None:
            instant = instant_of(event.timestamp)
            age = 0.0 if instant is None else max(now - instant / 1e9, 0.0)
        age = round(age, 3)
        user = users.get(sender, User(sender))
        methods = tuple(sorted({*user.methods, method}))
        users[sender] = msgspec.structs.replace(user, methods=methods, commands=user.commands + 1, age=age)
        if str(header.correlation_id) not in answered and _is_open(event, owner, age):
            in_flight.append(Command(method, sender, age))
    return tuple(users.values()), tuple(in_flight)


def _is_open(event: AssetEvent, owner: Owner | None, age: float) -> bool:
    """Return whether a command without a reply may still run: an app of OpenFactory replies to each."""
    if owner is None:
        return age < _UNANSWERED_SECONDS
    return owner.ended is None and _is_since(event, owner)


def _id_of_reply(event: AssetEvent) -> str:
    try:
        return str(CommandReply.parse(event.value).correlation_id)
    except msgspec.MsgspecError:
        return ""


def _lives(sight: Sight) -> bool | None:
    return None if sight is Sight.UNKNOWN else sight in (Sight.LIVES, Sight.SILENT)


def _text(event: AssetEvent | None, tag: str) -> str | None:
    if event is None or event.tag != tag or event.value in ("", UNAVAILABLE):
        return None
    return str(event.value)
