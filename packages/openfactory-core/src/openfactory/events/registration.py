"""What is said in the log when an asset is registered."""

from __future__ import annotations

import msgspec

from openfactory.events.event import AssetEvent, new_event

__all__ = ["APPLICATION_TYPE", "REFERENCES", "Registration"]

#: Type of an asset that is an app and has not said to be anything more special.
APPLICATION_TYPE = "OpenFactoryApp"

#: The attributes that hold an asset's references, in the order in which they are written.
REFERENCES = ("references_below", "references_above")


class Registration(msgspec.Struct, frozen=True):
    """What makes an asset known: its type, its container, its neighbours and its place in the unified namespace.

    Attributes:
        asset_uuid: the asset.
        asset_type: what it is, such as `OpenFactoryApp` or `Device`.
        docker_service: name of the container it runs in; None leaves it out.
        references: references by attribute (`REFERENCES`); one that is left out is not written.
        uns_id: place in the unified namespace, or None.
        uns_levels: the names of that place, level by level.
    """

    asset_uuid: str
    asset_type: str
    docker_service: str | None = None
    references: dict[str, str] = {}
    uns_id: str | None = None
    uns_levels: dict[str, str] = {}

    def events(self) -> list[AssetEvent]:
        """The events of the registration, in the order of the wire format."""
        said = [("AssetType", self.asset_type, "AssetType")]
        if self.docker_service is not None:
            said.append(("DockerService", self.docker_service, "DockerService"))
        said += [(name, self.references[name], "AssetsReferences") for name in REFERENCES if name in self.references]
        if self.uns_id is not None:
            said += [(level, value, "UNSLevel") for level, value in self.uns_levels.items()]
            said.append(("uns_id", self.uns_id, "UNSId"))
        return [new_event(self.asset_uuid, name, value, "OpenFactory", tag) for name, value, tag in said]
