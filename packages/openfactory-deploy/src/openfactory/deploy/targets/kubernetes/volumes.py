"""Volumes of Kubernetes for the mounts of a release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from openfactory.deploy.app import Release

__all__ = ["Volumes", "volumes_of"]

# Options of a mount that the volume itself has, or that Kubernetes finds by itself.
_OWN_OPTIONS = ("addr=", "ro", "rw", "nfsvers=4")


class Volumes(msgspec.Struct, frozen=True):
    """The mounts of a container, the volumes of its pod, and the objects that these need."""

    mounts: tuple[dict[str, Any], ...]
    volumes: tuple[dict[str, Any], ...]
    objects: tuple[dict[str, Any], ...]


def volumes_of(release: Release, name: str, namespace: str) -> Volumes:
    """Return the volumes of a release.

    A folder of the node is a `hostPath`, which must exist. A folder of a file server is an `nfs` volume; one with
    options needs a claim, because a pod cannot give them.

    Args:
        release: the release.
        name: name of its objects.
        namespace: namespace of its objects.
    """
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, mount in enumerate(release.mounts, 1):
        volume = f"storage-{number}"
        if mount["Type"] == "bind":
            source: dict[str, Any] = {"hostPath": {"path": mount["Source"], "type": "Directory"}}
            read_only = bool(mount.get("ReadOnly"))
        else:
            server, path, options = _nfs(mount)
            read_only = "ro" in options
            if extra := [option for option in options if not option.startswith("addr=") and option not in _OWN_OPTIONS]:
                claim = f"{name}-{volume}"
                objects += _claimed(f"{namespace}-{claim}", claim, namespace, (server, path), extra)
                source = {"persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}
            else:
                source = {"nfs": {"server": server, "path": path, "readOnly": read_only}}
        volumes.append({"name": volume, **source})
        mounts.append({"name": volume, "mountPath": mount["Target"], "readOnly": read_only})
    return Volumes(tuple(mounts), tuple(volumes), tuple(objects))


def _nfs(mount: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Return server, path and options of a volume of Docker's `local` driver."""
    driver = mount["VolumeOptions"]["DriverConfig"]["Options"]
    options = driver["o"].split(",")
    server = next(option.removeprefix("addr=") for option in options if option.startswith("addr="))
    return server, driver["device"].removeprefix(":"), options


def _claimed(
    volume: str, claim: str, namespace: str, export: tuple[str, str], options: list[str]
) -> list[dict[str, Any]]:
    """Return a volume with the options of a mount, and the claim that belongs to it."""
    # The capacity is required, and means nothing for a folder of a file server.
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    server, path = export
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "mountOptions": options,
                "nfs": {"server": server, "path": path},
                "claimRef": {"namespace": namespace, "name": claim},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim},
            "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
        },
    ]
