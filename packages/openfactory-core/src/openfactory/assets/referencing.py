"""The part of an asset that reads and adds references to the assets above and below it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from openfactory.assets.state import AssetState
from openfactory.engines.base import Engine
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent, check_asset_uuid, new_event
from openfactory.events.receipt import Receipt
from openfactory.exceptions import InvalidEventError

if TYPE_CHECKING:
    from openfactory.assets.asset_class import Asset

__all__ = ["Referencing"]

ABOVE = "references_above"
BELOW = "references_below"

# Seconds to wait until the write of a reference is acknowledged.
_WRITE_SECONDS = 10.0

# Maximum number of references that others may write between a read and the write that follows it.
_MAX_CONCURRENT_WRITES = 1000


class Referencing:
    """Reads and adds references; a reference is the UUID of another asset, and the newest comes first."""

    asset_uuid: str
    ksql: Any
    bootstrap_servers: str | None
    asset_router_url: str | None
    _engine: Engine
    _state: AssetState

    def get_references_above_uuid(self) -> list[str]:
        """Return the UUIDs of the assets above."""
        return self._references(ABOVE)

    def get_references_below_uuid(self) -> list[str]:
        """Return the UUIDs of the assets below."""
        return self._references(BELOW)

    def get_references_above(self) -> list[Asset]:
        """Return the assets above; close each of them after use."""
        return self._assets(self._references(ABOVE))

    def get_references_below(self) -> list[Asset]:
        """Return the assets below; close each of them after use."""
        return self._assets(self._references(BELOW))

    def add_reference_above(self, reference: str) -> None:
        """Add a reference to an asset above, unless it exists already.

        Two processes may add references at the same time; both references are kept.

        Raises:
            InvalidEventError: the UUID is not valid in a message, contains a comma, or is `UNAVAILABLE`.
            DeliveryError: the reference was not written.
            DeliveryTimeout: the write was not acknowledged in time.
        """
        self._add_reference(ABOVE, reference)

    def add_reference_below(self, reference: str) -> None:
        """Add a reference to an asset below, like `add_reference_above`."""
        self._add_reference(BELOW, reference)

    def _references(self, attribute_id: str) -> list[str]:
        event = self._state.get(attribute_id)
        return [] if event is None else _split(event)

    def _assets(self, references: Iterable[str]) -> list[Asset]:
        from openfactory.assets.asset_class import Asset

        return [Asset(reference, self.ksql, self.bootstrap_servers, self.asset_router_url) for reference in references]

    def _add_reference(self, attribute_id: str, reference: str) -> None:
        """Read the list, write it with the reference, and check that no other write came in between.

        All processes see the same order of the log. A process that has overwritten the reference of another adds it
        again, so the list converges to the union.
        """
        wanted = [_check_reference(reference)]
        while True:
            last = self._last_event(attribute_id)
            present = [] if last is None else _split(last)
            missing = [uuid for uuid in wanted if uuid not in present]
            if not missing:
                return
            value = ", ".join((*missing, *present))
            event = new_event(self.asset_uuid, attribute_id, value, "OpenFactory", "AssetsReferences")
            written_at = self._publish(event).wait(_WRITE_SECONDS)
            read_at = 0 if last is None else last.position or 0
            for other in self._engine.history(self.asset_uuid, attribute_id, limit=_MAX_CONCURRENT_WRITES):
                if read_at < (other.position or 0) < written_at:
                    wanted += _split(other)

    def _last_event(self, attribute_id: str) -> AssetEvent | None:
        events = self._engine.snapshot([self.asset_uuid]).events.get(self.asset_uuid, [])
        return next((event for event in events if event.id == attribute_id), None)

    def _publish(self, event: AssetEvent) -> Receipt:
        raise NotImplementedError


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


def _split(event: AssetEvent) -> list[str]:
    """Return the references in the value of an event, without duplicates."""
    if not isinstance(event.value, str) or event.value == UNAVAILABLE:
        return []
    return list(dict.fromkeys(filter(None, (part.strip() for part in event.value.split(",")))))
