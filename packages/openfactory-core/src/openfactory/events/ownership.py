"""Owners of assets: which process runs an app, and which of the events that it writes count.

An app claims its UUID by an event. The order of the log decides between two claims: each names the claim that it takes
the place of, and the first one does. What an owner writes as the owner has the epoch of its claim: its availability,
its replies and its registration. After another claim these events do not count, whoever reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.decoding import decode_value
from openfactory.events.event import OWNER_TAG, AssetEvent, new_event

__all__ = [
    "AVAILABILITY_ID",
    "OWNER_ID",
    "Owner",
    "counts",
    "counts_after",
    "end_event",
    "end_events",
    "ends_same_ownership",
    "is_by_owner",
    "owned",
    "owner_in",
    "owner_of",
]

#: Ids of the attributes with the claim of the owner, and with its availability.
OWNER_ID = "AssetOwner"
AVAILABILITY_ID = "avail"

# Properties of an event that its writer adds as the owner: the epoch of its claim, and how the ownership has ended.
# They are text, because the tables of ksqlDB have no other.
_EPOCH = "owner_epoch"
_ENDED = "owner_ended"


# An instance becomes part of the names of files and groups.
_Instance = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]


class Owner(msgspec.Struct, frozen=True):
    """The process that runs an app.

    Attributes:
        instance: random id of the process.
        epoch: number of the claim, which rises with each claim of the asset.
        supersedes: epoch of the claim before, or 0.
        host: name of its host.
        pid: its process id.
        started: time of the claim.
        machine: id of the machine and of the container of the process, see `process_identity`; may be empty.
        process_start: start of the process, in ticks since the start of the machine; None if it is not known.
        observable: whether other processes can see that it lives.
        ended: how the ownership has ended, or None.
        generation: number of the deployed version of the app; None if it was not deployed.
    """

    instance: _Instance
    epoch: int
    supersedes: int
    host: str
    pid: Annotated[int, msgspec.Meta(gt=0, lt=2**31)]
    started: str
    machine: str = ""
    process_start: int | None = None
    observable: bool = True
    ended: str | None = None
    generation: int | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}"

    def event(self, asset_uuid: str) -> AssetEvent:
        """Return the event by which the process claims an asset, and which tells later how the ownership has ended."""
        text = msgspec.json.encode(self).decode()
        event = new_event(asset_uuid, OWNER_ID, text, "OpenFactory", OWNER_TAG)
        return owned(event, self.epoch)


def owned(event: AssetEvent, epoch: int) -> AssetEvent:
    """Return an event as an owner writes it, with the epoch of its claim."""
    return msgspec.structs.replace(event, attributes={**(event.attributes or {}), _EPOCH: str(epoch)})


def end_event(asset_uuid: str, owner: Owner, available: AssetEvent | None, reason: str) -> AssetEvent:
    """Return the event that ends an ownership: the asset is unavailable from now on.

    The claim with `ended` follows it, because the tables of ksqlDB keep no properties of an event.

    Args:
        available: last availability of the asset, whose type and tag the event keeps.
        reason: how the ownership has ended.
    """
    kind, tag = ("Events", "Availability") if available is None else (available.type, available.tag)
    event = new_event(asset_uuid, AVAILABILITY_ID, UNAVAILABLE, kind, tag, attributes={_ENDED: reason})
    return owned(event, owner.epoch)


def end_events(
    asset_uuid: str, owner: Owner, available: AssetEvent | None, reason: str
) -> tuple[AssetEvent, AssetEvent]:
    """Return the events that end an ownership: the availability, and the claim with its end."""
    ended = msgspec.structs.replace(owner, ended=reason)
    return end_event(asset_uuid, owner, available, reason), ended.event(asset_uuid)


def ends_same_ownership(event: AssetEvent, other: AssetEvent) -> bool:
    """Return whether two events of an asset end the same ownership, as two processes write it that see the end."""
    attributes = other.attributes or {}
    return _ENDED in attributes and event.id == other.id and _epoch_of(event) == _epoch_of(other)


def is_by_owner(event: AssetEvent) -> bool:
    """Return whether an owner has written an event as the owner, so that `counts` decides about it."""
    return event.attributes is not None and _EPOCH in event.attributes


def owner_of(claim: AssetEvent | None, available: AssetEvent | None) -> Owner | None:
    """Return the owner of an asset, or None if no process has claimed it.

    Args:
        claim: last event of `OWNER_ID`.
        available: last event of the availability, which tells how the ownership has ended.
    """
    owner = None if claim is None or claim.tag != OWNER_TAG else _parsed(claim)
    if owner is None or available is None or _epoch_of(available) != owner.epoch:
        return owner
    ended = (available.attributes or {}).get(_ENDED)
    return owner if ended is None else msgspec.structs.replace(owner, ended=str(ended))


def owner_in(events: Mapping[str, AssetEvent]) -> Owner | None:
    """Return the owner that the last events of an asset tell of, by id."""
    return owner_of(events.get(OWNER_ID), events.get(AVAILABILITY_ID))


def counts(event: AssetEvent, owner: Owner | None) -> bool:
    """Return whether an event that was written as the owner counts, after the events before it in the log.

    Args:
        owner: owner of the asset by the events before; None if they are not known any more.
    """
    epoch = _epoch_of(event)
    if epoch is None or owner is None:
        return True
    if event.tag == OWNER_TAG:
        claim = _parsed(event)
        if claim is None or claim.epoch < owner.epoch:
            return False
        if claim.epoch == owner.epoch:  # written again: before the log forgets it, or with its end
            return claim.instance == owner.instance and (owner.ended is None or claim.ended is not None)
        return claim.supersedes == owner.epoch or owner.ended is not None
    return epoch == owner.epoch and (event.id != AVAILABILITY_ID or owner.ended is None)


def counts_after(event: AssetEvent, claim: AssetEvent | None, available: AssetEvent | None) -> bool:
    """Return whether an event counts after the last claim and the last availability before it in the log.

    The claim is parsed only if the event may end or change the ownership, or has another epoch: replies are frequent.
    """
    if claim is not None and event.tag != OWNER_TAG and event.id != AVAILABILITY_ID:
        epoch = (event.attributes or {}).get(_EPOCH)
        if epoch is not None and epoch == (claim.attributes or {}).get(_EPOCH):
            return True
    return counts(event, owner_of(claim, available))


def _epoch_of(event: AssetEvent) -> int | None:
    text = (event.attributes or {}).get(_EPOCH)
    try:
        return None if text is None else int(text)
    except (TypeError, ValueError):
        return None  # another program uses the name


def _parsed(event: AssetEvent) -> Owner | None:
    try:
        return decode_value(event.value, Owner, _decode)
    except msgspec.MsgspecError:
        return None  # another program uses the id


_decode = msgspec.json.Decoder(Owner).decode
