"""The identity of an app: its UUID, its standard attributes, and its registration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from openfactory.apps.__about__ import __version__
from openfactory.apps.app_name import app_file_of, app_uuid_of
from openfactory.apps.settings import VARIABLES
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.events.event import REPLY_TAG, AssetEvent, new_event
from openfactory.events.registration import APPLICATION_TYPE, REFERENCES, Registration
from openfactory.exceptions import ConfigurationError, InvalidEventError
from openfactory.settings import declare, environment, integer, setting

__all__ = [
    "OPENFACTORY_LICENSE",
    "AppUUID",
    "app_uuid_from_environment",
    "command_window",
    "deployed_generation",
    "idle_since",
    "registration_of",
    "standard_attributes",
    "takes_over",
]

declare(VARIABLES)

OPENFACTORY_MANUFACTURER = "OpenFactoryIO"
OPENFACTORY_LICENSE = "Polyform Noncommercial License 1.0.0"


class AppUUID(NamedTuple):
    """The UUID of an app, with the warning to log if it is only a default."""

    uuid: str
    warning: str = ""


def app_uuid_from_environment(app_class: type, *, test_mode: bool) -> AppUUID:
    """Return APP_UUID; if several replicas run, with the number of this replica appended.

    If it is not set, it is the name of the app's file, as with `ofa run`, so that two apps do not have one UUID. It is
    DEV-UUID in test mode, and where the app has no file.

    Args:
        app_class: class of the app.
        test_mode: whether the app keeps all data to itself.

    Raises:
        ConfigurationError: several replicas run, and SWARM_TASK_SLOT is not set.
    """
    file = None if test_mode or environment("APP_UUID") else app_file_of(app_class)
    name = setting("APP_UUID") or ""
    warning = ""
    if file is not None:
        name = app_uuid_of(file)
        warning = f"APP_UUID is not set, so the UUID of this app is the name of its file: {name}. Set APP_UUID."
    if integer("SWARM_REPLICAS") <= 1:
        return AppUUID(name, warning)
    slot = setting("SWARM_TASK_SLOT")
    if slot is None:
        raise ConfigurationError(
            f"SWARM_TASK_SLOT is not set, but SWARM_REPLICAS is greater than 1 for {name}. "
            "Set SWARM_TASK_SLOT to the number of this replica."
        )
    return AppUUID(f"{name}-{slot}", warning)


def standard_attributes() -> list[AssetAttribute]:
    """Return the attributes that every app has, in the order in which they are published."""
    attributes = (
        ("avail", UNAVAILABLE, "Availability"),
        ("application_version", setting("APPLICATION_VERSION"), "Application.Version"),
        ("application_manufacturer", setting("APPLICATION_MANUFACTURER"), "Application.Manufacturer"),
        ("application_license", setting("APPLICATION_LICENSE"), "Application.License"),
        ("openfactory_manufacturer", OPENFACTORY_MANUFACTURER, "Library.Manufacturer"),
        ("openfactory_license", OPENFACTORY_LICENSE, "Library.License"),
        ("openfactory_version", __version__, "Library.Version"),
    )
    return [AssetAttribute(id=name, value=value, type="Events", tag=tag) for name, value, tag in attributes]


def command_window() -> int:
    """Return COMMAND_WINDOW, the seconds after which a command is too old to be run.

    Raises:
        ConfigurationError: the value is not a whole number above 0.
    """
    window = integer("COMMAND_WINDOW")
    if window < 1:
        raise ConfigurationError(f"COMMAND_WINDOW={window} is not above 0. Set the seconds, such as 10.")
    return window


def deployed_generation() -> int | None:
    """Return APP_GENERATION, the number of the deployed version, or None for an app that was not deployed.

    Raises:
        ConfigurationError: the value is not a whole number.
    """
    return None if setting("APP_GENERATION") is None else integer("APP_GENERATION")


def takes_over() -> bool:
    """Return whether APP_TAKE_OVER has the app take its UUID over from another process.

    Raises:
        ConfigurationError: the value is not 0 or 1.
    """
    value = integer("APP_TAKE_OVER")
    if value not in (0, 1):
        raise ConfigurationError(f"APP_TAKE_OVER={value} is not 0 or 1. Set 1 to take over, or unset it.")
    return value == 1


def idle_since(known: Collection[AssetEvent], types: Mapping[str, str]) -> int | None:
    """Return the position in the log after which no earlier run of an app has received commands.

    It is 0 if the app has never run, and None if its last run did not end by a stop: it may then have received any
    command. A stop publishes UNAVAILABLE after its last command, and deregisters the app; a start publishes the
    availability before the other standard attributes.

    Args:
        known: last event of each attribute of the app.
        types: the app's type, if it is registered.
    """
    if all(event.type == "OpenFactory" and event.tag != REPLY_TAG for event in known):
        return 0  # nothing but a registration and commands
    positions = {event.id: event.position or 0 for event in known}
    started = max((positions.get(attribute.id, 0) for attribute in standard_attributes()[1:]), default=0)
    avail = next((event for event in known if event.id == "avail"), None)
    stopped = avail is not None and avail.value == UNAVAILABLE and positions["avail"] > started
    return positions["avail"] if stopped and not types else None


def registration_of(asset_uuid: str, known: Iterable[AssetEvent]) -> Registration:
    """Return the registration of an app.

    Asset type, Docker service, references and place in the unified namespace are those of its earlier registration, as
    far as its attributes still have them. An event of another program that could not be written again is ignored.

    Args:
        asset_uuid: UUID of the app.
        known: last event of each attribute of the app.
    """
    valid = [event for event in known if _can_be_written(event)]
    values = {event.id: str(event.value) for event in valid}
    tags = {event.id: event.tag for event in valid}
    asset_type = values.get("AssetType", "")
    return Registration(
        asset_uuid,
        APPLICATION_TYPE if asset_type in ("", "delete", UNAVAILABLE) else asset_type,
        docker_service=values.get("DockerService") or None,
        references={name: "" for name in REFERENCES if name not in values},
        uns_id=values["uns_id"] if tags.get("uns_id") == "UNSId" else None,
        uns_levels={name: values[name] for name, tag in tags.items() if tag == "UNSLevel"},
    )


def _can_be_written(event: AssetEvent) -> bool:
    try:
        new_event(event.asset_uuid, event.id, str(event.value), "OpenFactory", event.tag)
    except InvalidEventError:
        return False
    return True
