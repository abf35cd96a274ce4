"""Check of the disk under a file: free space, and whether it can be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from openfactory.doctor.finding import Finding, advised, failed, fine
from openfactory.engines.embedded.checkpoints import WAL_CHECKPOINT_BYTES, WAL_TRUNCATE_BYTES
from openfactory.engines.embedded.file_system import file_system_of
from openfactory.engines.embedded.files import size_text

__all__ = ["examine_disk"]


def examine_disk(path: Path) -> Iterator[Finding]:
    """Check the space that a user other than root may still fill, which a quota of the folder may limit too."""
    if not hasattr(os, "statvfs"):  # Windows
        return
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    place = f"The disk of {path}"
    if status.f_flag & os.ST_RDONLY:
        yield failed("disk", f"{place} is mounted read-only. Mount it for writing, and check its health: `dmesg`.")
    elif free < WAL_CHECKPOINT_BYTES:
        # An app writes this much to the WAL before the first checkpoint.
        yield failed(
            "disk", f"{place} is full, {size_text(free)} free. Free space on it, or move the file to a larger disk."
        )
    elif status.f_files and not status.f_favail:
        yield failed("disk", f"{place} has no inode left, so no file can be created. Delete small files on it.")
    elif free < WAL_TRUNCATE_BYTES:
        yield advised(
            "disk",
            f"{place} is almost full, {size_text(free)} free. Free space: "
            f"while the file is read without a pause, its WAL grows to {size_text(WAL_TRUNCATE_BYTES)}.",
        )
    else:
        kind = file_system_of(path)
        yield fine("disk", f"{size_text(free)} free" + (f", {kind}" if kind else ""))
