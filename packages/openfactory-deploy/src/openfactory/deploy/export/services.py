"""One service of a Compose file or a Swarm stack: the keys that both have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.names import secret_key
from openfactory.deploy.targets.health import health_check
from openfactory.deploy.targets.resources import resource_amounts
from openfactory.exceptions import ConfigurationError

__all__ = [
    "checked_releases",
    "common_keys",
    "document_of",
    "mounts_of",
    "resources_of",
    "secret_keys",
    "variable_of_secret",
]


def checked_releases(releases: Sequence[Release], target: str) -> Sequence[Release]:
    """Return the releases, if each has an image.

    Raises:
        ConfigurationError: an app is a plain file or command.
    """
    without = sorted({str(release.app.place) + f": {release.app.name}" for release in releases if not _image(release)})
    if without:
        raise ConfigurationError(
            "\n".join(f"{app} has no image, so it cannot be exported for {target}. Add `image`." for app in without)
        )
    return releases


def common_keys(release: Release, secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of the program itself: image, command, user, network, health.

    Args:
        release: the release.
        secrets: names of its secrets among those of all apps, by the name in its file.
    """
    settings = release.app.settings
    keys: dict[str, Any] = {"image": settings.image}
    if settings.command:
        keys["command"] = list(settings.command)
    if settings.runtime_uid is not None:
        keys["user"] = f"{settings.runtime_uid}:{settings.runtime_gid}"
    if settings.networks:
        keys["networks"] = list(settings.networks)
    if (check := health_check(release)) is not None:
        keys["healthcheck"] = {
            "test": ["CMD", *check.command],
            "interval": _seconds_text(check.interval),
            "timeout": _seconds_text(check.timeout),
            "retries": check.retries,
            "start_period": _seconds_text(check.start_period),
        }
    if release.secrets:
        keys["secrets"] = [{"source": secrets[name], "target": name} for name in release.secrets]
    if (open_files := settings.deploy.limits.open_files) is not None:
        keys["ulimits"] = {"nofile": {"soft": open_files, "hard": open_files}}
    keys["stop_grace_period"] = _seconds_text(seconds_of(settings.stop_grace_period))
    return keys


def mounts_of(release: Release, *, bind_options: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the mounts of a release in the long form, which refuses a folder that does not exist.

    Args:
        release: the release.
        bind_options: further keys of the mount of a folder.
    """
    found = []
    for mount in release.mounts:
        entry: dict[str, Any] = {"type": mount["Type"], "source": mount["Source"], "target": mount["Target"]}
        if mount.get("ReadOnly"):
            entry["read_only"] = True
        if mount["Type"] == "bind":
            entry |= bind_options or {}
        found.append(entry)
    return found


def resources_of(release: Release) -> dict[str, Any]:
    """Return limits and reservations; memory is in bytes, because Compose does not know `Mi` and `Gi`."""
    cpus = ("cpus", lambda number: f"{number:g}")
    return resource_amounts(release, ("limits", "reservations"), cpus, ("memory", str))


def secret_keys(releases: Sequence[Release]) -> dict[str, dict[str, str]]:
    """Return the names of all secrets by the UUIDs of the releases and the names in their files; no two are equal."""
    plain = (secret_key(release.name, name) for release in releases for name in release.secrets)
    numbers = Counter(map(variable_of_secret, plain))

    def key(release: Release, name: str) -> str:
        found = secret_key(release.name, name)
        return secret_key(release.name, name, distinct=True) if numbers[variable_of_secret(found)] > 1 else found

    return {release.uuid: {name: key(release, name) for name in release.secrets} for release in releases}


def variable_of_secret(key: str) -> str:
    """Return the environment variable from which Compose reads a secret."""
    return "".join(letter if letter.isalnum() else "_" for letter in key).upper()


def document_of(
    head: Mapping[str, Any], releases: Sequence[Release], secrets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the whole document, in which Compose replaces no variable: each `$` is doubled.

    Args:
        head: first keys, with the services.
        releases: all releases, whose networks and volumes follow.
        secrets: declarations of their secrets.
    """
    shared = {"networks": _networks_of(releases), "volumes": _volumes_of(releases), "secrets": secrets}
    return dict(_doubled({**head, **{key: named for key, named in shared.items() if named}}))


def _volumes_of(releases: Sequence[Release]) -> dict[str, dict[str, Any]]:
    """Return the volumes that the mounts of all releases name."""
    volumes = {}
    for release in releases:
        for mount in release.mounts:
            if mount["Type"] == "volume":
                driver = mount["VolumeOptions"]["DriverConfig"]
                volumes[mount["Source"]] = {
                    "name": mount["Source"],
                    "driver": driver["Name"],
                    "driver_opts": dict(driver["Options"]),
                }
    return volumes


def _networks_of(releases: Sequence[Release]) -> dict[str, dict[str, Any]]:
    """Return the networks of all releases; they must exist."""
    names = dict.fromkeys(name for release in releases for name in release.app.settings.networks)
    return {name: {"external": True} for name in names}


def _seconds_text(seconds: float) -> str:
    """Return a time as Compose has it."""
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{seconds:g}s"


def _doubled(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: _doubled(below) for key, below in value.items()}
    if isinstance(value, Sequence):
        return [_doubled(below) for below in value]
    return value


def _image(release: Release) -> str | None:
    return release.app.settings.image
