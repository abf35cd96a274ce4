"""File storage for OpenFactory apps: one interface, chosen by the `STORAGE` environment variable.

Read `backend` for what every storage promises, `local` for a folder of this machine, `named` for several
storages with names, and `configuration` and `registry` for how `STORAGE` becomes one of them.
"""

from openfactory.storage.backend import FileBackend
from openfactory.storage.configuration import storage_from_environment
from openfactory.storage.errors import (
    PathOutsideStorageError,
    SeveralStoresError,
    StorageConfigurationError,
    StorageError,
    UnknownStorageTypeError,
    UnknownStoreError,
)
from openfactory.storage.local import LocalBackend, LocalConfiguration
from openfactory.storage.named import NamedStorage
from openfactory.storage.registry import known_storage_types

__all__ = [
    "FileBackend",
    "LocalBackend",
    "LocalConfiguration",
    "NamedStorage",
    "PathOutsideStorageError",
    "SeveralStoresError",
    "StorageConfigurationError",
    "StorageError",
    "UnknownStorageTypeError",
    "UnknownStoreError",
    "known_storage_types",
    "storage_from_environment",
]
