"""The storage type `nfs`: a folder of a file server, which the deployment mounts through NFS."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from openfactory.storage.conversion import converted
from openfactory.storage.errors import StorageConfigurationError
from openfactory.storage.mounted.backend import MountedBackend
from openfactory.storage.mounted.settings import checked_local_path, checked_mount_point, first_folder

__all__ = ["NFSBackend", "NFSConfiguration"]

_LABEL = r"[A-Za-z0-9-]+"
_SERVER = re.compile(rf"{_LABEL}(\.{_LABEL})*|\[[0-9A-Fa-f:]+\]")


class NFSConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="nfs"):
    """The settings of an `nfs` storage.

    Attributes:
        server: host name, IPv4 address, or IPv6 address in brackets of the file server.
        remote_path: absolute path of the folder that the server exports.
        mount_point: absolute path at which the folder is mounted for the app.
        mount_options: options of the mount, such as `ro` or `nfsvers=4.1`.
        local_path: folder to use instead on a machine without the mount, such as the machine of a developer.
        read_only: whether methods that write raise `ReadOnlyStorageError`; the mount option `ro` sets it too.
        description: a text for the reader of the settings.
    """

    server: str
    remote_path: str
    mount_point: str
    mount_options: list[str] | None = None
    local_path: str | None = None
    read_only: bool = False
    description: str | None = None

    def __post_init__(self) -> None:
        server, remote_path = self.server.strip(), self.remote_path.strip()
        if not _SERVER.fullmatch(server):
            raise ValueError(
                f"server is {server!r}. Write a host name, an IPv4 address, or an IPv6 address in brackets, "
                "such as 'files.plant.example' or '[fd00::1]'"
            )
        if not remote_path.startswith("/"):
            raise ValueError(f"remote_path is {remote_path!r}. Write the absolute path that the server exports")
        options = [stripped for option in self.mount_options or () if (stripped := option.strip())]
        # force_setattr, because the struct is frozen.
        msgspec.structs.force_setattr(self, "server", server)
        msgspec.structs.force_setattr(self, "remote_path", remote_path)
        msgspec.structs.force_setattr(self, "mount_point", checked_mount_point(self.mount_point))
        msgspec.structs.force_setattr(self, "mount_options", options or None)
        msgspec.structs.force_setattr(self, "read_only", self.read_only or _has_ro(options))
        if self.local_path is not None:
            msgspec.structs.force_setattr(self, "local_path", checked_local_path(self.local_path))

    def get_mount_spec(self) -> dict[str, Any]:
        """Return a volume of Docker's `local` driver that mounts the folder of the server. The server is not asked."""
        options = list(self.mount_options or ())
        if self.read_only and not _has_ro(options):
            options.append("ro")
        mounted_with = [f"addr={self.server}", *options]
        if "nfsvers=" not in ",".join(mounted_with):
            mounted_with.append("nfsvers=4")
        return {
            "Type": "volume",
            "Source": _volume_name(self, options),
            "Target": self.mount_point,
            "VolumeOptions": {
                "DriverConfig": {
                    "Name": "local",
                    "Options": {"type": "nfs", "o": ",".join(mounted_with), "device": f":{self.remote_path}"},
                }
            },
        }


class NFSBackend(MountedBackend):
    """A storage in a folder of a file server, which the deployment mounts at `mount_point`."""

    config: NFSConfiguration

    def __init__(self, config: NFSConfiguration) -> None:
        super().__init__(config, _root_of(config))
        self.read_only = config.read_only

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NFSBackend:
        """Create the storage from `{"type": "nfs", "server": …, "remote_path": …, "mount_point": …}`.

        Raises:
            StorageConfigurationError: the settings cannot be used, or neither `mount_point` nor `local_path` exists.
        """
        return cls(cls.checked_config(config))

    @classmethod
    def mount_spec_from_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return cls.checked_config(config).get_mount_spec()

    @classmethod
    def checked_config(cls, config: Mapping[str, Any]) -> NFSConfiguration:
        """Return the settings of a storage after a check that opens nothing.

        Raises:
            StorageConfigurationError: the settings cannot be used.
        """
        if isinstance(options := config.get("mount_options"), str):
            as_list = json.dumps([option.strip() for option in options.split(",")])
            raise StorageConfigurationError(
                f"mount_options is the string {options!r}, not a list. Write a list: {as_list}."
            )
        return converted(
            config,
            NFSConfiguration,
            "an nfs storage",
            '{"type": "nfs", "server": "files.plant.example", "remote_path": "/exports/data", '
            '"mount_point": "/mnt/data"}, and optionally "mount_options" (a list), "local_path", "read_only" '
            'and "description"',
        )

    def get_mount_spec(self) -> dict[str, Any]:
        """Return a volume of Docker's `local` driver that mounts the folder of the server."""
        return self.config.get_mount_spec()


def _volume_name(config: NFSConfiguration, options: list[str]) -> str:
    """Return the same name for the same mount, so that apps share one volume."""
    parts = ["nfs", config.server.replace(".", "_"), config.remote_path.strip("/").replace("/", "_")]
    if options:
        parts.append(hashlib.sha1(",".join(sorted(options)).encode(), usedforsecurity=False).hexdigest()[:8])
    # Docker does not allow other characters, such as the brackets of an IPv6 address.
    return re.sub(r"[^A-Za-z0-9_.-]", "_", "_".join(parts))


def _has_ro(options: list[str]) -> bool:
    return "ro" in (part.strip() for option in options for part in option.split(","))


def _root_of(config: NFSConfiguration) -> Path:
    return first_folder(
        "An nfs storage",
        {"mount_point": config.mount_point, "local_path": config.local_path},
        f"Mount {config.server}:{config.remote_path} there, or set local_path to a folder to use instead.",
    )
