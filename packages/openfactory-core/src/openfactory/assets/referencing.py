"""The part of an asset that knows its neighbours: references to the assets above and below it."""

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

# How long one write of a reference may take to be acknowledged, in seconds.
_WRITE_SECONDS = 10.0

# So many references may be written by others between a read and the write that follows it.
_MOST_WRITERS = 1000


class Referencing:
    """Reads and adds references; each is the UUID of another asset, the newest first."""

    asset_uuid: str
    ksql: Any
    bootstrap_servers: str | None
    asset_router_url: str | None
    _engine: Engine
    _state: AssetState

    def get_references_above_uuid(self) -> list[str]:
        """The UUIDs of the assets above."""
        return self._references(ABOVE)

    def get_references_below_uuid(self) -> list[str]:
        """The UUIDs of the assets below."""
        return self._references(BELOW)

    def get_references_above(self) -> list[Asset]:
        """The assets above; close each when it is done with."""
        return self._assets(self._references(ABOVE))

    def get_references_below(self) -> list[Asset]:
        """The assets below; close each when it is done with."""
        return self._assets(self._references(BELOW))

    def add_reference_above(self, reference: str) -> None:
        """Add an asset above; nothing happens when it is there already.

        Two writers may add at the same time, and neither loses what the other has added.

        Raises:
            InvalidEventError: the UUID cannot be carried, or holds a comma.
            DeliveryError, DeliveryTimeout: it could not be written.
        """
        self._add_reference(ABOVE, reference)

    def add_reference_below(self, reference: str) -> None:
        """Add an asset below, as `add_reference_above` does above."""
        self._add_reference(BELOW, reference)

    def _references(self, attribute_id: str) -> list[str]:
        event = self._state.get(attribute_id)
        return [] if event is None else _split(event)

    def _assets(self, references: Iterable[str]) -> list[Asset]:
        from openfactory.assets.asset_class import Asset

        return [Asset(reference, self.ksql, self.bootstrap_servers, self.asset_router_url) for reference in references]

    def _add_reference(self, attribute_id: str, reference: str) -> None:
        """Read, write, and look whether somebody wrote in between: the order of the log is the same for everybody.

        Who finds that he has overwritten another's reference adds it again, so both converge to the union.
        """
        wanted = [_check_reference(reference)]
        while True:
            read = self._last(attribute_id)
            there = [] if read is None else _split(read)
            missing = [one for one in wanted if one not in there]
            if not missing:
                return
            value = ", ".join((*missing, *there))
            event = new_event(self.asset_uuid, attribute_id, value, "OpenFactory", "AssetsReferences")
            written_at = self._publish(event).wait(_WRITE_SECONDS)
            read_at = 0 if read is None else read.position or 0
            for other in self._engine.history(self.asset_uuid, attribute_id, limit=_MOST_WRITERS):
                if read_at < (other.position or 0) < written_at:
                    wanted += _split(other)

    def _last(self, attribute_id: str) -> AssetEvent | None:
        events = self._engine.snapshot([self.asset_uuid]).events.get(self.asset_uuid, [])
        return next((event for event in events if event.id == attribute_id), None)

    def _publish(self, event: AssetEvent) -> Receipt:
        raise NotImplementedError


def _check_reference(reference: str) -> str:
    """The UUID, if a list of references can carry it."""
    check_asset_uuid(reference)
    if "," in reference or reference == UNAVAILABLE:
        raise InvalidEventError(
            f"{reference!r} cannot be a reference: a list of references ends each at a comma, and {UNAVAILABLE} says "
            "that there is none. Give the asset a UUID without a comma.",
            asset_uuid=reference,
        )
    return reference


def _split(event: AssetEvent) -> list[str]:
    """The references that an event says, each once."""
    if not isinstance(event.value, str) or event.value == UNAVAILABLE:
        return []
    return list(dict.fromkeys(filter(None, (part.strip() for part in event.value.split(",")))))
