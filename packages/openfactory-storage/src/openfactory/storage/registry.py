"""The types of storage, and the creation of a storage from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, TypeVar

from openfactory.storage.__about__ import __version__
from openfactory.storage.backend import FileBackend
from openfactory.storage.errors import StorageConfigurationError, StorageUnavailableError, UnknownStorageTypeError
from openfactory.storage.mounted import LocalBackend, NFSBackend

__all__ = ["ENTRY_POINTS", "known_storage_types", "mount_spec_from_settings", "storage_from_settings"]

_Result = TypeVar("_Result")

#: The group of the entry points with which other distributions add types. Each gives a name and a `FileBackend`.
ENTRY_POINTS = "openfactory.storage_backends"

_BACKENDS: Mapping[str, type[FileBackend]] = MappingProxyType({"local": LocalBackend, "nfs": NFSBackend})

# Its module is imported on demand, because it imports the code for all protocols.
_REMOTE = "fsspec"


def known_storage_types() -> tuple[str, ...]:
    """Return the sorted values that `type` may have in `STORAGE`."""
    return tuple(sorted({*_BACKENDS, _REMOTE, *(entry_point.name for entry_point in entry_points(group=ENTRY_POINTS))}))


def storage_from_settings(settings: Mapping[str, Any], where: str) -> FileBackend:
    """Create a storage from its settings.

    Args:
        settings: the settings with their `type`.
        where: name of the settings in error messages.

    Raises:
        StorageConfigurationError: the settings cannot be used.
        StorageUnavailableError: the server of the storage cannot be reached.
    """
    return _with_type(settings, where, lambda backend: backend.from_config(settings))


def mount_spec_from_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """Return the mount that a container needs for a storage of these settings, without opening the storage.

    Args:
        settings: the settings with their `type`.
        where: name of the settings in error messages.

    Raises:
        StorageConfigurationError: the settings cannot be used.
    """
    return _with_type(settings, where, lambda backend: backend.mount_spec_from_config(settings))


def _with_type(settings: Mapping[str, Any], where: str, use: Callable[[type[FileBackend]], _Result]) -> _Result:
    """Call a function with the type of the settings, and name the settings in its errors."""
    storage_type = settings.get("type")
    if not isinstance(storage_type, str):
        raise StorageConfigurationError(
            f'{where} has no "type". Add one of these types: {", ".join(known_storage_types())}.'
        )
    backend = _backend_of(storage_type, where)
    try:
        return use(backend)
    except StorageConfigurationError as error:
        raise StorageConfigurationError(f"{where}: {error}") from error
    except StorageUnavailableError as error:
        raise StorageUnavailableError(f"{where}: {error}", path=error.path) from error
    except Exception as error:  # raised by a type of another distribution
        raise StorageConfigurationError(
            f"{where}: the type {storage_type!r} cannot use its settings: {error!r}. Correct them, or ask the "
            f"author of {backend.__module__}.{backend.__qualname__}."
        ) from error


def _backend_of(storage_type: str, where: str) -> type[FileBackend]:
    if storage_type in _BACKENDS:
        return _BACKENDS[storage_type]
    if storage_type == _REMOTE:
        from openfactory.storage.remote import RemoteBackend

        return RemoteBackend
    for entry_point in entry_points(group=ENTRY_POINTS, name=storage_type):
        return _load(entry_point, where)
    known = known_storage_types()
    raise UnknownStorageTypeError(
        f"{where} has the type {storage_type!r}, which openfactory-storage {__version__} does not know. "
        f"It knows: {', '.join(known)}. Use one of these, or a version that knows {storage_type!r} "
        f"(pip install --upgrade openfactory-storage).",
        storage_type=storage_type,
        known=known,
    )


def _load(entry_point: EntryPoint, where: str) -> type[FileBackend]:
    try:
        backend = entry_point.load()
    except Exception as error:
        raise StorageConfigurationError(
            f"{where} has the type {entry_point.name!r} of {entry_point.value}, which cannot be imported: {error!r}. "
            "Install the packages that it needs."
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, FileBackend)):
        raise StorageConfigurationError(
            f"{where} has the type {entry_point.name!r}, and {entry_point.value} is not a FileBackend. "
            "Name a subclass of FileBackend in the entry point."
        )
    return backend
