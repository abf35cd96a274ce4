"""The registration of apps by a deployment: their containers and their places in the unified namespace.

An app of OpenFactory registers itself when it starts and deregisters itself when it stops. It keeps the place that it
finds in its earlier registration, so a deployment adds only what is missing.
"""

from __future__ import annotations

from openfactory.assets.writes import Writes
from openfactory.deploy.app import Release
from openfactory.deploy.registered import RegisteredAsset
from openfactory.engines.base import Engine
from openfactory.events.registration import APPLICATION_TYPE, REFERENCES, Registration

__all__ = ["register"]

# Seconds to wait until a registration is acknowledged.
_WRITE_SECONDS = 10.0


def register(engine: Engine, release: Release, asset: RegisteredAsset | None) -> bool:
    """Register an asset as its release has it, and return whether anything was missing; its references stay.

    Args:
        engine: engine of the factory.
        release: the release that runs.
        asset: facts of the asset now.

    Raises:
        DeliveryError, DeliveryTimeout: the registration was not written.
    """
    place, service = release.uns, release.name
    is_placed = place is None or (asset is not None and asset.uns_id == place.uns_id)
    if asset is not None and asset.type is not None and asset.docker_service == service and is_placed:
        return False
    known = engine.snapshot([release.uuid]).events.get(release.uuid, [])
    written = {event.id for event in known}
    writes = Writes(engine)
    writes.register(
        Registration(
            release.uuid,
            APPLICATION_TYPE if asset is None or asset.type is None else asset.type,
            service,
            {name: "" for name in REFERENCES if name not in written},
            uns_id=None if place is None else place.uns_id,
            uns_levels={} if place is None else dict(place.levels),
        )
    )
    writes.flush(_WRITE_SECONDS)
    return True
