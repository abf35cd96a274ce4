"""Presence of the processes that share a file: each locks a file of its own, and the kernel ends the lock with it.

The lock is right for processes of several containers, which may have the same process id. What the file contains shows
that its process runs on, and is not frozen.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.concurrency.group_access import grant_to_group
from openfactory.engines.presence import Sight

if sys.platform != "win32":
    import fcntl

__all__ = ["FilePresence"]

_logger = logging.getLogger("openfactory.liveness")

# Share of the time limit for which a process must be silent to count as frozen: the rest is for looking and writing.
_PATIENCE = 0.6

_SIGN_BYTES = 64

# End of the name of a file that is not locked yet.
_NEW = ".new"

# A file that is no regular one neither redirects nor blocks.
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class FilePresence:
    """The files of the processes that own assets, in a folder beside the database.

    Args:
        folder: the folder, which need not exist yet.
        timeout: seconds after which the end of a process must be known.
    """

    is_shared = True
    lag = 0.0
    silence = "gives no sign of life and may be frozen"

    def __init__(self, folder: Path, timeout: float) -> None:
        self.instance = secrets.token_hex(8)
        self.observable = True
        self.patience = timeout * _PATIENCE
        self._folder = folder
        self._lock = threading.RLock()
        self._has_joined = False
        self._own = -1  # descriptor of the own file
        self._beats = 0
        self._others: dict[str, int] = {}  # descriptors by instance
        self._signs: dict[str, bytes] = {}  # by instance, the sign of the last look
        reset_in_forked_child(self)

    def join(self) -> None:
        with self._lock:
            if self._has_joined or not self.observable:
                return
            self._has_joined = True
            try:
                self._create()
            except OSError as error:
                self.observable = False
                _logger.warning(
                    "This process has no file in %s (%s), so nobody can notice its end. "
                    "Give this user and the group of the database access to that folder.",
                    self._folder,
                    error,
                )

    def beat(self) -> None:
        with self._lock:
            if not self._has_joined or not self.observable:
                return
            with suppress(OSError):  # the disk may be full, or the folder closed; the next beat tries again
                if not self._path(self.instance).exists():  # somebody has removed it: others see no owner any more
                    self._leave()
                    self._create()
                self._beats += 1
                _write(self._own, self._sign())

    def others(self) -> Collection[str]:
        try:
            names = {entry.name for entry in os.scandir(self._folder) if not entry.name.endswith(_NEW)}
        except OSError:
            return ()
        return names - {self.instance}

    def look(self, instances: Collection[str]) -> Mapping[str, Sight]:
        with self._lock:
            return {instance: self._look(instance, remember=True) for instance in instances}

    def peek(self, instances: Collection[str]) -> Mapping[str, Sight]:
        with self._lock:
            return {instance: self._look(instance, remember=False) for instance in instances}

    def last_seen(self, instance: str) -> float | None:
        with self._lock:
            try:
                return float(_read(self._opened(instance)).split()[1])
            except (OSError, ValueError, IndexError):
                return None

    def forget(self, instance: str) -> None:
        with self._lock:
            self._close(instance)
            with suppress(OSError):
                self._path(instance).unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            self.observable = self._has_joined = False
            for instance in list(self._others):
                self._close(instance)
            if self._own >= 0:
                with suppress(OSError):
                    self._path(self.instance).unlink(missing_ok=True)
                self._leave()

    def reset_after_fork(self) -> None:
        """Close the parent's descriptors; with its own, the parent would seem to live after its end."""
        self._lock = threading.RLock()  # the child does not have the thread that may own it
        self.observable = self._has_joined = False
        self._leave()
        for instance in list(self._others):
            self._close(instance)

    def _path(self, instance: str) -> Path:
        return self._folder / instance  # `Owner` accepts no instance that leaves the folder

    def _create(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(exist_ok=True)
            grant_to_group(self._folder)
        new = self._path(self.instance + _NEW)
        self._own = os.open(new, os.O_RDWR | os.O_CREAT | _FLAGS, 0o660)
        grant_to_group(new)
        if sys.platform != "win32":
            fcntl.flock(self._own, fcntl.LOCK_EX)
        _write(self._own, self._sign())
        new.replace(self._path(self.instance))  # atomic, so that nobody finds a file that is not locked yet

    def _leave(self) -> None:
        if self._own >= 0:
            os.close(self._own)
            self._own = -1

    def _sign(self) -> bytes:
        return b"%d %.3f\n" % (self._beats, time.time())

    def _look(self, instance: str, *, remember: bool) -> Sight:
        try:
            descriptor = self._opened(instance)
            if _has_ended(descriptor):
                self._close(instance)
                return Sight.ENDED
            sign = _read(descriptor)
        except FileNotFoundError:
            return Sight.ENDED
        except OSError:
            return Sight.UNKNOWN
        is_silent = self._signs.get(instance) == sign
        if remember:
            self._signs[instance] = sign
        return Sight.SILENT if is_silent else Sight.LIVES

    def _opened(self, instance: str) -> int:
        """Return the descriptor of the file of another process.

        Raises:
            OSError: there is no such file, or it cannot be opened.
        """
        descriptor = self._others.get(instance)
        if descriptor is None:
            descriptor = self._others[instance] = os.open(self._path(instance), os.O_RDONLY | _FLAGS)
        return descriptor

    def _close(self, instance: str) -> None:
        self._signs.pop(instance, None)
        descriptor = self._others.pop(instance, None)
        if descriptor is not None:
            os.close(descriptor)


def _has_ended(descriptor: int) -> bool:
    """Return whether the file of a process is not locked, so that the process has ended."""
    if sys.platform == "win32":  # not tested; the sign alone tells
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, _SIGN_BYTES)


def _write(descriptor: int, sign: bytes) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, sign)
