"""The kinds of storage there are, and how the settings of one become a backend."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from openfactory.storage.__about__ import __version__
from openfactory.storage.backend import FileBackend
from openfactory.storage.errors import StorageConfigurationError, UnknownStorageTypeError
from openfactory.storage.local import LocalBackend

__all__ = ["known_storage_types", "storage_from_settings"]

_BACKENDS: Mapping[str, type[FileBackend]] = MappingProxyType({"local": LocalBackend})


def known_storage_types() -> tuple[str, ...]:
    """The values that `type` may have in `STORAGE`."""
    return tuple(sorted(_BACKENDS))


def storage_from_settings(settings: Mapping[str, Any], where: str) -> FileBackend:
    """The backend of one object of settings.

    Args:
        settings: the object, with its `type`.
        where: what errors call it.

    Raises:
        StorageConfigurationError: the settings can't be used.
    """
    storage_type = settings.get("type")
    known = known_storage_types()
    if not isinstance(storage_type, str):
        raise StorageConfigurationError(f'{where} has no "type". Add one; there are: {", ".join(known)}.')
    if storage_type not in _BACKENDS:
        raise UnknownStorageTypeError(
            f"{where} has the type {storage_type!r}, which openfactory-storage {__version__} does not know. "
            f"It knows: {', '.join(known)}. Use one of these, or a version that knows {storage_type!r} "
            f"(pip install --upgrade openfactory-storage).",
            storage_type=storage_type,
            known=known,
        )
    try:
        return _BACKENDS[storage_type].from_config(settings)
    except StorageConfigurationError as error:
        raise StorageConfigurationError(f"{where}: {error}") from error
