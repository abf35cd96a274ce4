"""Files that several users of a machine share: their owner and their group read and write them, and no other user.

The umask decides neither way. A user who can only read a lock file could already take the lock, and stop all writers.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

__all__ = ["create_for_group", "grant_to_group"]


def create_for_group(path: Path) -> None:
    """Create an empty file for owner and group, unless a file exists."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o660))
        grant_to_group(path)


def grant_to_group(path: Path) -> None:
    """Grant owner and group, and no other user, the use of a file or folder that this process has created."""
    status = path.stat()
    kept = status.st_mode & (stat.S_ISGID | stat.S_ISVTX)  # new files in a set-group-ID folder get its group
    with suppress(PermissionError):  # a file system without permissions
        path.chmod(kept | (0o770 if stat.S_ISDIR(status.st_mode) else 0o660))
