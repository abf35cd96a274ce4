"""Checks of the places of assets in the unified namespace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from openfactory.deploy.app import UNSPlace
from openfactory.deploy.names import replica_uuids
from openfactory.deploy.problems import Problem
from openfactory.deploy.reading.drafts import Draft

if TYPE_CHECKING:
    from openfactory.deploy.files.schema import AppFile
    from openfactory.deploy.uns import UNSSchema

__all__ = ["place_of", "place_problems_among", "replica_places_of"]


def place_of(draft: Draft, uns: UNSSchema | None) -> UNSPlace | None:
    """Return the place of an app, or None without a namespace."""
    if uns is None or draft.settings is None:
        return None
    return _place(draft, uns, draft.settings, draft.settings.uuid)


def replica_places_of(draft: Draft, uns: UNSSchema | None) -> tuple[UNSPlace, ...]:
    """Return the places of several replicas of an app, each with its own UUID."""
    settings = draft.settings
    if uns is None or settings is None or settings.deploy.replicas == 1:
        return ()
    return tuple(_place(draft, uns, settings, uuid) for uuid in replica_uuids(settings.uuid, settings.deploy.replicas))


def _place(draft: Draft, uns: UNSSchema, settings: AppFile, uuid: str) -> UNSPlace:
    return uns.place_of(uuid, settings.uns or {}, draft.document.place(("apps", draft.name, "uns")))


def place_problems_among(drafts: Sequence[Draft], uns: UNSSchema | None) -> Iterator[Problem]:
    """Yield the problems of places: values that do not fit, and two assets in one place."""
    if uns is None:
        return
    seen: dict[str, tuple[str, Draft]] = {}
    for draft in drafts:
        settings = draft.settings
        if settings is None or not draft.usable("uuid", "uns"):
            continue
        values = settings.uns or {}
        problems = [draft.problem(("uns", level), text) for level, text in uns.problems_of(settings.uuid, values)]
        yield from problems
        for uuid in [] if problems else replica_uuids(settings.uuid, settings.deploy.replicas):
            place = uns.place_of(uuid, values, draft.document.place(("apps", draft.name))).uns_id
            other, others_draft = seen.setdefault(place, (uuid, draft))
            if other.lower() != uuid.lower():
                where = others_draft.document.place(("apps", others_draft.name, "uns"))
                yield draft.problem(
                    ("uns",), f"The asset {other} ({where}) is in the place {place} too. Write another value for asset."
                )
                break
