"""Move a file or folder to another volume, to which it cannot be renamed: copy it, then delete it.

The copy is written beside the target under a temporary name, flushed to disk and renamed. Then each source file that
has not changed since it was copied is deleted. So the source is there until the target is whole, and what another
program writes to the source meanwhile is not lost.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from openfactory.storage.atomic_replace import copy_ownership, sync_folder, sync_folder_of, unfinished_name

__all__ = ["Place", "move_to_other_volume"]


class Place(NamedTuple):
    """A file or folder, as system calls with a parameter `dir_fd` take it.

    Attributes:
        name: name in `folder`, or the full path if `folder` is None.
        folder: descriptor of the folder.
    """

    name: str
    folder: int | None

    def status(self) -> os.stat_result:
        """Return the status of the file. Symbolic links are not followed."""
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)

    def delete(self) -> None:
        """Delete the file, or the empty folder."""
        delete = os.rmdir if stat.S_ISDIR(self.status().st_mode) else os.unlink
        delete(self.name, dir_fd=self.folder)

    @contextmanager
    def opened(self, flags: int, mode: int = 0o600) -> Iterator[int]:
        """Open the file or folder."""
        descriptor = os.open(self.name, flags | os.O_NOFOLLOW, mode, dir_fd=self.folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def entries(self) -> Iterator[tuple[int, list[Place]]]:
        """Open the folder, and list its files and folders."""
        with self.opened(os.O_RDONLY | os.O_DIRECTORY) as folder:
            yield folder, [Place(name, folder) for name in os.listdir(folder)]


# The files of the source, by device and inode, each with its size and time when it was copied.
_Copied = dict[tuple[int, int], tuple[int, int]]


def move_to_other_volume(source: Place, target: Place) -> None:
    """Copy a file or folder with its content, then delete it.

    Raises:
        OSError: the copy failed, and the target is as before; or the source changed meanwhile and was kept (EBUSY).
    """
    _refuse_own_subfolder(source, target)
    is_folder = stat.S_ISDIR(source.status().st_mode)
    unfinished = Place(unfinished_name(target.name), target.folder)
    copied: _Copied = {}
    try:
        _copy(source, unfinished, copied)
        os.replace(unfinished.name, target.name, src_dir_fd=target.folder, dst_dir_fd=target.folder)
    except BaseException:
        with suppress(OSError):  # the error that is raised matters more
            _delete_tree(unfinished)
        raise
    sync_folder_of(target.name, target.folder)
    if not _delete_unchanged(source, copied):
        rest = "move the files that are left in it" if is_folder else "move it again"  # a folder replaces nothing
        raise OSError(errno.EBUSY, f"It was changed while it was copied to another volume; {rest}")


def _refuse_own_subfolder(source: Place, target: Place) -> None:
    moved = source.status()
    path = os.path.dirname(target.name) or "."
    above, below = os.stat(path, dir_fd=target.folder), None
    while below is None or not os.path.samestat(above, below):  # the parent of the root is the root itself
        if os.path.samestat(above, moved):
            raise OSError(errno.EINVAL, "A folder cannot be moved into itself; choose another path")
        path += "/.."
        above, below = os.stat(path, dir_fd=target.folder), above


def _copy(source: Place, target: Place, copied: _Copied) -> None:
    status = source.status()
    if stat.S_ISDIR(status.st_mode):
        _copy_folder(source, target, copied)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source.name, dir_fd=source.folder), target.name, dir_fd=target.folder)
    elif stat.S_ISREG(status.st_mode):
        _copy_file(source, target)
    else:
        raise OSError(
            errno.EXDEV, "It has a pipe, socket or device, which cannot be moved to another volume; delete it"
        )
    copied[status.st_dev, status.st_ino] = (status.st_size, status.st_mtime_ns)


def _copy_file(source: Place, target: Place) -> None:
    with source.opened(os.O_RDONLY) as old, target.opened(os.O_WRONLY | os.O_CREAT | os.O_EXCL) as new:
        with open(old, "rb", closefd=False) as content, open(new, "wb", closefd=False) as copy:
            shutil.copyfileobj(content, copy)
        _finish(old, new)


def _copy_folder(source: Place, target: Place, copied: _Copied) -> None:
    os.mkdir(target.name, 0o700, dir_fd=target.folder)
    with source.entries() as (old, entries), target.opened(os.O_RDONLY | os.O_DIRECTORY) as new:
        for entry in entries:
            _copy(entry, Place(entry.name, new), copied)
        _finish(old, new)


def _finish(old: int, new: int) -> None:
    """Give a copy the owner, permissions, extended attributes and times of the original, and flush it to disk."""
    status = os.fstat(old)
    for name in _attributes_of(old):
        with suppress(OSError):  # not every file system has all of them
            os.setxattr(new, name, os.getxattr(old, name))
    copy_ownership(new, status)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    if stat.S_ISDIR(status.st_mode):
        sync_folder(new)
    else:
        os.fsync(new)


def _attributes_of(descriptor: int) -> list[str]:
    """Return the names of the extended attributes, empty where the system or the file system lacks them."""
    if not hasattr(os, "listxattr"):
        return []
    with suppress(OSError):
        return os.listxattr(descriptor)
    return []


def _delete_unchanged(source: Place, copied: _Copied) -> bool:
    """Delete the files and folders that were copied, and return whether nothing is left."""
    try:
        status = source.status()
        before = copied.get((status.st_dev, status.st_ino))
        if before is None:
            return False
        if stat.S_ISDIR(status.st_mode):
            with source.entries() as (_, entries):
                deleted = [_delete_unchanged(entry, copied) for entry in entries]
            if not all(deleted):
                return False
        elif before != (status.st_size, status.st_mtime_ns):
            return False
        source.delete()
    except FileNotFoundError:
        pass  # another program has deleted it
    return True


def _delete_tree(place: Place) -> None:
    if stat.S_ISDIR(place.status().st_mode):
        with place.entries() as (_, entries):
            for entry in entries:
                _delete_tree(entry)
    place.delete()
