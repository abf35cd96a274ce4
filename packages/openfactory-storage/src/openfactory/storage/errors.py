"""What can go wrong with storage.

    StorageError
     ├ StorageConfigurationError (ValueError)    STORAGE, or a backend's settings, can't be used
     │  └ UnknownStorageTypeError                no backend has the type that is asked for
     ├ PathOutsideStorageError (ValueError)      a path leads out of the storage
     ├ UnknownStoreError (KeyError)              a named storage has no store of that name
     └ SeveralStoresError (AttributeError)       asked of all stores what only a single one can answer

What the operating system says of a file (FileNotFoundError, IsADirectoryError, PermissionError, …) stays
what it is. The tree has a root of its own, since this distribution needs nothing else of OpenFactory.
"""

from __future__ import annotations

__all__ = [
    "PathOutsideStorageError",
    "SeveralStoresError",
    "StorageConfigurationError",
    "StorageError",
    "UnknownStorageTypeError",
    "UnknownStoreError",
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
