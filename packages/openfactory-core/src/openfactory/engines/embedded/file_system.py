"""The file system of a database: processes share the WAL only on a local disk."""

from __future__ import annotations

import sys
from pathlib import Path

from openfactory.exceptions import EngineUnavailableError

__all__ = ["file_system_of", "refuse_network_file_system"]

_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "fuse.glusterfs", "ceph"}


def file_system_of(path: Path) -> str:
    """Return the kind of the file system of a path, such as `ext4`, or an empty string if it is not known."""
    if sys.platform != "linux":
        return ""
    mounts = []
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines):
            _, folder, kind = line.split(" ")[:3]
            folder = folder.replace("\\040", " ")
            if path.is_relative_to(folder):
                mounts.append((len(folder), number, kind))  # a later mount hides an earlier one at the same place
    return max(mounts, default=(0, 0, ""))[2]


def refuse_network_file_system(path: Path) -> None:
    """Refuse a file on a network file system, where processes cannot share the memory that the WAL needs."""
    kind = file_system_of(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise EngineUnavailableError(
            f"{path} is on a network file system ({kind}), where an embedded database can become corrupt. "
            "Name a file on a local disk in KSQLDB_URL, or use Kafka for a factory on several machines.",
            address=str(path),
        )
