"""The storage type `local`: a folder of this machine, or of the container in which the app runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from openfactory.storage.conversion import converted
from openfactory.storage.mounted.backend import MountedBackend
from openfactory.storage.mounted.settings import checked_local_path, checked_mount_point, first_folder

__all__ = ["LocalBackend", "LocalConfiguration"]


class LocalConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="local"):
    """The settings of a `local` storage.

    Attributes:
        local_path: absolute path of the folder on the machine.
        mount_point: absolute path at which a container of the app mounts the folder.
        read_only: whether methods that write raise `ReadOnlyStorageError`.
        description: a text for the reader of the settings.
    """

    local_path: str
    mount_point: str
    read_only: bool = False
    description: str | None = None

    def __post_init__(self) -> None:
        # force_setattr, because the struct is frozen.
        msgspec.structs.force_setattr(self, "local_path", checked_local_path(self.local_path))
        msgspec.structs.force_setattr(self, "mount_point", checked_mount_point(self.mount_point))

    def get_mount_spec(self) -> dict[str, Any]:
        """Return a bind mount of `local_path` at `mount_point`. The folders need not exist."""
        return {
            "Type": "bind",
            "Source": self.local_path,
            "Target": self.mount_point,
            "ReadOnly": self.read_only,
        }


class LocalBackend(MountedBackend):
    """A storage in a folder of this machine.

    The root is `mount_point` if that folder exists, as in a container, and `local_path` otherwise, as on the machine of
    a developer.
    """

    config: LocalConfiguration

    def __init__(self, config: LocalConfiguration) -> None:
        super().__init__(config, _root_of(config))
        self.read_only = config.read_only

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LocalBackend:
        """Create the storage from `{"type": "local", "local_path": …, "mount_point": …}`.

        Raises:
            StorageConfigurationError: the settings cannot be used, or neither folder exists.
        """
        return cls(cls.checked_config(config))

    @classmethod
    def mount_spec_from_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return cls.checked_config(config).get_mount_spec()

    @classmethod
    def checked_config(cls, config: Mapping[str, Any]) -> LocalConfiguration:
        """Return the settings of a storage after a check that opens nothing.

        Raises:
            StorageConfigurationError: the settings cannot be used.
        """
        return converted(
            config,
            LocalConfiguration,
            "a local storage",
            '{"type": "local", "local_path": "/srv/data", "mount_point": "/mnt/data"}, '
            'and optionally "read_only" and "description"',
        )

    def get_mount_spec(self) -> dict[str, Any]:
        """Return a bind mount of `local_path` at `mount_point`."""
        return self.config.get_mount_spec()

    def compatible_with_swarm(self) -> bool:
        """Return False: the other nodes do not have the folder of this machine."""
        return False


def _root_of(config: LocalConfiguration) -> Path:
    return first_folder(
        "A local storage",
        {"mount_point": config.mount_point, "local_path": config.local_path},
        f"Create the folder (mkdir -p {config.local_path}), or change local_path to an existing folder.",
    )
