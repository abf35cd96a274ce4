"""The registration of an asset, and its events."""

from __future__ import annotations

import msgspec

from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent, new_event

__all__ = ["APPLICATION_TYPE", "DEREGISTERED", "REFERENCES", "Registration", "deregistration_event"]

#: Default type of an app.
APPLICATION_TYPE = "OpenFactoryApp"

#: The value of `AssetType` that deregisters an asset.
DEREGISTERED = "delete"

#: The attributes with the references of an asset, in the order in which they are written.
REFERENCES = ("references_below", "references_above")


class Registration(msgspec.Struct, frozen=True):
    """One entry in the list of assets: type, container, references and place in the unified namespace.

    Attributes:
        asset_uuid: UUID of the asset.
        asset_type: type of the asset, such as `OpenFactoryApp` or `Device`.
        docker_service: name of the container in which the asset runs; None omits the attribute.
        references: references by attribute, with keys of `REFERENCES`; a missing key omits the attribute.
        uns_id: place in the unified namespace; None omits the place and its levels.
        uns_levels: names of the place by level.
    """

    asset_uuid: str
    asset_type: str
    docker_service: str | None = None
    references: dict[str, str] = {}
    uns_id: str | None = None
    uns_levels: dict[str, str] = {}

    def events(self) -> list[AssetEvent]:
        """Return the events of the registration, in the order of the wire format."""
        attributes = [("AssetType", self.asset_type, "AssetType")]
        if self.docker_service is not None:
            attributes.append(("DockerService", self.docker_service, "DockerService"))
        attributes += [
            (name, self.references[name], "AssetsReferences") for name in REFERENCES if name in self.references
        ]
        if self.uns_id is not None:
            attributes += [(level, value, "UNSLevel") for level, value in self.uns_levels.items()]
            attributes.append(("uns_id", self.uns_id, "UNSId"))
        return [new_event(self.asset_uuid, name, value, "OpenFactory", tag) for name, value, tag in attributes]


def deregistration_event(asset_uuid: str) -> AssetEvent:
    """Return the event that removes an asset from the register.

    Its type is not that of a registration: from that, the statements of another set-up of ksqlDB derive a row with the
    type `delete`.
    """
    return new_event(asset_uuid, "AssetType", DEREGISTERED, UNAVAILABLE, "AssetType")
