"""What can go wrong with storage.

    StorageError
     ├ StorageConfigurationError (ValueError)    STORAGE, or a backend's settings, can't be used
     │  └ UnknownStorageTypeError                no backend has the type that is asked for
     ├ PathOutsideStorageError (ValueError)      a path leads out of the storage
     ├ ReadOnlyStorageError (PermissionError)    a storage that is read-only should be written
     ├ StorageUnavailableError (OSError)         the folder or server of a storage cannot be reached, or failed
     ├ UnknownStoreError (KeyError)              a named storage has no store of that name
     └ SeveralStoresError (AttributeError)       asked of all stores what only a single one can answer

What the operating system says of a file (FileNotFoundError, IsADirectoryError, PermissionError, …) stays
what it is. The tree has a root of its own, since this distribution needs nothing else of OpenFactory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "PathOutsideStorageError",
    "ReadOnlyStorageError",
    "SeveralStoresError",
    "StorageConfigurationError",
    "StorageError",
    "StorageUnavailableError",
    "UnknownStorageTypeError",
    "UnknownStoreError",
    "naming",
]


class StorageError(Exception):
    """Root of everything that openfactory-storage itself raises."""


class StorageConfigurationError(StorageError, ValueError):
    """The settings of a storage can't be used."""


class UnknownStorageTypeError(StorageConfigurationError):
    """No backend has the type that the settings ask for.

    Attributes:
        storage_type: the type that was asked for.
        known: the types there are.
    """

    def __init__(self, message: str, *, storage_type: str, known: tuple[str, ...]) -> None:
        super().__init__(message)
        self.storage_type = storage_type
        self.known = known


class PathOutsideStorageError(StorageError, ValueError):
    """A path leads out of the storage, by `..`, as an absolute path or through a symbolic link.

    Attributes:
        path: the path as it was given.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class ReadOnlyStorageError(StorageError, PermissionError):
    """A storage that is read-only should be written.

    Attributes:
        path: the file or folder.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class StorageUnavailableError(StorageError, OSError):
    """The folder of a storage is not there any more, or its server cannot be reached or failed.

    Attributes:
        path: the file or folder that was asked for; empty at the start.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class UnknownStoreError(StorageError, KeyError):
    """A named storage has no store of that name.

    Attributes:
        store: the name that was asked for.
        known: the names there are.
    """

    def __init__(self, message: str, *, store: str, known: tuple[str, ...]) -> None:
        super().__init__(message)
        self.store = store
        self.known = known

    def __str__(self) -> str:
        # KeyError would show the message as a quoted literal.
        return str(self.args[0])


class SeveralStoresError(StorageError, AttributeError):
    """Asked of a named storage as a whole what only one of its stores can answer.

    It is an AttributeError so that `hasattr(storage, "root")` says what holds: there is no single root.
    """


@contextmanager
def naming(path: str, other: str | None = None) -> Iterator[None]:
    """What the system says names the path in the storage, not the way to it."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, path, None, other) from error
