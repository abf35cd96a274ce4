"""References between assets: a reference is the UUID of another asset, and the newest comes first in its list."""

from __future__ import annotations

from collections.abc import Callable

from openfactory.engines.base import Engine
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent, check_asset_uuid, new_event
from openfactory.events.receipt import Receipt
from openfactory.exceptions import InvalidEventError

__all__ = ["ABOVE", "BELOW", "add_reference", "references_in"]

#: The attributes with the references to the assets above and below.
ABOVE = "references_above"
BELOW = "references_below"

# Seconds to wait until the write of a reference is acknowledged.
_WRITE_SECONDS = 10.0

# Maximum number of references that others may write between a read and the write that follows it.
_MAX_CONCURRENT_WRITES = 1000


def references_in(event: AssetEvent | None) -> list[str]:
    """Return the references in the value of an event, without duplicates; an asset without references may have None."""
    if event is None or not isinstance(event.value, str) or event.value == UNAVAILABLE:
        return []
    return list(dict.fromkeys(filter(None, (part.strip() for part in event.value.split(",")))))


def add_reference(
    engine: Engine, publish: Callable[[AssetEvent], Receipt], asset_uuid: str, attribute_id: str, reference: str
) -> None:
    """Read the list, write it with the reference, and check that no other write came in between.

    All processes see the same order of the log. A process that has overwritten the reference of another adds it again,
    so the list converges to the union.

    Args:
        engine: engine of the asset, which reads the list.
        publish: writes an event of the asset.
        asset_uuid: asset that gets the reference.
        attribute_id: `ABOVE` or `BELOW`.
        reference: UUID of the other asset.

    Raises:
        InvalidEventError: the UUID is not valid in a message, contains a comma, or is `UNAVAILABLE`.
    """
    wanted = [_check_reference(reference)]
    while True:
        events = engine.snapshot([asset_uuid]).events.get(asset_uuid, [])
        last = next((event for event in events if event.id == attribute_id), None)
        present = references_in(last)
        missing = [uuid for uuid in wanted if uuid not in present]
        if not missing:
            return
        value = ", ".join((*missing, *present))
        event = new_event(asset_uuid, attribute_id, value, "OpenFactory", "AssetsReferences")
        written_at = publish(event).wait(_WRITE_SECONDS)
        read_at = 0 if last is None else last.position or 0
        for other in engine.history(asset_uuid, attribute_id, limit=_MAX_CONCURRENT_WRITES):
            if read_at < (other.position or 0) < written_at:
                wanted += references_in(other)


def _check_reference(reference: str) -> str:
    """Return the UUID if it is valid in a list of references."""
    check_asset_uuid(reference)
    if "," in reference or reference == UNAVAILABLE:
        raise InvalidEventError(
            f"{reference!r} cannot be a reference: commas separate the references of a list, and {UNAVAILABLE} stands "
            "for an empty list. Give the asset another UUID.",
            asset_uuid=reference,
        )
    return reference
