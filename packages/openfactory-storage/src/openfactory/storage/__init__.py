"""File storage for OpenFactory apps: one interface, chosen by the `STORAGE` environment variable.

Read `backend` for what every storage promises; `mounted` with `confinement` for folders (`local`, `nfs`), `remote` for
all that fsspec reaches, `named` for several storages with names; `configuration` and `registry` for how `STORAGE`
becomes one of them.
"""

from openfactory.storage.backend import FileBackend, FileInfo
from openfactory.storage.configuration import storage_from_environment
from openfactory.storage.errors import (
    PathOutsideStorageError,
    ReadOnlyStorageError,
    SeveralStoresError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
    UnknownStorageTypeError,
    UnknownStoreError,
)
from openfactory.storage.local import LocalBackend, LocalConfiguration
from openfactory.storage.named import NamedStorage
from openfactory.storage.nfs import NFSBackend, NFSConfiguration
from openfactory.storage.registry import known_storage_types

__all__ = [
    "FileBackend",
    "FileInfo",
    "LocalBackend",
    "LocalConfiguration",
    "NFSBackend",
    "NFSConfiguration",
    "NamedStorage",
    "PathOutsideStorageError",
    "ReadOnlyStorageError",
    "SeveralStoresError",
    "StorageConfigurationError",
    "StorageError",
    "StorageUnavailableError",
    "UnknownStorageTypeError",
    "UnknownStoreError",
    "known_storage_types",
    "storage_from_environment",
]
