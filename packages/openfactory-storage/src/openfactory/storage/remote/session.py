"""Connection to a server, which is opened again when it is lost. Its failures are errors of this distribution."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext

from fsspec import AbstractFileSystem

from openfactory.storage.errors import StorageError, StorageUnavailableError
from openfactory.storage.remote.filesystems import Address, Secrets, connect
from openfactory.storage.remote.forks import OpenedByProcess, ProcessLock, keep_forever

__all__ = ["StorageSession"]

# Errors whose cause is a file and not the connection.
_FILE_ERRORS: Mapping[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
}
_OTHER_FILE_ERRORS = (errno.EBUSY, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTEMPTY)

# A server may close a connection that was not used for this time.
_IDLE_SECONDS = 30.0


class StorageSession(OpenedByProcess):
    """A filesystem of fsspec that connects when it is needed.

    Most filesystems of fsspec serve one thread at a time, so a lock protects them and their open files. A forked child
    connects anew, and never uses or closes the connection of its parent.

    Args:
        address: URL and options of the filesystem.

    Raises:
        StorageConfigurationError: the address cannot be used.
        StorageUnavailableError: the server cannot be reached.
    """

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address
        self._lock = address.protocol.lock()
        self._connecting = ProcessLock()
        self._filesystem: AbstractFileSystem | None = None
        self._secrets = Secrets(iter(()))
        self._last_use = time.monotonic()
        self.root = ""
        self.filesystem()

    def filesystem(self) -> AbstractFileSystem:
        """Return the filesystem, and connect again if the connection was lost.

        Raises:
            StorageUnavailableError: the server cannot be reached.
        """
        with self._connecting:
            if self._filesystem is None:
                self._secrets = self._address.secrets()
                self._filesystem, self.root = connect(self._address)
            return self._filesystem

    def leave_to_parent(self) -> None:
        if self._filesystem is not None:
            keep_forever(self._filesystem)
            self._address.protocol.leave_to_parent()
        self._filesystem = None

    def full(self, path: str) -> str:
        """Return the path in the filesystem that a path in the storage stands for."""
        if not path:
            return self.root
        key = self._address.protocol.key_of(path)
        return f"{self.root.rstrip('/')}/{key}" if self.root else key

    @contextmanager
    def using(self, path: str, fs: AbstractFileSystem | None = None) -> Generator[AbstractFileSystem]:
        """Lock the filesystem for an operation, and convert the errors of the operation.

        Args:
            path: path in the storage, for error messages.
            fs: the filesystem that opened a file; the current filesystem by default.

        Raises:
            OSError: the operation failed because of a file. The type is that of the same error on this machine.
            StorageUnavailableError: the connection or the server failed. The next operation connects again.
        """
        fs = fs or self._checked_filesystem()
        with nullcontext() if fs.async_impl else self._lock:
            try:
                yield fs
            except (StorageError, UnicodeEncodeError, io.UnsupportedOperation):
                raise
            except Exception as error:  # noqa: BLE001 - each protocol has its own errors
                if (number := _file_errno(error)) is not None:
                    raise self._file_error(error, number, path) from self._secrets.safe_cause(error)
                self._discard(fs)
                raise StorageUnavailableError(
                    f"{self._address} failed at {path!r} with {self._secrets.redact(repr(error))}. "
                    "Check that the server runs and can be reached; the next use connects again.",
                    path=path,
                ) from self._secrets.safe_cause(error)

    def _checked_filesystem(self) -> AbstractFileSystem:
        """Return the filesystem, and check its connection first if it was idle for a long time."""
        fs = self.filesystem()
        idle, self._last_use = time.monotonic() - self._last_use, time.monotonic()
        if idle < _IDLE_SECONDS or fs.async_impl:
            return fs
        with self._lock:
            try:
                fs.info(self.root)
            except Exception:  # noqa: BLE001 - each protocol has its own errors
                self._discard(fs)
        return self.filesystem()

    def _discard(self, fs: AbstractFileSystem) -> None:
        with self._connecting:
            if self._filesystem is fs:  # no other thread has connected again meanwhile
                self._filesystem = None

    def _file_error(self, error: Exception, number: int, path: str) -> OSError:
        """Return the error that a folder of this machine would raise. Only EACCES keeps the text of the server."""
        reason = f" ({self._secrets.redact(str(error))})" if number == errno.EACCES else ""
        return OSError(number, os.strerror(number) + reason, path)


def _file_errno(error: Exception) -> int | None:
    if not isinstance(error, OSError):
        return None
    if error.errno in _OTHER_FILE_ERRORS:
        return error.errno
    return next((number for kind, number in _FILE_ERRORS.items() if isinstance(error, kind)), None)
