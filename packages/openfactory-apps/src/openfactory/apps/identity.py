"""Who an app is: its UUID, and the attributes that every app has."""

from __future__ import annotations

from collections.abc import Iterable

from openfactory.apps.__about__ import __version__
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.events.registration import APPLICATION_TYPE, REFERENCES, Registration
from openfactory.exceptions import ConfigurationError
from openfactory.settings import integer, setting

__all__ = ["OPENFACTORY_LICENSE", "app_uuid_from_environment", "registration_of", "standard_attributes"]

OPENFACTORY_MANUFACTURER = "OpenFactoryIO"
OPENFACTORY_LICENSE = "Polyform Noncommercial License 1.0.0"


def app_uuid_from_environment() -> str:
    """APP_UUID, and behind it the number of the replica where several run.

    Raises:
        ConfigurationError: several run, and SWARM_TASK_SLOT does not say which this is.
    """
    uuid = setting("APP_UUID") or ""
    if integer("SWARM_REPLICAS") <= 1:
        return uuid
    slot = setting("SWARM_TASK_SLOT")
    if slot is None:
        raise ConfigurationError(
            f"SWARM_REPLICAS says that several {uuid} run, and nothing says which this is. "
            "Set SWARM_TASK_SLOT to the number of this replica."
        )
    return f"{uuid}-{slot}"


def standard_attributes() -> list[AssetAttribute]:
    """What every app says of itself, in the order in which it is published."""
    said = (
        ("avail", UNAVAILABLE, "Availability"),
        ("application_version", setting("APPLICATION_VERSION"), "Application.Version"),
        ("application_manufacturer", setting("APPLICATION_MANUFACTURER"), "Application.Manufacturer"),
        ("application_license", setting("APPLICATION_LICENSE"), "Application.License"),
        ("openfactory_manufacturer", OPENFACTORY_MANUFACTURER, "Library.Manufacturer"),
        ("openfactory_license", OPENFACTORY_LICENSE, "Library.License"),
        ("openfactory_version", __version__, "Library.Version"),
    )
    return [AssetAttribute(id=name, value=value, type="Events", tag=tag) for name, value, tag in said]


def registration_of(asset_uuid: str, known: Iterable[AssetEvent]) -> Registration:
    """How an app registers itself: as what it was before, as far as its own attributes still say it.

    Args:
        known: the last event of each of its attributes.
    """
    said = {event.id: str(event.value) for event in known}
    tags = {event.id: event.tag for event in known}
    asset_type = said.get("AssetType", "")
    return Registration(
        asset_uuid,
        APPLICATION_TYPE if asset_type in ("", "delete", UNAVAILABLE) else asset_type,
        docker_service=said.get("DockerService") or None,
        references={name: "" for name in REFERENCES if name not in said},
        uns_id=said["uns_id"] if tags.get("uns_id") == "UNSId" else None,
        uns_levels={name: said[name] for name, tag in tags.items() if tag == "UNSLevel"},
    )
