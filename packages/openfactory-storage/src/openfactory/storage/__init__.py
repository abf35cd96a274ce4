"""File storage for OpenFactory apps: one interface, selected by the `STORAGE` environment variable.

- `backend`: the interface that every storage implements.
- `mounted`: folders of this machine (`local`, `nfs`).
- `remote`: servers and object stores, through fsspec.
- `named`: several storages with names.
- `configuration` and `registry`: create a storage from the value of `STORAGE`.
"""

from openfactory.storage.backend import FileBackend, FileInfo
from openfactory.storage.configuration import mount_specs_from_environment, storage_from_environment
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
from openfactory.storage.mounted import LocalBackend, LocalConfiguration, NFSBackend, NFSConfiguration
from openfactory.storage.named import NamedStorage
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
    "mount_specs_from_environment",
    "storage_from_environment",
]
