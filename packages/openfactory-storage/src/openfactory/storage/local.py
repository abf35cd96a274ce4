"""A folder of this machine, or of the container that the app runs in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from openfactory.storage.errors import StorageConfigurationError
from openfactory.storage.mounted import MountedBackend, checked_mount_point, first_folder, normal

__all__ = ["LocalBackend", "LocalConfiguration"]


class LocalConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="local"):
    """The settings of a `local` storage.

    Attributes:
        local_path: the folder on the machine that has the files.
        mount_point: where a container of the app sees that folder.
        read_only: whether writing is refused.
        description: for people.
    """

    local_path: str
    mount_point: str
    read_only: bool = False
    description: str | None = None

    def __post_init__(self) -> None:
        # Frozen for everybody else; here the object is still being made.
        msgspec.structs.force_setattr(self, "local_path", checked_local_path(self.local_path))
        msgspec.structs.force_setattr(self, "mount_point", checked_mount_point(self.mount_point))


def checked_local_path(local_path: str) -> str:
    """A folder of this machine, as an absolute path.

    Raises:
        ValueError: it is not absolute.
    """
    stripped = local_path.strip()
    if not stripped.startswith("/"):
        raise ValueError(
            f"local_path is {stripped!r}, which is not absolute. "
            f"Write the whole path, such as {os.path.abspath(stripped)!r}"
        )
    return normal(stripped)


class LocalBackend(MountedBackend):
    """Files in a folder of this machine.

    In a container the folder is seen at `mount_point`, on a developer's machine it is `local_path`: the root is the
    first of these that exists.
    """

    config: LocalConfiguration

    def __init__(self, config: LocalConfiguration) -> None:
        super().__init__(config, _root_of(config))
        self.read_only = config.read_only

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LocalBackend:
        """Make it from `{"type": "local", "local_path": …, "mount_point": …}`."""
        try:
            return cls(msgspec.convert(dict(config), LocalConfiguration))
        except msgspec.ValidationError as error:
            raise StorageConfigurationError(
                f"The settings of a local storage can't be used: {error}. "
                'They are {"type": "local", "local_path": "/srv/data", "mount_point": "/mnt/data"}, '
                'and may have "read_only" and a "description".'
            ) from error

    def get_mount_spec(self) -> dict[str, Any]:
        """A bind mount of `local_path` at `mount_point`."""
        return {
            "Type": "bind",
            "Source": self.config.local_path,
            "Target": self.config.mount_point,
            "ReadOnly": self.config.read_only,
        }

    def compatible_with_swarm(self) -> bool:
        """No: a folder of one machine is not there on the next node."""
        return False


def _root_of(config: LocalConfiguration) -> Path:
    return first_folder(
        "A local storage",
        {"mount_point": config.mount_point, "local_path": config.local_path},
        f"Make the folder (mkdir -p {config.local_path}), or change local_path to one that exists.",
    )
