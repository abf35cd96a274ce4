"""The way to a server: one connection, made again when it is lost, and its failures as errors of this distribution."""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from fsspec import AbstractFileSystem

from openfactory.storage.errors import StorageError, StorageUnavailableError
from openfactory.storage.filesystems import Address, Secrets, connect

__all__ = ["StorageSession"]

# What says something of a file, and nothing of the way to the server.
_OF_A_FILE: Mapping[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
}
_MORE_OF_A_FILE = (errno.EBUSY, errno.ENAMETOOLONG, errno.ENOTEMPTY)

# After this long a server may have hung up.
_QUIET_SECONDS = 30.0

# All that is in the memory of a process is one store.
_MEMORY_TURN = threading.RLock()


class StorageSession:
    """A filesystem of fsspec that is connected when it is needed.

    Most clients of fsspec serve one thread at a time: they take turns, an open file is in it too.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._turn = _MEMORY_TURN if address.in_memory else threading.RLock()
        self._making = threading.Lock()
        self._filesystem: AbstractFileSystem | None = None
        self._secrets = Secrets(iter(()))
        self._used = time.monotonic()
        self.root = ""
        self.filesystem()

    def filesystem(self) -> AbstractFileSystem:
        """The filesystem, connected again if the connection was lost.

        Raises:
            StorageUnavailableError: the server cannot be reached.
        """
        with self._making:
            if self._filesystem is None:
                self._secrets = self._address.secrets()
                self._filesystem, self.root = connect(self._address)
            return self._filesystem

    def full(self, path: str) -> str:
        """What the filesystem calls a path."""
        if not path:
            return self.root
        return f"{self.root.rstrip('/')}/{path}" if self.root else path

    @contextmanager
    def asking(self, path: str, fs: AbstractFileSystem | None = None) -> Iterator[AbstractFileSystem]:
        """The filesystem, in turn; what it says of the way to the server is an error of ours.

        Args:
            path: what errors name.
            fs: the filesystem that a file was opened with.
        """
        fs = fs or self._awake()
        with self._turn_at(fs):
            try:
                yield fs
            except (StorageError, io.UnsupportedOperation):
                raise
            except Exception as error:  # noqa: BLE001 - each protocol has errors of its own
                if (number := _of_a_file(error)) is not None:
                    raise self._explained(error, number, path) from self._secrets.cause(error)
                self._lose(fs)
                raise StorageUnavailableError(
                    f"{self._address} failed at {path!r} with {self._secrets.taken_out_of(repr(error))}. "
                    "See whether the server runs and can be reached; the next use connects again.",
                    path=path,
                ) from self._secrets.cause(error)

    def _awake(self) -> AbstractFileSystem:
        """The filesystem; servers hang up on who was quiet for long, so then it is asked for a sign first."""
        fs = self.filesystem()
        quiet, self._used = time.monotonic() - self._used, time.monotonic()
        if quiet < _QUIET_SECONDS or fs.async_impl:
            return fs
        with self._turn:
            try:
                fs.info(self.root)
            except Exception:  # noqa: BLE001 - each protocol has errors of its own
                self._lose(fs)
        return self.filesystem()

    def _turn_at(self, fs: AbstractFileSystem) -> AbstractContextManager[object]:
        return nullcontext() if fs.async_impl else self._turn

    def _lose(self, fs: AbstractFileSystem) -> None:
        with self._making:
            if self._filesystem is fs:  # no other thread has made a new one meanwhile
                self._filesystem = None

    def _explained(self, error: Exception, number: int, path: str) -> OSError:
        """The same error as of a folder of this machine; only of a refusal the server knows the reason."""
        said = f" ({self._secrets.taken_out_of(str(error))})" if number == errno.EACCES else ""
        return OSError(number, os.strerror(number) + said, path)


def _of_a_file(error: Exception) -> int | None:
    if not isinstance(error, OSError):
        return None
    if error.errno in _MORE_OF_A_FILE:
        return error.errno
    return next((number for kind, number in _OF_A_FILE.items() if isinstance(error, kind)), None)
