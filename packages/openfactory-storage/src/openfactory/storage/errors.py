"""The exceptions of openfactory-storage.

    StorageError
     ├ StorageConfigurationError (ValueError)    STORAGE, or the settings of a storage, cannot be used
     │  └ UnknownStorageTypeError                no storage type has the name that the settings give
     ├ PathOutsideStorageError (ValueError)      a path leads out of the storage
     ├ ReadOnlyStorageError (PermissionError)    a write to a storage that is read-only
     ├ StorageUnavailableError (OSError)         the folder or server of a storage cannot be reached, or has failed
     ├ UnknownStoreError (KeyError)              a named storage has no store of that name
     └ SeveralStoresError (AttributeError)       an attribute that only the stores of a named storage have

The errors of the operating system for a file (FileNotFoundError, IsADirectoryError, PermissionError, …) are raised
unchanged. StorageError is not derived from OpenFactory's base exception, because this distribution does not depend on
the rest of OpenFactory.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

__all__ = [
    "PathOutsideStorageError",
    "ReadOnlyStorageError",
    "SeveralStoresError",
    "StorageConfigurationError",
    "StorageError",
    "StorageUnavailableError",
    "UnknownStorageTypeError",
    "UnknownStoreError",
    "errors_naming",
]


class StorageError(Exception):
    """Base class of the exceptions of openfactory-storage."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the attributes too, because an error in a process of a pool is raised in another process."""
        return _restored, (type(self), self.args, vars(self))


class StorageConfigurationError(StorageError, ValueError):
    """The settings of a storage cannot be used."""


class UnknownStorageTypeError(StorageConfigurationError):
    """The settings give a storage type that does not exist.

    Attributes:
        storage_type: the type in the settings.
        known: the types that exist.
    """

    def __init__(self, message: str, *, storage_type: str, known: tuple[str, ...]) -> None:
        super().__init__(message)
        self.storage_type = storage_type
        self.known = known


class PathOutsideStorageError(StorageError, ValueError):
    """A path leads out of the storage, by `..`, as an absolute path or through a symbolic link.

    Attributes:
        path: the path that the caller gave.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class ReadOnlyStorageError(StorageError, PermissionError):
    """A write to a storage that is read-only.

    Attributes:
        path: the file or folder that was not written.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class StorageUnavailableError(StorageError, OSError):
    """The folder or server of a storage cannot be reached, or the server has failed.

    Attributes:
        path: the file or folder of the operation; empty while the storage is created.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class UnknownStoreError(StorageError, KeyError):
    """A named storage has no store of that name.

    Attributes:
        store: the name that the caller gave.
        known: the names of the stores.
    """

    def __init__(self, message: str, *, store: str, known: tuple[str, ...]) -> None:
        super().__init__(message)
        self.store = store
        self.known = known

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])


class SeveralStoresError(StorageError, AttributeError):
    """Use of an attribute that each store of a named storage has, but not the named storage as a whole.

    It is an AttributeError, so that `hasattr(storage, "root")` is False for a named storage.
    """


def _restored(kind: type[StorageError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> StorageError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments  # an OSError sets them in its constructor only
    vars(error).update(attributes)
    return error


@contextmanager
def errors_naming(path: str, other: str | None = None) -> Generator[None]:
    """Raise the OSErrors of a block with `path`, the path in the storage, in place of the path on the disk."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, path, None, other) from error
