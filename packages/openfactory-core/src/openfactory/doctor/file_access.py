"""Check of the owners and modes of a database and the files beside it: all users of a factory need all of them."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from openfactory.doctor.finding import Finding, advised, failed, fine
from openfactory.engines.embedded.files import FOLDERS, files_of, lock_of, size_text, wake_folder_of

__all__ = ["examine_access"]

_ROOT = 0


class _User(NamedTuple):
    """A user that the files must be open to.

    Attributes:
        name: description of the user for the report.
        uid: id of the user, or None for any member of a group.
        groups: ids of the groups of the user.
    """

    name: str
    uid: int | None
    groups: frozenset[int]


def examine_access(path: Path) -> Iterator[Finding]:
    """Check that this user, the owner of the database, and the group of its folder can write all files."""
    found = list(_of_wrong_kind(path))
    if sys.platform != "win32":
        found += [*_closed_to_users(path), *_open_to_everybody(path)]
    if not _has_failed(found):
        found += _closed_to_this_user(path)
    if not _has_failed(found):
        found.insert(0, fine("file", f"{path}, {size_text(path.stat().st_size)}"))
    yield from found


def _has_failed(findings: list[Finding]) -> bool:
    return any(finding.status == "failed" for finding in findings)


def _of_wrong_kind(path: Path) -> Iterator[Finding]:
    for place, status in _statuses(files_of(path)):
        expected, is_expected = ("folder", stat.S_ISDIR) if place.suffix in FOLDERS else ("file", stat.S_ISREG)
        if not is_expected(status.st_mode):
            yield failed("file", f"{place} is not a {expected}. Stop all apps and remove it; the next app creates it.")


def _closed_to_this_user(path: Path) -> Iterator[Finding]:
    for place, status in _statuses([*files_of(path), path.parent]):
        is_folder = stat.S_ISDIR(status.st_mode)
        if not os.access(place, os.R_OK | os.W_OK | (os.X_OK if is_folder else 0)) and place.exists():
            kind = "folder" if is_folder else "file"
            yield failed("file", f"{place} cannot be written. Grant this user write access to the {kind}.")


def _closed_to_users(path: Path) -> Iterator[Finding]:
    """Yield a finding for each file that a user of the factory cannot write."""
    folder, database, users = path.parent, status_of(path), _users_of(path)
    for place, status in _statuses([folder, *files_of(path), *_sockets(path)]):
        user = next((user for user in users if not _may_write(user, place, status)), None)
        if user is None:
            continue
        owner = f"{_user_name(status.st_uid)}:{_group_name(status.st_gid)}"
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        text = f"{place} belongs to {owner} with the mode {mode}, so {user.name} cannot write it."
        if place == folder:
            yield failed("file", f"{text} SQLite creates files there: change the owner or the mode of the folder.")
        elif place.parent == folder:
            group = database.st_gid if user.uid is not None else status_of(folder).st_gid
            wanted = f"{_user_name(database.st_uid)}:{_group_name(group)}"
            bits = 770 if stat.S_ISDIR(status.st_mode) else 660
            yield failed("file", f"{text} Run as root: chown {wanted} {place} && chmod {bits} {place}")
        else:
            yield advised("file", f"{text} Its process is woken late. Start that process as a user of the factory.")


def _open_to_everybody(path: Path) -> Iterator[Finding]:
    """Yield advice if any user of the machine may take the lock, and so stop all writers."""
    if not status_of(path.parent).st_mode & stat.S_IXOTH:
        return
    for file, status in _statuses([path, lock_of(path)]):
        if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
            text = f"{file} is open to every user of the machine."
            yield advised("file", f"{text} Leave it to its owner and group: chmod o= {file}")


def _statuses(places: list[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the places that exist, each with its status."""
    for place in places:
        with suppress(FileNotFoundError):
            yield place, status_of(place)


def _users_of(path: Path) -> list[_User]:
    """Return the owner of a database, and the group of its folder if its members may create files there."""
    import pwd

    status, folder = status_of(path), status_of(path.parent)
    try:
        owner = pwd.getpwuid(status.st_uid)
        groups = frozenset(os.getgrouplist(owner.pw_name, owner.pw_gid)) | {status.st_gid}
    except KeyError:  # a user of another container
        groups = frozenset({status.st_gid})
    users = [] if status.st_uid == _ROOT else [_User(_user_name(status.st_uid), status.st_uid, groups)]
    if folder.st_mode & stat.S_IWGRP and not folder.st_mode & stat.S_IWOTH and folder.st_gid != _ROOT:
        members = f"the group {_group_name(folder.st_gid)} of the folder"
        users.append(_User(members, None, frozenset({folder.st_gid})))
    return users


def _sockets(path: Path) -> list[Path]:
    """Return the sockets of the processes that are woken."""
    folder = wake_folder_of(path)
    try:
        return [entry for entry in sorted(folder.iterdir()) if entry.suffix == ".sock"]
    except OSError:  # there is no such folder, or this user may not look into it, which is a finding of its own
        return []


def _may_write(user: _User, place: Path, status: os.stat_result) -> bool:
    """Return whether the mode of a file lets a user read and write it, and use it if it is a folder."""
    if not _mode_decides(place):
        return True
    needed = 0o7 if stat.S_ISDIR(status.st_mode) else 0o6
    if user.uid == status.st_uid:
        granted = status.st_mode >> 6
    elif status.st_gid in user.groups:
        granted = status.st_mode >> 3
    else:
        granted = status.st_mode
    return granted & needed == needed


def _mode_decides(place: Path) -> bool:
    """Return whether the mode of a file tells who may write it, and not an access control list."""
    if sys.platform != "linux":
        return True
    try:
        return "system.posix_acl_access" not in os.listxattr(place)
    except FileNotFoundError:  # SQLite has removed the WAL
        return False
    except OSError:  # the file system has no such lists
        return True


def status_of(place: Path) -> os.stat_result:
    """Return the owner and the mode of a file or folder."""
    return place.stat()


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
